"""What a person can do about a turn that its provider refused, or that found no provider."""

from backstay.model.provider import Provider
from backstay.model.transport import shown
from backstay.runtime.watch import Finished

_UNREACHABLE = ("can't resolve", "can't connect")


def hint(ended: Finished, provider: Provider, model: str, key_from: str) -> str:
    """One line; "" where there is nothing to be said. `key_from`: the variable of the key."""
    where = shown(provider.base_url)
    if "(HTTP 401)" in ended.reason:
        variable = key_from or ("OPENAI_API_KEY" if provider.name == "openai" else "")
        if not provider.key and not variable:
            return f"{where} wants a key: env_key of [model_providers.{provider.name}] names it"
        return f"is the key in {variable or 'the configuration'} the right one for {where}?"
    if "(HTTP 404)" in ended.reason or ended.code == "model_not_found":
        return f"does {model} exist at {where}? -m names another model"
    if ended.reason.startswith(_UNREACHABLE):
        return f"is {where} the right address, and can it be reached from here?"
    return ""

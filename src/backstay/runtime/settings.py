"""What a session runs under: folders, model, provider. Computed once, from configuration.

Owns how the environment, the configuration and a command line become one `Settings`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from backstay.core.budget import Budget
from backstay.errors import UsageError
from backstay.model.provider import Provider, Secret
from backstay.runtime.config import Loaded, default_home
from backstay.runtime.keys import ProviderTable, ShellTable
from backstay.runtime.presets import ADDRESSES, PRESETS

if TYPE_CHECKING:
    from backstay.runtime.trace import Trace

OPENAI = "https://api.openai.com/v1"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a session that its journal does not decide."""

    home: str
    """BACKSTAY_HOME, absolute."""
    cwd: str
    """The folder to work in, absolute; a resumed session keeps its own unless `moved`."""
    moved: bool = False
    """`cwd` was asked for by name (`--cd`), so that it holds for a resumed session too."""
    writable: tuple[str, ...] = ()
    """Further folders that patches may write to, absolute; `cwd` is always one."""
    model: str
    provider: Provider
    effort: str = ""
    web_search: Literal["disabled", "cached", "live"] = "disabled"
    """Whether the model may search the web, where the provider does that."""
    context_window: int | None = None
    """Tokens that the model can hold at once, where that is configured."""
    compact_at: int | None = None
    """Tokens in use from which a session is compacted, where that is configured; 0: never."""
    instructions: str = ""
    """The system prompt of a new session; "" for Backstay's own."""
    personal: str = ""
    """Where the user's own AGENTS.md and skills are, absolute; "" for `home`."""
    document_bytes: int = 32 * 1024
    """How much the AGENTS.md files of a project may hold together."""
    document_names: tuple[str, ...] = ()
    """Names that are looked for where a folder has no AGENTS.md."""
    grace: float = 60.0
    """Seconds that commands outlive a dead agent."""
    hidden: tuple[str, ...] = ()
    """Environment variables that hold keys, beside the usual ones: no command gets to see them."""
    inherited: ShellTable = ShellTable()
    """What commands inherit of the environment, beside those."""
    ephemeral: bool = False
    """The session is removed at its end."""
    shell_tools: bool = True
    """Without it a session has the tools that it is given and no others, and its model is told
    nothing of a folder to work in."""
    budget: Budget = Budget()
    """What one turn may use."""
    trace: "Trace | None" = None
    """The debug log, where one was asked for."""


def settings(
    loaded: Loaded,
    environ: Mapping[str, str],
    *,
    home: str,
    cwd: str,
    model: str = "",
    moved: bool = False,
    add_dirs: Sequence[str] = (),
    ephemeral: bool = False,
    fallback: Callable[[], str] = str,
) -> Settings:
    """One `Settings` out of all sources. Raises `UsageError` where something is missing.

    `model` goes before the configuration's; `fallback` is asked where neither is set.
    """
    configuration = loaded.configuration
    model = model or configuration.model or fallback()
    if not model:
        raise UsageError(
            'no model is set: use -m MODEL, or write model = "..." into '
            f"{os.path.join(home, 'config.toml')}"
        )
    tables = loaded.providers.values()
    hidden = [name for one in tables for name in (one.env_key, *one.env_http_headers.values())]
    personal = default_home(environ) if ephemeral else home
    roots = [*configuration.sandbox_workspace_write.writable_roots, *add_dirs]
    return Settings(
        home=home,
        cwd=cwd,
        moved=moved,
        writable=tuple(os.path.normpath(os.path.join(cwd, os.path.expanduser(r))) for r in roots),
        model=model,
        provider=provider(loaded, environ),
        effort=configuration.model_reasoning_effort,
        web_search=configuration.web_search,
        context_window=configuration.model_context_window,
        compact_at=configuration.model_auto_compact_token_limit,
        instructions=_instructions(configuration.model_instructions_file, personal),
        personal=personal,
        document_bytes=configuration.project_doc_max_bytes,
        document_names=tuple(configuration.project_doc_fallback_filenames),
        grace=configuration.command_grace_seconds,
        hidden=tuple(name for name in hidden if name),
        inherited=configuration.shell_environment_policy,
        budget=_budget(loaded, model),
        ephemeral=ephemeral,
    )


def _budget(loaded: Loaded, model: str) -> Budget:
    """What a turn may use. Raises `UsageError` for dollars without a price."""
    configuration = loaded.configuration
    dollars = configuration.max_cost
    if dollars is not None:
        from backstay.core.prices import price_of

        if price_of(model, configuration.prices) is None:
            raise UsageError(
                f"max_cost needs the price of {model}, which is not known: write "
                f'[prices."{model}"] with input and output, in US dollars per million tokens, '
                "into config.toml"
            )
    return Budget(
        steps=configuration.max_steps,
        tokens=configuration.max_tokens,
        dollars=dollars,
        prices=configuration.prices,
    )


def _instructions(path: str, home: str) -> str:
    """The text of `model_instructions_file`, "" without one. Raises `UsageError`."""
    if not path:
        return ""
    path = os.path.join(home, os.path.expanduser(path))
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise UsageError(f"model_instructions_file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"model_instructions_file {path}: it is not UTF-8") from None
    if not text.strip():
        raise UsageError(f"model_instructions_file {path}: it is empty")
    return text


def provider(loaded: Loaded, environ: Mapping[str, str]) -> Provider:
    """The provider that is chosen, with its key. Raises `UsageError`."""
    name = loaded.configuration.model_provider
    table = loaded.providers.get(name)
    if name == "openai":
        return _openai(loaded, table or ProviderTable(), environ)
    if table is None:
        raise UsageError(
            f"model_provider {name}: there is no [model_providers.{name}] in config.toml, "
            f"and built in are {', '.join(sorted(PRESETS))}"
        )
    if not table.base_url:
        like = f": {ADDRESSES[name]}" if name in ADDRESSES else ""
        raise UsageError(f"[model_providers.{name}] needs a base_url{like}")
    key = environ.get(table.env_key, "").strip() if table.env_key else ""
    if table.env_key and not key:
        how = f" ({table.env_key_instructions})" if table.env_key_instructions else ""
        raise UsageError(f"provider {name}: set {table.env_key} to its API key{how}")
    if table.requires_openai_auth and not table.env_key:
        key = _openai_key(environ)
    return _provider(loaded, name, table, table.base_url, key)


def _openai_key(environ: Mapping[str, str]) -> str:
    return (environ.get("CODEX_API_KEY") or environ.get("OPENAI_API_KEY") or "").strip()


def _openai(loaded: Loaded, table: ProviderTable, environ: Mapping[str, str]) -> Provider:
    """The built-in provider: `-c openai_base_url`, then the environment, then the file."""
    configured = loaded.configuration.openai_base_url or table.base_url
    from_environment = environ.get("OPENAI_BASE_URL", "").strip()
    url = configured if loaded.base_url_given else from_environment or configured
    key = _openai_key(environ)
    if table.env_key:
        key = environ.get(table.env_key, "").strip()
    if not key and not url:
        raise UsageError(
            "no API key: set OPENAI_API_KEY, or choose another provider "
            "(-c model_provider=NAME, or --oss for a local one)"
        )
    return _provider(loaded, "openai", table, url or OPENAI, key)


def _provider(loaded: Loaded, name: str, table: ProviderTable, base_url: str, key: str) -> Provider:
    chosen = {
        field: value
        for field in (
            "request_max_retries",
            "stream_max_retries",
            "stream_idle_timeout_ms",
            "connect_timeout_ms",
        )
        if (value := getattr(table, field)) is not None
    }
    configuration = loaded.configuration
    return Provider(
        name=name,
        base_url=base_url.strip(),
        key=Secret(key),
        http_headers=table.http_headers,
        env_http_headers=table.env_http_headers,
        query_params=table.query_params,
        reasoning=table.reasoning,
        summary=configuration.model_reasoning_summary,
        verbosity=configuration.model_verbosity,
        dialect=table.dialect,
        **chosen,
    )

"""The parameters of a function as a model fills them in: their JSON schema, and their values.

Types are msgspec's business; this module only puts them together. A function whose parameters a
model can't fill in is refused when it is declared.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from backstay.core.items import Item
from backstay.errors import UsageError

_PLAIN: Final = (bool, int, float, str, bytes, type(None))
_NOT_NAMED: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
)


class WrongArguments(ValueError):
    """What the model gave is not what the function takes; the text says what is wrong where."""


class Signature:
    """A function's parameters, without the one that takes the context."""

    def __init__(
        self, function: Callable[..., Any], name: str, described: Mapping[str, str], context: type
    ) -> None:
        """`described`: the docstring's word on each. Raises `UsageError`."""
        self.context = ""
        """The parameter annotated with the context's type, "" if there is none."""
        fields = []
        for one, hint in hints(function, name):
            if hint is context:
                self.context = one.name
            else:
                fields.append(_field(one, hint, described.get(one.name, "")))
        try:
            self._struct = msgspec.defstruct(
                name, fields, kw_only=True, forbid_unknown_fields=True, module=function.__module__
            )
            self.schema = _schema(self._struct)
            self._decoder = msgspec.json.Decoder(self._struct)
        except (TypeError, NameError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"tool {name}: a parameter has no JSON schema: {reason}") from None
        self.names = tuple(self._struct.__struct_fields__)

    def values(self, call: Item) -> dict[str, Any]:
        """The arguments of a call, converted to the types of the hints. Raises `WrongArguments`."""
        try:
            given = self._decoder.decode(str(call.get("arguments") or "{}"))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise WrongArguments(str(error)) from None
        return {name: getattr(given, name) for name in self.names}


def hints(function: Callable[..., Any], name: str) -> list[tuple[inspect.Parameter, Any]]:
    """A function's parameters with their types. Raises `UsageError` where one has none."""
    try:
        types = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise UsageError(f"tool {name}: its type hints can't be resolved: {error}") from None
    found = []
    for one in inspect.signature(function).parameters.values():
        if one.kind in _NOT_NAMED:
            raise UsageError(f"tool {name}: {one} has no name that a model could give it by")
        if one.name not in types:
            hint = "; for a method, declare the bound one: tool(thing.method)"
            raise UsageError(
                f"tool {name}: parameter {one.name} needs a type hint"
                f"{hint if one.name == 'self' else ''}"
            )
        found.append((one, types[one.name]))
    return found


def _field(one: inspect.Parameter, hint: Any, described: str) -> tuple[str, Any, Any]:
    """The parameter as a field; what its own `Meta` says goes before the docstring."""
    own = getattr(hint, "__metadata__", ())
    if described and not any(isinstance(meta, Meta) and meta.description for meta in own):
        hint = Annotated[hint, Meta(description=described)]
    default = one.default
    if default is inspect.Parameter.empty:
        return one.name, hint, msgspec.NODEFAULT
    if isinstance(default, _PLAIN):
        return one.name, hint, default
    return one.name, hint, msgspec.field(default_factory=lambda: default)


def _schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The struct's own schema, with those that it refers to under `$defs`."""
    (root,), found = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    own = found.pop(root["$ref"].rpartition("/")[2])
    schema = {key: value for key, value in own.items() if key != "title"}
    schema.setdefault("properties", {})
    schema.setdefault("required", [])
    for field in msgspec.structs.fields(struct):
        if field.default_factory is not msgspec.NODEFAULT:
            try:
                default = msgspec.to_builtins(field.default_factory())
                msgspec.json.encode(default)
            except (TypeError, UnicodeError, msgspec.MsgspecError):
                continue  # it holds all the same; only the model is not told
            schema["properties"][field.encode_name].setdefault("default", default)
    return schema | ({"$defs": found} if found else {})

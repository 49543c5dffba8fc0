"""The form that an answer is to have: a JSON Schema, read, checked, and held against the answer.

The library that knows schemas is loaded when one is used.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from backstay.core.history import TurnState
from backstay.core.items import kind, message_text
from backstay.errors import UsageError

if TYPE_CHECKING:
    from jsonschema_rs import Validator

NAME: Final = "output_schema"
LARGEST: Final = 256 * 1024
"""Bytes of a schema: it stands in the journal and in every request of its turn."""
_LONGEST: Final = 300
"""Characters of what is said about a mismatch."""

Schema = dict[str, Any]


def read(path: str) -> Schema:
    """The schema in a file. Raises `UsageError`, in one line, where there is none."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None
    if len(content) > LARGEST:
        raise UsageError(f"{path} is larger than {LARGEST} bytes")
    try:
        schema = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    try:
        check(schema)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return dict(schema)


def check(schema: object) -> None:
    """Raises `UsageError` for what is no JSON Schema, or is one that points outside of itself."""
    if not isinstance(schema, dict):
        raise UsageError("it is no JSON Schema: it must be an object")
    _validator(schema)


def text_format(schema: Schema) -> dict[str, Any]:
    """The `text` parameter of a request whose answer is to have this form."""
    return {"format": {"type": "json_schema", "name": NAME, "strict": True, "schema": schema}}


def mismatch(answer: str, schema: Schema) -> str:
    """How an answer departs from its schema, in one line; "" where it does not."""
    if not answer.strip():
        return "there was no answer"
    try:
        value = msgspec.json.decode(answer)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return f"it is not JSON: {error}"
    for found in _validator(schema).iter_errors(value):
        return _said(found)
    return ""


def answer(turn: TurnState) -> str:
    """The last message of a turn that was not superseded; "" without one."""
    dropped = {n for attempt in turn.attempts for n in attempt.record.superseded}
    for attempt in reversed(turn.attempts):
        for one in sorted(attempt.items, key=lambda one: one.index, reverse=True):
            if kind(one.item) == "message" and one.n not in dropped:
                return message_text(one.item)
    return ""


def _validator(schema: Schema) -> "Validator":
    """Nothing is fetched: a reference to anything outside of the schema is an error."""
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(schema, offline=True)
    except ValueError as error:
        raise UsageError(f"it is no JSON Schema: {_said(error)}") from None


def _said(error: ValueError) -> str:
    """What the library says, on one line, behind the place that it is about."""
    path = getattr(error, "instance_path", ())
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    said = " ".join(f"${place}: {getattr(error, 'message', error)}".split())
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"

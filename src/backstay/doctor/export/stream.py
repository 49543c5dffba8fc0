"""A session as lines of JSON for programs: one object a record, in words that stay.

`docs/export.md` has the vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from backstay.core.items import kind
from backstay.core.record import (
    AnyRecord,
    Attempt,
    Compaction,
    ItemRecord,
    Output,
    Prompt,
    Session,
    Unknown,
    scrub,
)
from backstay.doctor.export.source import Source

_HIDDEN = frozenset(
    {"k", "n", "t", "basis", "plan", "boot", "supervisor", "spool", "carried", "turn"}
)
"""What only the session itself can use."""


def made(source: Source) -> Iterator[str]:
    """The lines, each with its newline."""
    yield _line(
        {
            "type": "session",
            "id": source.id,
            "title": source.label.title,
            "cwd": source.cwd,
            "archived": source.label.archived,
            "redacted": source.redacted,
            "running": source.holder is not None,
            "usage": msgspec.to_builtins(source.usage),
            "cost": source.cost,
            "damage": source.damage,
        }
    )
    turn_of: dict[int, int] = {}
    now = 0
    for record in source.records:
        if isinstance(record, Attempt | Prompt):
            prompt = record.turn if isinstance(record, Attempt) else record.n
            number = source.order.get(prompt, 0)
            turn_of[record.n] = number
            now = number if isinstance(record, Attempt) else now
        attempt = getattr(record, "attempt", 0) or record.n
        number = turn_of.get(attempt, source.order.get(getattr(record, "turn", 0), now))
        for fields in _of(record):
            at = {} if isinstance(record, Unknown) else {"at": record.t}
            first = {"type": fields.pop("type"), "n": record.n, "turn": number}
            yield _line(first | at | fields)


def _of(record: AnyRecord) -> Iterator[dict[str, Any]]:
    """The objects of one record."""
    match record:
        case Unknown():
            yield {"type": "unknown", "kind": record.kind}
        case Prompt():
            yield {"type": "turn"} | _fields(record, "items", "id", "cwd", "format")
            for item in record.items:
                yield {"type": _name(item), "item": item}
        case ItemRecord():
            yield {"type": _name(record.item)} | _fields(record)
        case Output():
            yield {"type": "output", "status": record.status} | _fields(record)
        case Session():
            yield {"type": "header"} | _fields(record)
        case Compaction():
            yield {"type": "compaction"} | _fields(record, "id", "cwd", "format", "prompt", "end")
        case _:
            yield {"type": _tag(record)} | _fields(record)


def _name(item: dict[str, Any]) -> str:
    name = kind(item)
    return name if name in ("message", "reasoning") else "item"


def _tag(record: AnyRecord) -> str:
    return str(record.__struct_config__.tag)


def _fields(record: AnyRecord, *without: str) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(record)
    return {k: v for k, v in plain.items() if k not in _HIDDEN and k not in without}


def _line(value: dict[str, Any]) -> str:
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(scrub(value))
    return encoded.decode() + "\n"

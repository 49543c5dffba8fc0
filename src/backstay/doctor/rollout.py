"""Codex's rollout files as entries, whatever version wrote them; and where they stand on a disk.

Owns the envelope. What the entries say of a session is `checks`'; nothing here is written.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from backstay.core.items import CLIENT_CALLS, OUTPUTS, SERVER_CALLS
from backstay.doctor.lines import Line

ENVELOPES: Final = frozenset(
    {
        "session_meta",
        "response_item",
        "event_msg",
        "turn_context",
        "compacted",
        "world_state",
        "token_usage_record",
        "inter_agent_communication_metadata",
    }
)
_ITEMS: Final = frozenset(
    {"message", "reasoning", "tool_call", "tool_result", "function_result", "ghost_snapshot"}
    | set(CLIENT_CALLS)
    | set(OUTPUTS)
    | set(SERVER_CALLS)
)
REPAIRED: Final = ".repaired.jsonl"
"""How a repaired file beside the old one ends; Codex does not take it for a session."""
_OUTSIDE: Final = ("timestamp", "created_at", "ordinal")
"""What stands beside an item where there is no envelope; no part of the item."""


class Entry(msgspec.Struct):
    """A line that says something: its envelope's type, and what is in it."""

    line: Line
    timestamp: str
    type: str
    """`session_meta`, `response_item`, ...; of a line that is none of them its own type or ""."""
    payload: dict[str, Any]
    ordinal: int | None = None


def entries(lines: Iterable[Line]) -> Iterator[Entry]:
    """The entries of the lines that hold an object, old formats brought into today's shape.

    Before 0.32 there was no envelope: the header, items and `{"record_type": "state"}` stood bare.
    """
    for line in lines:
        if line.value is not None:
            yield entry(line, line.value)


def entry(line: Line, value: dict[str, Any]) -> Entry:
    """One object as an entry."""
    kind = _text(value.get("type"))
    stamp = _text(value.get("timestamp")) or _text(value.get("created_at"))
    payload = value.get("payload")
    ordinal = value.get("ordinal")
    number = ordinal if isinstance(ordinal, int) and not isinstance(ordinal, bool) else None
    if kind in ENVELOPES or (kind and isinstance(payload, dict)):
        return Entry(line, stamp, kind, payload if isinstance(payload, dict) else {}, number)
    if "record_type" in value:
        return Entry(line, stamp, _text(value.get("record_type")), value, number)
    if kind in _ITEMS or (not kind and "role" in value):
        item = {name: one for name, one in value.items() if name not in _OUTSIDE}
        return Entry(line, stamp, "response_item", item, number)
    if not kind and "id" in value and stamp:
        return Entry(line, stamp, "session_meta", value, number)
    return Entry(line, stamp, kind, value, number)


def has_envelope(one: Entry) -> bool:
    """Whether the line has today's shape."""
    value = one.line.value
    return value is not None and isinstance(value.get("payload"), dict)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def find_rollouts(codex_home: str) -> list[str]:
    """The rollout files under a CODEX_HOME, oldest first, archived ones behind. Never raises."""
    found: list[str] = []
    for folder in ("sessions", "archived_sessions"):
        found += sorted(_under(os.path.join(codex_home, folder)))
    return found


def _under(top: str) -> Iterator[str]:
    for folder, _, names in os.walk(top):  # neither follows links nor raises
        for name in names:
            if is_rollout(name):
                yield os.path.join(folder, name)


def is_rollout(name: str) -> bool:
    """Whether a file is called as Codex calls its sessions; repaired copies beside them are not."""
    return name.startswith("rollout-") and name.endswith(".jsonl") and REPAIRED not in name


def thread_id(path: str) -> str:
    """The uuid in a rollout's file name, or ""."""
    name = os.path.basename(path).removeprefix("rollout-").removesuffix(".jsonl")
    ident = name[-36:]
    dashes = [place for place, letter in enumerate(ident) if letter == "-"]
    return ident.lower() if len(ident) == 36 and dashes == [8, 13, 18, 23] else ""


def codex_home_of(path: str) -> str:
    """The CODEX_HOME that a rollout stands in, or ""."""
    folder = os.path.dirname(os.path.abspath(path))
    for _ in range(4):
        if os.path.basename(folder) in ("sessions", "archived_sessions"):
            return os.path.dirname(folder)
        folder = os.path.dirname(folder)
    return ""

"""Calls and outputs of a history, paired as they come: by their place, since ids are used again.

Owns what is open, repeated, orphaned; knows nothing of files but where a line begins.
"""

from typing import Any, Final

import msgspec

from backstay.core.items import CLIENT_CALLS, OUTPUTS, arguments, is_hosted, kind, tool_name
from backstay.doctor.rollout import Entry, has_envelope

LONGEST_GIVEN: Final = 4 * 1024 * 1024
"""Characters of a call's input that are kept while it is open, to tell what it did."""


class Call(msgspec.Struct, kw_only=True):
    """A call: where it stands, what it asked for, and where an output for it belongs."""

    line: int
    offset: int
    call_id: str
    kind: str
    name: str
    given: str
    """Its arguments or input, cut where that is very long."""
    item_id: str = ""
    fingerprint: int = 0
    """Of its name and arguments, equal where a repair would make them equal."""
    cwd: str = ""
    turn: int = 0
    """Which of the user's turns it belongs to."""
    timestamp: str = ""
    before: int = -1
    """The offset of the line before which an output belongs; -1: at the end of the file."""
    answered: bool = False
    seen_output: bool = False
    cut: bool = False
    """Its arguments are no whole JSON."""
    bare: bool = False
    """Its line has no envelope, as in very old files."""
    live: bool = True
    """It is part of what a model would be sent."""


class Verdict(msgspec.Struct, frozen=True):
    """What an item turned out to be; `code` is "" where it is as it should be."""

    code: str = ""
    call: Call | None = None


class Pairs:
    """The calls of one history and their outputs."""

    def __init__(self) -> None:
        self.open: list[Call] = []
        """Without an output yet, in order."""
        self._last: dict[str, Call] = {}
        """The newest call of each id."""
        self._unplaced: list[Call] = []
        """Open or answered ones behind which the step still goes on."""

    def call(self, made: Call) -> Verdict:
        """Take a call."""
        before = self._last.get(made.call_id)
        if before is not None:
            same = made.item_id != "" and made.item_id == before.item_id
            if not before.answered or (same and made.fingerprint == before.fingerprint):
                return Verdict("duplicate-call", before)
        self._last[made.call_id] = made
        self.open.append(made)
        self._follow(made)
        return Verdict()

    def output(self, ident: str) -> Verdict:
        """Take an output."""
        for one in self._unplaced:
            one.seen_output = True
        call = self._last.get(ident)
        if call is None:
            return Verdict("output-without-call")
        if call.answered:
            return Verdict("duplicate-output", call)
        call.answered = True
        call.given = ""
        self.open = [one for one in self.open if one is not call]
        return Verdict("", call)

    def step_ends(self, offset: int) -> None:
        """Something that belongs to no step in progress: outputs of what is open go before it."""
        for one in self._unplaced:
            one.before = offset
        self._unplaced.clear()

    def _follow(self, made: Call) -> None:
        closed = [one for one in self._unplaced if one.seen_output]
        for one in closed:
            one.before = made.offset
        self._unplaced = [one for one in self._unplaced if not one.seen_output]
        self._unplaced.append(made)

    def forget(self) -> list[Call]:
        """A compaction: nothing before it is sent any more. Gives what was open."""
        left, self.open = self.open, []
        self._last.clear()
        self._unplaced.clear()
        return left

    def roll_back(self, turn: int) -> None:
        """The turns from this one on are taken back."""
        for one in self.open:
            one.live = one.live and one.turn < turn
        self.open = [one for one in self.open if one.live]
        self._last = {name: one for name, one in self._last.items() if one.turn < turn}


def owes_output(item: dict[str, Any]) -> bool:
    """Whether it is a call that a client answers, with an id to pair it by."""
    return kind(item) in CLIENT_CALLS and not is_hosted(item) and bool(ident_of(item))


def is_output(item: dict[str, Any]) -> bool:
    """Whether it answers a call by an id; those of calls that the provider ran do not count."""
    if kind(item) == "tool_search_output" and item.get("execution") != "client":
        return False
    return kind(item) in OUTPUTS and bool(ident_of(item))


def ident_of(item: dict[str, Any]) -> str:
    """What pairs a call with its output; never a server's item id."""
    for name in ("call_id", "approval_request_id"):
        value = item.get(name)
        if isinstance(value, str) and value:
            return value
    value = item.get("id")
    return value if kind(item) == "mcp_approval_request" and isinstance(value, str) else ""


def call_of(entry: Entry, *, cwd: str, turn: int, copied: bool = False) -> Call:
    """The call of an entry."""
    item = entry.payload
    name = item.get("id")
    given, cut = _given(item), truncated(item)
    return Call(
        line=entry.line.number,
        offset=entry.line.offset,
        call_id=ident_of(item),
        kind=kind(item),
        name=tool_name(item),
        given=given[:LONGEST_GIVEN],
        item_id=name if isinstance(name, str) else "",
        fingerprint=hash((tool_name(item).replace("\0", ""), "" if cut else given)),
        cwd=cwd,
        turn=turn,
        timestamp=entry.timestamp,
        cut=cut,
        bare=entry.type == "response_item" and not has_envelope(entry) and not copied,
    )


def _given(item: dict[str, Any]) -> str:
    for name in ("arguments", "input", "action", "operation"):
        value = item.get(name)
        if isinstance(value, str):
            return value
        if value is not None:
            return msgspec.json.encode(value).decode()
    return ""


def truncated(item: dict[str, Any]) -> bool:
    """Whether the arguments of a function call are no whole JSON object."""
    return kind(item) == "function_call" and arguments(item) is None and _is_text(item)


def _is_text(item: dict[str, Any]) -> bool:
    return isinstance(item.get("arguments"), str)

"""One response, assembled from the bytes of its stream.

Collects items as they are said to be done, and from the final output only those that never were
(FACTS 2). Items are keyed by `output_index`, by id where a server sends none, else by order
(FACTS 5). Owns no policy: what an item means for the turn is the machine's to decide.
"""

from typing import Any, Final

import msgspec

from backstay.core.events import Outcome, OutcomeKind
from backstay.core.items import Item, call_id, kind
from backstay.core.record import scrub
from backstay.core.sse import EventDecoder, ServerEvent


class Delta(msgspec.Struct, frozen=True):
    """A piece of text that may still be taken back; it goes to whoever watches, not to history."""

    channel: str
    """`text`, `reasoning`, `arguments` or `other`."""
    index: int
    text: str


class Added(msgspec.Struct, frozen=True):
    """An item began."""

    index: int
    item: Item


class Done(msgspec.Struct, frozen=True):
    """An item is done; the first done of an index wins, repetitions never come out."""

    index: int
    item: Item


class Notice(msgspec.Struct, frozen=True):
    """Something odd that changes nothing: an event that could not be read."""

    text: str


class Ended(msgspec.Struct, frozen=True):
    """The response is over. Nothing comes after it."""

    outcome: Outcome


StreamEvent = Delta | Added | Done | Notice | Ended

_CHANNELS: Final = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "arguments",
}


class _Wire(msgspec.Struct):
    """The fields of an event that the assembler reads; all others are skipped unparsed."""

    type: str = ""
    sequence_number: int | None = None
    output_index: int | None = None
    item_id: str | None = None
    delta: Any = None
    item: Any = None
    response: Any = None
    error: Any = None
    code: Any = None
    message: Any = None


_decoder = msgspec.json.Decoder(_Wire)
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError)


def _wire(data: bytes) -> _Wire | None:
    """The event, or None where its data is no JSON object.

    The slow path takes what JSON allows and msgspec doesn't: lone surrogates, numbers out of range.
    """
    try:
        return _decoder.decode(data)
    except _UNREADABLE:
        pass
    import json

    try:
        return msgspec.convert(scrub(json.loads(data)), _Wire, strict=False)
    except _UNREADABLE:
        return None


class Response:
    """The assembler of one response: `feed` bytes, `close` at the end of the body."""

    def __init__(self) -> None:
        self._events = EventDecoder()
        self._slots: dict[str, int] = {}
        self._open: list[int] = []
        self._next = 0
        self._done: dict[int, Item] = {}
        self.id = ""
        """The response's id, once the provider has said it."""
        self.sequence: int | None = None
        """The number of the last event, where the provider counts them (FACTS 5)."""
        self._heard = -1
        self.ended = False
        self.final = False
        """The provider itself said the end."""

    def feed(self, data: bytes) -> list[StreamEvent]:
        """What these bytes complete."""
        found: list[StreamEvent] = []
        for event in self._events.feed(data):
            if self.ended:
                break
            self._take(event, found)
        return found

    def resume(self) -> None:
        """The same stream goes on in another body; events that were heard may come again."""
        self._events = EventDecoder()
        self._heard = -1 if self.sequence is None else self.sequence

    def close(self, kind: OutcomeKind, reason: str) -> list[StreamEvent]:
        """The end of the body, clean or not. Without a terminal event it ends as `kind`."""
        found: list[StreamEvent] = []
        for event in self._events.finish():
            if not self.ended and _wire(event.data) is not None:
                self._take(event, found)
        if not self.ended:
            self._end(found, Outcome(kind=kind, reason=reason, response=self.id))
        return found

    def whole(self, response: Any) -> list[StreamEvent]:
        """A response object that came in one piece instead of a stream."""
        found: list[StreamEvent] = []
        status = response.get("status", "completed") if isinstance(response, dict) else None
        name = f"response.{status}"
        if name in _FINAL:
            self._final(_Wire(type=name, response=response), found)
        else:
            self._end(found, Outcome(kind="cut", reason="the answer is not a finished response"))
        return found

    def _take(self, event: ServerEvent, found: list[StreamEvent]) -> None:
        if event.data == b"[DONE]":
            return
        wire = _wire(event.data)
        if wire is None:
            found.append(Notice(f"skipped an event that is not JSON ({len(event.data)} bytes)"))
            return
        if wire.sequence_number is not None:
            if wire.sequence_number <= self._heard:
                return
            self.sequence = wire.sequence_number
        name = wire.type or event.name.decode("utf-8", "replace")
        channel = _CHANNELS.get(name)
        if channel is not None or name.endswith(".delta"):
            if isinstance(wire.delta, str):
                found.append(Delta(channel or "other", self._index(wire, wire.item_id), wire.delta))
        elif name in ("response.output_item.added", "response.output_item.done"):
            self._item(name, wire, found)
        elif name in ("response.created", "response.in_progress"):
            self._identify(wire.response)
        elif name in _FINAL:
            self._final(wire if wire.type else msgspec.structs.replace(wire, type=name), found)
        elif wire.error is not None and not wire.type:
            self._final(msgspec.structs.replace(wire, type="error"), found)

    def _item(self, name: str, wire: _Wire, found: list[StreamEvent]) -> None:
        item = wire.item
        if not isinstance(item, dict):
            found.append(Notice("skipped an item event without an item"))
            return
        done = name.endswith(".done")
        index = self._index(wire, item.get("id"), begins=not done)
        if not done:
            if index not in self._done:
                self._open.append(index)
                found.append(Added(index, item))
        elif not self._repeats(index, item):
            self._settle(index, item, found)

    def _settle(self, index: int, item: Item, found: list[StreamEvent]) -> None:
        self._done[index] = item
        if index in self._open:
            self._open.remove(index)
        found.append(Done(index, item))

    def _repeats(self, index: int, item: Item) -> bool:
        """Whether this done says again what was said: same index, or the same call elsewhere."""
        if index in self._done:
            return True
        mine = call_id(item) if "call_id" in item else ""
        return bool(mine) and any(
            other.get("call_id") == mine
            and kind(other) == kind(item)
            and all(other.get(key) == item.get(key) for key in ("name", "arguments", "input"))
            for other in self._done.values()
        )

    def _index(self, wire: _Wire, ident: Any, *, begins: bool = False) -> int:
        """The slot of an event: its index, what its id was seen with, else the order."""
        known = ident if isinstance(ident, str) and ident else None
        index = wire.output_index
        if index is None and known is not None:
            index = self._slots.get(known)
        if index is None and known is None and not begins and self._open:
            index = self._open[0] if wire.item is not None else self._open[-1]
        if index is None:
            index = self._next
        if known is not None:
            self._slots.setdefault(known, index)
        if known is not None or wire.item is not None:
            self._next = max(self._next, index + 1)
        return index

    def _identify(self, response: Any) -> None:
        if isinstance(response, dict) and isinstance(response.get("id"), str):
            self.id = response["id"]

    def _final(self, wire: _Wire, found: list[StreamEvent]) -> None:
        self._identify(wire.response)
        self.final = True
        response = wire.response if isinstance(wire.response, dict) else {}
        if wire.type in ("response.completed", "response.incomplete"):
            self._collect(response.get("output"), found)
        usage = response.get("usage")
        code, reason = _explanation(wire, response)
        self._end(
            found,
            Outcome(
                kind=_FINAL[wire.type],
                code=code,
                reason=reason,
                response=self.id,
                usage=usage if isinstance(usage, dict) else None,
            ),
        )

    def _collect(self, output: Any, found: list[StreamEvent]) -> None:
        """Items of the final output that never came as done.

        Matched by id first, then by call id, then by type in order, since some servers change the
        ids (FACTS 5) and others count items that they don't stream.
        """
        if not isinstance(output, list):
            return
        left = dict(self._done)
        rest = [(at, item) for at, item in enumerate(output) if isinstance(item, dict)]
        for same in (_same_id, _same_call, _same_kind):
            unmatched = []
            for at, item in rest:
                match = next((key for key, done in left.items() if same(done, item)), None)
                if match is None:
                    unmatched.append((at, item))
                else:
                    del left[match]
            rest = unmatched
        for at, item in rest:
            self._settle(at if at not in self._done else self._next, item, found)
            self._next = max(self._next, at + 1, max(self._done) + 1)

    def _end(self, found: list[StreamEvent], outcome: Outcome) -> None:
        self.ended = True
        found.append(Ended(outcome))


_FINAL: Final[dict[str, OutcomeKind]] = {
    "response.completed": "completed",
    "response.done": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "failed",
    "error": "failed",
}


def _same_id(done: Item, item: Item) -> bool:
    return bool(item.get("id")) and done.get("id") == item.get("id")


def _same_call(done: Item, item: Item) -> bool:
    return bool(item.get("call_id")) and done.get("call_id") == item.get("call_id")


def _same_kind(done: Item, item: Item) -> bool:
    return kind(done) == kind(item)


def _explanation(wire: _Wire, response: dict[str, Any]) -> tuple[str, str]:
    """Code and sentence of an ending; the `error` event has two shapes (FACTS 6)."""
    details = response.get("incomplete_details")
    if wire.type == "response.incomplete":
        reason = details.get("reason") if isinstance(details, dict) else None
        return (str(reason), str(reason)) if reason else ("", "the provider did not say why")
    error = wire.error if wire.error is not None else response.get("error")
    if isinstance(error, dict):
        code, text = error.get("code") or error.get("type"), error.get("message")
    else:
        code, text = wire.code, error or wire.message
    if wire.type in ("error", "response.failed", "response.cancelled"):
        return str(code or ""), str(text or wire.type)
    return "", ""

"""The bytes of a simulated response, read by the real assembler in pieces of any size."""

from random import Random
from typing import Any

import msgspec

from backstay.core.events import Outcome
from backstay.core.items import Item
from backstay.core.stream import Done, Ended, Response, StreamEvent

STREAMED = frozenset({"completed", "incomplete", "failed"})
"""Outcomes that a stream says itself; all others are its end without a terminal event."""


class Wire:
    """One response on its way: what is put on it comes out as the assembler understands it."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._response = Response()
        self._said: dict[int, Item] = {}

    def item(self, index: int, item: Item) -> list[Done]:
        """An item is done; it may be said to have been added before."""
        self._said.setdefault(index, item)
        data = b""
        if self._rng.random() < 0.3:
            data = _event(type="response.output_item.added", output_index=index, item=item)
        data += _event(type="response.output_item.done", output_index=index, item=item)
        return [one for one in self._fed(data) if isinstance(one, Done)]

    def end(self, outcome: Outcome) -> list[StreamEvent]:
        """The terminal event, or the end of the body without one, perhaps behind half an event."""
        if outcome.kind not in STREAMED:
            whole = _event(
                type="response.output_item.done", output_index=99, item={"type": "message"}
            )
            half = whole[: self._rng.randrange(len(whole) - 2)]
            return self._fed(half) + self._response.close(outcome.kind, outcome.reason)
        response: dict[str, Any] = {"id": outcome.response, "usage": {"input_tokens": 1}}
        if outcome.kind == "completed" and self._rng.random() < 0.5:
            response["output"] = list(self._said.values())
        if outcome.kind == "incomplete":
            response["incomplete_details"] = {"reason": outcome.reason}
        if outcome.kind == "failed":
            response["error"] = {"code": outcome.code, "message": outcome.reason}
        return self._fed(_event(type=f"response.{outcome.kind}", response=response))

    def _fed(self, data: bytes) -> list[StreamEvent]:
        at = self._rng.randint(0, len(data))
        return self._response.feed(data[:at]) + self._response.feed(data[at:])


def outcome(events: list[StreamEvent]) -> Outcome:
    """How the response ended."""
    return next(one.outcome for one in events if isinstance(one, Ended))


def _event(**fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (fields["type"].encode(), msgspec.json.encode(fields))

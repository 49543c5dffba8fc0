"""Responses API streams in the making: events as bytes, in the shapes that providers send."""

from typing import Any

import msgspec

from backstay.core.events import Outcome
from backstay.core.items import Item
from backstay.core.stream import Done, Ended, Notice, Response, StreamEvent


def event(kind: str, **fields: Any) -> bytes:
    """One event with its `event:` line, closed by a blank line."""
    body = msgspec.json.encode({"type": kind} | fields)
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)


def data(body: Any) -> bytes:
    """One event without an `event:` line: JSON, or bytes as they are."""
    return b"data: %b\n\n" % (body if isinstance(body, bytes) else msgspec.json.encode(body))


def created(ident: str = "resp_1") -> bytes:
    """The first event of a response."""
    return event("response.created", response={"id": ident, "status": "in_progress"})


def added(item: Item, index: int | None = None) -> bytes:
    """An item begins; without an index as llama.cpp says it."""
    return event("response.output_item.added", item=item, **_place(index))


def done(item: Item, index: int | None = None) -> bytes:
    """An item is done; without an index as llama.cpp says it."""
    return event("response.output_item.done", item=item, **_place(index))


def final(kind: str = "response.completed", **response: Any) -> bytes:
    """A terminal event."""
    return event(kind, response={"id": "resp_1"} | response)


def _place(index: int | None) -> dict[str, int]:
    return {} if index is None else {"output_index": index}


def function(ident: str, arguments: str = "{}", name: str = "look", **fields: Any) -> Item:
    """A function call."""
    return {
        "type": "function_call",
        "call_id": ident,
        "name": name,
        "arguments": arguments,
    } | fields


def custom(ident: str, text: str = "*** Begin Patch", name: str = "edit") -> Item:
    """A call of a custom tool."""
    return {"type": "custom_tool_call", "call_id": ident, "name": name, "input": text}


def said(text: str, **fields: Any) -> Item:
    """An assistant's message as a response holds it."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "role": "assistant", "content": content} | fields


def thought(ident: str, encrypted: str | None = "sealed", **fields: Any) -> Item:
    """A reasoning item."""
    return {"type": "reasoning", "id": ident, "summary": []} | (
        {"encrypted_content": encrypted} | fields
    )


def assemble(*pieces: bytes, cut: str = "the stream ended") -> list[StreamEvent]:
    """Everything that the assembler makes of these bytes, up to the response's end."""
    response = Response()
    found = [one for piece in pieces for one in response.feed(piece)]
    if not response.ended:
        found += response.close("cut", cut)
    return found


def items(found: list[StreamEvent]) -> list[tuple[int, Item]]:
    """The items that were done, each with its index."""
    return [(one.index, one.item) for one in found if isinstance(one, Done)]


def outcome(found: list[StreamEvent]) -> Outcome:
    """The one ending, which is the last of what was found."""
    (last,) = [one for one in found if isinstance(one, Ended)]
    assert found[-1] is last
    return last.outcome


def notices(found: list[StreamEvent]) -> list[str]:
    """What was odd."""
    return [one.text for one in found if isinstance(one, Notice)]

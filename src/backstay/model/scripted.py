"""A transport that plays a script instead of asking a network: for tests of agents and tools.

Owns no provider's shapes: `events` writes down whatever events it is given.

    transport = Scripted([Reply([events({"type": "response.completed", "response": {...}})])])
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from backstay.model.transport import Head, HttpRequest, TransportError

_BEFORE_HEAD: Final = ("connect", "before_head", "stalled_connect", "stalled_head")
_EVENT_STREAM: Final = {"content-type": "text/event-stream"}


class Reply(msgspec.Struct, kw_only=True):
    """One answer: a status, headers, the pieces of the body, and how it ends.

    An `asyncio.Event` between the pieces is waited for. `ending` is raised at the end, or instead
    of the head where its kind says so; None is a clean end.
    """

    pieces: Sequence[bytes | asyncio.Event] = ()
    status: int = 200
    headers: Mapping[str, str] = msgspec.field(default_factory=lambda: _EVENT_STREAM)
    ending: TransportError | None = None


class Scripted:
    """Fulfils `Transport`: the n-th request gets the n-th reply; then HTTP 400, `script_exhausted`.

    `requests` holds what was asked, `closed` counts streams that were closed before their end.
    """

    def __init__(self, replies: Iterable[Reply]) -> None:
        self._replies = list(replies)
        self.requests: list[HttpRequest] = []
        self.closed = 0

    @property
    def bodies(self) -> list[Any]:
        """The requests' bodies, decoded from JSON."""
        return [msgspec.json.decode(request.body) for request in self.requests]

    async def stream(self, request: HttpRequest) -> AsyncGenerator[Head | bytes, None]:
        number = len(self.requests)
        self.requests.append(request)
        reply = self._replies[number] if number < len(self._replies) else _exhausted(number)
        try:
            if reply.ending is None or reply.ending.kind not in _BEFORE_HEAD:
                yield Head(reply.status, reply.headers)
                for piece in reply.pieces:
                    if isinstance(piece, asyncio.Event):
                        await piece.wait()
                    else:
                        yield piece
        except (GeneratorExit, asyncio.CancelledError):
            self.closed += 1
            raise
        if reply.ending is not None:
            raise TransportError(reply.ending.kind, reply.ending.reason)


def events(*found: Mapping[str, Any]) -> bytes:
    """Server-sent events, each named by its `type` where it has one."""
    return b"".join(
        (f"event: {event['type']}\n" if "type" in event else "").encode()
        + b"data: %b\n\n" % msgspec.json.encode(event)
        for event in found
    )


def _exhausted(number: int) -> Reply:
    said = f"the script has no reply to request {number + 1}"
    body = {"error": {"message": said, "type": "invalid_request_error", "code": "script_exhausted"}}
    return Reply(
        status=400,
        headers={"content-type": "application/json"},
        pieces=[msgspec.json.encode(body)],
    )

"""One attempt at one response, from the request's bytes to its outcome.

Owns the way from a transport to the core's assembler; whether to try again is the core's to say.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import msgspec

from backstay.core.events import Outcome, OutcomeKind
from backstay.core.stream import Ended, Notice, Response, StreamEvent
from backstay.model.refusal import LONGEST, explanation, refusal
from backstay.model.transport import FailureKind, Head, HttpRequest, Transport, TransportError

LONGEST_ERROR: Final = 64 * 1024
"""Bytes that are read of an error's body."""
LONGEST_WHOLE: Final = 64 * 1024 * 1024
"""Bytes that are read of a response that comes in one piece."""
CUT: Final = "the stream ended before the response was complete"
ERROR_SECONDS: Final = 10.0
DRAIN_SECONDS: Final = 0.1

_OUTCOMES: Final[dict[FailureKind, OutcomeKind]] = {
    "connect": "unreachable",
    "before_head": "unreachable",
    "stalled_connect": "unreachable",
    "stalled_head": "stalled",
    "stalled": "stalled",
    "broken": "cut",
}

TAKE_UPS: Final = 5
"""How often in a row a stream that was cut is asked for again without a new event of it."""
FIRST_WAIT: Final = 0.2
"""Seconds before the first; doubled each time."""

Deliver = Callable[[StreamEvent], None]
TakeUp = Callable[[str, int], HttpRequest]
"""The request for what a stream says behind an event: response id, number of the event."""


async def attempt(
    transport: Transport,
    request: HttpRequest,
    deliver: Deliver,
    *,
    response: Response | None = None,
    take_up: TakeUp | None = None,
) -> Outcome:
    """Send the request and deliver what the stream says, in order, as it comes.

    With `take_up` a stream that is cut is asked for again where it was, before the attempt is said
    to be cut (FACTS 11). `response` is the assembler to use: it tells the id, also afterwards.

    Whatever happens, exactly one `Ended` is delivered, as the last event and at once; its outcome
    is returned when the connection is given back, at most `DRAIN_SECONDS` later. Raises nothing
    but cancellation, which ends the request, and `UsageError` for one that can't be made.
    """
    ended: list[Outcome] = []

    def hand_over(events: list[StreamEvent]) -> None:
        for event in events:
            if isinstance(event, Ended):
                ended.append(_redacted(event.outcome, request))
                deliver(Ended(ended[0]))
            else:
                deliver(event)

    response = response or Response()
    kind, reason = await _exchange(transport, request, response, hand_over)
    tries = 0
    while not ended and take_up and response.sequence is not None and response.id:
        if kind not in ("cut", "stalled") or tries == TAKE_UPS:
            break
        heard = response.sequence
        deliver(Notice(f"{reason}: taking the stream up again behind event {heard}"))
        await asyncio.sleep(FIRST_WAIT * 2**tries)
        response.resume()
        again = take_up(response.id, heard)
        then, why = await _exchange(transport, again, response, hand_over, again=True)
        if then == "refused":
            break
        if then != "unreachable":
            kind, reason = then, why
        tries = 0 if response.sequence > heard else tries + 1
    if not ended:
        hand_over(response.close(kind, reason))
    return ended[0]


async def _exchange(
    transport: Transport,
    request: HttpRequest,
    response: Response,
    hand_over: Callable[[list[StreamEvent]], None],
    *,
    again: bool = False,
) -> tuple[OutcomeKind, str]:
    """One request and its answer; how it ended, if the response did not end in it."""
    try:
        async with aclosing(transport.stream(request)) as stream:
            if again:
                return await _go_on(stream, response, hand_over)
            await _answer(stream, response, hand_over)
    except TransportError as error:
        return _OUTCOMES[error.kind], error.reason
    return "cut", CUT


async def _go_on(
    stream: AsyncGenerator[Head | bytes, None],
    response: Response,
    hand_over: Callable[[list[StreamEvent]], None],
) -> tuple[OutcomeKind, str]:
    """The rest of a stream; `refused`: the provider has it no more."""
    head = await anext(stream)
    assert isinstance(head, Head)  # noqa: S101 - the protocol's first word
    if not 200 <= head.status < 300:
        await _drain(stream)
        busy = head.status == 429 or head.status >= 500
        return "unreachable" if busy else "refused", ""
    await _stream(stream, response, hand_over)
    return "cut", CUT


async def _answer(
    stream: AsyncGenerator[Head | bytes, None],
    response: Response,
    hand_over: Callable[[list[StreamEvent]], None],
) -> None:
    head = await anext(stream)
    assert isinstance(head, Head)  # noqa: S101 - the protocol's first word
    kind = _content_type(head)
    if not 200 <= head.status < 300 or kind == "text/html":
        body = await _error_body(stream)
        hand_over([Ended(refusal(head.status, head.headers, body, time.time()))])
    elif kind.endswith(("/json", "+json")):
        hand_over(_whole(response, head, await _body(stream, LONGEST_WHOLE)))
    else:
        await _stream(stream, response, hand_over)


async def _stream(
    stream: AsyncGenerator[Head | bytes, None],
    response: Response,
    hand_over: Callable[[list[StreamEvent]], None],
) -> None:
    async for piece in stream:
        if isinstance(piece, bytes):
            hand_over(response.feed(piece))
        if response.ended:
            await _drain(stream)
            return


async def _drain(stream: AsyncGenerator[Head | bytes, None]) -> None:
    """Read the end of the body, so that the connection can be used again."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in stream:
                pass
    except (TimeoutError, TransportError):
        pass


async def _body(stream: AsyncGenerator[Head | bytes, None], longest: int) -> bytes:
    """The body, cut where it gets too long."""
    found = bytearray()
    async for piece in stream:
        if isinstance(piece, bytes):
            found += piece
        if len(found) >= longest:
            break
    return bytes(found[:longest])


async def _error_body(stream: AsyncGenerator[Head | bytes, None]) -> bytes:
    """As much of an error's body as comes: the status alone would do."""
    found = bytearray()
    try:
        async with asyncio.timeout(ERROR_SECONDS):
            async for piece in stream:
                if isinstance(piece, bytes):
                    found += piece
                if len(found) >= LONGEST_ERROR:
                    break
    except (TimeoutError, TransportError):
        pass
    return bytes(found[:LONGEST_ERROR])


def _whole(response: Response, head: Head, body: bytes) -> list[StreamEvent]:
    """A JSON body in place of a stream: the whole response, or an error."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return [Ended(Outcome(kind="cut", reason="the answer is not whole JSON"))]
    if isinstance(value, dict) and isinstance(value.get("output"), list):
        return response.whole(value)
    code, reason = explanation(body)
    said = reason or f"the answer (HTTP {head.status}) is JSON, but not a response"
    return [Ended(Outcome(kind="failed", code=code, reason=said))]


def _content_type(head: Head) -> str:
    for name, value in head.headers.items():
        if name.lower() == "content-type":
            return value.partition(";")[0].strip().lower()
    return ""


def _redacted(outcome: Outcome, request: HttpRequest) -> Outcome:
    """The outcome without the request's secrets, should the provider quote them."""
    reason = outcome.reason
    for name, value in request.headers.items():
        secret = value.removeprefix("Bearer ")
        if name.lower() not in ("content-type", "accept", "user-agent") and len(secret) >= 8:
            reason = reason.replace(secret, "[redacted]")
    return msgspec.structs.replace(outcome, reason=reason[: LONGEST + 50])

"""From a response and its faults to the steps that a connection carries out.

Pure. Every position becomes an offset into the stream's bytes; the steps between two offsets are
writes of whole or cut events. The steps themselves are carried out by `server`.
"""

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Any, Literal

from msgspec import Struct

from backstay.chaos.script import (
    CALL_ITEMS,
    TERMINAL_EVENTS,
    CleanEnd,
    Close,
    Error,
    Failed,
    Garbage,
    HalfEvent,
    Hold,
    Incomplete,
    KeepaliveTrap,
    Passage,
    Placed,
    PlacedFault,
    Position,
    Reorder,
    Repeat,
    Reset,
    Response,
    Script,
    ScriptError,
    Stall,
    TruncatedCall,
    Unknown,
    When,
    Where,
)
from backstay.chaos.stream import (
    Frame,
    Play,
    Stream,
    Writer,
    decoded,
    encode,
    final_of,
    render,
    sse,
)

CUTTING = (Close, Reset, HalfEvent, CleanEnd, Stall)
IN_DOCUMENTS = (*CUTTING, Failed, Incomplete, Error)
"""The faults that act on an answer which is one document."""

How = Literal["clean", "close", "reset", "trap"]


class Write(Struct):
    """Send these pieces of the body; `missing`: the last chunk announces so many bytes more."""

    pieces: list[bytes]
    missing: int = 0


class Await(Struct):
    """Send nothing until the file exists, at most `seconds`."""

    file: str
    seconds: float


class Silence(Struct):
    """Send nothing for so many seconds, or until the client leaves."""

    seconds: float | None


class Head(Struct):
    """Send the status line and the headers."""


class End(Struct):
    """End the answer: properly, or by ending the connection."""

    how: How


Step = Write | Await | Silence | Head | End


class Plan(Struct):
    """An answer: its head, how its body is framed, and its steps.

    `spent`: the client got so far that the next request should get the next response: a whole call,
    or, without calls, the whole response.
    """

    status: int
    headers: dict[str, str]
    framing: Literal["chunked", "close", "length"]
    length: int
    steps: list[Step]
    spent: bool = True


class _Cut(Struct):
    """What happens at an offset; nothing of the body follows a final one.

    Behind any other it goes on after `skipped` bytes, which the steps have sent already.
    """

    offset: int
    steps: list[Step]
    final: bool = False
    missing: int = 0
    skipped: int = 0


class _Body:
    """The frames of a body and the offsets at which they begin.

    `lenient`: a position that is not there, or behind the terminal event, stands before it.
    """

    def __init__(self, stream: Stream, *, lenient: bool = False) -> None:
        self.lenient = lenient
        self.frames = stream.frames
        self.writer = stream.writer
        self.starts = [0, *accumulate(len(frame.wire) for frame in self.frames)]
        terminal = (n for n, f in enumerate(self.frames) if f.type in TERMINAL_EVENTS)
        self.terminal = next(terminal, len(self.frames))

    def boundary(self, where: Where, *, after: bool) -> int:
        """How many events stand before the position; raises LookupError with the reason."""
        place = where if isinstance(where, Position) else Position(event=where)
        if not self.lenient:
            return self._nth(place.event, place.nth, place.item) + after
        try:
            found = self._nth(place.event, place.nth, place.item) + after
        except LookupError:
            return self.terminal
        return min(found, self.terminal)

    def _nth(self, event: int | str | None, nth: int, item: str | None) -> int:
        if isinstance(event, int):
            number = event + len(self.frames) if event < 0 else event
            if not 0 <= number < len(self.frames):
                raise LookupError(f"no event {event}: the stream has {len(self.frames)}")
            return number
        if event == "terminal":
            return min(self.terminal, len(self.frames) - 1)
        hits = (n for n, frame in enumerate(self.frames) if is_event(frame, event, item))
        for count, number in enumerate(hits, 1):
            if count == nth:
                return number
        raise LookupError(f"the stream has no {event} number {nth}" + (f" of {item}" * bool(item)))

    def between(self, start: int, end: int) -> list[bytes]:
        """The bytes between two offsets, one piece for each event or part of one."""
        first = bisect_right(self.starts, start) - 1
        last = bisect_left(self.starts, end)
        pieces = [frame.wire for frame in self.frames[first:last]]
        if pieces and end < self.starts[last]:
            pieces[-1] = pieces[-1][: end - self.starts[last]]
        if pieces:
            pieces[0] = pieces[0][start - self.starts[first] :]
        return [piece for piece in pieces if piece]


def is_event(frame: Frame, event: str | None, item: str | None) -> bool:
    """Whether an event is of this type, or what the type's short name stands for."""
    if event == "call":
        hit = frame.type == "response.output_item.done" and frame.item in CALL_ITEMS
        return hit and item in (None, frame.item)
    return frame.type == event and item in (None, frame.item)


def plan(response: Response, play: Play, recording: bytes = b"", *, lenient: bool = False) -> Plan:
    """The steps of an answer as a stream, as one JSON body, or as an HTTP error.

    `lenient` (for drawn faults): a position that is not in the stream stands before its terminal
    event; else it raises LookupError.
    """
    is_stream = response.output is not None or response.events is not None
    is_stream = is_stream or response.sse is not None
    if is_stream and play.streaming:
        stream = render(response, play, recording)
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        body = _Body(stream, lenient=lenient)
        cuts = _cuts(response, body)
        headers |= response.headers
        status = response.status or 200
        plan = Plan(status, headers, response.framing, 0, _steps(response, cuts, body))
        plan.spent = _spent(response, cuts, body)
        return plan
    if not is_stream:
        return refused(response)
    stream = render(response, play, recording)
    final = final_of(stream.frames) if stream.final is None else stream.final
    status, value = _altered(response, response.status or 200, final)
    headers = {"content-type": "application/json"} | response.headers
    return document(response, status, headers, encode(value))


def taken_up(response: Response, play: Play, recording: bytes, after: int, struck: int) -> Plan:
    """The rest of a stream behind its event number `after`, with the faults that stand there.

    `struck`: so many of the faults that end the connection have done so.
    """
    body = _Body(render(response, play, recording), lenient=True)
    start = body.starts[min(after + 1, len(body.frames))]
    cuts = _cuts(response, body)
    over = [cut for cut in cuts if cut.final][:struck]
    cuts = [cut for cut in cuts if cut not in over and cut.offset >= start]
    headers = {"content-type": "text/event-stream; charset=utf-8"} | response.headers
    steps = _join([], cuts, body, "clean", start)
    return Plan(200, headers, response.framing, 0, steps)


def refused(passage: Passage) -> Plan:
    """The steps of an HTTP error."""
    value = error_body(passage)
    text = value.encode() if isinstance(value, str) else encode(value)
    kind = "text/plain; charset=utf-8" if isinstance(value, str) else "application/json"
    headers = {"content-type": kind} | passage.headers
    return document(passage, passage.status or 200, headers, text)


def alter(passage: Passage, status: int, text: bytes) -> tuple[int, bytes]:
    """What a response that is one document becomes where it shall have failed."""
    if not any(isinstance(fault, Failed | Incomplete | Error) for fault in passage.faults):
        return status, text
    status, value = _altered(passage, status, decoded(text))
    return status, encode(value)


def document(passage: Passage, status: int, headers: dict[str, str], text: bytes) -> Plan:
    """The steps of an answer whose body is one document."""
    writer = Writer(Response(), Play(0, "", "openai"))  # documents get no events
    body = _Body(Stream([Frame("", "", text)], writer))
    cuts = _cuts(passage, body, whole=True)
    steps = _steps(passage, cuts, body)
    spent = not any(cut.final for cut in cuts)
    return Plan(status, headers, "length", len(text), steps, spent)


def check(script: Script) -> None:
    """Raise ScriptError if a position is not in its stream."""
    for number, response in enumerate(script.responses):
        if response.faults or response.holds:
            play = Play(0, "00000000", response.style or script.style)
            try:
                plan(response, play, script.recordings.get(response.sse or "", b""))
            except LookupError as error:
                raise ScriptError(f"script: responses[{number}]: {error.args[0]}") from None


def error_body(response: Passage) -> Any:
    """The body of an HTTP error: the script's, else a plausible one."""
    if isinstance(response.body, str | dict | list | int | float | bool):
        return response.body
    code, message = _PLAUSIBLE.get(response.status or 0, (None, "The request could not be served."))
    kind = "server_error" if (response.status or 0) >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


_PLAUSIBLE = {
    401: ("invalid_api_key", "Incorrect API key provided."),
    403: ("unsupported_country_region_territory", "Country, region, or territory not supported."),
    404: ("model_not_found", "The model does not exist or you do not have access to it."),
    429: ("rate_limit_exceeded", "Rate limit reached. Please try again later."),
    500: (None, "The server had an error while processing your request."),
    503: (None, "The server is overloaded. Please try again later."),
}


def _altered(passage: Passage, status: int, final: dict[str, Any]) -> tuple[int, Any]:
    """The final response object, or what a failure makes of it."""
    for fault in passage.faults:
        if isinstance(fault, Failed):
            error = {"code": fault.code, "message": fault.message}
            return 200, final | {"status": "failed", "error": error}
        if isinstance(fault, Incomplete):
            details = {"reason": fault.reason}
            return 200, final | {"status": "incomplete", "incomplete_details": details}
        if isinstance(fault, Error):
            error = {"type": fault.code, "code": fault.code, "message": fault.message}
            return 500, {"error": error}
    return status, final


def early(passage: Passage) -> list[Step]:
    """What happens before even the status line is sent."""
    steps: list[Step] = [await_of(hold) for hold in passage.holds if hold.before == "headers"]
    for fault in passage.faults:
        if isinstance(fault, Placed) and fault.before == "headers":
            steps += [await_of(fault.when)] if fault.when else []
            if isinstance(fault, Stall):
                steps.append(Silence(fault.seconds))
            if isinstance(fault, Close | Reset):
                steps.append(End(how_of(fault)))
            elif isinstance(fault, Stall) and fault.seconds is None:
                steps.append(End("close"))
    return steps


def _steps(passage: Passage, cuts: list[_Cut], body: _Body) -> list[Step]:
    """The steps of a body with its faults."""
    trap = any(isinstance(fault, KeepaliveTrap) for fault in passage.faults)
    return _join(early(passage), cuts, body, "trap" if trap else "clean")


def _cuts(passage: Passage, body: _Body, *, whole: bool = False) -> list[_Cut]:
    """What happens at which offsets, in order; `whole`: the body is one document, not events."""
    cuts: list[_Cut] = []
    for hold in passage.holds:
        where = hold.event if hold.event is not None else hold.before
        if where != "headers" and not whole:
            cuts.append(_Cut(_offset(body, hold.after, where), [await_of(hold)]))
    for fault in passage.faults:
        if isinstance(fault, Placed) and fault.before != "headers":
            cut = _in_document(fault, body) if whole else _place(fault, body)
            cuts += [cut] if cut else []
    return sorted(cuts, key=lambda cut: cut.offset)


def _spent(response: Response, cuts: list[_Cut], body: _Body) -> bool:
    """Whether a client that got the stream up to its end, or to where it is cut, got enough."""
    if any(isinstance(fault, Placed) and fault.before == "headers" for fault in response.faults):
        return False
    end = next((cut.offset for cut in cuts if cut.final), body.starts[-1])
    calls = sum(
        is_event(frame, "call", None) and stop <= end
        for frame, stop in zip(body.frames, body.starts[1:], strict=True)
    )
    cut_short = any(isinstance(fault, TruncatedCall) for fault in response.faults)
    if calls or cut_short:
        return calls > cut_short
    return body.starts[min(body.terminal + 1, len(body.frames))] <= end


def _join(
    first: list[Step], cuts: list[_Cut], body: _Body, end: How, position: int = 0
) -> list[Step]:
    steps: list[Step] = [*first, Head()]
    for cut in cuts:
        offset = max(cut.offset, position)  # a reordering before it may have sent what follows
        steps.append(Write(body.between(position, offset), cut.missing))
        position = max(position, cut.offset + cut.skipped)
        steps += cut.steps
        if cut.final:
            return [End(end) if step == End("clean") else step for step in steps]
    return [*steps, Write(body.between(position, body.starts[-1])), End(end)]


def _offset(body: _Body, after: Where | None, before: Where | None) -> int:
    where = after if after is not None else before
    if where is None:
        return body.starts[body.terminal]
    if isinstance(where, Position) and where.byte is not None:
        return min(where.byte, body.starts[-1])
    return body.starts[body.boundary(where, after=after is not None)]


def _place(fault: PlacedFault, body: _Body) -> _Cut:
    before = fault.before
    if isinstance(fault, Reorder) and fault.after is None and before is None:
        before = "response.output_item.done"
    offset = _offset(body, fault.after, before)
    if isinstance(fault, HalfEvent) and offset in body.starts[:-1]:
        number = body.starts.index(offset)
        size = len(body.frames[number].wire)
        offset += min(size, fault.bytes if fault.bytes is not None else size // 2)
    return _strike(fault, body, offset)


def _in_document(fault: PlacedFault, body: _Body) -> _Cut | None:
    """A fault in a body that is one document: at its byte, else in the middle."""
    if not isinstance(fault, CUTTING):
        return None
    where = fault.after if fault.after is not None else fault.before
    size = body.starts[-1]
    byte = where.byte if isinstance(where, Position) and where.byte is not None else size // 2
    cut = _strike(fault, body, min(byte, size))
    if End("clean") in cut.steps:
        cut.steps[-1] = End("close")  # a body of announced length can't end early and properly
    return cut


def _strike(fault: PlacedFault, body: _Body, offset: int) -> _Cut:
    """What a fault does at an offset."""
    steps: list[Step] = [await_of(fault.when)] if fault.when else []
    number = bisect_right(body.starts, offset) - 1
    match fault:
        case Close() | Reset() | HalfEvent():
            steps.append(End(how_of(fault)))
            return _Cut(offset, steps, final=True, missing=16 if fault.partial_chunk else 0)
        case CleanEnd():
            steps.append(End("clean"))
        case Stall():
            steps.append(Silence(fault.seconds))
            if fault.seconds is None:
                steps.append(End("close"))
        case Repeat():
            if number == 0 and not body.lenient:
                raise LookupError("repeat: no event stands before the position")
            if number == 0:
                return _Cut(offset, steps)
            return _Cut(offset, [*steps, Write([body.frames[number - 1].wire] * fault.times)])
        case Garbage():
            return _Cut(offset, [*steps, Write([b"data: %b\n\n" % fault.text.encode()])])
        case Unknown():
            kind = str(fault.event.get("type", ""))
            named = body.writer.style != "openrouter" and bool(kind)
            return _Cut(offset, [*steps, Write([sse(kind, encode(fault.event), named=named)])])
        case Reorder():
            moved = [frame.wire for frame in body.frames[number : number + 1 + fault.by]]
            moved = [*moved[1:], *moved[:1]]
            return _Cut(offset, [*steps, Write(moved)], skipped=sum(map(len, moved)))
        case Failed() | Incomplete() | Error():
            wires = [frame.wire for frame in body.writer.ending(fault, number)]
            steps += [Write(wires), End("clean")]
    return _Cut(offset, steps, final=isinstance(steps[-1], End))


def how_of(fault: Close | Reset | HalfEvent) -> How:
    """How a fault ends the connection or the body."""
    if isinstance(fault, Reset):
        return "reset"
    if isinstance(fault, HalfEvent):
        return "clean" if fault.end == "clean_end" else fault.end
    return "close"


def await_of(when: When | Hold) -> Await:
    """The step that waits for a file."""
    return Await(when.file, when.seconds)

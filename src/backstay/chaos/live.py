"""Breaking a stream while it flows: events in, steps out, the same as `plan` makes of a whole one.

Pure. An event is held back only where a fault must see more first: what is moved behind later
events, and a call that is truncated. What only the end tells (negative numbers, which call is the
last) is no position here.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from backstay.chaos.plan import End, Silence, Step, Write, await_of, how_of, is_event
from backstay.chaos.script import (
    TERMINAL_EVENTS,
    CleanEnd,
    Close,
    Error,
    Failed,
    Fault,
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
    Stall,
    TruncatedCall,
    Unknown,
    Where,
)
from backstay.chaos.shorten import Shortener
from backstay.chaos.stream import Frame
from backstay.chaos.voice import Voice


class _Waiting(Struct, eq=False):
    """A fault or hold and the position that it waits for; `count`: how often its event has come."""

    what: PlacedFault | Hold
    where: Where | None
    after: bool
    count: int = 0

    @property
    def byte(self) -> int | None:
        """The offset in the body, where the position is one."""
        return self.where.byte if isinstance(self.where, Position) else None

    def is_at(self, number: int, frame: Frame, *, terminal: bool) -> bool:
        """Whether the position names this event; to be asked once for each."""
        if self.byte is not None:
            return False
        place = self.where if isinstance(self.where, Position) else Position(event=self.where)
        if place.event is None or place.event == "terminal":
            return terminal
        if isinstance(place.event, int):
            return place.event == number
        hit = is_event(frame, place.event, place.item)
        self.count += hit
        return hit and self.count == place.nth


class Breaker:
    """The faults of one answer, struck as its stream passes; `struck` names those that were.

    `lenient` (for drawn faults): a position that has not come stands before the terminal event.
    """

    def __init__(self, passage: Passage, *, lenient: bool = False) -> None:
        self.struck: list[str] = []
        self.ended = False
        self._lenient = lenient
        self._voice = Voice()
        self._events = 0
        self._sent = 0
        self._terminal = False
        self._last: Frame | None = None
        self._armed: list[HalfEvent | Reorder] = []
        self._moved: tuple[int, Frame] | None = None
        self._late: list[_Waiting] = []
        self._waiting = _positions(passage)
        cut = next((f for f in passage.faults if isinstance(f, TruncatedCall)), None)
        self._shortener = Shortener(cut.nth or 1) if cut else None
        self._trap = any(isinstance(fault, KeepaliveTrap) for fault in passage.faults)

    @property
    def idle(self) -> bool:
        """Nothing is left to strike or held back: bytes may pass as they come."""
        return not (self._waiting or self._armed or self._moved or self._late or self._shortener)

    def feed(self, frames: Iterable[Frame]) -> Iterator[Step]:
        """The steps for these events; an `End` is the last."""
        for frame in frames:
            for one in self._shortener.feed(frame) if self._shortener else [frame]:
                yield from self._pass(one)
            if self._shortener and self._shortener.done and not self.ended:
                self._shortener = None
                self.struck.append("truncated_call")
                yield Write([self._voice.ending(Incomplete())])
                yield self._end(End("clean"))
            if self.ended:
                return

    def finish(self) -> Iterator[Step]:
        """The steps when the stream has ended properly."""
        for frame in self._shortener.rest() if self._shortener else ():
            yield from self._pass(frame)
        if self._moved:
            frame, self._moved = self._moved[1], None
            yield from self._send(frame)
        here = [
            p for p in self._waiting if self._lenient or p.where in (None, "terminal") or p.byte
        ]
        yield from self._strike(here)
        for fault in self._armed:
            if isinstance(fault, HalfEvent) and not self.ended:
                yield from self._steps(fault)
        if not self.ended:
            yield self._end(End("clean"))

    def abandon(self) -> bytes:
        """What is held back, for a stream that broke off: its bytes are not ours to keep."""
        held = [self._moved[1]] if self._moved else []
        held += self._shortener.rest() if self._shortener else []
        return b"".join(frame.wire for frame in held)

    # ----- one event

    def _pass(self, frame: Frame) -> Iterator[Step]:
        """The steps for one event, with what is placed before, in and after it."""
        terminal = not self._terminal and frame.type in TERMINAL_EVENTS
        self._terminal |= terminal
        self._voice.hear(frame, sent=False)
        at = [p for p in self._waiting if p.is_at(self._events, frame, terminal=terminal)]
        self._events += 1
        yield from self._strike(
            p
            for p in [*self._waiting]
            if (p in at and not p.after) or p.byte == self._sent or (terminal and self._lenient)
        )
        if not self.ended:
            yield from self._go(frame)
        yield from self._strike(
            p for p in [*self._waiting] if (p in at and p.after) or p.byte == self._sent
        )

    def _go(self, frame: Frame) -> Iterator[Step]:
        """Send the event, or do to it what a fault wants to do to the next one."""
        armed, self._armed = self._armed, []
        for fault in armed:
            self.struck.append(name_of(fault))
            if isinstance(fault, HalfEvent):
                size = fault.bytes if fault.bytes is not None else len(frame.wire) // 2
                yield Write([frame.wire[:size]], _missing(fault))
                if fault.when:
                    yield await_of(fault.when)
                yield self._end(End(how_of(fault)))
                return
            self._moved = (fault.by, frame)
            return
        yield from self._send(frame)
        if self._moved and not self.ended:
            left, moved = self._moved
            self._moved = (left - 1, moved) if left > 1 else None
            if left <= 1:
                yield from self._send(moved)
                late, self._late = self._late, []
                yield from self._strike(late)

    def _send(self, frame: Frame) -> Iterator[Step]:
        """The bytes of an event, cut where something is placed among them."""
        wire, start = frame.wire, self._sent
        inside = [p for p in self._waiting if start < (p.byte or 0) < start + len(wire)]
        for place in sorted(inside, key=lambda place: place.byte or 0):
            byte = place.byte or 0
            yield Write([wire[self._sent - start : byte - start]])
            self._sent = byte
            if isinstance(place.what, HalfEvent):
                self._waiting.remove(place)
                yield from self._steps(place.what)
            else:
                yield from self._strike([place])
            if self.ended:
                return
        yield Write([wire[self._sent - start :]])
        self._sent = start + len(wire)
        self._last = frame
        self._voice.hear(frame, sent=True)

    # ----- faults

    def _strike(self, places: Iterable[_Waiting]) -> Iterator[Step]:
        """What faults and holds do at their positions, or will do behind what is out of order."""
        for place in places:
            if self.ended:
                return
            if place in self._waiting:
                self._waiting.remove(place)
            fault = place.what
            if self._moved:
                self._late.append(place)
            elif isinstance(fault, Hold):
                yield await_of(fault)
            elif isinstance(fault, HalfEvent | Reorder):
                if fault.when and isinstance(fault, Reorder):
                    yield await_of(fault.when)
                self._armed.append(fault)
            else:
                yield from self._steps(fault)

    def _steps(self, fault: PlacedFault) -> Iterator[Step]:
        """The steps of a fault at this place."""
        self.struck.append(name_of(fault))
        if fault.when:
            yield await_of(fault.when)
        match fault:
            case Close() | Reset() | HalfEvent():
                if fault.partial_chunk:
                    yield Write([], _missing(fault))
                yield self._end(End(how_of(fault)))
            case CleanEnd():
                yield self._end(End("clean"))
            case Stall():
                yield Silence(fault.seconds)
                if fault.seconds is None:
                    yield self._end(End("close"))
            case Repeat():
                yield Write([self._last.wire] * fault.times if self._last else [])
            case Garbage():
                yield Write([b"data: %b\n\n" % fault.text.encode()])
            case Unknown():
                yield Write([self._voice.say(fault.event)])
            case Failed() | Incomplete() | Error():
                yield Write([self._voice.ending(fault)])
                yield self._end(End("clean"))

    def _end(self, step: End) -> End:
        self.ended = True
        if self._trap and step.how == "clean":
            self.struck.append("keepalive_trap")
            return End("trap")
        return step


def _positions(passage: Passage) -> list[_Waiting]:
    """Holds and faults that wait for a position in the stream, in the order of the script."""
    waiting = []
    for hold in passage.holds:
        where = hold.event if hold.event is not None else hold.before
        if where != "headers":
            after = hold.after is not None
            waiting.append(_Waiting(hold, hold.after if after else where, after))
    for fault in passage.faults:
        if isinstance(fault, Placed) and fault.before != "headers":
            where = fault.before
            if isinstance(fault, Reorder) and where is None:
                where = "response.output_item.done"
            after = fault.after is not None
            waiting.append(_Waiting(fault, fault.after if after else where, after))
    return waiting


def _missing(fault: Close | Reset | HalfEvent) -> int:
    return 16 if fault.partial_chunk else 0


def name_of(fault: Fault) -> str:
    """A fault's kind."""
    return str(fault.__struct_config__.tag)

"""Output for people: progress on stderr, the answer on stdout.

On a terminal the last line says what is happening and for how long; elsewhere each change is a
line, and silence is broken every half minute. Nothing that a model or a command wrote can move a
cursor. Knows the session only by what its watcher is told.
"""

from collections.abc import Callable, Mapping
from typing import Final

from backstay.cli import calls
from backstay.cli.kept import Past, Totals
from backstay.cli.shown import Shown
from backstay.cli.sink import Sink
from backstay.cli.terminal import (
    BOLD,
    DIM,
    GREEN,
    RED,
    YELLOW,
    Style,
    columns,
    dollars,
    harmless,
    one_line,
)
from backstay.core.compact import compacted
from backstay.core.items import Item, kind, message_text, tool_name
from backstay.core.kept import Kept, is_answer, last_message, reasoning_text
from backstay.core.mend import said
from backstay.core.record import (
    Attempt,
    AttemptEnd,
    Call,
    Compaction,
    ItemRecord,
    Known,
    Output,
    Repair,
)
from backstay.core.retry import explain
from backstay.core.usage import Price
from backstay.runtime.watch import (
    Answered,
    Began,
    Compacting,
    Finished,
    Noticed,
    Printed,
    Recorded,
    Sent,
    Started,
    Streamed,
    Waiting,
    WatchEvent,
)

HEARTBEAT: Final = 30.0
"""Seconds of silence after which a log is told what is being waited for."""
_DOING: Final = {
    "reasoning": "thinking",
    "message": "answering",
    "web_search_call": "searching the web",
}
_MARKS: Final = {"completed": "x", "in_progress": ">"}
_UNKNOWN: Final = "outcome unknown: it may have taken effect"
_STATUS: Final = {
    "never_started": "never started",
    "interrupted": "stopped: interrupted",
    "deadline": "stopped: its time limit passed",
    "unknown": _UNKNOWN,
    "rejected": "not run",
    "failed": "failed",
    "yielded": "goes on in the background",
}


class Human:
    """A watcher that tells a person. `streaming`: stdout is a terminal, the answer goes there as
    it comes; else the answer is written once, at the end.
    """

    def __init__(
        self,
        out: Sink,
        err: Sink,
        style: Style,
        clock: Callable[[], float],
        *,
        streaming: bool = False,
        width: Callable[[], int] = lambda: 80,
        resuming: bool = False,
        reasoning: bool = True,
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        self._out, self._err, self._style = out, err, style
        self._prices = prices or {}
        self._clock, self._width = clock, width
        self._streaming = streaming
        self._resuming = resuming
        self._reasoning = reasoning
        self._past = Past("")
        self._early: list[WatchEvent] | None = []
        """What was found while the session was opened: told behind the line that names it."""
        self._kept = Kept()
        self._totals = Totals()
        self._calls: dict[int, Call] = {}
        self._running: dict[int, tuple[str, float]] = {}
        self._shown: dict[int, Shown] = {}
        self._state = ""
        self._began = self._since = self._spoke = clock()
        self._until = 0.0
        self._drawn = 0
        """Columns of the line that may be drawn over."""
        self._open_line: Sink | None = None
        self._text: dict[tuple[int, int], bool] = {}
        self._held = ""
        self.answer = ""
        """The last message that was settled as kept."""

    def opened(self, session: str, folder: str, headline: str) -> None:
        self._past = Past(folder)
        self._line(f"{harmless(headline)}session {session}", DIM)
        self._tell_early()

    def _tell_early(self) -> None:
        early, self._early = self._early or [], None
        for event in early:
            self(event)

    def __call__(self, event: WatchEvent) -> None:
        """Take what happened."""
        if self._early is not None:
            self._early.append(event)
            return
        match event:
            case Recorded(record):
                self._record(record)
            case Sent():
                self._now("waiting for the model")
            case Answered():
                self._now("the model is at work")
            case Began(_, _, item):
                self._now(_DOING.get(kind(item)) or f"writing a call of {tool_name(item)}")
            case Streamed(channel="text"):
                self._stream(event)
            case Started(call, item, adopted):
                self._started(call, item, adopted=adopted)
            case Printed(call, data):
                self._printed(call, data)
            case Waiting(wait):
                self._wait(wait.seconds, f"({wait.tries} of {wait.limit}): {explain(wait.outcome)}")
            case Compacting():
                self._now("making the conversation shorter")
            case Noticed(text, level):
                self._line(harmless(text), *((YELLOW,) if level == "warning" else (DIM,)))
            case _:
                pass

    def tick(self) -> None:
        if self._style.live:
            self._draw()
        elif self._state and self._clock() - self._spoke >= HEARTBEAT:
            self._line(f"still {self._doing()}", DIM)

    def ended(self, ended: Finished, lines: list[str], again: str) -> None:
        self._state = ""
        for line in lines:
            self._line(harmless(line), DIM)
        if ended.outcome == "nothing":
            return
        if self._resuming:
            self._recall(ended)
        if self._held:
            self._answer(self._held)
        took = _duration(self._clock() - self._began)
        if ended.outcome in ("completed", "compacted"):
            self._line(f"done in {took}", GREEN)
        else:
            word = "stopped by the disk" if ended.outcome == "storage" else ended.outcome
            self._line(f"{word} after {took}: {harmless(ended.reason)}", RED)
        self._line(self._tokens(), DIM)
        if again:
            self._line(again, DIM)

    def next_turn(self) -> None:
        self._line("next: the prompt that was queued", DIM)
        self._began = self._clock()
        self._totals = Totals()
        self._text, self._held, self.answer = {}, "", ""
        self._resuming = False

    def failed(self, message: str) -> None:
        self._tell_early()
        self._clear()

    # Records

    def _record(self, record: Known) -> None:
        if isinstance(record, Attempt):
            self._begin_attempt(record)
            self._totals.take(record)
        for item in self._kept.take(record):
            self._settled(item, by=record)
        if isinstance(record, Call):
            self._calls[record.n] = record
        elif isinstance(record, Output):
            self._output(record)
        elif isinstance(record, AttemptEnd):
            self._totals.take(record)
        elif isinstance(record, Compaction):
            self._totals.take(record)
            self._line(harmless(compacted(record)), DIM)
        elif isinstance(record, Repair) and (line := said(record)):
            self._line(harmless(line), YELLOW)

    def _begin_attempt(self, record: Attempt) -> None:
        if self._held:  # it was not the last word
            self._progress(self._held)
            self._held = ""
        if any(not kept for kept in self._text.values()):
            self._line("-- cut; the answer starts again --", YELLOW)
            self._text = {}
        del record

    def _settled(self, one: ItemRecord, by: Known) -> None:
        if summary := reasoning_text(one) if self._reasoning else "":
            self._line(harmless(summary), DIM)
        elif kind(one.item) == "web_search_call":
            self._line(f"searched the web: {one_line(calls.searched(one.item), 400)}", DIM)
        elif is_answer(one):
            self.answer = message_text(one.item)
            place = (one.attempt, one.index)
            if place in self._text:
                self._text[place] = True
            elif self._streaming:
                self._answer(self.answer)
            elif isinstance(by, Call):
                self._progress(self.answer)
            else:
                if self._held:
                    self._progress(self._held)
                self._held = self.answer

    def _recall(self, ended: Finished) -> None:
        """Add what earlier processes did for the turn: their tokens, and an answer if need be."""
        turn = self._past.turn(ended.turn)
        if turn is None:
            return
        for record in self._past.uses(ended.turn):
            self._totals.take(record)
        if not self.answer and ended.outcome == "completed":
            self.answer = self._held = last_message(turn)

    def _output(self, record: Output) -> None:
        _, since = self._running.pop(record.call, ("", None))
        call = self._calls.get(record.call) or self._past.call(record.call)
        if call is None:
            return
        name = tool_name(call.item)
        shown = self._shown.pop(record.call, None)
        if since is None:
            found = "" if record.call in self._calls else f" ({calls.found(record)})"
            self._line(f"$ {one_line(calls.title(call.item), 400)}{found}", BOLD)
        if name in ("exec_command", "write_stdin"):
            if shown is None:
                shown = Shown()
                text = calls.printed(record, self._past.folder)
                self._lines(shown.feed(text.encode("utf-8", "replace")))
            self._lines(shown.rest())
        took = f" after {_duration(self._clock() - since)}" if since is not None else ""
        code = calls.exit_code(record)
        if code is not None and record.status == "done":
            self._line(f"  exit {code}{took}", *((DIM,) if code == 0 else (RED,)))
        elif record.status != "done":
            tone = DIM if record.status == "yielded" else RED
            self._line(f"  {_STATUS[record.status]}{took}", tone)
        self._what_it_did(name, call.item, record)

    def _what_it_did(self, name: str, item: Item, record: Output) -> None:
        for change in calls.changes(record):
            letter = {"add": "A", "delete": "D"}.get(change.get("kind", ""), "M")
            self._line(f"  {letter} {harmless(str(change.get('path')))}")
        if name == "update_plan" and record.status == "done":
            for text, status in calls.steps(item):
                self._line(f"  [{_MARKS.get(status, ' ')}] {one_line(text, 200)}")
        if name == "view_image" and record.status == "done":
            self._lines([one_line(message_text(record.item), 400)])
        if record.status in ("failed", "rejected"):
            said = harmless(message_text(record.item)).splitlines()
            self._lines([one_line(line, 400) for line in said[:5]])

    # What comes and may be taken back

    def _started(self, call: int, item: Item, *, adopted: bool) -> None:
        title = calls.title(item)
        first, *more = harmless(title).splitlines() or [""]
        if not adopted or call not in self._running:
            again = " (still running; taken over)" if adopted else ""
            self._line(f"$ {first[:400]}{again}", BOLD)
            self._lines([line[:400] for line in more[:10]])
        self._running[call] = (title, self._clock())
        self._now("running")

    def _printed(self, call: int, data: bytes) -> None:
        shown = self._shown.setdefault(call, Shown())
        prefix = f"[{call}] " if len(self._running) > 1 else ""
        self._lines([prefix + line for line in shown.feed(data)])

    def _stream(self, event: Streamed) -> None:
        if not self._streaming:
            return
        place = (event.attempt, event.index)
        if place not in self._text:
            self._end_line()
            self._text[place] = False
        self._clear()
        self._out.text(harmless(event.text))
        self._spoke = self._clock()
        self._open_line = None if event.text.endswith("\n") else self._out

    def _wait(self, seconds: float, why: str) -> None:
        self._until = self._clock() + seconds
        self._now("trying again")
        why = one_line(why, 300)
        self._line(f"trying again in {_duration(seconds)} {why}", YELLOW)

    # Lines

    def _answer(self, text: str) -> None:
        """The answer itself, verbatim but for a terminal."""
        self._held = ""
        self._clear()
        self._end_line()
        text = harmless(text) if self._out.is_terminal else text
        self._out.text(text if text.endswith("\n") else f"{text}\n")

    def _progress(self, text: str) -> None:
        self._line(harmless(text))

    def _lines(self, lines: list[str]) -> None:
        for line in lines:
            self._line(f"  {line}", DIM)

    def _line(self, text: str, *codes: int) -> None:
        self._clear()
        self._end_line()
        self._err.text(self._style(text, *codes) + "\n")
        self._spoke = self._clock()

    def _end_line(self) -> None:
        if self._open_line is not None:
            self._open_line.text("\n")
            self._open_line = None

    def _now(self, state: str) -> None:
        if state != self._state:
            self._state, self._since = state, self._clock()
        if self._style.live:
            self._draw()

    def _doing(self) -> str:
        now = self._clock()
        if self._running:
            title, since = next(iter(self._running.values()))
            others = len(self._running) - 1
            more = f" and {others} more" if others else ""
            return f"running for {_duration(now - since)}{more}: {title}"
        if self._state == "trying again":
            return f"trying again in {_duration(max(self._until - now, 0.0))}"
        return f"{self._state} ({_duration(now - self._since)})"

    def _draw(self) -> None:
        if not self._state or self._open_line is not None:
            return
        text = one_line(self._doing(), self._width() - 1)
        self._err.text(f"{self._style.erase(self._drawn)}{self._style(text, DIM)}")
        self._drawn = columns(text)

    def _clear(self) -> None:
        if self._drawn:
            self._err.text(self._style.erase(self._drawn))
            self._drawn = 0

    def _tokens(self) -> str:
        used = self._totals.usage()
        cached = f" ({used.cached_input_tokens:,} cached)" if used.cached_input_tokens else ""
        thought = used.reasoning_output_tokens
        reasoning = f" ({thought:,} reasoning)" if thought else ""
        text = f"tokens: {used.input_tokens:,} in{cached}, {used.output_tokens:,} out{reasoning}"
        spent = self._totals.cost(self._prices)
        if spent:
            text += f"; {dollars(spent)}"
        uncounted = self._totals.uncounted()
        if uncounted:
            plural = "s" if uncounted > 1 else ""
            text += f"; {uncounted} cut attempt{plural} not counted by the provider"
        return text


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"

"""A small world that plays at random with a turn machine: disk, provider, tools, user and crashes.

Everything it does is legal; what it does is decided by `pick`, so that a list of numbers, or a
seed, is a whole run. The promises themselves are checked in `watch`.
"""

from collections.abc import Callable
from typing import Final

from backstay.core import commands as c
from backstay.core import events as e
from backstay.core.budget import Budget
from backstay.core.dialect import Dialect
from backstay.core.items import Item, message, message_text
from backstay.core.record import Known, Output
from backstay.core.retry import Policy
from backstay.core.rules import Rules
from backstay.core.table import TABLE, Phase
from tests.core.past import BASIS
from tests.core.playbook import TOOLS
from tests.core.watch import Watched, World, tail
from tests.core.wire import custom, function, said, thought

Pick = Callable[[int], int]
"""A number from 0 up to, and without, the one given."""

Action = Callable[[], None]

DIALECTS: Final = (
    Dialect(),
    Dialect(store=True),
    Dialect(calls_together=True),
    Dialect(custom_tools=False, encrypted_reasoning=False, unknown_items=False),
    Dialect(compact_endpoint=True),
)

OUTCOMES: Final = (
    e.Outcome(kind="completed", response="r"),
    e.Outcome(kind="completed", usage={"input_tokens": 1}),
    e.Outcome(kind="incomplete", reason="max_output_tokens"),
    e.Outcome(kind="cut", reason="closed"),
    e.Outcome(kind="stalled"),
    e.Outcome(kind="failed", code="server_error"),
    e.Outcome(kind="failed", code="content_filter"),
    e.Outcome(kind="refused", status=503, retry_after=2.0),
    e.Outcome(kind="refused", status=429, retry_after=400.0),
    e.Outcome(kind="refused", status=400, code="invalid_encrypted_content"),
    e.Outcome(kind="unreachable"),
    e.Outcome(kind="refused", status=400, code="context_length_exceeded"),
)

SUMMARIES: Final[tuple[tuple[e.Outcome, list[Item]], ...]] = (
    (e.Outcome(kind="completed", usage={"input_tokens": 5, "output_tokens": 2}), [said("short")]),
    (e.Outcome(kind="completed"), [{"type": "compaction", "encrypted_content": "sealed"}]),
    (e.Outcome(kind="completed"), [function("c1")]),
    (e.Outcome(kind="incomplete"), [said("sho")]),
    (e.Outcome(kind="cut"), [said("half")]),
    (e.Outcome(kind="refused", status=503), []),
    (e.Outcome(kind="refused", status=404), []),
    (e.Outcome(kind="refused", status=400, reason="a bad request"), []),
    (e.Outcome(kind="refused", status=400, code="context_length_exceeded"), []),
)
"""How a request for a summary can end."""


BUDGETS: Final = (Budget(), Budget(), Budget(steps=2), Budget(tokens=2))


class Play:
    """One run. `step` does something; `come_to_rest` ends all that is under way."""

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.world = World()
        policy = Policy(stream_retries=2, request_retries=2, most_cut=4)
        self.rules = Rules(
            tools=TOOLS,
            dialect=DIALECTS[pick(len(DIALECTS))],
            policy=policy,
            compact_at=(None, None, 400)[pick(3)],
            budget=BUDGETS[pick(len(BUDGETS))],
        )
        self.results: dict[int, str] = {}
        """The true result of each effect that has ended."""
        self.log: list[str] = []
        self.serial = 0
        self._new_process()

    def _new_process(self) -> None:
        self.machine = Watched(self.rules, self.world)
        self.unwritten: list[int] = []
        self.streams: dict[int, list[int]] = {}
        self.preparing: list[int] = []
        self.running: list[int] = []
        self.probes: list[int] = []
        self.waits: list[int] = []
        self.woken: list[int] = []
        self.finishes: list[str] = []
        self.summary = False

    @property
    def phase(self) -> Phase:
        """The machine's phase."""
        return self.machine.turn.phase

    # What may happen

    def step(self) -> None:
        """One thing happens, of all that may."""
        may = self.choices()
        may[self.pick(len(may))]()

    def choices(self) -> list[Action]:
        """What may happen now; the more often it is named the likelier it is."""
        if self.phase is Phase.CLOSED:
            return [self.open]
        if self.phase is Phase.BROKEN:
            return [self.crash]
        may: list[Action] = [self.something_else] * 2
        if self.phase is Phase.IDLE:
            may += [self.prompt] * 2
        if self.unwritten:
            may += [self.sync] * 4
        may += [lambda n=n: self.prepared(n) for n in self.preparing] * 2
        may += [lambda n=n: self.finish(n) for n in self.running] * 2
        may += [lambda n=n: self.settle(n) for n in self.probes] * 2
        may += [lambda n=n: self.wake(n) for n in self.waits] * 2
        if self.summary:
            may += [self.summarized] * 3
        for attempt in self.streams:
            may += [lambda n=attempt: self.item(n)] * 5 + [lambda n=attempt: self.end(n)] * 2
        return may

    def something_else(self) -> None:
        """What users, clocks, late tools and bad luck do, where the phase takes it."""
        may = [self.crash, *self._at_any_time()] + [self.fail] * bool(self.unwritten)
        may[self.pick(len(may))]()

    def _at_any_time(self) -> list[Action]:
        calls = [*self.machine.turn.history.calls]
        closed = [n for n in calls if n not in self.running]
        found: list[tuple[type, Action]] = [
            (e.PromptGiven, self.prompt),
            (e.Continued, lambda: self.do(e.Continued(("", "other")[self.pick(2)]))),
            (e.Interrupted, lambda: self.do(e.Interrupted())),
            (e.Noted, self.note),
            (e.CompactionAsked, lambda: self.do(e.CompactionAsked())),
        ]
        if closed and self.world.started & set(closed):
            found.append((e.CallFinished, lambda: self.late(closed)))
        if calls:
            found.append(
                (
                    e.DeadlinePassed,
                    lambda: self.do(e.DeadlinePassed(calls[self.pick(len(calls))])),
                )
            )
        if self.woken:
            woken = self.woken
            found += [(e.Woke, lambda: self.do(e.Woke(woken[self.pick(len(woken))])))] * 2
        return [action for event, action in found if event in TABLE[self.phase]]

    # Disk and process

    def open(self) -> None:
        """A process opens what is on disk."""
        records = tail(self.world.records)
        if records:
            self.do(e.Opened(records, "s", "/w", BASIS))
        else:
            self.do(e.Created(id="s", cwd="/w", basis=BASIS))

    def crash(self) -> None:
        """The process is killed; of what it wrote and nobody acknowledged, a prefix is left."""
        lost = len(self.world.records) - self.world.durable
        self.world.crash(self.world.durable + self.pick(lost + 1))
        self.log.append(f"crash: {len(self.world.records)} records left")
        self._new_process()

    def sync(self) -> None:
        """The next of the written batches is on disk."""
        self.do(e.Appended(self.unwritten.pop(0)))

    def fail(self) -> None:
        """The disk refuses."""
        self.do(e.AppendFailed("No space left on device"))

    # The provider

    def item(self, attempt: int) -> None:
        """An item is done, at a new place or again at one that was."""
        used = self.streams[attempt]
        index = max(used, default=-1) + 1 + self.pick(2)
        if used and self.pick(6) == 0:
            index = self.pick(index)
        used.append(index)
        self.do(e.ItemDone(attempt, index, self._item(index)))

    def _item(self, index: int) -> Item:
        self.serial += 1
        ident = f"c{self.pick(3)}"
        made: list[Item] = [
            function(ident, id=f"fc_{self.serial}"),
            custom(ident, f"patch {self.serial}"),
            function(ident, name="alone"),
            function(ident, name="safe"),
            thought(f"rs_{index}", f"sealed {self.serial}"),
            said(f"said {self.serial}", id="msg"),
            function(ident, name="gone"),
            function(ident, '{"cmd": "rm'),
            function(ident, '{"cmd": "rm', status="incomplete"),
            said("cut o", status="incomplete"),
            {"type": "web_search_call", "id": "ws", "status": "completed"},
            {"type": "shell_call", "call_id": ident, "action": {}},
            {"type": "local_shell_call", "call_id": ident, "action": {}},
            {"type": "tool_search_call", "execution": "server", "call_id": None},
            {"type": "tool_search_output", "execution": "server", "call_id": None, "tools": []},
        ]
        return made[self.pick(len(made))]

    def end(self, attempt: int, outcome: e.Outcome | None = None) -> None:
        """The stream ends, in whatever way."""
        del self.streams[attempt]
        self.do(e.AttemptEnded(attempt, outcome or OUTCOMES[self.pick(len(OUTCOMES))]))

    def summarized(self, *, well: bool = False) -> None:
        """The request for a summary ends, in whatever way."""
        self.summary = False
        outcome, items = SUMMARIES[0 if well else self.pick(len(SUMMARIES))]
        self.do(e.Summarized(outcome, items))

    def wake(self, attempt: int) -> None:
        """A wait is over; it may have been given up meanwhile."""
        self.waits.remove(attempt)
        self.woken.append(attempt)
        if e.Woke in TABLE[self.phase]:
            self.do(e.Woke(attempt))

    # Tools

    def prepared(self, call: int) -> None:
        """A call is prepared: a plan, or at once a result."""
        self.preparing.remove(call)
        if self.pick(4) == 0:
            self.results[call] = f"failed {call}"
            result = e.Result(content=self.results[call], status="failed")
            self.do(e.Prepared(call, result=result))
        else:
            self.do(e.Prepared(call, plan={"call": call}))

    def finish(self, call: int) -> None:
        """A running call ends; whether it was stopped, or done before that, it says itself."""
        self.running.remove(call)
        self.do(e.CallFinished(call, self._result(call)))

    def _result(self, call: int) -> e.Result:
        if call not in self.results:
            self.serial += 1
            self.results[call] = f"result {self.serial}"
        status = ("done", "done", "failed", "interrupted")[self.pick(4)]
        return e.Result(content=self.results[call], status=status)  # type: ignore[arg-type]

    def late(self, closed: list[int]) -> None:
        """A result of a call whose output is recorded already."""
        call = closed[self.pick(len(closed))]
        if call in self.world.started and self.machine.turn.history.calls[call].output:
            self.do(e.CallFinished(call, e.Result(content=f"late {call}")))

    def settle(self, call: int) -> None:
        """The evidence about an open call: the truth, or that nobody knows it."""
        self.probes.remove(call)
        began = call in self.world.started
        found = self.pick(4)
        if found == 0:
            evidence = e.Evidence(found="unknown", partial="half")
        elif not began:
            evidence = e.Evidence(found="unstarted")
        elif found == 1 and call not in self.results:
            evidence = e.Evidence(found="running")
        else:
            result = e.Result(content=self.results.setdefault(call, f"result of {call}"))
            evidence = e.Evidence(found="recovered", result=result)
        self.do(e.Settled(call, evidence))

    # The user

    def prompt(self) -> None:
        """A prompt, if there weren't many yet."""
        self.serial += 1
        items = [message("user", f"prompt {self.serial}")]
        self.do(e.PromptGiven(items, BASIS, "m"))

    def note(self) -> None:
        """The driver notes something, for the model or not."""
        self.serial += 1
        item = message("developer", f"note {self.serial}") if self.pick(2) else None
        self.do(e.Noted("ended", "text", item))

    # The machine

    def do(self, event: e.Event) -> None:
        """Hand an event over and do what is commanded."""
        name = event.__class__.__name__ if isinstance(event, e.Opened) else str(event)
        self.log.append(f"{self.phase}: {name}")
        commands = self.machine.handle(event)
        for command in commands:
            self.log.append(f"    {command}")
            self._take(command)
        if any(isinstance(command, c.Append) for command in commands):
            self.machine.check_replay()

    def _take(self, command: c.Command) -> None:
        match command:
            case c.Append(records):
                self._written(records)
            case c.Send(attempt):
                self.streams[attempt] = []
            case c.Summarize() | c.AbortSummary():
                assert self.summary == isinstance(command, c.AbortSummary)
                self.summary = True
            case c.Prepare(call):
                self.preparing.append(call)
            case c.StartCall(call) | c.Adopt(call):
                self.running.append(call)
            case c.Probe(call):
                self.probes.append(call)
            case c.Wait(attempt):
                self.waits.append(attempt)
            case c.Finish(outcome=outcome):
                self.finishes.append(outcome)
            case c.StopCall(call):
                assert call in self.running
            case c.Abort(attempt) if self.phase is not Phase.BROKEN:
                assert attempt in self.streams

    def _written(self, records: tuple[Known, ...]) -> None:
        self.unwritten.append(records[-1].n)
        for record in records:
            if isinstance(record, Output) and record.status in ("done", "failed"):
                assert message_text(record.item) == self.results[record.call]

    def come_to_rest(self) -> None:
        """P8: whatever is under way ends, and then every prompt's turn can be finished."""
        self.finishes.clear()
        for _ in range(400):
            if self.phase is Phase.BROKEN:
                self.crash()
            if self.phase is Phase.CLOSED:
                self.open()
            elif not self._end_something():
                if "nothing" in self.finishes:
                    break
                assert self.phase is Phase.IDLE, f"it hangs in {self.phase}"
                self.do(e.Continued())
        history = self.machine.turn.history
        assert self.phase is Phase.IDLE
        assert "nothing" in self.finishes
        assert not history.queued
        assert not history.open_calls()
        assert not history.open_attempts()
        assert history.turn is None or history.turn.end is not None

    def _end_something(self) -> bool:
        """Do the next thing that is owed; whether there was one."""
        if self.unwritten:
            self.sync()
        elif self.probes:
            self.settle(self.probes[0])
        elif self.preparing:
            self.prepared(self.preparing[0])
        elif self.running:
            self.finish(self.running[0])
        elif self.streams:
            self.end(next(iter(self.streams)), OUTCOMES[0])
        elif self.summary:
            self.summarized(well=True)
        elif self.waits:
            self.wake(self.waits[0])
        else:
            return False
        return True

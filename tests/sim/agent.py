"""A simulated agent process: the real machine and the real journal, and a driver without tasks.

It carries out the machine's commands as `runtime.driver` does, but nothing happens by itself: every
write, sync and event is one step that a scheduler takes when it likes.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from backstay.core import commands as c
from backstay.core import events as e
from backstay.core.items import Item, message, message_text
from backstay.core.record import AnyRecord, Basis, Known, Prompt, Start
from backstay.core.stream import Done
from backstay.core.table import TABLE, Phase
from backstay.core.turn import Turn
from backstay.errors import StorageError
from backstay.journal import Batch, Journal, Waiting
from backstay.journal.disk import Disk
from backstay.journal.inbox import Letter, discard, waiting
from backstay.runtime import leftovers
from tests.sim.effects import TOOLS, Effect, Effects
from tests.sim.promises import Ledger, Violation
from tests.sim.provider import Provider, Reply
from tests.sim.wire import outcome as ended

Row = tuple[Phase, type]
BASIS: Final = Basis("i", "t")


class Agent:
    """One process with one session. It ends by a kill, a power cut or `close`."""

    def __init__(
        self, machine: Turn, journal: Journal, ledger: Ledger, effects: Effects, provider: Provider
    ) -> None:
        self.machine = machine
        self.journal = journal
        self.ledger = ledger
        self.effects = effects
        self.provider = provider
        self.hangs = False
        """Whether tools may hang."""
        self.inbox: deque[e.Event] = deque()
        """Events that were posted."""
        self.looked = -1
        self.taken: set[str] = set()
        """Letters that it has seen."""
        self.done: list[str] = []
        """Letters that are on record and still to be removed."""
        self.summary: tuple[list[Item], e.Outcome] | None = None
        """The answer to the request for a summary, on its way."""
        self.reply: Reply | None = None
        self.calls: dict[int, Effect] = {}
        self.deadlines: set[int] = set()
        self.waits: list[c.Wait] = []
        self.preparing: list[c.Prepare] = []
        self.probing: list[c.Probe] = []
        self.finished: list[c.Finish] = []
        self.rows: set[Row] = set()
        self.asked = 0
        """Turns that the user waits for."""
        self._waiting = Waiting()
        self._letters: list[Prompt] = []
        """Prompts that came in letters and are not durable yet."""
        self._batch: Batch | None = None
        self._queued = 0
        self._stopped = False

    # Steps

    def handle(self) -> str:
        """Let the machine handle the next event; a word for the trace."""
        event = self.inbox.popleft()
        before = self.machine.phase
        if isinstance(event, e.Interrupted | e.AppendFailed):
            self._stopped = before not in (Phase.IDLE, Phase.CLOSED) or self._stopped
        try:
            commands = self.machine.handle(event)
        except Exception as error:
            name = type(event).__name__
            promise = "P7" if before is Phase.CLOSED else "P8"
            raise Violation(promise, f"{before} does not take {name}: {error!r}") from error
        self._follow(before, event)
        for command in commands:
            self._carry_out(command)
        if isinstance(event, e.ItemDone) and before is Phase.STREAMING:
            self.ledger.took(event.attempt, event.index, event.item)
        if isinstance(event, e.CallFinished) and before is not Phase.BROKEN:
            self.ledger.closed(event.call, message_text({"output": event.result.content}))
        return f"{before:9} {_told(event)}"

    def _follow(self, before: Phase, event: e.Event) -> None:
        """The machine went where its table says."""
        row = TABLE[before].get(type(event))
        if row is None:
            return
        self.rows.add((before, type(event)))
        if self.machine.phase not in row.leads_to:
            name = type(event).__name__
            raise Violation("table", f"{name} led from {before} to {self.machine.phase}")

    @property
    def writable(self) -> str:
        """What the writer can do next: `write`, `sync` or nothing."""
        if self._batch is not None:
            return "sync"
        return "write" if self._queued else ""

    def write(self) -> str:
        """Take the next batch and write it; its sync is a step of its own."""
        batch = self._waiting.take()
        if batch is None:
            return "nothing"
        self._queued -= len(batch.records)
        try:
            self.journal.write(batch.records)
        except StorageError as error:
            self.ledger.write(batch.records, failed=True)
            self.inbox.append(e.AppendFailed(str(error)))
            return f"fails: {error}"
        self.ledger.write(batch.records)
        self._letters += [one for one in batch.records if isinstance(one, Prompt) and one.letter]
        if batch.sync:
            self._batch = batch
        return " ".join(f"{one.n}:{type(one).__name__}" for one in batch.records)

    def sync(self) -> str:
        """Make durable what was written; the machine is told by an event."""
        self._batch = None
        try:
            upto = self.journal.commit(())
        except StorageError as error:
            self.ledger.fail_sync()
            self.inbox.append(e.AppendFailed(str(error)))
            return f"fails: {error}"
        self.ledger.sync()
        self.done += [one.letter for one in self._letters if one.n <= upto]
        self._letters = [one for one in self._letters if one.n > upto]
        self.inbox.append(e.Appended(upto))
        return f"up to {upto}"

    def summarized(self, roll: float) -> str:
        """The request for a summary ends."""
        if self.summary is None:
            return "nothing"
        (items, outcome), self.summary = self.summary, None
        self.inbox.append(e.Summarized(outcome, items, roll))
        return f"ends: {outcome.kind} {outcome.status or outcome.code}"

    # The letters of other processes, as `runtime.letters` and the session take them

    def know_commands(self, records: Sequence[AnyRecord], session: str) -> None:
        """Tell what became of commands while nobody was there, as `runtime.leftovers` does."""
        self.ledger.died(self.effects.lives)
        self.effects.shown = leftovers.shown(records)
        for effect in leftovers.running(records):
            if effect.startswith(session) and not self.effects.lives(effect):
                self.inbox.append(leftovers.told(effect, f"{effect} has ended"))

    def look(self, disk: Disk, posts: int) -> str:
        """Look into the inbox; so many letters have been written until now."""
        self.looked = posts
        new = [one for one in waiting(disk, self.journal.folder) if one.id not in self.taken]
        for letter in new:
            self.taken.add(letter.id)
            self.take(letter)
        return f"{len(new)} letters"

    def take(self, letter: Letter) -> None:
        """Give its prompt to the machine, unless it is on record already."""
        if letter.id in self.machine.history.letters:
            self.done.append(letter.id)
        else:
            self.post_letter(letter)

    def post_letter(self, letter: Letter) -> None:
        """Its prompt, as an event."""
        given = e.PromptGiven([message("user", letter.text)], BASIS, "m", letter=letter.id)
        self.inbox.append(given)

    def discard(self, disk: Disk) -> str:
        """Remove a letter that is on record."""
        letter = self.done.pop(0)
        discard(disk, self.journal.folder, letter)
        return letter[-4:]

    def stream(self, roll: float) -> str:
        """One more item of the answer, or its end."""
        reply = self.reply
        if reply is None:
            return "nothing"
        if reply.items:
            index, item = reply.items.pop(0)
            done = reply.wire.item(index, item) if reply.wire else [Done(index, item)]
            self.inbox += [e.ItemDone(reply.attempt, one.index, one.item) for one in done]
            return f"item {index} {item['type']} {item.get('name', '')} {item.get('call_id', '')}"
        self.reply = None
        outcome = reply.outcome
        if reply.wire is not None:
            told = reply.wire.end(outcome)
            self.inbox += [
                e.ItemDone(reply.attempt, one.index, one.item)
                for one in told
                if isinstance(one, Done)
            ]
            outcome = ended(told)
        self.inbox.append(e.AttemptEnded(reply.attempt, outcome, roll))
        return f"ends: {outcome.kind} {outcome.status or outcome.code}"

    def prepared(self, at: int, *, fails: bool) -> str:
        """A plan is made, or it turns out that there is nothing to do."""
        call = self.preparing.pop(at).call
        result = e.Result(content="the patch does not apply", status="failed") if fails else None
        self.inbox.append(e.Prepared(call, plan={"of": call}, result=result))
        return f"call {call}"

    def settled(self, at: int) -> str:
        """The evidence about an open call is gathered."""
        probe = self.probing.pop(at)
        if probe.item.get("name") in TOOLS:
            evidence = self.effects.evidence(probe.item, probe.start)
        else:  # damage took the output that rejected it
            evidence = e.Evidence(found="unknown", detail="there is no such tool")
        self.inbox.append(e.Settled(probe.call, evidence))
        return f"call {probe.call} {evidence.found}"

    def wake(self, at: int) -> str:
        """A wait is over."""
        wait = self.waits.pop(at)
        self.inbox.append(e.Woke(wait.attempt))
        return f"attempt {wait.attempt}"

    def deadline(self, call: int) -> str:
        """A call's time is up."""
        self.deadlines.discard(call)
        self.inbox.append(e.DeadlinePassed(call))
        return f"call {call}"

    def report(self, effect: Effect, result: e.Result) -> None:
        """A tool is done."""
        self.inbox.append(e.CallFinished(effect.call, result))
        if not effect.given_up:
            self.deadlines.discard(effect.call)  # the timer of one that was given up runs on
        if not effect.given_up or effect.truth is not None:
            self.calls.pop(effect.call, None)

    # Commands

    def _carry_out(self, command: c.Command) -> None:
        match command:
            case c.Append(records):
                self._append(records)
            case c.Send() | c.Abort() | c.Summarize() | c.AbortSummary():
                self._exchange(command)
            case c.Prepare():
                self.preparing.append(command)
            case c.Probe():
                self.probing.append(command)
            case c.Wait():
                self.waits.append(command)
            case c.StartCall():
                self._may("a call is started")
                self._start(command)
            case c.Adopt(call, _, start):
                self._adopt(call, start)
            case c.StopCall(call):
                if call in self.calls:
                    self.calls[call].stop = True
            case c.Finish():
                self._finish(command)

    def _exchange(self, command: c.Send | c.Abort | c.Summarize | c.AbortSummary) -> None:
        """What is for the provider."""
        match command:
            case c.Send(attempt, request):
                self._may("a request is sent")
                self.ledger.send(attempt, request)
                self.reply = self.provider.answer(attempt, request)
            case c.Abort(attempt):
                self._abort(attempt)
            case c.Summarize(request):
                self._may("a summary is asked for")
                self.ledger.summarize(request)
                self.summary = self.provider.summary(request)
            case c.AbortSummary():
                self._abort_summary()

    def _may(self, what: str) -> None:
        if self._stopped:
            raise Violation("P10", f"{what} although the turn was stopped")

    def _append(self, records: Sequence[Known]) -> None:
        for record in records:
            if isinstance(record, Start):
                record.boot = str(self.effects.boot)
            if isinstance(record, Prompt):
                self.asked += 1
        self.ledger.issue(records)
        self._waiting.add(records)
        self._queued += len(records)

    def _abort(self, attempt: int) -> None:
        if self.reply is not None and self.reply.attempt == attempt:
            self.reply = None
            outcome = e.Outcome(kind="interrupted", reason="interrupted")
            self.inbox.append(e.AttemptEnded(attempt, outcome))

    def _abort_summary(self) -> None:
        if self.summary is not None:
            self.summary = [], e.Outcome(kind="interrupted", reason="interrupted")

    def _start(self, command: c.StartCall) -> None:
        effect = self.effects.ask(command.call, command.item, command.start, hangs=self.hangs)
        if effect is None:
            result = e.Result(content="It was claimed; it was not started.", status="failed")
            self.inbox.append(e.CallFinished(command.call, result))
            return
        self.calls[command.call] = effect
        self.deadlines.add(command.call)

    def _adopt(self, call: int, start: Start) -> None:
        effect = self.effects.all[start.effect]
        if effect.stage == "gone":  # its supervisor died since the evidence was gathered
            result = e.Result(content="Its supervisor has died.", status="unknown")
            self.inbox.append(e.CallFinished(call, result))
            return
        effect.attached, effect.stop = True, False
        self.calls[call] = effect
        self.deadlines.add(call)

    def _finish(self, command: c.Finish) -> None:
        self.ledger.finish(command.turn, command.outcome)
        self._stopped = False if command.outcome != "storage" else self._stopped
        self.finished.append(command)


def _told(event: e.Event) -> str:
    """The event in a few words."""
    match event:
        case e.Appended(upto):
            return f"Appended {upto}"
        case e.ItemDone(attempt, index, item):
            return f"ItemDone {attempt}.{index} {item['type']}"
        case e.AttemptEnded(attempt, outcome):
            return f"AttemptEnded {attempt} {outcome.kind}"
        case e.CallFinished(call, result):
            return f"CallFinished {call} {result.status}"
        case e.Prepared(call) | e.DeadlinePassed(call):
            return f"{type(event).__name__} {call}"
        case e.Settled(call, evidence):
            return f"Settled {call} {evidence.found}"
        case _:
            return type(event).__name__

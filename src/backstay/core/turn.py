"""The turn machine: `handle(event) -> commands`. Everything that a session does is decided here.

The table says which events a phase takes, what is done, and where that may lead; an event that a
phase does not take is the driver's mistake. Three rules hold everywhere:

- A record is applied to history when it is issued and reaches the disk in order; `Send` and
  `StartCall` are held back until the record that announces them is on disk.
- Every way in which a stream ends goes through the same door: drain, then record the end, then
  decide.
- A call's output is recorded when its tool is done, whatever the stream does meanwhile.
"""

from typing import Any, Final, Literal

import msgspec

from backstay.core import events as e
from backstay.core.budget import CODE as BUDGET
from backstay.core.budget import used_up
from backstay.core.commands import (
    Abort,
    AbortSummary,
    Adopt,
    Append,
    Command,
    Finish,
    Prepare,
    Probe,
    Request,
    Send,
    StartCall,
    StopCall,
    Summarize,
    Wait,
)
from backstay.core.compact import is_full
from backstay.core.compacting import Compacting
from backstay.core.history import (
    CONTINUABLE,
    DAMAGE,
    REOPENED,
    AttemptState,
    History,
    TurnState,
    made_calls,
    superseded,
)
from backstay.core.items import RUNNABLE, arguments, is_call, is_partial, kind, message, tool_name
from backstay.core.ladder import climb
from backstay.core.mend import UNDO
from backstay.core.record import (
    Attempt,
    AttemptEnd,
    Basis,
    Call,
    ItemRecord,
    Known,
    Late,
    Note,
    Prompt,
    Repair,
    Session,
    Start,
    TurnEnd,
    mended,
)
from backstay.core.retry import Again, decide, explain, is_too_long
from backstay.core.rules import Rules, Traits
from backstay.core.settle import (
    RunAgain,
    TakeOver,
    late,
    never_started,
    output,
    settle,
    stopped,
    unknown,
)
from backstay.core.table import TABLE, Phase
from backstay.core.view import view
from backstay.errors import UsageError


class _Live(msgspec.Struct):
    """A call between its record and its output."""

    stage: Literal["preparing", "held", "running"]
    stopping: Literal["interrupted", "deadline"] | None = None
    again: bool = False
    """It was started before, by an agent that ended."""


class Turn(Compacting):
    """The machine of one session. Synchronous, deterministic, without I/O."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.history = History()
        self.phase = Phase.CLOSED
        self._records: list[Known] = []
        self._durable = 0
        self._commands: list[Command] = []
        self._held: list[tuple[int, Command]] = []
        self._queue: list[int] = []
        self._live: dict[int, _Live] = {}
        self._unsettled: dict[int, Start] = {}
        self._attempt: AttemptState | None = None
        self._outcome: e.Outcome | None = None
        self._roll = 0.5
        self._interrupted = ""
        self._go_on = False
        self._chosen: e.Continued | None = None
        self._prompted = False
        self._asked: e.CompactionAsked | None = None
        self._making = None

    def handle(self, event: e.Event) -> list[Command]:
        """What to do about an event. Raises `UsageError` for one that the phase does not take."""
        if self.phase is Phase.BROKEN:
            return []
        if isinstance(event, e.Appended):
            self._release(event.upto)
        elif isinstance(event, e.AppendFailed):
            self._break(event)
        else:
            if isinstance(event, _FROM_OUTSIDE):
                event = mended(event)
            row = TABLE[self.phase].get(type(event))
            if row is None:
                name = type(event).__name__
                raise UsageError(f"a session that is {self.phase} does not take {name}")
            getattr(self, f"_{row.action}")(event)
        return self._flush()

    def _flush(self) -> list[Command]:
        self._release(self._durable)
        commands, self._commands = self._commands, []
        if self._records:
            commands.insert(0, Append(tuple(self._records)))
            self._records = []
        return commands

    # Opening

    def _create(self, event: e.Created) -> None:
        self._record(
            Session(n=1, id=event.id, cwd=event.cwd, basis=event.basis, version=event.version)
        )
        self.phase = Phase.IDLE

    def _open(self, event: e.Opened) -> None:
        for record in event.records:
            self.history.apply(record)
        self.history.id = event.id
        if self.history.basis is None:
            self.history.cwd, self.history.basis = event.cwd, event.basis
        self.history.next = max(self.history.next, event.next)
        self._durable = self.history.next - 1
        if event.damage:
            repair = Repair(n=self.history.next, action=DAMAGE, reason=event.damage)
            self._record(repair)
        self.phase = Phase.SETTLING
        for call in self.history.open_calls():
            if call.record.n <= self.history.shared:
                why = "its output is missing from the session that this one was forked from"
                self._record(output(self.history.next, call.record, unknown(why, "")))
            elif call.start is None:
                why = "the agent ended before it began"
                self._record(output(self.history.next, call.record, never_started(why)))
            else:
                self._unsettled[call.record.n] = call.start
                self._commands.append(Probe(call.record.n, call.record.item, call.start))
        self._opened()

    def _settle(self, event: e.Settled) -> None:
        start = self._unsettled.pop(event.call, None)
        if start is None:
            return
        call = self.history.calls[event.call].record
        traits = self.rules.tools.get(tool_name(call.item), Traits())
        match settle(event.evidence, traits.replay):
            case TakeOver():
                self._live[call.n] = _Live("running")
                self._commands.append(Adopt(call.n, call.item, start))
                if self._interrupted:
                    self._stop_calls()
            case RunAgain() if self._interrupted:
                self._record(output(self.history.next, call, unknown(self._interrupted, "")))
            case RunAgain():
                # The start that was read may be in the page cache only: this one is waited for.
                self._start(call, start.plan)
                self._live[call.n].again = True
            case close:
                self._record(output(self.history.next, call, close.result))
        self._opened()

    def _opened(self) -> None:
        """Once every open call has its output, the attempts that were cut are closed as well."""
        if self._unsettled or self._live:
            return
        for attempt in self.history.open_attempts():
            end = AttemptEnd(
                n=self.history.next,
                attempt=attempt.record.n,
                outcome="died",
                reason="the agent ended while this was under way",
            )
            self._record(end)
        self.phase = Phase.IDLE
        if self._interrupted:
            self._finish(Finish(0, "interrupted", self._interrupted))
            self._interrupted, self._go_on, self._chosen, self._asked = "", False, None, None
            if self._prompted:
                self._supersede()
        elif self._asked is not None:
            self._compact_idle(self._asked)
        elif self._go_on:
            self._resume()
        elif self._prompted:
            self._begin()

    # Prompts, and turns that go on

    def _accept(self, event: e.PromptGiven) -> None:
        if event.letter and event.letter in self.history.letters:
            return
        self._prompted = True
        self._record(
            Prompt(
                n=self.history.next,
                id=self.history.id,
                cwd=self.history.cwd,
                basis=event.basis,
                items=event.items,
                model=event.model,
                provider=event.provider,
                effort=event.effort,
                schema=event.schema,
                letter=event.letter,
            )
        )

    def _accept_and_begin(self, event: e.PromptGiven) -> None:
        self._accept(event)
        if self.history.queued:
            self._begin()

    def _begin(self) -> None:
        """Start the turn of the oldest prompt that waits; a cut turn before it ends here."""
        self._supersede()
        prompt = self.history.queued[0]
        self._try(prompt.n, step=1, why="", drop=[])

    def _supersede(self) -> None:
        turn = self.history.turn
        if turn is not None and turn.end is None:
            self._end_turn(turn, "superseded", "a new prompt was given")

    def _intend_to_continue(self, event: e.Continued) -> None:
        self._chosen = event if event.model else None
        self._go_on = True

    def _continue_turn(self, event: e.Continued) -> None:
        self._chosen = event if event.model else None
        self._resume()

    def _resume(self) -> None:
        """Finish the cut turn, else begin the next queued one, else say that there is nothing."""
        self._go_on = False
        turn = self.history.turn
        if turn is not None and turn.end is None:
            self._resume_open(turn)
        elif turn is not None and turn.end is not None and turn.end.outcome in CONTINUABLE:
            self._record(Note(n=self.history.next, topic=REOPENED, turn=turn.n))
            self._try(turn.n, step=turn.step + 1, why="continued", drop=[])
        elif self.history.queued:
            self._begin()
        else:
            self._chosen = None
            self._finish(Finish(0, "nothing", "no turn was cut"))

    def _resume_open(self, turn: TurnState) -> None:
        last = turn.attempts[-1] if turn.attempts else None
        if last is None or last.record.n < turn.reopened_at:
            self._try(turn.n, step=turn.step + 1, why="continued", drop=[])
        elif last.end is not None and last.end.outcome in ("completed", "incomplete"):
            self._conclude_answered(last, last.end.outcome, last.end.reason)
        else:
            self._try(turn.n, step=last.record.step, why="continued", drop=superseded(last))

    def _try(self, turn: int, *, step: int, why: str, drop: list[int]) -> None:
        """Record an attempt and send it, computed from history as it is now, once that is on disk.

        The turn ends instead where its budget is used up; a view that is too long is replaced first.
        """
        history = self.history
        begun = history.turns.get(turn)
        if begun is not None and (why_not := used_up(self.rules.budget, begun)):
            self._chosen = None
            self._end_turn(begun, "failed", why_not, BUDGET)
            return
        if is_full(history, turn, self.rules.compact_at):
            self._make_room(turn, step=step, why=why, drop=drop)
            return
        settings = self._settings(turn)
        basis = self._chosen.basis if self._chosen else None
        self._chosen = None
        record = Attempt(
            n=history.next,
            turn=turn,
            step=step,
            superseded=drop,
            model=settings.model,
            provider=settings.provider,
            effort=settings.effort,
            basis=None if basis == history.basis else basis,
            why=why,
        )
        self._record(record)
        request = Request(
            input=view(history, self.rules.dialect),
            basis=history.basis or Basis("", ""),
            model=history.model,
            effort=history.effort,
            session=history.cache_key or history.id,
            schema=history.turns[turn].schema,
            without=tuple(sorted(history.mends.request)),
        )
        self._attempt = history.attempts[record.n]
        self._outcome = None
        self._held.append((record.n, Send(record.n, request)))
        self.phase = Phase.STREAMING

    # While the stream flows

    def _take_item(self, event: e.ItemDone) -> None:
        attempt = self._attempt
        if attempt is None or attempt.record.n != event.attempt:
            return
        if any(one.index == event.index for one in attempt.items):
            return
        place = {"n": self.history.next, "attempt": event.attempt, "index": event.index}
        if not is_call(event.item):
            self._record(ItemRecord(**place, item=event.item))
        elif not is_partial(event.item):
            call = Call(**place, item=event.item)
            self._record(call)
            refusal = self._refusal(call)
            if refusal:
                result = e.Result(content=refusal, status="rejected")
                self._record(output(self.history.next, call, result))
            else:
                self._queue.append(call.n)
                self._launch()

    def _refusal(self, call: Call) -> str:
        """Why a call can't be run at all, or ""."""
        name = tool_name(call.item)
        if kind(call.item) not in RUNNABLE or name not in self.rules.tools:
            have = ", ".join(sorted(self.rules.tools))
            return f"There is no tool {name!r} here; it was not run. The tools are: {have}."
        if kind(call.item) == "function_call" and arguments(call.item) is None:
            return f"The arguments of this call to {name} are not a JSON object; it was not run."
        return ""

    def _launch(self) -> None:
        """Start what may start: in call order, exclusive calls alone."""
        while self._queue:
            call = self.history.calls[self._queue[0]].record
            traits = self._traits(call.n)
            alone = not traits.parallel
            if self._live and (alone or any(not self._traits(n).parallel for n in self._live)):
                return
            self._queue.pop(0)
            if traits.prepares:
                self._live[call.n] = _Live("preparing")
                self._commands.append(Prepare(call.n, call.item))
            else:
                self._start(call, None)

    def _traits(self, n: int) -> Traits:
        return self.rules.tools[tool_name(self.history.calls[n].record.item)]

    def _start(self, call: Call, plan: dict[str, Any] | None) -> None:
        effect = f"{self.history.id}-{call.n}"
        start = Start(n=self.history.next, call=call.n, effect=effect, plan=plan)
        self._record(start)
        self._live[call.n] = _Live("held")
        self._held.append((start.n, StartCall(call.n, call.item, start)))

    def _start_prepared(self, event: e.Prepared) -> None:
        call = self.history.calls[event.call].record
        live = self._live.get(event.call)
        if live is None or live.stage != "preparing":
            return
        if live.stopping:
            self._close(call, never_started(self._interrupted))
        elif event.result is not None:
            self._close(call, event.result)
        else:
            self._start(call, event.plan)

    def _finish_call(self, event: e.CallFinished) -> None:
        state = self.history.calls.get(event.call)
        if state is None:
            return
        call = state.record
        if state.output is not None:
            item = message("developer", late(call, event.result))
            self._record(Late(n=self.history.next, call=call.n, item=item))
            return
        self._unsettled.pop(event.call, None)
        live = self._live.get(event.call)
        why = live.stopping if live else None
        self._close(call, stopped(event.result, why) if why else event.result)

    def _close(self, call: Call, result: e.Result) -> None:
        """Record a call's output at once; then go on with what waited for it."""
        self._live.pop(call.n, None)
        self._record(output(self.history.next, call, result))
        if self.phase is Phase.SETTLING:
            self._opened()
            return
        self._launch()
        self._drained()

    def _stop_late_call(self, event: e.DeadlinePassed) -> None:
        live = self._live.get(event.call)
        if live is not None and live.stage == "running" and not live.stopping:
            live.stopping = "deadline"
            self._commands.append(StopCall(event.call, "deadline"))

    # The one door at the end of a stream

    def _drain(self, event: e.AttemptEnded) -> None:
        if self._attempt is None or self._attempt.record.n != event.attempt:
            return
        self._outcome = event.outcome
        self._roll = event.roll
        if self.phase is Phase.STREAMING:
            self.phase = Phase.DRAINING
        self._drained()

    def _drained(self) -> None:
        """Once the stream has ended and every call has its output: record the end, then decide."""
        attempt, outcome = self._attempt, self._outcome
        if attempt is None or outcome is None or self._queue or self._live:
            return
        self._attempt = None
        self._record(
            AttemptEnd(
                n=self.history.next,
                attempt=attempt.record.n,
                outcome=outcome.kind,
                reason=outcome.reason,
                code=outcome.code,
                status=outcome.status,
                response=outcome.response,
                usage=outcome.usage,
            )
        )
        if self._interrupted:
            turn = self.history.turns[attempt.record.turn]
            self._end_turn(turn, "interrupted", self._interrupted)
        elif outcome.kind in ("completed", "incomplete"):
            self._conclude_answered(attempt, outcome.kind, explain(outcome))
        else:
            self._conclude_cut(attempt, outcome)

    def _conclude_answered(self, attempt: AttemptState, outcome: str, reason: str) -> None:
        turn = self.history.turns[attempt.record.turn]
        if made_calls(attempt):
            self._try(turn.n, step=attempt.record.step + 1, why="", drop=[])
        elif outcome == "completed":
            self._end_turn(turn, "completed", "")
        else:
            self._end_turn(turn, "failed", reason)

    def _conclude_cut(self, attempt: AttemptState, outcome: e.Outcome) -> None:
        turn = self.history.turns[attempt.record.turn]
        if is_too_long(outcome):
            self._conclude_too_long(attempt, turn, outcome)
            return
        verdict = decide(turn, outcome, self.rules.policy, self._roll)
        if isinstance(verdict, Again) and (why_not := used_up(self.rules.budget, turn)):
            self._end_turn(turn, "failed", why_not, BUDGET)
            return
        if isinstance(verdict, Again):
            wait = Wait(attempt.record.n, verdict.seconds, outcome, verdict.tries, verdict.limit)
            self._commands.append(wait)
            self.phase = Phase.WAITING
            return
        repair = climb(self.history, self.rules.dialect, outcome, attempt.record.n)
        if repair is not None:
            self._record(repair)
        if repair is not None and repair.action != UNDO:
            self._repeat(attempt, repair.reason)
        else:
            self._end_turn(turn, "failed", verdict.reason, outcome.code)

    def _try_again(self, event: e.Woke) -> None:
        attempt = self.history.attempts.get(event.attempt)
        if attempt is None or event.attempt != max(self.history.attempts):
            return  # the wait of an attempt that was given up meanwhile
        end = attempt.end
        self._repeat(attempt, end.reason or end.outcome if end else "")

    def _repeat(self, attempt: AttemptState, why: str) -> None:
        """The same step once more, without what the cut attempt said behind its last call."""
        record = attempt.record
        self._try(record.turn, step=record.step, why=why, drop=superseded(attempt))

    def _end_turn(
        self,
        turn: TurnState,
        outcome: Literal["completed", "failed", "interrupted", "superseded"],
        reason: str,
        code: str = "",
    ) -> None:
        item = None
        if outcome != "completed":
            item = message("developer", f"The turn above was cut: {reason}.")
        end = TurnEnd(n=self.history.next, turn=turn.n, outcome=outcome, reason=reason, item=item)
        self._record(end)
        self._finish(Finish(turn.n, outcome, reason, code))
        self.phase = Phase.IDLE
        self._interrupted = ""
        if outcome in ("completed", "failed") and self.history.queued:
            self._begin()

    def _finish(self, finish: Finish) -> None:
        """Say it once everything that was issued until now is on disk."""
        self._hold(finish)

    def _hold(self, command: Command) -> None:
        """Do it once everything that was issued until now is on disk."""
        self._held.append((self.history.next - 1, command))

    # Interrupts, and a disk that refuses

    def _interrupt(self, event: e.Interrupted) -> None:
        """Stop everything that has not happened yet; what has, is recorded."""
        self._interrupted = event.reason
        turn = self.history.turn
        if self.phase is Phase.WAITING and turn is not None:
            self._end_turn(turn, "interrupted", event.reason)
        elif self._making is not None:
            if self._making.under_way and not self._unhold(lambda one: isinstance(one, Summarize)):
                self._commands.append(AbortSummary())
            else:
                self._leave("interrupted", event.reason)
        elif self.phase is Phase.SETTLING:
            self._stop_calls()
            self._opened()
        else:
            self.phase = Phase.STOPPING
            self._stop_stream()
            self._stop_calls()
            self._drained()

    def _stop_stream(self) -> None:
        attempt = self._attempt
        if attempt is None or self._outcome is not None:
            return
        if self._unhold(lambda one: isinstance(one, Send)):
            self._outcome = e.Outcome(kind="interrupted", reason="it was never sent")
        else:
            self._commands.append(Abort(attempt.record.n))

    def _stop_calls(self) -> None:
        queued, self._queue = self._queue, []
        for n in queued:
            call = self.history.calls[n].record
            self._record(output(self.history.next, call, never_started(self._interrupted)))
        for n, live in list(self._live.items()):
            call = self.history.calls[n].record
            if live.stage == "held":
                self._unhold(lambda one, n=n: isinstance(one, StartCall) and one.call == n)
                del self._live[n]
                why = self._interrupted
                result = unknown(why, "") if live.again else never_started(why)
                self._record(output(self.history.next, call, result))
            elif live.stage == "preparing" or not live.stopping:
                live.stopping = "interrupted"
                if live.stage == "running":
                    self._commands.append(StopCall(n, "interrupted"))

    def _unhold(self, which: Any) -> bool:
        kept = [(n, one) for n, one in self._held if not which(one)]
        found = len(kept) < len(self._held)
        self._held = kept
        return found

    def _break(self, event: e.AppendFailed) -> None:
        """Nothing can be recorded any more, so nothing more may happen."""
        turn = self.history.turn
        if self._attempt is not None and self._outcome is None:
            self._commands.append(Abort(self._attempt.record.n))
        asks = self._making is not None and self._making.under_way
        if asks and not self._unhold(lambda one: isinstance(one, Summarize)):
            self._commands.append(AbortSummary())
        for n, live in self._live.items():
            if live.stage == "running":
                self._commands.append(StopCall(n, "interrupted"))
        self._held, self._queue, self._live = [], [], {}
        self._records = []
        self._commands.append(Finish(turn.n if turn else 0, "storage", event.reason))
        self.phase = Phase.BROKEN

    # Records

    def _note(self, event: e.Noted) -> None:
        self._record(Note(n=self.history.next, topic=event.topic, text=event.text, item=event.item))

    def _ignore(self, event: e.Event) -> None:
        """What came too late to matter."""

    def _record(self, record: Known) -> None:
        self.history.apply(record)
        self._records.append(record)

    def _release(self, upto: int) -> None:
        """Records are on disk: what they announced may happen now."""
        self._durable = max(self._durable, upto)
        due = [one for n, one in self._held if n <= upto]
        self._held = [(n, one) for n, one in self._held if n > upto]
        for one in due:
            if isinstance(one, StartCall):
                self._live[one.call].stage = "running"
            self._commands.append(one)


_FROM_OUTSIDE: Final = (
    e.PromptGiven,
    e.Prepared,
    e.CallFinished,
    e.Summarized,
    e.Settled,
    e.Noted,
)
"""Events whose text may be no UTF-8: history must hold what the journal will."""

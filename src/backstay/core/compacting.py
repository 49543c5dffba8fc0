"""The part of the turn machine that replaces a view which is too long by a shorter one.

Owns the phase `compacting`: asking for a summary, waiting, giving up, and the record. What is asked
and what is kept is `summary`'s, which loads with the first compaction.
"""

from typing import TYPE_CHECKING, Literal

from backstay.core import events as e
from backstay.core.budget import CODE as BUDGET
from backstay.core.budget import used_up
from backstay.core.commands import Command, Finish, Summarize, Wait
from backstay.core.history import AttemptState, History, TurnState, made_calls, superseded
from backstay.core.record import Basis, Known, Prompt, TurnEnd
from backstay.core.retry import Again, GiveUp, explain
from backstay.core.rules import Rules
from backstay.core.table import Phase

if TYPE_CHECKING:
    from backstay.core.summary import Goal, Making

Settings = e.Continued | e.CompactionAsked | Prompt | History
"""What says model, provider, effort and basis of a request."""


class Compacting:
    """What `Turn` is built on; it gives what stands here without a body."""

    rules: Rules
    history: History
    phase: Phase
    _commands: list[Command]
    _chosen: e.Continued | None
    _asked: e.CompactionAsked | None
    _interrupted: str
    _making: "Making | None"
    _endpoint: bool = True
    """The provider's own endpoint is not known to be missing."""

    def _record(self, record: Known) -> None:
        raise NotImplementedError

    def _hold(self, command: Command) -> None:
        raise NotImplementedError

    def _finish(self, finish: Finish) -> None:
        raise NotImplementedError

    def _begin(self) -> None:
        raise NotImplementedError

    def _try(self, turn: int, *, step: int, why: str, drop: list[int]) -> None:
        raise NotImplementedError

    def _end_turn(
        self,
        turn: TurnState,
        outcome: Literal["failed", "interrupted"],
        reason: str,
        code: str = "",
    ) -> None:
        raise NotImplementedError

    def _settings(self, turn: int) -> Settings:
        """What the next request of this turn runs under: the user's last word on it."""
        history = self.history
        if self._chosen is None and turn not in history.turns and history.queued:
            return history.queued[0]
        return self._chosen or history

    def _make_room(self, turn: int, *, step: int, why: str, drop: list[int]) -> None:
        """Before a step, because the window is nearly full."""
        from backstay.core.summary import Goal

        goal = Goal(turn=turn, step=step, why=why, drop=drop)
        self._compact(goal, self._settings(turn), "the window is nearly full")

    def _conclude_too_long(
        self, attempt: AttemptState, turn: TurnState, outcome: e.Outcome
    ) -> None:
        """The provider refused the length: once in a step a shorter view is made."""
        if why_not := used_up(self.rules.budget, turn):
            self._end_turn(turn, "failed", why_not, BUDGET)
            return
        if self.history.is_fresh(turn.n):
            reason = f"{explain(outcome)} (the conversation was compacted for this step already)"
            self._end_turn(turn, "failed", reason, "context_length_exceeded")
            return
        from backstay.core.summary import Goal, known_limit

        goal = Goal(
            turn=turn.n,
            step=attempt.record.step,
            why=explain(outcome),
            drop=superseded(attempt),
        )
        most = known_limit(self.history, outcome)
        self._compact(goal, self.history, "the provider refused its length", most)

    def _intend_to_compact(self, event: e.CompactionAsked) -> None:
        self._asked = event

    def _compact_idle(self, event: e.CompactionAsked) -> None:
        """Because the user wants it, while nothing runs."""
        from backstay.core.summary import idle_goal

        self._asked = None
        turn = self.history.turn
        last = turn.attempts[-1] if turn is not None and turn.attempts else None
        answered = last is not None and last.end is not None and last.end.outcome == "completed"
        if turn is not None and turn.end is None and last and answered and not made_calls(last):
            self._record(TurnEnd(n=self.history.next, turn=turn.n, outcome="completed"))
        goal = idle_goal(self.history)
        if goal is None:
            self._finish(Finish(0, "nothing", "there is nothing to compact"))
        else:
            self._compact(goal, event if event.model else self.history, "it was asked for")

    def _compact(
        self,
        goal: "Goal",
        settings: Settings,
        reason: str,
        most: int = 0,
    ) -> None:
        from backstay.core.summary import Choice, Making

        basis = settings.basis or self.history.basis or Basis("", "")
        choice = Choice(settings.model, settings.provider, settings.effort, basis)
        self._making = Making(
            self.history, self.rules, goal, choice, reason, most=most, endpoint=self._endpoint
        )
        self.phase = Phase.COMPACTING
        self._ask(self._making)

    def _ask(self, making: "Making") -> None:
        """Ask for a summary, or make the record where nobody is to be asked any more."""
        request = making.request()
        if request is not None:
            self._hold(Summarize(request, making.reason))
            return
        goal, self._making = making.goal, None
        record = making.record()
        self._record(record)
        if goal.resumes:
            self._try(goal.turn, step=goal.step, why=goal.why, drop=[])
            return
        self.phase = Phase.IDLE
        told = f"{record.before:,} -> {record.after:,} tokens"
        self._finish(Finish(0, "compacted", told))
        if self.history.queued:
            self._begin()

    def _ask_again(self, event: e.Woke) -> None:
        if self._making is not None and not self._making.under_way and event.attempt == 0:
            self._ask(self._making)

    def _take_summary(self, event: e.Summarized) -> None:
        making = self._making
        if making is None:
            return
        verdict = making.heard(event)
        self._endpoint = making.endpoint or not self.rules.dialect.compact_endpoint
        if self._interrupted:
            self._leave("interrupted", self._interrupted)
        elif isinstance(verdict, Again):
            wait = Wait(0, verdict.seconds, event.outcome, verdict.tries, verdict.limit)
            self._commands.append(wait)
        elif isinstance(verdict, GiveUp):
            reason = f"{verdict.reason} (while the conversation was being compacted)"
            self._leave("failed", reason, event.outcome.code)
        else:
            self._ask(making)

    def _leave(
        self, outcome: Literal["failed", "interrupted"], reason: str, code: str = ""
    ) -> None:
        """No shorter view is made: what it was for ends; nothing of it was recorded."""
        goal = self._making.goal if self._making is not None else None
        self._making, self._chosen = None, None
        if goal is not None and goal.resumes:
            turn = self.history.turns.get(goal.turn) or TurnState(goal.turn, None)
            self._end_turn(turn, outcome, reason, code)
            return
        self.phase, self._interrupted = Phase.IDLE, ""
        self._finish(Finish(0, outcome, reason, code))
        if outcome == "failed" and self.history.queued:
            self._begin()

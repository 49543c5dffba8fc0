"""History: the fold of a journal's records. Live and after a crash it is built by the same `apply`.

Keeps what every request is computed from (`view`), what a crash left open (`settle`), and how often
a turn was tried (`retry`). Knows nothing of requests, effects or time.
"""

from typing import Any, Final

import msgspec

from backstay.core.items import (
    OUTPUTS,
    Item,
    is_partial,
    is_server_call,
    kind,
    message,
    message_text,
)
from backstay.core.mend import MENDING, Mends, add_up
from backstay.core.record import (
    AnyRecord,
    Attempt,
    AttemptEnd,
    Basis,
    Call,
    Compaction,
    Fork,
    ItemRecord,
    Late,
    Note,
    Output,
    Prompt,
    Repair,
    Session,
    SpoolRange,
    Start,
    Tally,
    TurnEnd,
)

DAMAGE: Final = "damage"
"""The `repair` action that states what was found wrong with the journal."""
MOST_LETTERS: Final = 1000
"""More than lie in an inbox at once: one that is forgotten while it does would be taken again."""
CONTINUABLE: Final = ("failed", "interrupted")
"""Outcomes of a turn that can be continued."""
REOPENED: Final = "reopened"
"""The `note` topic that lets an ended turn go on."""
COMMAND_ENDED: Final = "command_ended"
"""The `note` topic for a command that ended outside of any call; its text names the effect."""


_FOLDS: Final[dict[type[AnyRecord], str]] = {
    Session: "_session",
    Prompt: "_prompt",
    Attempt: "_attempt",
    ItemRecord: "_item",
    Call: "_item",
    Start: "_start",
    Output: "_output",
    Late: "_late",
    AttemptEnd: "_attempt_end",
    TurnEnd: "_turn_end",
    Note: "_note",
    Repair: "_repair",
    Compaction: "_compaction",
    Fork: "_fork",
}
"""What folds a record in; records of other sorts change nothing."""


class CallState(msgspec.Struct):
    """A call and what became of it."""

    record: Call
    start: Start | None = None
    output: Output | None = None


class AttemptState(msgspec.Struct):
    """One attempt and the items that its response left."""

    record: Attempt
    items: list[ItemRecord | Call] = []
    end: AttemptEnd | None = None


class TurnState(msgspec.Struct):
    """A turn: its prompt (None where damage took it), its attempts, its end."""

    n: int
    prompt: Prompt | None
    attempts: list[AttemptState] = []
    end: TurnEnd | None = None
    schema: dict[str, Any] | None = None
    """What its prompt says of the answer; kept where a compaction took the prompt."""
    reopened_at: int = 0
    """Attempts numbered below this belong to an ended stretch of the turn: they count no more."""
    carried: Tally = Tally()
    """What it used before the newest compaction; `attempts` are those behind it."""

    @property
    def step(self) -> int:
        """The number of its last step, done or not; 0 before the first."""
        return self.attempts[-1].record.step if self.attempts else self.carried.steps


class Messages(msgspec.Struct):
    """Items of the view that no response made: prompts, late results, notices."""

    items: list[Item]
    n: int
    """The record that holds them."""
    provider: str = ""
    """Of a compaction: who made it, and alone can read what is encrypted in it."""
    plain: Item | None = None
    """What is told in the place of that to others."""


Segment = Messages | AttemptState


class History:
    """The state that a journal's records add up to."""

    def __init__(self) -> None:
        self.id = ""
        self.cache_key = ""
        """The session's id; in a fork, until it is compacted, that of whose records it shares."""
        self.shared = 0
        """Records up to this number are another session's, and so are their effects."""
        self.cwd = ""
        self.basis: Basis | None = None
        self.model = ""
        self.provider = ""
        self.effort = ""
        self.next = 1
        self.segments: list[Segment] = []
        self.calls: dict[int, CallState] = {}
        self.attempts: dict[int, AttemptState] = {}
        self.turns: dict[int, TurnState] = {}
        self.queued: list[Prompt] = []
        """Accepted prompts whose turn has not begun."""
        self.letters: list[str] = []
        """The letters of the inbox that are on record, as far as they may still lie there."""
        self.turn: TurnState | None = None
        """The turn that began last, ended or not."""
        self.repairs: list[Repair] = []
        """Those that change the view, in order."""
        self.mends = Mends()
        """What they add up to."""
        self.shown: dict[str, int] = {}
        """How many bytes were shown of each effect of which there may be more to show."""
        self.running: dict[str, str] = {}
        """The effects that the model takes for running, each with the boot it was started in."""
        self.compacted = 0
        """The newest compaction, 0 without one."""
        self.floor = 0
        """The estimated tokens that it left."""
        self._compacted_for = 0
        self._lost_after = 0
        """Records are missing behind this one, and behind none after it."""

    def apply(self, record: AnyRecord) -> None:
        """Take one record in. Records that refer to nothing that is known lose nothing else."""
        if record.n > self.next and not _is_statement(record):
            self._lost_after = self.next - 1
        self.next = max(self.next, record.n + 1)
        fold = _FOLDS.get(type(record))
        if fold is not None:
            getattr(self, fold)(record)

    def open_calls(self) -> list[CallState]:
        """Calls without an output, in order; a start that damage may have taken is stood in for.

        Only where no record behind a call is missing is a missing start the proof of none.
        """
        found = [call for call in self.calls.values() if call.output is None]
        for call in found:
            n = call.record.n
            if call.start is None and n <= self._lost_after:
                call.start = Start(n=n, call=n, effect=f"{self.id}-{n}")
        return found

    @property
    def unfinished(self) -> bool:
        """Whether there is something to continue: a turn that is not over or was cut, a prompt."""
        if self.turn is None or self.queued:
            return bool(self.queued)
        return self.turn.end is None or self.turn.end.outcome in CONTINUABLE

    def open_attempts(self) -> list[AttemptState]:
        """Attempts whose end is not recorded."""
        return [attempt for attempt in self.attempts.values() if attempt.end is None]

    def is_fresh(self, turn: int) -> bool:
        """Whether nothing was answered since a compaction was made for this turn."""
        ends = [attempt.end for attempt in self.attempts.values()]
        answered = any(end and end.outcome in ("completed", "incomplete") for end in ends)
        return bool(self.compacted) and self._compacted_for == turn and not answered

    def _session(self, record: Session | Prompt | Compaction | Fork) -> None:
        self.id, self.cwd, self.basis = record.id, record.cwd, record.basis
        self.cache_key = self.cache_key or record.id
        if isinstance(record, Session | Fork) and record.origin is not None:
            self.cache_key, self.shared = record.origin.key, record.origin.upto
            self.queued.clear()
            self.shown, self.running = {}, {}

    def _fork(self, record: Fork) -> None:
        self._session(record)
        if record.item is not None:
            self.segments.append(Messages([record.item], record.n))

    def _settings(self, record: Prompt | Attempt | Compaction) -> None:
        if record.model:
            self.model, self.provider, self.effort = record.model, record.provider, record.effort

    def _prompt(self, record: Prompt) -> None:
        self._session(record)
        self.queued.append(record)
        if record.letter:
            self.letters = [*self.letters[-MOST_LETTERS:], record.letter]

    def _begin(self, number: int) -> TurnState:
        """The turn of that prompt, begun now unless it has."""
        turn = self.turns.get(number)
        if turn is None:
            prompt = next((one for one in self.queued if one.n == number), None)
            turn = self.turns[number] = TurnState(number, prompt)
            if prompt is not None:
                turn.schema = prompt.schema
                self.queued.remove(prompt)
                self.segments.append(Messages(prompt.items, prompt.n))
                self._settings(prompt)
            self.turn = turn
        return turn

    def _attempt(self, record: Attempt) -> None:
        turn = self._begin(record.turn)
        state = AttemptState(record)
        self._settings(record)
        self.basis = record.basis or self.basis
        turn.attempts.append(state)
        self.attempts[record.n] = state
        self.segments.append(state)

    def _owner(self, number: int) -> AttemptState:
        """The attempt of that number; one that damage took is stood in for.

        Its turn is the one under way, else that of the prompt that waits.
        """
        if number not in self.attempts:
            turn = self.turn.n if self.turn else 0
            if self.queued and (self.turn is None or self.turn.end is not None):
                turn = self.queued[0].n
            self._attempt(Attempt(n=number, turn=turn, step=0))
        return self.attempts[number]

    def _item(self, record: ItemRecord | Call) -> None:
        attempt = self._owner(record.attempt)
        if all(other.index != record.index for other in attempt.items):
            attempt.items.append(record)
            if isinstance(record, Call):
                self.calls[record.n] = CallState(record)

    def _start(self, record: Start) -> None:
        call = self.calls.get(record.call)
        if call is not None and call.start is None:
            call.start = record

    def _output(self, record: Output) -> None:
        call = self.calls.get(record.call)
        if record.spool is not None:
            self._show(record.spool, yielded=record.status == "yielded")
        if call is None:
            text = message_text(record.item)
            note = f"The output of a tool call that is missing from the history:\n{text}"
            self.segments.append(Messages([message("developer", note)], record.n))
        elif call.output is None:
            call.output = record

    def _show(self, spool: SpoolRange, *, yielded: bool) -> None:
        """An output showed so much of an effect; one that did not yield says that it is over."""
        effect = spool.effect
        boot = self.running.pop(effect, "")
        if not boot:
            number = effect.rpartition("-")[2]
            call = self.calls.get(int(number)) if number.isdecimal() else None
            boot = call.start.boot if call is not None and call.start is not None else ""
        begin = self.shown.pop(effect, 0)
        if yielded:
            self.shown[effect] = max(spool.end, begin)
            self.running[effect] = boot

    def _late(self, record: Late) -> None:
        self.segments.append(Messages([record.item], record.n))

    def _attempt_end(self, record: AttemptEnd) -> None:
        attempt = self.attempts.get(record.attempt)
        if attempt is not None and attempt.end is None:
            attempt.end = record

    def _turn_end(self, record: TurnEnd) -> None:
        self._begin(record.turn).end = record
        if record.item is not None:
            self.segments.append(Messages([record.item], record.n))

    def _note(self, record: Note) -> None:
        if record.item is not None:
            self.segments.append(Messages([record.item], record.n))
        turn = self.turns.get(record.turn)
        if record.topic == REOPENED and turn is not None:
            turn.end = None
            turn.reopened_at = record.n
            turn.carried = Tally(steps=turn.carried.steps)
        if record.topic == COMMAND_ENDED:
            self.running.pop(record.text, None)

    def _repair(self, record: Repair) -> None:
        if record.action in MENDING:
            self.repairs.append(record)
            self.mends = add_up(self.repairs)

    def _compaction(self, record: Compaction) -> None:
        self._session(record)
        self._settings(record)
        self.cache_key = record.id
        self.segments = [Messages(record.items, record.n, record.provider, record.plain)]
        self.attempts = {}
        self.calls = {n: call for n, call in self.calls.items() if _may_come_late(call)}
        self.queued = [one for one in record.carried if isinstance(one, Prompt)]
        self.letters = list(record.letters)
        self.repairs = [one for one in record.carried if isinstance(one, Repair)]
        self.mends = add_up(self.repairs)
        self.shown, self.running = dict(record.shown), dict(record.running)
        self.compacted, self.floor = record.n, record.after
        queued = self.queued[0].n if self.queued else 0
        self._compacted_for = record.turn or queued
        self.turn = None
        if record.turn:
            self.turn = self.turns[record.turn] = TurnState(
                record.turn,
                record.prompt,
                end=record.end,
                schema=record.schema,
                carried=record.tally,
            )


def _may_come_late(call: CallState) -> bool:
    """Whether a call that has its output may still say more: its tool did not react to a stop."""
    return call.output is not None and call.output.status in ("interrupted", "deadline")


def last_done(attempt: AttemptState) -> int:
    """The index of the attempt's last completed call, server-run ones included; -1 without one."""
    done = [
        one.index
        for one in attempt.items
        if isinstance(one, Call) or is_server_call(one.item) or kind(one.item) in OUTPUTS
    ]
    return max(done, default=-1)


def superseded(attempt: AttemptState) -> list[int]:
    """The records that leave the view when the attempt's step is tried again.

    All behind the last completed call: they would be said a second time.
    """
    kept = last_done(attempt)
    return [one.n for one in attempt.items if one.index > kept]


def made_calls(attempt: AttemptState) -> bool:
    """Whether the response asked for something that the next request has to answer."""
    return any(isinstance(one, Call) for one in attempt.items)


def complete(one: ItemRecord | Call) -> bool:
    """Whether the provider said the item in full."""
    return not is_partial(one.item)


def _is_statement(record: AnyRecord) -> bool:
    """A statement of damage leaves numbers out for what a torn tail can have held."""
    return isinstance(record, Repair) and record.action == DAMAGE

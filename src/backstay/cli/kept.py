"""Which recorded items may be reported as final, and what a turn's attempts used.

A message that a retry will say again must not be reported; here it waits until it is settled as
kept. Shared by both outputs; prints nothing.
"""

from collections.abc import Mapping
from typing import Final

from backstay.core.history import AttemptState, History, TurnState, complete
from backstay.core.items import is_server_call, kind, message_text
from backstay.core.record import (
    AnyRecord,
    Attempt,
    AttemptEnd,
    Call,
    ItemRecord,
    TurnEnd,
)
from backstay.core.usage import Price, Usage, cost
from backstay.errors import BackstayError

_UNSENT: Final = ("refused", "unreachable")
"""Outcomes of attempts that used no tokens."""


class Kept:
    """Takes records in order, gives each item back once it can't be superseded any more."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[ItemRecord]] = {}
        self._upto: dict[int, int] = {}

    def take(self, record: AnyRecord) -> list[ItemRecord]:
        """The items that this record settles as kept, in the order of the response."""
        match record:
            case ItemRecord():
                self._waiting.setdefault(record.attempt, []).append(record)
                if is_server_call(record.item):
                    return self._settle(record.attempt, record.index)
                return self._settle(record.attempt, self._upto.get(record.attempt, -1))
            case Call():
                return self._settle(record.attempt, record.index)
            case AttemptEnd(outcome="completed" | "incomplete"):
                return self._rest(record.attempt)
            case Attempt():
                for attempt, items in self._waiting.items():
                    self._waiting[attempt] = [i for i in items if i.n not in record.superseded]
                return self._all()
            case TurnEnd():
                return self._all()
            case _:
                return []

    def _settle(self, attempt: int, upto: int) -> list[ItemRecord]:
        self._upto[attempt] = upto = max(upto, self._upto.get(attempt, -1))
        waiting = sorted(self._waiting.get(attempt, ()), key=lambda one: one.index)
        self._waiting[attempt] = [one for one in waiting if one.index > upto]
        return [one for one in waiting if one.index <= upto and complete(one)]

    def _rest(self, attempt: int) -> list[ItemRecord]:
        waiting = sorted(self._waiting.pop(attempt, ()), key=lambda one: one.index)
        return [one for one in waiting if complete(one)]

    def _all(self) -> list[ItemRecord]:
        return [one for attempt in sorted(self._waiting) for one in self._rest(attempt)]


class Totals:
    """Adds up a turn's attempts, each once, however often it is told of them."""

    def __init__(self) -> None:
        self._ends: dict[int, AttemptEnd] = {}
        self._models: dict[int, str] = {}

    def take(self, record: Attempt | AttemptEnd) -> None:
        """Count an attempt: its model as it begins, its tokens as it ends."""
        if isinstance(record, Attempt):
            self._models[record.n] = record.model
        else:
            self._ends[record.attempt] = record

    def recall(self, turn: TurnState) -> None:
        """Count what earlier processes did for a turn."""
        for attempt in turn.attempts:
            self.take(attempt.record)
            if attempt.end is not None:
                self.take(attempt.end)

    def usage(self) -> Usage:
        """The sum of what the provider counted."""
        return sum((Usage.of(end.usage) for end in self._ends.values()), Usage())

    def cost(self, prices: Mapping[str, Price]) -> float | None:
        """US dollars, each attempt at its model's price; None where a price is not known."""
        from backstay.core.prices import price_of

        total = 0.0
        for end in self._ends.values():
            model = self._models.get(end.attempt, "")
            one = cost(Usage.of(end.usage), price_of(model, prices))
            if one is None:
                return None
            total += one
        return total

    def uncounted(self) -> int:
        """Attempts that the provider answered without saying what they used: the cut ones."""
        ends = self._ends.values()
        return sum(1 for end in ends if not end.usage and end.outcome not in _UNSENT)


class Past:
    """What the journal of a session says, read when it is asked for: earlier calls and attempts."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._calls: dict[int, Call] | None = None

    def call(self, number: int) -> Call | None:
        """The call of that record number, also one that an earlier process recorded."""
        if self._calls is None:
            history = self._history()
            states = history.calls.values() if history else ()
            self._calls = {state.record.n: state.record for state in states}
        return self._calls.get(number)

    def turn(self, number: int) -> TurnState | None:
        """The turn with all its attempts as they stand on disk now."""
        history = self._history()
        return history.turns.get(number) if history else None

    def model(self) -> str:
        """The model that the session runs on."""
        history = self._history()
        return history.model if history else ""

    def _history(self) -> History | None:
        from backstay.journal import PosixDisk, journal_path, read

        try:
            reading = read(PosixDisk(), journal_path(self.folder), everything=True)
        except BackstayError:
            return None
        history = History()
        for record in reading.records:
            history.apply(record)
        return history


def last_message(turn: TurnState) -> str:
    """The last thing that the model said in a turn, superseded messages left out."""
    dropped = {n for attempt in turn.attempts for n in attempt.record.superseded}
    for attempt in reversed(turn.attempts):
        for one in reversed(_in_order(attempt)):
            if one.n not in dropped and is_answer(one) and complete(one):
                return message_text(one.item)
    return ""


def is_answer(one: ItemRecord | Call) -> bool:
    """Whether it is a message of the model with a text."""
    return kind(one.item) == "message" and bool(message_text(one.item))


def reasoning_text(one: ItemRecord) -> str:
    """The summary of a reasoning item, "" if it has none."""
    summary = one.item.get("summary")
    if kind(one.item) != "reasoning" or not isinstance(summary, list):
        return ""
    parts = [part.get("text") for part in summary if isinstance(part, dict)]
    return "\n\n".join(part for part in parts if isinstance(part, str) and part)


def _in_order(attempt: AttemptState) -> list[ItemRecord | Call]:
    return sorted(attempt.items, key=lambda one: one.index)

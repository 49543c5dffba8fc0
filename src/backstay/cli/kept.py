"""What a turn's attempts used, and what the journal says of earlier ones.

Shared by both outputs; prints nothing.
"""

from collections.abc import Mapping
from typing import Final

from backstay.core.history import History, TurnState
from backstay.core.record import Attempt, AttemptEnd, Call
from backstay.core.usage import Price, Usage, cost
from backstay.errors import BackstayError

_UNSENT: Final = ("refused", "unreachable")
"""Outcomes of attempts that used no tokens."""


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

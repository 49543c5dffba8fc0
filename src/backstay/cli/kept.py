"""What a turn's attempts used, and what the journal says of earlier ones.

Shared by both outputs; prints nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from backstay.core.history import History, TurnState
from backstay.core.record import AnyRecord, Attempt, AttemptEnd, Call, Compaction
from backstay.core.usage import Price, Usage, cost
from backstay.errors import BackstayError

_UNSENT: Final = ("refused", "unreachable")
"""Outcomes of attempts that used no tokens."""


class Totals:
    """Adds up a turn's attempts, each once, however often it is told of them."""

    def __init__(self) -> None:
        self._ends: dict[int, AttemptEnd] = {}
        self._models: dict[int, str] = {}
        self._compactions: dict[int, Compaction] = {}

    def take(self, record: Attempt | AttemptEnd | Compaction) -> None:
        """Count an attempt: its model as it begins, its tokens as it ends; or a summary."""
        if isinstance(record, Attempt):
            self._models[record.n] = record.model
        elif isinstance(record, Compaction):
            self._compactions[record.n] = record
        else:
            self._ends[record.attempt] = record

    def usage(self) -> Usage:
        """The sum of what the provider counted."""
        return sum((Usage.of(usage) for _, usage in self._used()), Usage())

    def _used(self) -> list[tuple[str, dict[str, Any] | None]]:
        """Each use, with the model that it was of."""
        ends = [(self._models.get(one.attempt, ""), one.usage) for one in self._ends.values()]
        return ends + [(one.model, one.usage) for one in self._compactions.values()]

    def cost(self, prices: Mapping[str, Price]) -> float | None:
        """US dollars, each attempt at its model's price; None where a price is not known."""
        from backstay.core.prices import price_of

        total = 0.0
        for model, usage in self._used():
            one = cost(Usage.of(usage), price_of(model, prices))
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

    def uses(self, turn: int) -> list[Attempt | AttemptEnd | Compaction]:
        """The attempts and summaries of a turn, as they stand on disk now."""
        attempts: set[int] = set()
        found: list[Attempt | AttemptEnd | Compaction] = []
        for record in self._records():
            if isinstance(record, Attempt | Compaction) and record.turn == turn:
                attempts.add(record.n)
                found.append(record)
            elif isinstance(record, AttemptEnd) and record.attempt in attempts:
                found.append(record)
        return found

    def model(self) -> str:
        """The model that the session runs on."""
        history = self._history()
        return history.model if history else ""

    def _history(self) -> History | None:
        records = self._records()
        history = History()
        for record in records:
            history.apply(record)
        return history if records else None

    def _records(self) -> Sequence[AnyRecord]:
        from backstay.journal import PosixDisk, journal_path, read

        try:
            return read(PosixDisk(), journal_path(self.folder), everything=True).records
        except BackstayError:
            return []

"""Which recorded items may be reported as final, and what a turn's attempts used.

A message that a retry will say again must not be reported; here it waits until it is settled as
kept. Shared by both outputs; prints nothing.
"""

from typing import Any, Final

import msgspec

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


class Usage(msgspec.Struct):
    """Tokens of a turn, its cut attempts included."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0


class Totals:
    """Adds up a turn's attempts, each once, however often it is told of them."""

    def __init__(self) -> None:
        self._ends: dict[int, AttemptEnd] = {}

    def take(self, end: AttemptEnd) -> None:
        """Count an attempt."""
        self._ends[end.attempt] = end

    def recall(self, turn: TurnState) -> None:
        """Count what earlier processes did for a turn."""
        for attempt in turn.attempts:
            if attempt.end is not None:
                self.take(attempt.end)

    def usage(self) -> Usage:
        """The sum of what the provider counted."""
        total = Usage()
        for end in self._ends.values():
            one = end.usage or {}
            inputs, outputs = one.get("input_tokens_details"), one.get("output_tokens_details")
            total.input_tokens += _count(one, "input_tokens")
            total.cached_input_tokens += _count(inputs, "cached_tokens")
            total.cache_write_input_tokens += _count(inputs, "cache_write_tokens")
            total.output_tokens += _count(one, "output_tokens")
            total.reasoning_output_tokens += _count(outputs, "reasoning_tokens")
        return total

    def uncounted(self) -> int:
        """Attempts that the provider answered without saying what they used: the cut ones."""
        ends = self._ends.values()
        return sum(1 for end in ends if not end.usage and end.outcome not in _UNSENT)


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


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

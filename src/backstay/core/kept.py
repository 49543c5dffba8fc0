"""Which recorded items may be reported as final: those that no retry will say again.

A message behind the last call of an attempt that is cut is said a second time; here it waits until
it is settled as kept. Also what of a turn is its answer.
"""

from backstay.core.history import AttemptState, TurnState, complete
from backstay.core.items import is_server_call, kind, message_text
from backstay.core.record import AnyRecord, Attempt, AttemptEnd, Call, ItemRecord, TurnEnd


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

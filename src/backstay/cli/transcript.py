"""`sessions show`: the records of a journal as lines for a person, and what the turns have used."""

import time
from collections.abc import Iterator, Mapping, Sequence

from backstay.cli import calls
from backstay.cli.kept import Totals
from backstay.cli.terminal import dollars, harmless
from backstay.core.compact import compacted
from backstay.core.items import kind, message_text
from backstay.core.kept import reasoning_text
from backstay.core.prices import price_of
from backstay.core.record import (
    AnyRecord,
    Attempt,
    AttemptEnd,
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
    TurnEnd,
    Unknown,
)
from backstay.core.summary import is_summary
from backstay.core.told import spoken, told
from backstay.core.usage import Price, Usage, cost
from backstay.journal.texts import turn_order


def used(usage: Usage, spent: float | None) -> str:
    """Tokens and their price on one line."""
    cached = usage.cached_input_tokens
    inputs = f"{usage.input_tokens:,} in" + (f" ({cached:,} cached)" if cached else "")
    price = "cost unknown" if spent is None else dollars(spent)
    return f"tokens: {inputs}, {usage.output_tokens:,} out; {price}"


def cost_of(usage: Mapping[str, Usage], prices: Mapping[str, Price]) -> float | None:
    """What tokens by model cost; None where a model's price is not known."""
    total = 0.0
    for model, tokens in usage.items():
        one = cost(tokens, price_of(model, prices))
        if one is None:
            return None
        total += one
    return total


def unpriced(usage: Mapping[str, Usage], prices: Mapping[str, Price]) -> list[str]:
    """The models whose price is not known."""
    return sorted(m for m, one in usage.items() if one.total and price_of(m, prices) is None)


class Transcript:
    """The records of a journal, all of them, as lines for a person."""

    def __init__(self, records: Sequence[AnyRecord], prices: Mapping[str, Price]) -> None:
        self._records = records
        self._prices = prices
        self._order = turn_order(records)
        self._calls: dict[int, Call] = {}
        self._totals: dict[int, Totals] = {}
        """By turn, as far as the records were told."""
        self._turn_of: dict[int, int] = {}

    def lines(self) -> Iterator[str]:
        """What to print, record by record."""
        for record in self._records:
            self._count(record)
            yield from self._lines(record)

    def _count(self, record: AnyRecord) -> None:
        if isinstance(record, Attempt | Compaction):
            self._turn_of[record.n] = record.turn
            self._totals.setdefault(record.turn, Totals()).take(record)
        elif isinstance(record, AttemptEnd):
            turn = self._turn_of.get(record.attempt, 0)
            self._totals.setdefault(turn, Totals()).take(record)

    def _lines(self, record: AnyRecord) -> Iterator[str]:
        """What to print of a record; nothing for what others say better."""
        if isinstance(record, Unknown):
            yield f"{record.n:>5}  a record of a newer kind: {harmless(record.kind)}"
            return
        when = time.strftime("%H:%M:%S", time.localtime(record.t))
        first = f"{record.n:>5}  {when}  "
        texts = list(self._texts(record))
        for place, text in enumerate(texts):
            yield (first if place == 0 else " " * len(first)) + text

    def _texts(self, record: AnyRecord) -> Iterator[str]:
        match record:
            case Prompt():
                yield f"turn {self._order[record.n]}: prompt to {harmless(record.model)}"
                for topic, item in told(record.items).items():
                    yield f"told: {harmless(topic)}, {len(message_text(item))} characters"
                for item in spoken(record.items):
                    yield from _indented(message_text(item))
            case Attempt():
                yield from _attempt(record)
            case ItemRecord():
                yield from _item(record)
            case Call():
                self._calls[record.n] = record
                yield from _indented(calls.title(record.item), "$ ")
            case Output():
                yield from self._output(record)
            case Late():
                yield f"late result of call {record.call}"
                yield from _indented(message_text(record.item))
            case TurnEnd():
                yield from self._turn_end(record)
            case _:
                yield from _event(record)

    def _turn_end(self, record: TurnEnd) -> Iterator[str]:
        why = f": {harmless(record.reason)}" if record.reason else ""
        yield f"turn {self._order[record.turn]} {record.outcome}{why}"
        totals = self._totals.get(record.turn)
        if totals is not None and totals.usage().total:
            yield f"  {used(totals.usage(), totals.cost(self._prices))}"

    def _output(self, record: Output) -> Iterator[str]:
        call = self._calls.get(record.call)
        of = "" if call else " of a call that is missing"
        code = calls.exit_code(record)
        ending = f", exit {code}" if code is not None else ""
        yield f"output of call {record.call}{of}: {record.status}{ending}"
        for change in calls.changes(record):
            yield f"  {harmless(change.get('kind', ''))} {harmless(change.get('path', ''))}"
        yield from _indented(message_text(record.item))


def _event(record: AnyRecord) -> Iterator[str]:
    """What one line says."""
    match record:
        case Session():
            day = time.strftime("%Y-%m-%d", time.localtime(record.t))
            yield f"began {day} in {harmless(record.cwd)}, by Backstay {record.version}"
        case AttemptEnd() if record.outcome != "completed":
            yield f"the answer ended: {record.outcome}: {harmless(record.reason)}"
        case Fork():
            yield f"a fork: what stands above is of session {harmless(record.origin.parent)}"
        case Compaction():
            yield harmless(compacted(record))
            for item in filter(is_summary, record.items):
                yield from _indented(message_text(item))
        case Repair():
            yield f"repair ({harmless(record.action)}): {harmless(record.reason)}"
        case Note():
            yield f"note ({harmless(record.topic)}): {harmless(record.text)}"
        case _:
            return


def _attempt(record: Attempt) -> Iterator[str]:
    if record.why:
        count = len(record.superseded)
        dropped = f", {count} item{'s' * (count > 1)} superseded" if count else ""
        yield f"tried again (step {record.step}): {harmless(record.why)}{dropped}"
    else:
        yield f"step {record.step}"


def _item(record: ItemRecord) -> Iterator[str]:
    text = message_text(record.item)
    if text:
        yield from _indented(text)
    elif summary := reasoning_text(record):
        yield from _indented(summary, "(thought) ")
    else:
        yield f"({harmless(kind(record.item))})"


def _indented(text: str, prefix: str = "  ") -> Iterator[str]:
    for line in harmless(text).splitlines() or [""]:
        yield f"{prefix}{line}"
        prefix = "  "

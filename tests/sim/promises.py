"""The promises as checks, made after every event from what was written, sent and started.

Owns the ledger: which records were issued, written and made durable, by the journal's own word.
Nothing here asks the machine under test; what it says is compared with the ledger and with the log
of effects.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from backstay.core.commands import Request
from backstay.core.dialect import Dialect
from backstay.core.history import History
from backstay.core.items import Item, is_call, is_partial, message_text
from backstay.core.mend import DROP_REASONING
from backstay.core.pairing import problems
from backstay.core.record import (
    AnyRecord,
    Call,
    Codec,
    Fork,
    ItemRecord,
    Known,
    Late,
    Output,
    Prompt,
    Repair,
    Start,
    TurnEnd,
    Unknown,
)
from backstay.core.view import view
from tests.sim.effects import TOOLS, Effect, Effects, token


class Violation(AssertionError):
    """A promise that was not kept."""

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise


class Ledger:
    """What one session's journal must hold, and what its requests must say."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.records: dict[int, AnyRecord] = {}
        """Every record that was issued or read, by number."""
        self.durable: set[int] = set()
        """Numbers that the journal said are durable: whatever happens, they are there."""
        self._codec = Codec()
        self._written: dict[int, AnyRecord] = {}
        """Copies, decoded from the bytes that were written: whatever becomes of the originals."""
        self._attempted: dict[int, AnyRecord] = {}
        self._doubtful: set[int] = set()
        self._last: list[Item] | None = None
        self._repaired = 0
        self._damaged = False
        self.shared = 0
        """The last record that the session shares, as a fork."""
        self._left: set[int] = set()
        """Prompts that waited in the session that this one was forked from."""
        self._index([])

    # What the machine issues and the disk takes

    def issue(self, records: Iterable[Known]) -> None:
        """The machine wants these written."""
        for record in records:
            if record.n in self.records:
                raise Violation("P7", f"two records have the number {record.n}")
            self.records[record.n] = record
            if isinstance(record, Output):
                self._judge(record)
            self._sort(record)

    def write(self, records: Sequence[Known], *, failed: bool = False) -> None:
        """They were written; `failed`: all, some or none of them."""
        into = self._attempted if failed else self._written
        for record in records:
            into[record.n] = self._codec.decode(self._codec.encode(record))

    def sync(self) -> None:
        """All that was written is durable, but for what a failed sync had covered."""
        self.durable |= self._written.keys() - self._doubtful

    def fail_sync(self) -> None:
        """What was written since the last sync may never become durable (and reads as if it had)."""
        self._doubtful |= self._written.keys() - self.durable

    def must_open(self, *, power_lost: bool) -> bool:
        """Whether there is anything that an opening has to find."""
        return bool(self.durable if power_lost else self._written)

    def open(self, records: Sequence[AnyRecord], *, power_lost: bool, damaged: bool) -> None:
        """P7: what was read back is what had to be there, and nothing that nobody wrote."""
        self._damaged = self._damaged or damaged
        read = {one.n: one for one in _known(records)}
        required = self.durable if power_lost else self._written.keys()
        for n in sorted(required):
            if read.get(n) != self._written[n]:
                kind = type(self.records.get(n)).__name__
                raise Violation("P7", f"record {n} ({kind}) is lost or changed")
        kept: dict[int, AnyRecord] = {}
        for n, record in read.items():
            found = self._written.get(n)
            if found != record:
                found = self._attempted.get(n)
            if found != record or found is None:
                raise Violation("P7", f"record {n} was read and never written: {record!r:.200}")
            kept[n] = found
        if self._doubtful - read.keys():
            self._last = None  # requests were made from what the disk has lost after all
        self._index(records)
        self._doubtful &= read.keys()
        self._written, self._attempted = kept, {}

    def fork(self, records: Sequence[AnyRecord]) -> None:
        """P6 and P7: a fork reads what it shares as it was read before, and goes on behind it."""
        read = _known(records)
        self.shared = next(
            one.origin.upto for one in read if isinstance(one, Fork) and one.n == read[-1].n
        )
        own: dict[int, AnyRecord] = {one.n: one for one in read if one.n > self.shared}
        kept = {n: one for n, one in self._written.items() if n <= self.shared}
        if {one.n: one for one in read} != kept | own:
            raise Violation("P7", f"a fork behind {self.shared} does not read what was there")
        self._doubtful &= kept.keys()
        self._written, self._attempted = kept | own, {}
        self.durable = self._written.keys() - self._doubtful
        self._index(read)
        history = self._replay(self.shared)
        self._left |= {one.n for one in history.queued}
        self._last, self._repaired = view(history, Dialect()), self._repair

    def took(self, attempt: int, index: int, item: Item) -> None:
        """P2: an item that is said to be done is recorded then, the first one of its index."""
        found = (attempt, index) in self._items
        if not found and not (is_call(item) and is_partial(item)):
            raise Violation("P2", f"item {index} of attempt {attempt} is not recorded")

    def closed(self, call: int, content: str) -> None:
        """P2: the result of a tool is recorded the moment it is there, as output or as late."""
        output = self._closed.get(call)
        told = [message_text(output.item)] if output else []
        told += [message_text(one.item) for one in self._lates if one.call == call]
        if not any(content in one for one in told):
            raise Violation("P2", f"the result of call {call} is not recorded: {content!r}")

    # What is sent

    def send(self, attempt: int, request: Request) -> None:
        """P1, P2, P4, P5 and P6 of one request."""
        self._paired(request.input)
        self._on_disk(attempt)
        self._complete(attempt, request.input)
        self._extends(request.input)
        if view(self._replay(attempt), Dialect()) != request.input:
            raise Violation("P5", f"attempt {attempt} is not the view of what is recorded before")

    def _index(self, records: Sequence[AnyRecord]) -> None:
        """Begin anew with what was read."""
        self.records = {}
        self.prompts: list[Prompt] = []
        """Every prompt that was recorded."""
        self._closed: dict[int, Output] = {}
        self._items: set[tuple[int, int]] = set()
        """Attempt and index of every item that was recorded."""
        self._tokens: dict[int, str] = {}
        """The word of every call that was recorded."""
        self._told: dict[int, tuple[int, str, str]] = {}
        """Of every output its number, its call's word and its text, as they were issued."""
        self._starts: dict[int, int] = {}
        self._lates: list[Late] = []
        self._ends: list[TurnEnd] = []
        self._repair = 0
        self._history = History()
        self._unreplayed: deque[AnyRecord] = deque()
        for record in _known(records):
            self.records[record.n] = record
            self._sort(record)

    def _sort(self, record: Known) -> None:
        self._unreplayed.append(record)
        match record:
            case Output():
                self._closed[record.call] = record
                word = self._tokens.get(record.call, "")
                self._told[record.call] = record.n, word, message_text(record.item)
            case Call():
                self._items.add((record.attempt, record.index))
                self._tokens[record.n] = token(record.item)
            case ItemRecord():
                self._items.add((record.attempt, record.index))
            case Start():
                self._starts[record.call] = record.n
            case Prompt():
                self.prompts.append(record)
            case Late():
                self._lates.append(record)
            case TurnEnd():
                self._ends.append(record)
            case Repair() if record.action == DROP_REASONING:
                self._repair = record.n
            case _:
                pass

    def _replay(self, upto: int) -> History:
        """The history that the records up to a number add up to; numbers only grow."""
        while self._unreplayed and self._unreplayed[0].n <= upto:
            self._history.apply(self._unreplayed.popleft())
        return self._history

    def _paired(self, items: list[Item]) -> None:
        found = problems(items)
        called: list[str] = []
        answered: list[str] = []
        for item in items:
            sort, ident = str(item.get("type")), str(item.get("call_id"))
            if sort.endswith("_call_output"):
                if ident not in called:
                    found.append(f"the output of {ident} stands before its call")
                answered.append(ident)
            elif sort.endswith("_call") and "call_id" in item:
                called.append(ident)
        if sorted(called) != sorted(answered) or len(set(called)) < len(called):
            found.append(f"calls {called}, outputs {answered}")
        if found:
            raise Violation("P1", "; ".join(found))

    def _on_disk(self, attempt: int) -> None:
        late = [n for n in self.records.keys() - self.durable - self._doubtful if n <= attempt]
        if late:
            raise Violation("P4", f"attempt {attempt} is sent before records {late} are durable")

    def _safe(self, n: int) -> bool:
        return n in self.durable or n in self._doubtful

    def _complete(self, attempt: int, items: list[Item]) -> None:
        """P2: every output, late result and prompt that was recorded before is in the request."""
        answers = {str(one["call_id"]): message_text(one) for one in items if "output" in one}
        told = {token(one): answers[str(one["call_id"])] for one in items if "call_id" in one
                and "output" not in one}  # fmt: skip
        texts = {message_text(one) for one in items if one.get("type") == "message"}
        turn = getattr(self.records[attempt], "turn", 0)
        for n, word, text in self._told.values():
            if word and n < attempt and told.get(word) != text:
                raise Violation("P2", f"output {n} of {word} is not in attempt {attempt}")
        for late in self._lates:
            if late.n < attempt and message_text(late.item) not in texts:
                raise Violation("P2", f"late result {late.n} is not in attempt {attempt}")
        # Where damage took the attempt that began a prompt's turn, the prompt waits once more.
        waits = [one.n for one in self._replay(attempt).queued] if self._damaged else []
        waits += self._left
        for prompt in self.prompts:
            if (
                prompt.n <= turn
                and prompt.n not in waits
                and message_text(prompt.items[0]) not in texts
            ):
                raise Violation("P2", f"prompt {prompt.n} is not in attempt {attempt}")

    def _extends(self, items: list[Item]) -> None:
        """P6: item for item; a recorded repair takes encrypted reasoning out."""
        before = self._last
        self._last = list(items)
        if self._repair > self._repaired and before is not None:
            before = [one for one in before if one.get("type") != "reasoning"]
        self._repaired = self._repair
        if before is not None and items[: len(before)] != before:
            at = next((i for i, (a, b) in enumerate(zip(before, items, strict=False)) if a != b), 0)
            raise Violation("P6", f"item {at} of {len(before)} changed from the request before")

    # What happens to effects and calls

    def start(self, effect: Effect) -> None:
        """P3, P4 and P10 of an effect that has just started."""
        where = f"effect {effect.id} ({effect.tool} {effect.token})"
        for n in (effect.call, self._starts.get(effect.call, 0)):
            if not self._safe(n):
                raise Violation("P4", f"{where} started before record {n} was durable")
        safe = TOOLS[effect.tool].traits.replay == "safe"
        if self.effects.starts(effect.token) > 1 and not safe:
            raise Violation("P3", f"{where} was started a second time")
        for ident, word, _ in self.effects.started:
            if ident == effect.id and word != effect.token:
                raise Violation("P3", f"{where} has the id of the effect of {word}")
        for other in self.effects.all.values():
            beside = other is not effect and other.attached and not other.given_up
            alone = not all(TOOLS[one.tool].traits.parallel for one in (other, effect))
            if beside and alone and other.stage == "started":
                raise Violation("exclusive", f"{where} runs beside {other.tool} {other.token}")
        closed = self._closed.get(effect.call)
        if closed is not None and closed.status in ("never_started", "rejected"):
            raise Violation("P10", f"{where} started, and its output says {closed.status}")

    def _judge(self, record: Output) -> None:
        """P10: an output says no more than what is so; and it is the only one of its call."""
        where = f"output {record.n} of call {record.call}"
        if record.call in self._closed:
            raise Violation("P2", f"{where} is not the first: a recorded output is final")
        call = self.records.get(record.call)
        word = token(call.item) if isinstance(call, Call) else ""
        starts = self.effects.starts(word) if word else 0
        effect = self._effect(record.call, word)
        truth = effect.truth if effect else None
        said = message_text(record.item)
        match record.status:
            case "never_started" | "rejected" if starts:
                raise Violation("P10", f"{where} says {record.status}, but it started")
            case "unknown" if record.call not in self._starts and not self._damaged:
                raise Violation("P10", f"{where} says unknown, but nothing was about to start")
            case "unknown" if effect and effect.stage == "recorded" and truth:
                if effect.traces == "folder":
                    raise Violation("P2", f"{where} says unknown, but its result is recorded")
            case "done" | "failed" if starts and (truth is None or truth.content != said):
                raise Violation("P10", f"{where} says {said!r}, the truth is {truth}")
            case "done" if not starts:
                raise Violation("P10", f"{where} says done, but it never started")
            case _:
                pass

    def _effect(self, call: int, word: str) -> Effect | None:
        found = (one for one in self.effects.all.values() if one.call == call)
        return next((one for one in found if one.token == word), None)

    def finish(self, turn: int, outcome: str) -> None:
        """P4: the end of a turn is told once it is on disk."""
        ends = [one for one in self._ends if one.turn == turn and one.outcome == outcome]
        if turn and outcome != "storage" and not (ends and self._safe(ends[-1].n)):
            raise Violation("P4", f"turn {turn} is told as {outcome} before that is durable")


def _known(records: Sequence[AnyRecord]) -> list[Known]:
    return [one for one in records if not isinstance(one, Unknown)]

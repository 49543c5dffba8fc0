"""The promises as checks, made after every event from what was written, sent and started.

Owns the ledger: which records were issued, written and made durable, by the journal's own word.
Nothing here asks the machine under test; what it says is compared with the ledger and with the log
of effects.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from backstay.core.commands import Request
from backstay.core.events import Result
from backstay.core.history import COMMAND_ENDED, REOPENED, History
from backstay.core.items import Item, is_call, is_partial, message_text
from backstay.core.mend import DROP_REASONING, MENDING, UNDO
from backstay.core.pairing import problems
from backstay.core.record import (
    AnyRecord,
    Attempt,
    AttemptEnd,
    Call,
    Codec,
    Compaction,
    Fork,
    ItemRecord,
    Known,
    Late,
    Note,
    Output,
    Prompt,
    Repair,
    Start,
    TurnEnd,
    Unknown,
)
from backstay.core.rules import Rules
from backstay.core.view import SEALED, view
from tests.sim.effects import TOOLS, Effect, Effects, token

MOST_TRIES: Final = 60
"""Attempts at one step, by agents that nobody kills."""
HEAD: Final = 5000
"""Characters of an output that are sent in any case where it is told as text."""


class Violation(AssertionError):
    """A promise that was not kept."""

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise


class Ledger:
    """What one session's journal must hold, and what its requests must say."""

    def __init__(self, effects: Effects, rules: Rules) -> None:
        self.effects = effects
        self._rules = rules
        self.letters: dict[str, str] = {}
        """Letters that somebody has put into the inbox, and what they say."""
        self.dead: set[str] = set()
        """Commands that did not run any more when the session was opened."""
        self._inherited: set[int] = set()
        """Prompts that wait in the session that this one was forked from."""
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
        self._last_at = 0
        self._asked_of: str | None = None
        """The provider that the last request was for."""
        self._before: dict[int, list[Item] | None] = {}
        """Of every repair the request before it."""
        self._asked_at = 0
        """The number of the last record before a summary was asked for."""
        self._read = 0
        """The last record that was read when the session was opened, which syncs the file."""
        self._damaged = False
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
            elif isinstance(record, Attempt):
                self._bound(record)
            elif isinstance(record, Compaction):
                self._replaced(record)
            elif isinstance(record, Prompt | Note):
                self._once(record)
            elif isinstance(record, TurnEnd):
                self._taken_back(record)
            elif isinstance(record, Repair):
                self._before[record.n] = self._last
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

    def open(
        self,
        records: Sequence[AnyRecord],
        tail: Sequence[AnyRecord],
        *,
        power_lost: bool,
        damaged: bool,
    ) -> None:
        """P7: what was read back is what had to be there, and nothing that nobody wrote.

        `tail` is what the agent begins with: it adds up to the same.
        """
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
        if gone := self._doubtful - read.keys():
            for one in (self.records.get(n) for n in gone):
                if isinstance(one, Prompt):  # the agent took it for recorded, by a disk that lied
                    self.letters.pop(one.letter, None)
            self._last = None  # requests were made from what the disk has lost after all
            self._before = {}
        self._index(records)
        if len(tail) < len(records):
            self._adds_up(records, tail)
        self._doubtful &= read.keys()
        self._written, self._attempted = kept, {}
        self._read = max(kept, default=0)

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
        self._extends(attempt, request.input)
        if view(self._replay(attempt), self._rules.dialect) != request.input:
            raise Violation("P5", f"attempt {attempt} is not the view of what is recorded before")
        if untold := sorted(self.dead & self._believed):
            raise Violation("P2", f"attempt {attempt} does not tell that {untold} has ended")

    def summarize(self, request: Request) -> None:
        """P1 and P4 of a request for a summary."""
        self._asked_at = max(self.records)
        self._paired(request.input)
        calls = {token(one): one.get("call_id") for one in request.input if "call_id" in one}
        answered = {one["call_id"] for one in request.input if "output" in one}
        for n, word, _ in self._told.values():
            if calls.get(word) in answered and n > self._read and not self._safe(n):
                raise Violation("P4", f"a summary is asked for before output {n} is durable")

    def _replaced(self, record: Compaction) -> None:
        """P2: what replaces a view holds the turn's prompt, and what came while it was made."""
        texts = {message_text(item) for item in record.items}
        turn = self.records.get(record.turn)
        if isinstance(turn, Prompt) and message_text(turn.items[0]) not in texts:
            raise Violation("P2", f"compaction {record.n} does not hold prompt {record.turn}")
        came: list[Late | Note] = [*self._lates, *self._notes]
        for one in came:
            if one.n > self._asked_at and one.item and message_text(one.item) not in texts:
                raise Violation("P2", f"compaction {record.n} does not hold record {one.n}")

    def _bound(self, record: Attempt) -> None:
        """P8: steps only grow, tries of one are limited, and so is what a turn may use."""
        step = self._steps.get(record.turn, 0)
        if record.step < step and not self._damaged:
            raise Violation("P8", f"step {record.step} of turn {record.turn} comes behind {step}")
        if record.step > step or record.why == "continued":
            self._tries = 0
        self._tries += 1
        if self._tries > MOST_TRIES:
            raise Violation("P8", f"step {record.step} is tried for the {self._tries}th time")
        most = self._rules.budget.steps
        if most is not None and len(self._answered.get(record.turn, ())) >= most:
            raise Violation("P8", f"turn {record.turn} goes beyond its {most} steps")
        if record.turn in self._inherited:
            raise Violation("P2", f"prompt {record.turn} waits in another session")

    def _once(self, record: Prompt | Note) -> None:
        """P2: a letter becomes one prompt, the end of a command is told once."""
        if isinstance(record, Prompt):
            if record.letter and any(one.letter == record.letter for one in self.prompts):
                raise Violation("P2", f"letter {record.letter} becomes a second prompt")
        elif record.topic == COMMAND_ENDED and record.text not in self._believed:
            raise Violation("P2", f"the end of {record.text} is told a second time")

    def _taken_back(self, record: TurnEnd) -> None:
        """P6: a history that is refused whatever is changed about it is sent as it was before."""
        end = self._last_end
        if record.outcome != "failed" or end is None or not self._tried:
            return
        if self._heard and _is_about_history(end) and self._tried[-1].action != UNDO:
            raise Violation("P6", f"repair {self._tried[-1].n} did not help, and stands")

    def _adds_up(self, records: Sequence[AnyRecord], tail: Sequence[AnyRecord]) -> None:
        """P7: the records behind a compaction say the same as all of them."""
        whole, short = History(), History()
        for history, given in ((whole, records), (short, tail)):
            for record in given:
                history.apply(record)
        dialect = self._rules.dialect
        pairs = {
            "view": (view(short, dialect), view(whole, dialect)),
            "queue": (short.queued, whole.queued),
            "turn": (short.turn, whole.turn),
            "letters": (short.letters, whole.letters),
            "shown": (short.shown, whole.shown),
            "running": (short.running, whole.running),
            "mends": (short.mends, whole.mends),
            "open calls": (short.open_calls(), whole.open_calls()),
            "open attempts": (short.open_attempts(), whole.open_attempts()),
        }
        for name, (one, other) in pairs.items():
            if one != other:
                raise Violation("P7", f"the {name} of the tail is not that of all: {one}, {other}")

    def end(self) -> None:
        """P2: at the end every prompt has had its turn, and every letter has become one."""
        for prompt in self.prompts:
            waits = prompt.n not in self._begun and prompt.n not in self._inherited
            if waits and not self._damaged:
                raise Violation("P2", f"prompt {prompt.n} never had its turn")
        missing = self.letters.keys() - {one.letter for one in self.prompts}
        if missing:
            raise Violation("P2", f"the letters {sorted(missing)} never became prompts")

    @property
    def certain(self) -> bool:
        """Whether the disk has taken all that was given to it."""
        return not self._doubtful and not self._attempted

    def died(self, lives: Callable[[str], bool]) -> None:
        """The session was opened: which of the commands that the model takes for running do not."""
        self.dead = {one for one in self._believed if not lives(one)}

    def fork(self, records: Sequence[AnyRecord], own: int, *, damaged: bool) -> "Ledger":
        """That of a fork which was read as these records, of which those above `own` are its own.

        P2: it shares what was over, word for word.
        """
        shared = [one for one in _known(records) if one.n <= own]
        for record in shared:
            if self._written.get(record.n) != record:
                raise Violation("P2", f"the fork's record {record.n} is not its parent's")
        if shared != [self._written[n] for n in sorted(self._written) if n <= own]:
            raise Violation("P2", "the fork does not share all of its parent's records")
        history = History()
        for record in shared:
            history.apply(record)
        last = history.turn
        over = last is not None and last.end is not None
        if not over or (not damaged and (history.open_calls() or history.open_attempts())):
            raise Violation("P2", "the fork shares what is not over")
        rules = self._rules
        fork = Ledger(self.effects, rules)
        fork._damaged = self._damaged or damaged
        fork._inherited = self._inherited | {one.n for one in history.queued}
        # A call that damage left open gets its output at its place, before the first request.
        whole = not history.open_calls()
        fork._last, fork._last_at = view(history, rules.dialect) if whole else None, own
        fork._asked_of = history.provider
        fork._written = {one.n: one for one in _known(records)}
        fork.durable = set(fork._written)
        fork._index(records)
        return fork

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
        self._notes: list[Note] = []
        self._ends: list[TurnEnd] = []
        self._repairs: list[Repair] = []
        self._tried: list[Repair] = []
        """Those since the last answer."""
        self._cut = 0
        """The newest compaction."""
        self._begun: dict[int, int] = {}
        """Of every turn the record with which it began."""
        self._steps: dict[int, int] = {}
        """Of every turn its last step."""
        self._answered: dict[int, set[int]] = {}
        """Of every turn the steps that were answered, since it was last reopened."""
        self._heard = False
        """Whether an answer came since the newest compaction: else a refusal may be of anything."""
        self._tries = 0
        self._last_end: AttemptEnd | None = None
        self._believed: set[str] = set()
        """Commands that the model takes for running."""
        self._shown: dict[str, int] = {}
        """Of every command how much of its output the model was shown."""
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
                self._show(record)
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
            case _:
                self._sort_rare(record)

    def _sort_rare(self, record: Known) -> None:
        match record:
            case Attempt():
                self._begun.setdefault(record.turn, record.n)
                self._steps[record.turn] = max(record.step, self._steps.get(record.turn, 0))
            case AttemptEnd():
                self._last_end = record
                attempt = self.records.get(record.attempt)
                if record.outcome in ("completed", "incomplete") and isinstance(attempt, Attempt):
                    self._answered.setdefault(attempt.turn, set()).add(attempt.step)
                    self._tried = []
                    self._heard = self._heard or record.outcome == "completed"
            case TurnEnd():
                self._begun.setdefault(record.turn, record.n)
                self._ends.append(record)
            case Repair() if record.action in MENDING:
                self._repairs.append(record)
                self._tried.append(record)
            case Compaction():
                self._cut, self._heard = record.n, False
                self._tried = []
            case Note():
                self._note(record)
            case Fork():
                self._believed, self._shown = set(), {}
            case _:
                pass

    def _note(self, record: Note) -> None:
        self._notes.append(record)
        if record.topic == COMMAND_ENDED:
            self._believed.discard(record.text)
        elif record.topic == REOPENED:
            self._answered.pop(record.turn, None)

    def _show(self, record: Output) -> None:
        """P2: of a command's output each byte is shown once."""
        spool = record.spool
        if spool is None:
            return
        begin = self._shown.get(spool.effect, 0)
        if spool.begin != begin and not self._damaged:
            shown = f"{spool.begin} to {spool.end}, it was shown up to {begin}"
            raise Violation("P2", f"output {record.n} shows {spool.effect} from {shown}")
        self._shown[spool.effect] = spool.end
        self._believed.discard(spool.effect)
        if record.status == "yielded":
            self._believed.add(spool.effect)

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
        turn, cut = getattr(self.records[attempt], "turn", 0), self._cut
        mends = self._replay(attempt).mends
        mended = mends.structure_from or mends.items
        for n, word, text in self._told.values():
            if not word or not cut < n < attempt or told.get(word, "\0").startswith(text):
                continue
            if not mended or not any(text[:HEAD] in one for one in texts):
                raise Violation("P2", f"output {n} of {word} is not in attempt {attempt}")
        for late in self._lates:
            if cut < late.n < attempt and message_text(late.item) not in texts:
                raise Violation("P2", f"late result {late.n} is not in attempt {attempt}")
        # Where damage took the attempt that began a prompt's turn, the prompt waits once more.
        waits = [one.n for one in self._replay(attempt).queued] if self._damaged else []
        for prompt in self.prompts:
            # Where it took that attempt and left its calls, the turn has begun all the same.
            begun = self._begun.get(prompt.n, prompt.n if self._damaged else attempt)
            if (
                prompt.n <= turn
                and (prompt.n == turn or begun > cut)
                and prompt.n not in waits
                and prompt.n not in self._inherited
                and message_text(prompt.items[0]) not in texts
            ):
                raise Violation("P2", f"prompt {prompt.n} is not in attempt {attempt}")

    def _extends(self, attempt: int, items: list[Item]) -> None:
        """P6: item for item, but for recorded repairs and compactions; behind them it does again."""
        before, since = self._last, self._last_at
        self._last, self._last_at = list(items), attempt
        asked, self._asked_of = self._asked_of, self._replay(attempt).provider
        changed = asked != self._asked_of and asked is not None
        if before is None or since < self._cut or changed:
            return  # replaced, or what one provider has sealed is told otherwise to another
        repairs = [one for one in self._repairs if since < one.n <= attempt]
        if repairs and repairs[-1].action == UNDO:
            before = self._before.get(repairs[-1].target)
        elif any(one.action != DROP_REASONING for one in repairs):
            return
        elif repairs:
            before = [one for one in before if one.get("type") != "reasoning"]
        if before is None or (repairs and any(one.get("type") in SEALED for one in before)):
            return
        if items[: len(before)] != before:
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
            case "done" | "failed" if starts and (truth is None or _text(truth) != said):
                raise Violation("P10", f"{where} says {said!r}, the truth is {truth}")
            case "yielded" if not starts:
                raise Violation("P10", f"{where} says that it goes on, but it never started")
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
        if turn and outcome != "storage" and not any(self._safe(one.n) for one in ends):
            raise Violation("P4", f"turn {turn} is told as {outcome} before that is durable")


def _text(result: Result) -> str:
    return message_text({"output": result.content})


def _is_about_history(end: AttemptEnd) -> bool:
    """Whether the simulated provider has refused the history and nothing else (`grudges`)."""
    return (end.outcome, end.status, end.code) == ("refused", 400, "invalid_request_error")


def _known(records: Sequence[AnyRecord]) -> list[Known]:
    return [one for one in records if not isinstance(one, Unknown)]

"""A turn machine under watch: after every event the promises of the core are checked.

Not a test by itself: the playbooks, the random world and the recorded streams run on it.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from backstay.core import events as e
from backstay.core.budget import used_up
from backstay.core.commands import Adopt, Append, Command, Finish, Probe, Send, StartCall
from backstay.core.history import History
from backstay.core.items import (
    OUTPUTS,
    Item,
    is_partial,
    is_server_call,
    kind,
    message_text,
    tool_name,
)
from backstay.core.pairing import problems
from backstay.core.record import (
    Attempt,
    Call,
    Compaction,
    ItemRecord,
    Known,
    Output,
    Repair,
    TurnEnd,
)
from backstay.core.rules import Rules
from backstay.core.table import TABLE, Phase
from backstay.core.turn import Turn
from backstay.core.view import view

TOLD_AS_MESSAGES = {"local_shell_call_output", "computer_call_output", "tool_search_output"}

Row = tuple[Phase, type]


class World:
    """What outlives a process: the records on disk, what was sent, and which effects began."""

    def __init__(self) -> None:
        self.records: list[Known] = []
        self.durable = 0
        self.sent: list[Item] = []
        self.sent_at = 0
        self.started: set[int] = set()
        self.rows: set[Row] = set()

    def crash(self, upto: int) -> None:
        """The process dies; of the records this prefix, at least what was acknowledged, is left."""
        self.durable = max(upto, self.durable)
        del self.records[self.durable :]


class Watched:
    """A machine on a world. `handle` as the machine's own, and an assertion where it lies."""

    def __init__(self, rules: Rules, world: World | None = None) -> None:
        self.world = world or World()
        self.turn = Turn(rules)
        self.running: set[int] = set()

    def handle(self, event: e.Event) -> list[Command]:
        """Hand the event over, and check what the machine makes of it."""
        world, before = self.world, self.turn.phase
        if isinstance(event, e.Appended):
            world.durable = max(world.durable, event.upto)
        if isinstance(event, e.CallFinished):
            self.running.discard(event.call)
        commands = self.turn.handle(event)
        self._phase(before, event)
        for command in commands:
            self._command(command)
        return commands

    def issued(self) -> int:
        """The number of the last record that was issued."""
        return self.world.records[-1].n if self.world.records else 0

    def _phase(self, before: Phase, event: e.Event) -> None:
        """The phase is one that the table allows after this event."""
        after = self.turn.phase
        if isinstance(event, e.Appended) or before is Phase.BROKEN:
            assert after is before
        elif isinstance(event, e.AppendFailed):
            assert after is Phase.BROKEN
        else:
            self.world.rows.add((before, type(event)))
            row = TABLE[before][type(event)]
            assert after in row.leads_to, f"{before} --{type(event).__name__}--> {after}"

    def _command(self, command: Command) -> None:
        match command:
            case Append(records):
                self._append(records)
            case Send():
                self._send(command)
            case StartCall():
                self._start(command)
            case Adopt(call) | Probe(call):
                assert self.turn.history.calls[call].output is None
                self.running |= {call} if isinstance(command, Adopt) else set()
            case Finish(turn, outcome) if turn and outcome != "storage":
                self._finish(turn, outcome)

    def _append(self, records: Iterable[Known]) -> None:
        """Numbers have no gap, and no call gets a second output or one that lies."""
        for record in records:
            assert record.n == self.issued() + 1
            if isinstance(record, Output):
                others = [one for one in self.world.records if isinstance(one, Output)]
                assert all(one.call != record.call for one in others), "a second output (P1)"
                if record.status == "never_started":
                    assert record.call not in self.world.started, "it was started (P10)"
            if isinstance(record, Compaction):
                assert not self.turn.history.open_calls(), "cut with an open call"
            if isinstance(record, Attempt):
                turn = self.turn.history.turns[record.turn]
                assert turn.end is None, "that turn is over"
                assert not used_up(self.turn.rules.budget, turn), "beyond its budget"
                assert all(one.record.step <= record.step for one in turn.attempts)
            self.world.records.append(record)

    def _send(self, command: Send) -> None:
        """P1, P2, P4, P5 and P6, as far as one request can show them."""
        world, sent = self.world, command.request.input
        assert command.attempt <= world.durable, "sent before its record was on disk (P4)"
        assert problems(sent) == []
        before = [one for one in world.records if one.n <= command.attempt]
        assert isinstance(before[-1], Attempt)
        assert sent == view(replay(before), self.turn.rules.dialect), "not the history (P5)"
        before = tail(before)
        lost = Counter(answers(before)) - Counter(map(text, sent))
        if self.turn.history.mends.structure_from:
            lost = Counter({one: n for one, n in lost.items() if not is_told(one, sent)})
        assert not lost, f"recorded outputs that are not sent (P2): {lost}"
        said = [
            message_text(item)
            for item in sent
            if kind(item) == "message" and item.get("role") == "assistant"
        ]
        assert Counter(said) == Counter(kept_messages(before)), "kept or dropped (DESIGN 4.5)"
        recorded = [one for one in before if one.n > world.sent_at]
        repaired = any(isinstance(one, Repair | Compaction) for one in recorded)
        extends = sent[: len(world.sent)] == world.sent
        assert extends or repaired, f"the prefix changed (P6): {world.sent} -> {sent}"
        world.sent, world.sent_at = sent, command.attempt

    def _start(self, command: StartCall) -> None:
        """P3 and P4, and that exclusive calls are alone."""
        world, call = self.world, command.call
        traits = self.turn.rules.tools[tool_name(command.item)]
        assert command.start.n <= world.durable, "started before its record was on disk (P4)"
        assert command.start in world.records
        assert self.turn.history.calls[call].output is None, "it has its output already"
        assert call not in world.started or traits.replay == "safe", "started twice (P3)"
        if self.turn.phase is not Phase.SETTLING:
            alone = [n for n in {call} | self.running if not self._parallel(n)]
            assert not alone or not self.running, f"exclusive {alone} beside {self.running}"
        world.started.add(call)
        self.running.add(call)

    def _parallel(self, call: int) -> bool:
        item = self.turn.history.calls[call].record.item
        return self.turn.rules.tools[tool_name(item)].parallel

    def _finish(self, turn: int, outcome: str) -> None:
        """P4: a turn is over when the record that says so is on disk."""
        ends = [one for one in self.world.records if isinstance(one, TurnEnd) and one.turn == turn]
        durable = [one.outcome for one in ends if one.n <= self.world.durable]
        assert outcome in durable, "said to be over, but not on disk (P4)"

    def check_replay(self) -> None:
        """What the records add up to is what the machine holds."""
        for records in (self.world.records, tail(self.world.records)):
            self._check_replay(records)

    def _check_replay(self, records: list[Known]) -> None:
        live, again = self.turn.history, replay(records)
        assert view(again, self.turn.rules.dialect) == view(live, self.turn.rules.dialect)
        assert again.open_calls() == live.open_calls()
        assert again.open_attempts() == live.open_attempts()
        assert again.queued == live.queued
        assert again.turn == live.turn
        assert (again.next, again.model) == (live.next, live.model)
        assert again.basis in (live.basis, None)
        assert (again.shown, again.running) == (live.shown, live.running)
        assert (again.compacted, again.floor) == (live.compacted, live.floor)
        for turn in live.turns:
            assert again.is_fresh(turn) == live.is_fresh(turn)


def tail(records: list[Known]) -> list[Known]:
    """What a reader from the end sees: the newest compaction, and what stands behind it."""
    places = [at for at, one in enumerate(records) if isinstance(one, Compaction)]
    return records[places[-1] :] if places else list(records)


def replay(records: Iterable[Known]) -> History:
    """The history of these records."""
    history = History()
    for record in records:
        history.apply(record)
    return history


def text(item: Item) -> bytes:
    """What an output says, in bytes that can be counted."""
    return msgspec.json.encode(item.get("output")) if kind(item) in OUTPUTS else b""


def is_told(answer: bytes, sent: list[Item]) -> bool:
    """Whether a message says what that output said."""
    said = msgspec.json.decode(answer)
    words = said if isinstance(said, str) else answer.decode()
    return any(words in message_text(item) for item in sent if kind(item) == "message")


def answers(records: list[Known]) -> list[bytes]:
    """What the outputs say, those aside whose pairs are told as messages."""
    found = [one.item for one in records if isinstance(one, Output)]
    return [text(item) for item in found if kind(item) not in TOLD_AS_MESSAGES]


def kept_messages(records: list[Known]) -> list[str]:
    """What the model said in full and the view keeps.

    Of an attempt whose step was tried again only what stands before its last call (DESIGN 4.5).
    """
    attempts = [one for one in records if isinstance(one, Attempt)]
    last = {(one.turn, one.step): one.n for one in attempts}
    items = [one for one in records if isinstance(one, ItemRecord | Call)]
    kept = {one.n: -1 for one in attempts if last[one.turn, one.step] != one.n}
    for one in items:
        call = isinstance(one, Call) or is_server_call(one.item) or kind(one.item) in OUTPUTS
        if call and one.attempt in kept:
            kept[one.attempt] = max(kept[one.attempt], one.index)
    return [
        message_text(one.item)
        for one in items
        if kind(one.item) == "message" and one.item.get("role") == "assistant"
        if not is_partial(one.item)
        if one.index <= kept.get(one.attempt, one.index)
    ]

"""What can be searched for in a session, turn by turn, and what the session has used.

Reads the whole journal and writes nothing. Of a fork it takes the records of its own file: what it
shares stands in its parent's.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from backstay.core.items import Item, arguments, kind, message_text, tool_name
from backstay.core.record import (
    AnyRecord,
    Attempt,
    AttemptEnd,
    Call,
    Compaction,
    ItemRecord,
    Prompt,
    Session,
    TurnEnd,
)
from backstay.core.told import spoken
from backstay.core.usage import Usage
from backstay.errors import BackstayError
from backstay.journal.disk import Disk
from backstay.journal.folders import journal_path
from backstay.journal.journal import look
from backstay.journal.label import read_label
from backstay.journal.lines import Found
from backstay.journal.reader import walk

_LONGEST: Final = 64 * 1024
"""Characters of one sort of text in one turn that can be searched."""
_FILE_MARKS: Final = (
    "*** Add File: ",
    "*** Update File: ",
    "*** Delete File: ",
    "*** Move to: ",
)


class TurnText(msgspec.Struct):
    """The words of one turn; `n` counts turns from 1, 0 is the session's title."""

    n: int
    at: float = 0.0
    title: str = ""
    prompt: str = ""
    answer: str = ""
    command: str = ""
    file: str = ""


class Texts(msgspec.Struct):
    """All turns of a session that hold words, how many there are, and tokens by model."""

    turns: list[TurnText] = []
    count: int = 0
    usage: dict[str, Usage] = {}


def read_texts(disk: Disk, folder: str) -> Texts:
    """Read a session whole. What can't be read has no words."""
    try:
        records = look(disk, folder).records
        own = own_records(disk, folder, records)
    except BackstayError:
        records, own = [], []
    reader = _Reader(turn_order(records))
    for record in own:
        reader.take(record)
    turns = sorted(reader.turns.values(), key=lambda turn: turn.n)
    title = read_label(disk, folder).title
    if title:
        turns.insert(0, TurnText(0, title=title))
    return Texts(turns, len(reader.order), reader.usage)


def spent(records: Iterable[AnyRecord]) -> dict[str, Usage]:
    """Tokens by model of these records' attempts and summaries."""
    reader = _Reader({})
    for record in records:
        if isinstance(record, Attempt | AttemptEnd | Compaction):
            reader.take(record)
    return reader.usage


def turn_order(records: Iterable[AnyRecord]) -> dict[int, int]:
    """By the number of a turn's prompt: the how-manieth turn it is, from 1, as they began.

    Prompts whose turn has not begun come last.
    """
    order: dict[int, int] = {}
    prompts = []
    for record in records:
        if isinstance(record, Attempt | TurnEnd):
            order.setdefault(record.turn, len(order) + 1)
        elif isinstance(record, Prompt):
            prompts.append(record.n)
    for n in prompts:
        order.setdefault(n, len(order) + 1)
    return order


def own_records(disk: Disk, folder: str, records: list[AnyRecord]) -> list[AnyRecord]:
    """Those in the session's own file: of a fork not those that it shares. Raises `StorageError`."""
    if not any(isinstance(one, Session) and one.origin is not None for one in records):
        return records
    parts = walk(disk, journal_path(folder))
    own = {part.record.n for part in parts if isinstance(part, Found)}
    return [record for record in records if record.n in own]


class _Reader:
    """Takes records in order."""

    def __init__(self, order: dict[int, int]) -> None:
        self.order = order
        self.turns: dict[int, TurnText] = {}
        self.usage: dict[str, Usage] = {}
        self.models: dict[int, str] = {}
        """By the number of an attempt."""
        self._turn_of: dict[int, int] = {}

    def take(self, record: AnyRecord) -> None:
        match record:
            case Attempt():
                self.models[record.n] = record.model
                self._turn_of[record.n] = record.turn
            case AttemptEnd():
                self._count(self.models.get(record.attempt, ""), record.usage)
            case Compaction():
                self._count(record.model, record.usage)
            case Prompt():
                turn = self._turn(record.n, record.t)
                for item in spoken(record.items):
                    if item.get("role", "user") == "user":
                        turn.prompt = _joined(turn.prompt, message_text(item))
            case ItemRecord() if kind(record.item) == "message":
                turn = self._turn(self._turn_of.get(record.attempt, 0), record.t)
                turn.answer = _joined(turn.answer, message_text(record.item))
            case Call():
                turn = self._turn(self._turn_of.get(record.attempt, 0), record.t)
                command, files = _of_call(record.item)
                turn.command = _joined(turn.command, command)
                turn.file = _joined(turn.file, files)
            case _:
                pass

    def _count(self, model: str, usage: dict[str, Any] | None) -> None:
        if usage:
            self.usage[model] = self.usage.get(model, Usage()) + Usage.of(usage)

    def _turn(self, number: int, at: float) -> TurnText:
        """The turn of this prompt; what belongs to none that is known counts to the first."""
        return self.turns.setdefault(number, TurnText(self.order.get(number, 1), at))


def _of_call(item: Item) -> tuple[str, str]:
    """The command of a call, or its arguments; and the files of a patch."""
    raw = item.get("input", item.get("arguments", ""))
    wish = arguments(item) or {}
    if tool_name(item) == "apply_patch":
        patch = next((one for one in (*wish.values(), raw) if isinstance(one, str)), "")
        marked = (
            line.removeprefix(mark)
            for line in patch.splitlines()
            for mark in _FILE_MARKS
            if line.startswith(mark)
        )
        return "", "\n".join(marked)
    command = wish.get("cmd", raw)
    return (command if isinstance(command, str) else ""), ""


def _joined(text: str, more: str) -> str:
    if not more or len(text) >= _LONGEST:
        return text
    return (f"{text}\n{more}" if text else more)[:_LONGEST]

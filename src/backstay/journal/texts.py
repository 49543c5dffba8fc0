"""What can be searched for in a session, turn by turn, and what the session has used.

Reads the whole journal and writes nothing. Of a fork it takes the records of its own file: what it
shares stands in its parent's.
"""

from collections.abc import Iterable
from typing import Final

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
    Unknown,
)
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
    reader = _Reader()
    title = read_label(disk, folder).title
    if title:
        reader.turns[0] = TurnText(0, title=title)
    try:
        records = look(disk, folder).records
        own = _own_numbers(disk, folder, records)
    except BackstayError:
        records, own = [], None
    for record in records:
        reader.take(record, own=own is None or record.n in own)
    turns = [reader.turns[n] for n in sorted(reader.turns)]
    return Texts(turns, reader.count, reader.usage)


def spent(records: Iterable[AnyRecord]) -> dict[str, Usage]:
    """Tokens by model of these records' attempts and summaries."""
    reader = _Reader()
    for record in records:
        reader.take(record, own=True)
    return reader.usage


def _own_numbers(disk: Disk, folder: str, records: list[AnyRecord]) -> set[int] | None:
    """The records in the session's own file; None where there are no others."""
    if not any(isinstance(one, Session) and one.origin is not None for one in records):
        return None
    parts = walk(disk, journal_path(folder))
    return {part.record.n for part in parts if isinstance(part, Found)}


class _Reader:
    """Takes records in order."""

    def __init__(self) -> None:
        self.turns: dict[int, TurnText] = {}
        self.count = 0
        self.usage: dict[str, Usage] = {}
        self._turn_of: dict[int, int] = {}
        """By the number of a prompt, then of an attempt: which turn it is."""
        self._models: dict[int, str] = {}

    def take(self, record: AnyRecord, *, own: bool) -> None:
        match record:
            case Unknown():
                return
            case Prompt():
                self.count += 1
                self._turn_of[record.n] = self.count
            case Attempt():
                self._turn_of[record.n] = self._turn_of.get(record.turn, self.count)
                self._models[record.n] = record.model
            case _:
                pass
        if own:
            self._take_usage(record)
            self._take_text(record)

    def _take_usage(self, record: AnyRecord) -> None:
        if isinstance(record, AttemptEnd):
            model = self._models.get(record.attempt, "")
        elif isinstance(record, Compaction):
            model = record.model
        else:
            return
        if record.usage:
            self.usage[model] = self.usage.get(model, Usage()) + Usage.of(record.usage)

    def _take_text(self, record: AnyRecord) -> None:
        match record:
            case Prompt():
                turn = self._turn(self.count)
                turn.at = record.t
                for item in record.items:
                    if item.get("role", "user") == "user":
                        turn.prompt = _joined(turn.prompt, message_text(item))
            case ItemRecord() if kind(record.item) == "message":
                turn = self._turn(self._turn_of.get(record.attempt, self.count))
                turn.at = turn.at or record.t
                turn.answer = _joined(turn.answer, message_text(record.item))
            case Call():
                turn = self._turn(self._turn_of.get(record.attempt, self.count))
                turn.at = turn.at or record.t
                command, files = _of_call(record.item)
                turn.command = _joined(turn.command, command)
                turn.file = _joined(turn.file, files)
            case _:
                pass

    def _turn(self, n: int) -> TurnText:
        return self.turns.setdefault(max(n, 1), TurnText(max(n, 1)))


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

"""`sessions list` and `sessions show`: what is there, read from the journals. Never writes."""

import os
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec

from backstay.cli import calls
from backstay.cli.options import Option, read, table
from backstay.cli.terminal import harmless, one_line
from backstay.core.items import kind, message_text
from backstay.core.kept import reasoning_text
from backstay.core.record import (
    AnyRecord,
    Attempt,
    AttemptEnd,
    Call,
    Compaction,
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
from backstay.errors import UsageError
from backstay.journal import PosixDisk, holder, journal_path, lock_path, look
from backstay.journal.sessions import Entry, find, list_sessions
from backstay.runtime.config import default_home

_OPTIONS = (
    Option(("-h", "--help"), "print this help"),
    Option(("--json",), "one JSON object a line"),
    Option(("-n", "--limit"), "at most so many sessions (default 20, 0 for all)", "COUNT"),
)
_USAGE = """\
usage: backstay sessions [list] [--json] [-n COUNT]
       backstay sessions show ID

list names the sessions, the last active first; show prints what one's journal
holds: prompts, calls and their outputs, cuts, repairs and damage.
"""


def main(argv: Sequence[str]) -> int:
    """Run `sessions ...`; gives the exit code. Raises `BackstayError`."""
    given = read(argv, _OPTIONS, "sessions")
    action, *rest = given.words or ["list"]
    home = default_home(os.environ)
    if given.has("help"):
        print(f"{_USAGE}\nOptions:\n{table(_OPTIONS)}", end="")
    elif action == "list" and not rest:
        _list(home, given.last("limit", "20"), as_json=given.has("json"))
    elif action == "show" and len(rest) == 1:
        _show(home, rest[0])
    else:
        raise UsageError("sessions takes list, or show and one ID (backstay sessions --help)")
    return 0


def _list(home: str, limit: str, *, as_json: bool) -> None:
    if not limit.isdecimal():
        raise UsageError(f"-n {limit}: it takes a number")
    entries = list_sessions(PosixDisk(), home)
    shown = entries[: int(limit) or None]
    for entry in shown:
        print(_as_json(entry) if as_json else _row(entry))
    if not entries and not as_json:
        print(f"no sessions in {home}", file=sys.stderr)
    elif len(shown) < len(entries):
        print(f"{len(entries) - len(shown)} more: -n 0 shows all", file=sys.stderr)


def _state(entry: Entry) -> str:
    if holder(lock_path(entry.path)) is not None:
        return "running"
    return entry.ended


def _as_json(entry: Entry) -> str:
    return msgspec.json.encode(
        {**msgspec.to_builtins(entry), "state": _state(entry)}, order="sorted"
    ).decode()


def _row(entry: Entry) -> str:
    """Two lines of at most 80 columns: the id can be copied, the prompt can be recognised."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.active))
    folder = one_line(entry.cwd, 30) if entry.cwd else "?"
    prompt = one_line(entry.prompt, 76) if entry.prompt else "(no prompt)"
    return (
        f"{entry.id}  {when}  {_state(entry)}\n    {folder}: {one_line(prompt, 74 - len(folder))}"
    )


def _show(home: str, name: str) -> None:
    folder = find(PosixDisk(), home, name)
    reading = look(PosixDisk(), folder)
    print(f"session {folder.rpartition('/')[2]}")
    print(f"journal {harmless(journal_path(folder))}")
    who = holder(lock_path(folder))
    if who is not None:
        print(f"running: {who}")
    for damage in reading.damage:
        print(f"damage  {harmless(str(damage))}")
    if reading.read_only:
        print(f"read-only: {harmless(reading.read_only)}")
    shown = _Transcript(folder)
    for record in reading.records:
        for line in shown.lines(record):
            print(line)


class _Transcript:
    """The records of a journal as lines for a person."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._calls: dict[int, Call] = {}

    def lines(self, record: AnyRecord) -> Iterator[str]:
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
                yield f"prompt to {harmless(record.model)}"
                for item in record.items:
                    if item.get("role") == "user":
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
            case _:
                yield from _event(record)

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
        case TurnEnd():
            why = f": {harmless(record.reason)}" if record.reason else ""
            yield f"turn {record.outcome}{why}"
        case Compaction():
            yield f"compacted to {len(record.items)} items"
        case Repair():
            yield f"repair ({harmless(record.action)}): {harmless(record.reason)}"
        case Note():
            yield f"note ({harmless(record.topic)}): {harmless(record.text)}"
        case _:
            return


def _attempt(record: Attempt) -> Iterator[str]:
    if record.why:
        dropped = f", {len(record.superseded)} items superseded" if record.superseded else ""
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

"""The sessions of a home, found by looking: each file's head and tail, nothing between."""

from collections.abc import Iterator
from itertools import islice
from typing import Final, Literal

import msgspec

from backstay.core.items import message_text
from backstay.core.record import (
    AnyRecord,
    Compaction,
    Fork,
    Late,
    Note,
    Prompt,
    Repair,
    Session,
    TurnEnd,
)
from backstay.errors import StorageError, UnknownSession, UsageError
from backstay.journal.disk import Absent, Disk, File
from backstay.journal.folders import home_of, journal_path, session_folder, sessions_root
from backstay.journal.ids import is_id, is_prefix, seconds
from backstay.journal.lines import Found, parts

_STEPS: Final = (16 * 1024, 256 * 1024, 2 * 1024 * 1024)
"""Bytes of a head or a tail: more only where the fewer held no answer."""
_LONGEST_TEXT: Final = 300
_LONGEST_DESCENT: Final = 20
"""Forks of forks that are gone back through for a prompt."""
SHORTEST_PREFIX: Final = 8
"""Characters of an id that are enough to name it."""

End = Literal["completed", "failed", "interrupted", "superseded", "cut", "empty", "unreadable"]
"""A turn's outcome; `cut` while a turn is open, `empty` before the first prompt."""


class Entry(msgspec.Struct, kw_only=True):
    """A session in a listing. Times are Unix seconds."""

    id: str
    path: str
    """Its folder in the home."""
    cwd: str = ""
    started: float
    active: float
    prompt: str = ""
    """The beginning of its first prompt, on one line."""
    title: str = ""
    """The name that the user gave it; "" without one."""
    archived: bool = False
    ended: End

    @property
    def name(self) -> str:
        """What a listing calls it."""
        return self.title or self.prompt


def list_sessions(disk: Disk, home: str) -> list[Entry]:
    """All sessions, the last active first. What can't be read is listed as such."""
    return [read_entry(disk, path, active) for active, path in _by_activity(disk, home)]


def last(disk: Disk, home: str, cwd: str | None = None) -> str | None:
    """The folder of the last active session that can be resumed, of any or of one `cwd`.

    Archived sessions are passed over.
    """
    for active, path in _by_activity(disk, home):
        entry = read_entry(disk, path, active)
        resumable = entry.ended not in ("empty", "unreadable") and not entry.archived
        if resumable and cwd in (None, entry.cwd):
            return path
    return None


def newest(disk: Disk, home: str, cwd: str, most: int) -> Iterator[Entry]:
    """Sessions of one `cwd` that are not archived, the last active first, read one by one.

    Of the `most` that were made last: a session that is older and was resumed is passed over.
    """
    made = islice(folders(disk, home), most)
    for active, path in sorted(((_activity(disk, one), one) for one in made), reverse=True):
        entry = read_entry(disk, path, active)
        if entry.cwd == cwd and not entry.archived:
            yield entry


def find(disk: Disk, home: str, name: str) -> str:
    """The folder of the session with this id, or with the one id that begins so.

    Raises `UnknownSession`, and `UsageError` where several ids begin so.
    """
    wanted = name.strip().lower()
    if len(wanted) < SHORTEST_PREFIX or not is_prefix(wanted):
        raise UnknownSession(
            f"{name[:60]!r} is no session id: give one, or its first {SHORTEST_PREFIX} characters "
            "or more; `sessions list` shows them"
        )
    if is_id(wanted):
        path = session_folder(home, wanted)
        if _is_folder(disk, path):
            return path
    found = [path for path in folders(disk, home) if path.rpartition("/")[2].startswith(wanted)]
    if not found:
        raise UnknownSession(f"no session {wanted} in {home}: `sessions list` shows what is there")
    if len(found) > 1:
        raise UsageError(f"{len(found)} sessions begin with {wanted}: give more of the id")
    return found[0]


def folders(disk: Disk, home: str) -> Iterator[str]:
    """Every session's folder, newest day first."""
    levels = [sessions_root(home)]
    for _ in range(3):
        levels = [
            f"{folder}/{name}"
            for folder in levels
            for name in reversed(_names(disk, folder))
            if name.isdecimal()
        ]
    for day in levels:
        yield from (f"{day}/{name}" for name in reversed(_names(disk, day)) if is_id(name))


def _names(disk: Disk, folder: str) -> list[str]:
    try:
        return disk.list(folder)
    except Absent:
        return []


def _is_folder(disk: Disk, path: str) -> bool:
    try:
        return disk.stat(path).folder
    except Absent:
        return False


def _by_activity(disk: Disk, home: str) -> list[tuple[float, str]]:
    return sorted(((_activity(disk, path), path) for path in folders(disk, home)), reverse=True)


def _activity(disk: Disk, path: str) -> float:
    try:
        return disk.stat(journal_path(path)).mtime
    except StorageError:
        return seconds(path.rpartition("/")[2])


def read_entry(disk: Disk, path: str, active: float) -> Entry:
    """What the files in a session's folder say of it; never fails."""
    from backstay.journal.label import read_label  # late: a turn needs it for --last alone

    session = path.rpartition("/")[2]
    entry = Entry(id=session, path=path, started=seconds(session), active=active, ended="empty")
    label = read_label(disk, path)
    entry.title, entry.archived = label.title, label.archived
    try:
        with disk.open(journal_path(path)) as file:
            size = file.size()
            parent = _fill_from_head(entry, file, size)
            entry.ended = _how_it_ended(file, size)
        if parent and not entry.prompt:
            entry.prompt = _first_prompt(disk, home_of(path), parent)
    except Absent:
        pass
    except StorageError:
        entry.ended = "unreadable"
    return entry


def _fill_from_head(entry: Entry, file: File, size: int) -> str:
    """Gives the session that it was forked from, "" for none."""
    parent = ""
    for step in _STEPS:
        for record in _records(file, 0, min(step, size)):
            if not entry.cwd and isinstance(record, Session | Prompt | Compaction):
                entry.cwd = record.cwd
            if isinstance(record, Session):
                entry.started = record.t or entry.started
                parent = record.origin.parent if record.origin else parent
            if isinstance(record, Prompt):
                entry.prompt = _text(record)
                return parent
        if step >= size:
            break
    return parent


def _first_prompt(disk: Disk, home: str, session: str) -> str:
    """What a fork without a prompt of its own goes on from."""
    for _ in range(_LONGEST_DESCENT):
        entry = Entry(id=session, path="", started=0.0, active=0.0, ended="empty")
        try:
            with disk.open(journal_path(session_folder(home, session))) as file:
                session = _fill_from_head(entry, file, file.size())
        except (StorageError, ValueError):
            break
        if entry.prompt or not session:
            return entry.prompt
    return ""


def _text(prompt: Prompt) -> str:
    """The user's own words: the last message of the user's in the prompt."""
    texts = [message_text(item) for item in prompt.items if item.get("role", "user") == "user"]
    text = next((text for text in reversed(texts) if text.strip()), "")
    return " ".join(text[: 4 * _LONGEST_TEXT].split())[:_LONGEST_TEXT]


def _how_it_ended(file: File, size: int) -> End:
    for step in _STEPS:
        records = _records(file, max(0, size - step), size)
        telling = [r for r in records if not isinstance(r, Note | Repair | Late)]
        if telling:
            newest = telling[-1]
            if isinstance(newest, TurnEnd):
                return newest.outcome
            if isinstance(newest, Fork):
                return newest.ended
            return "empty" if isinstance(newest, Session) else "cut"
        if step >= size:
            return "empty"
    return "cut"


def _records(file: File, begin: int, end: int) -> list[AnyRecord]:
    """The whole records between two offsets, which need not be at lines."""
    return [part.record for part in parts(file, begin, end) if isinstance(part, Found)]

"""The catalogue of a home's sessions: SQLite with full text, for listing and searching many.

Derived from the journals alone: rebuilt when it is missing, broken or of another version, brought up
to date by whoever asks. One process uses it at a time (`flock` beside it), for some milliseconds.
Nothing of it is imported before somebody lists or searches.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self, TypeVar

import msgspec

from backstay.core.record import scrub
from backstay.core.usage import Usage
from backstay.errors import BackstayError
from backstay.journal.folders import journal_path, sessions_root
from backstay.journal.ids import is_id, seconds
from backstay.journal.place import Place
from backstay.journal.posix import PosixDisk
from backstay.journal.query import broken_up, match, mended
from backstay.journal.sessions import Entry, read_entry
from backstay.journal.texts import read_texts

FILE: Final = "catalogue.sqlite"
LOCK: Final = "catalogue.lock"
VERSION: Final = 1
_PATIENCE: Final = 5.0
"""Seconds that another process may use it; then it is done without."""
_PAUSE: Final = 0.02
_COMMIT_EVERY: Final = 1.0
"""Seconds: how much of a long build an interruption costs."""

Progress = Callable[[int, int], None]
"""Is told how many sessions are read, of how many."""
Result = TypeVar("Result")

_SCHEMA: Final = """
CREATE TABLE sessions (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  path TEXT NOT NULL,
  stamp TEXT NOT NULL,
  read TEXT NOT NULL DEFAULT '',
  cwd TEXT NOT NULL, started REAL NOT NULL, active REAL NOT NULL, prompt TEXT NOT NULL,
  title TEXT NOT NULL, archived INTEGER NOT NULL, ended TEXT NOT NULL,
  turns INTEGER NOT NULL DEFAULT 0, usage TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX sessions_by_activity ON sessions (archived, active);
CREATE TABLE turns (
  number INTEGER PRIMARY KEY, session INTEGER NOT NULL, turn INTEGER NOT NULL, at REAL NOT NULL
);
CREATE INDEX turns_by_session ON turns (session);
CREATE VIRTUAL TABLE texts USING fts5(
  title, prompt, answer, command, file, tokenize = 'unicode61 remove_diacritics 2'
);
"""
_FIELDS: Final = (
    "id", "path", "cwd", "started", "active", "prompt", "title", "archived", "ended", "stamp",
)  # fmt: skip
_WRITE: Final = """
INSERT INTO sessions (id, path, cwd, started, active, prompt, title, archived, ended, stamp)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
  path = excluded.path, cwd = excluded.cwd, started = excluded.started, active = excluded.active,
  prompt = excluded.prompt, title = excluded.title, archived = excluded.archived,
  ended = excluded.ended, stamp = excluded.stamp
"""
_COUNT: Final = """
SELECT count(*) FROM sessions WHERE archived = :archived AND (:cwd IS NULL OR cwd = :cwd)
"""
_LIST: Final = """
SELECT id, path, cwd, started, active, prompt, title, archived, ended, stamp
FROM sessions WHERE archived = :archived AND (:cwd IS NULL OR cwd = :cwd)
ORDER BY active DESC, id DESC LIMIT :limit
"""
_SEARCH: Final = """
SELECT s.id, s.path, s.cwd, s.started, s.active, s.prompt, s.title, s.archived, s.ended, s.stamp,
  t.turn, t.at, snippet(texts, -1, char(2), char(3), '…', 16)
FROM texts JOIN turns t ON t.number = texts.rowid JOIN sessions s ON s.number = t.session
WHERE s.archived = :archived AND (:cwd IS NULL OR s.cwd = :cwd) AND texts MATCH :query
ORDER BY bm25(texts, 8.0, 4.0, 2.0, 1.0, 2.0), s.active DESC LIMIT :limit
"""
BEGIN_MARK, END_MARK = "\x02", "\x03"
"""Around each word of a snippet that was searched for."""


class Unavailable(BackstayError):
    """The catalogue can't be used: what lists goes on without, what searches can't."""


class _Broken(Exception):
    """The file is no database, or a damaged one."""


class Spent(msgspec.Struct, frozen=True):
    """What a session has used: its turns, and its tokens by model."""

    turns: int
    usage: dict[str, Usage]


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A turn that holds what was searched for. `turn` counts from 1; 0 is the title."""

    entry: Entry
    turn: int
    at: float
    snippet: str
    """The text around the words, these between `BEGIN_MARK` and `END_MARK`."""


class Catalogue:
    """An open catalogue; `opened` is the way in."""

    def __init__(self, home: str, database: sqlite3.Connection, there: "list[_Seen]") -> None:
        self._home = home
        self._db = database
        self._there = there
        self.ids = sorted(seen.id for seen in there)
        """The ids of all sessions, sorted."""

    def update(self, progress: Progress) -> None:
        """Bring the listing up to date: of each session that changed head and tail are read."""
        known = dict(self._db.execute("SELECT id, stamp FROM sessions"))
        changed: list[_Seen] = []
        gone = set(known)
        for seen in self._there:
            gone.discard(seen.id)
            if known.get(seen.id) != seen.stamp:
                changed.append(seen)
        if not changed and not gone:
            return
        with self._steps(progress, len(changed)) as step:
            self.forget(gone)
            for seen in changed:
                self._write_entry(seen)
                step()

    def read_whole(self, progress: Progress, only: Iterable[str] = ()) -> None:
        """Read the texts and the usage of each session that changed, or of `only` those.

        Behind `update`.
        """
        stale = self._db.execute("SELECT number, id, path, stamp FROM sessions WHERE read <> stamp")
        wanted = set(only)
        rows = [row for row in stale.fetchall() if not wanted or row[1] in wanted]
        if not rows:
            return
        with self._steps(progress, len(rows)) as step:
            for number, _, path, stamp in rows:
                self._write_texts(number, os.path.join(self._home, path), stamp)
                step()

    def entries(self, place: Place, limit: int) -> tuple[list[Entry], int]:
        """The last active sessions of a place, and how many there are in all. 0 is no limit."""
        (count,) = self._db.execute(_COUNT, _values(place)).fetchone()
        rows = self._db.execute(_LIST, _values(place) | {"limit": limit or -1})
        return [self._entry(row) for row in rows], count

    def spent(self, ids: Sequence[str]) -> dict[str, Spent]:
        """What these sessions have used, as far as `read_whole` has read them."""
        found = {}
        for session in ids:
            row = self._db.execute("SELECT turns, usage FROM sessions WHERE id = ?", (session,))
            for turns, usage in row:
                found[session] = Spent(turns, msgspec.json.decode(usage, type=dict[str, Usage]))
        return found

    def search(self, words: str, place: Place, limit: int) -> list[Hit]:
        """The turns that hold all the words, the best first; behind `read_whole`.

        Where no turn holds them as they are, those with words that begin so.
        """
        for prefixes in (False, True):
            query = match(words, prefixes=prefixes)
            hits = self._search(query, place, limit) if query else []
            if hits:
                return hits
        return []

    def forget(self, ids: Iterable[str]) -> None:
        """Take out what is kept of these sessions."""
        for session in ids:
            row = self._db.execute("SELECT number FROM sessions WHERE id = ?", (session,))
            for (number,) in row.fetchall():
                self._drop_texts(number)
                self._db.execute("DELETE FROM sessions WHERE number = ?", (number,))

    def _search(self, query: str, place: Place, limit: int) -> list[Hit]:
        rows = self._db.execute(_SEARCH, _values(place) | {"query": query, "limit": limit or -1})
        return [
            Hit(entry=self._entry(row[:-3]), turn=row[-3], at=row[-2], snippet=mended(row[-1]))
            for row in rows
        ]

    def _entry(self, row: Sequence[Any]) -> Entry:
        fields = dict(zip(_FIELDS, row, strict=True))
        fields["path"] = os.path.join(self._home, fields["path"])
        fields["archived"] = bool(fields["archived"])
        return msgspec.convert(fields, Entry)

    def _write_entry(self, seen: "_Seen") -> None:
        entry = read_entry(PosixDisk(), os.path.join(self._home, seen.path), seen.active)
        fields = msgspec.to_builtins(entry) | {"path": seen.path, "stamp": seen.stamp}
        self._db.execute(_WRITE, [_storable(fields[name]) for name in _FIELDS])

    def _write_texts(self, number: int, folder: str, stamp: str) -> None:
        self._drop_texts(number)
        read = read_texts(PosixDisk(), folder)
        for turn in read.turns:
            row = self._db.execute(
                "INSERT INTO turns (session, turn, at) VALUES (?, ?, ?)", (number, turn.n, turn.at)
            )
            texts = (turn.title, turn.prompt, turn.answer, turn.command, turn.file)
            self._db.execute(
                "INSERT INTO texts (rowid, title, prompt, answer, command, file) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (row.lastrowid, *(_storable(broken_up(text)) for text in texts)),
            )
        usage = msgspec.json.encode(read.usage).decode()
        self._db.execute(
            "UPDATE sessions SET read = ?, turns = ?, usage = ? WHERE number = ?",
            (stamp, read.count, usage, number),
        )

    def _drop_texts(self, number: int) -> None:
        self._db.execute(
            "DELETE FROM texts WHERE rowid IN (SELECT number FROM turns WHERE session = ?)",
            (number,),
        )
        self._db.execute("DELETE FROM turns WHERE session = ?", (number,))

    @contextmanager
    def _steps(self, progress: Progress, count: int) -> Iterator[Callable[[], None]]:
        """A transaction that is committed from time to time; each step is told of."""
        done, last = 0, time.monotonic()

        def step() -> None:
            nonlocal done, last
            done += 1
            progress(done, count)
            if time.monotonic() - last >= _COMMIT_EVERY:
                self._db.execute("COMMIT")
                self._db.execute("BEGIN")
                last = time.monotonic()

        self._db.execute("BEGIN")
        try:
            yield step
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def use(
    home: str,
    work: Callable[[Catalogue], Result],
    warn: Callable[[str], None],
    *,
    patience: float = _PATIENCE,
) -> Result:
    """Do something with the catalogue of a home, rebuilt if it is broken.

    Where it can't be kept on disk it is made in memory, for this once, and one line says so.
    Raises `Unavailable` where that is not possible either.
    """
    there = list(_scan(home))  # before the lock is taken: it is most of a list's time
    why = ""
    if os.path.isdir(sessions_root(home)):
        try:
            return _on_disk(home, work, there, patience)
        except (sqlite3.Error, OSError, _Broken) as error:
            why = getattr(error, "strerror", "") or str(error)
    if why:
        warn(f"the catalogue of sessions can't be used ({why}); the sessions are read anew")
    try:
        with _Closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
            _make(database)
            return work(Catalogue(home, database, there))
    except sqlite3.Error as error:
        raise Unavailable(f"SQLite with FTS5 is needed, and it says: {error}") from None


def forget(home: str, ids: Iterable[str]) -> None:
    """Take deleted sessions out of the catalogue, if there is one; whatever fails is left.

    None of their words stays in its file: not in the index either, which is merged for that.
    """
    if not os.path.exists(os.path.join(home, FILE)):
        return

    def work(catalogue: Catalogue) -> None:
        with catalogue._steps(lambda *_: None, 0):  # noqa: SLF001 - its own other half
            catalogue.forget(ids)
            catalogue._db.execute("INSERT INTO texts (texts) VALUES ('optimize')")  # noqa: SLF001

    try:
        _on_disk(home, work, [], _PATIENCE)
    except (sqlite3.Error, OSError, _Broken):
        pass


class _Seen(msgspec.Struct, frozen=True):
    """A session as the file system shows it; the stamp changes with each write to it."""

    id: str
    path: str
    stamp: str
    active: float


def _scan(home: str) -> Iterator[_Seen]:
    """All sessions. Two looks at each: its journal and its folder, which its label changes."""
    root = sessions_root(home)
    prefix = len(home) + 1
    for year in _days(root):
        for month in _days(year):
            for day in _days(month):
                for session in _inside(day):
                    if is_id(session.name):
                        yield _seen(session, session.path[prefix:])


def _seen(session: "os.DirEntry[str]", path: str) -> _Seen:
    try:
        own = session.stat().st_mtime_ns
        found = os.stat(journal_path(session.path))
    except OSError:
        return _Seen(session.name, path, "none", seconds(session.name))
    stamp = f"{found.st_size}.{found.st_mtime_ns}.{found.st_ino}.{own}"
    return _Seen(session.name, path, stamp, found.st_mtime)


def _days(folder: str) -> list[str]:
    return [entry.path for entry in _inside(folder) if entry.name.isdecimal()]


def _inside(folder: str) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _values(place: Place) -> dict[str, Any]:
    return {"cwd": _storable(place.cwd), "archived": place.archived}


def _storable(value: Any) -> Any:
    """The same; of a text what UTF-8 can say, and no NUL, at which SQLite stops."""
    if not isinstance(value, str):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        value = scrub(value)
    return value.replace("\0", " ")


def _on_disk(
    home: str, work: Callable[[Catalogue], Result], there: list[_Seen], patience: float
) -> Result:
    with _Lock(os.path.join(home, LOCK), patience):
        try:
            return _worked(home, work, there)
        except (sqlite3.Error, _Broken) as error:
            if not _is_broken(error):
                raise
        _remove(os.path.join(home, FILE))
        return _worked(home, work, there)


def _worked(home: str, work: Callable[[Catalogue], Result], there: list[_Seen]) -> Result:
    with _Closing(_connect(os.path.join(home, FILE))) as database:
        return work(Catalogue(home, database, there))


def _is_broken(error: Exception) -> bool:
    """Whether the file itself is wrong; not the disk that it is on, and not who else uses it."""
    codes = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return isinstance(error, _Broken) or getattr(error, "sqlite_errorcode", 0) & 0xFF in codes


def _connect(path: str) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA secure_delete = ON")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            _make(database)
        elif version != VERSION:
            raise _Broken(f"it has version {version}")
    except BaseException:
        database.close()
        raise
    return database


def _make(database: sqlite3.Connection) -> None:
    database.execute("BEGIN")
    for statement in _SCHEMA.split(";\n"):
        database.execute(statement)
    database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute("COMMIT")


def _remove(path: str) -> None:
    """Only under the lock: a database that somebody has open must keep its name."""
    for name in (path, f"{path}-journal", f"{path}-wal", f"{path}-shm"):
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass


class _Closing:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        return self._database

    def __exit__(self, *_: object) -> None:
        self._database.close()


class _Lock:
    """The one user of the catalogue. Raises `OSError` where it stays taken."""

    def __init__(self, path: str, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take()
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def _take(self) -> None:
        until = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise OSError("another process is using it") from None
            time.sleep(_PAUSE)

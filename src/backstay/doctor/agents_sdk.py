"""The SQLite sessions of OpenAI's Agents SDK as conversations: one session each name in a file.

The file is copied to a folder of our own and read there: opening a database in place can write to
it. Of a damaged one everything that SQLite still gives is taken, from the front and from the end.
"""

import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import msgspec

from backstay.core.items import Item
from backstay.doctor.carry import Carrier
from backstay.doctor.codex import seconds
from backstay.doctor.lines import decoded
from backstay.doctor.tidy import is_sent
from backstay.errors import SessionError, StorageError

PROVIDER: Final = "openai"
_COLUMNS: Final = frozenset({"id", "session_id", "message_data"})
_MOST: Final = 64 * 1024 * 1024
"""Bytes of one message; a longer one is damage."""


class Row(msgspec.Struct):
    """One message as it stands in the table."""

    id: int
    data: bytes
    at: float


class Kept(msgspec.Struct):
    """What a file holds of one session."""

    name: str
    rows: list[Row]
    unread: int = 0
    """Messages that are no item: damaged, or encrypted."""
    gap: bool = False
    """SQLite could not read all of the table."""

    @property
    def digest(self) -> str:
        """Of the messages, so that another session of the same file does not count."""
        found = hashlib.sha256()
        for row in self.rows:
            found.update(b"%d %d " % (row.id, len(row.data)) + row.data)
        return found.hexdigest()


def sessions(path: str, wanted: list[str]) -> list[Kept]:
    """The sessions of a file, or those that are `wanted`, in the order in which they began.

    Raises `SessionError` where it is no such file, `StorageError` if it can't be read.
    """
    with _copied(path) as copy:
        try:
            with closing(sqlite3.connect(copy)) as database:
                database.text_factory = bytes
                return _read(database, path, wanted)
        except sqlite3.Error as error:
            raise SessionError(f"{path}: SQLite can't open it: {error}") from None


def carry(kept: Kept, into: Carrier) -> Iterator[float]:
    """Give the carrier the session's items; each time is that of a message."""
    into.place.provider = PROVIDER
    for row in kept.rows:
        item = item_of(row.data)
        if item is None:
            kept.unread += 1
        elif is_sent(item) or item.get("role") == "system":
            into.item(item)
        else:
            into.keep(item)
        yield row.at


def item_of(data: bytes) -> Item | None:
    """The item of a message, or None for what is none."""
    value = decoded(data).value
    if value is None or not (isinstance(value.get("type"), str) or "role" in value):
        return None
    return value


@contextmanager
def _copied(path: str) -> Iterator[str]:
    if not os.path.isfile(path):
        raise StorageError(f"{path} is no file")
    folder = tempfile.mkdtemp(prefix="backstay-")
    try:
        copy = os.path.join(folder, "copy")
        shutil.copyfile(path, copy)
        if os.path.isfile(f"{path}-wal"):
            shutil.copyfile(f"{path}-wal", f"{copy}-wal")
        yield copy
    except OSError as error:
        raise StorageError(f"{path} can't be copied: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(database: sqlite3.Connection, path: str, wanted: list[str]) -> list[Kept]:
    table = _table(database)
    if not table:
        raise SessionError(f"{path}: it has no table of messages as the Agents SDK makes it")
    found: dict[str, Kept] = {}
    gap = False
    for name, row in _rows(database, table):
        if row is None:
            gap = True
        elif not wanted or name in wanted:
            found.setdefault(name, Kept(name, [])).rows.append(row)
    for kept in found.values():
        kept.rows.sort(key=lambda row: row.id)
        kept.gap = gap
    return list(found.values())


def _table(database: sqlite3.Connection) -> str:
    """The table of messages: `agent_messages`, or the one that has its columns."""
    names: list[str] = [
        row[0].decode(errors="replace")
        for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    ]
    for name in sorted(names, key=lambda one: one != "agent_messages"):
        quoted: str = name.replace('"', '""')
        columns = {row[1].decode() for row in database.execute(f'PRAGMA table_info("{quoted}")')}
        if columns >= _COLUMNS:
            return quoted
    return ""


def _rows(database: sqlite3.Connection, table: str) -> Iterator[tuple[str, Row | None]]:
    """Every row that can be read; one without a row stands for a gap."""
    seen = 0
    try:
        for one in _select(database, table, "ASC"):
            seen = max(seen, one[1].id)
            yield one
        return
    except sqlite3.DatabaseError:
        yield "", None
    try:
        for one in _select(database, table, "DESC"):
            if one[1].id <= seen:
                return
            yield one
    except sqlite3.DatabaseError:
        pass


def _select(database: sqlite3.Connection, table: str, order: str) -> Iterator[tuple[str, Row]]:
    columns = {row[1].decode() for row in database.execute(f'PRAGMA table_info("{table}")')}
    stamp = "created_at" if "created_at" in columns else "NULL"
    wanted = f'SELECT id, session_id, message_data, {stamp} FROM "{table}"'  # noqa: S608 - quoted
    for ident, name, data, at in database.execute(f"{wanted} ORDER BY id {order}"):
        body = data if isinstance(data, bytes) else str(data).encode()
        text = at.decode(errors="replace") if isinstance(at, bytes) else ""
        yield (
            _name(name),
            Row(int(ident), body[:_MOST], seconds(f"{text}+00:00") if text else 0.0),
        )


def _name(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

"""Codex's own list of sessions, an SQLite file, against the rollouts that are there.

The database is copied before it is opened: reading one that is in use writes beside it.
"""

import os
import shutil
import sqlite3
import tempfile
from typing import Final

import msgspec

_MOST: Final = 1024 * 1024 * 1024
"""Bytes of a database that is worth a copy."""


class Listed(msgspec.Struct, frozen=True):
    """What a CODEX_HOME's list says: the file of each thread; `name` is the database's."""

    name: str
    paths: dict[str, str]


def codex_list(codex_home: str) -> Listed | None:
    """The newest list of a CODEX_HOME, or None where there is none that can be read."""
    for name in _databases(codex_home):
        rows = _rows(codex_home, name)
        if rows is not None:
            return Listed(name, rows)
    return None


def _databases(folder: str) -> list[str]:
    """The newest schema's first: `state_5.sqlite` before `state_4.sqlite`."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    numbers = {
        int(part): name
        for name in names
        if (part := name.removeprefix("state_").removesuffix(".sqlite")).isdecimal()
        and name == f"state_{part}.sqlite"
    }
    return [numbers[number] for number in sorted(numbers, reverse=True)]


def _rows(folder: str, name: str) -> dict[str, str] | None:
    try:
        with tempfile.TemporaryDirectory(prefix="backstay-doctor-") as copy:
            for one in (name, f"{name}-wal"):
                source = os.path.join(folder, one)
                if os.path.isfile(source):
                    if os.path.getsize(source) > _MOST:
                        return None
                    shutil.copyfile(source, os.path.join(copy, one))
            database = sqlite3.connect(os.path.join(copy, name))
            try:
                found = database.execute("SELECT id, rollout_path FROM threads").fetchall()
            finally:
                database.close()
    except (OSError, sqlite3.Error):
        return None
    return {str(one): str(path) for one, path in found}

"""Sessions of other agents written as journals of ours, and those that were carried over before.

Owns the files. What the records say is `carry`'s; where homes are is the caller's.
"""

import hashlib
from collections.abc import Iterator
from typing import Final

import msgspec

from backstay.core.record import Imported, Known, Session
from backstay.doctor.carry import Carrier
from backstay.errors import StorageError
from backstay.journal import Disk, Found, Journal, journal_path
from backstay.journal.lines import parts
from backstay.journal.removal import erase
from backstay.journal.sessions import folders

_HEAD: Final = 64 * 1024
_BLOCK: Final = 1024 * 1024
_DONE: Final = "all of it was carried over"


class Earlier(msgspec.Struct, frozen=True):
    """A session that was carried over before."""

    session: str
    source: Imported
    folder: str


def digest_of(path: str) -> str:
    """Sha256 (hex) of a file. Raises `StorageError`."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} can't be read: {error}") from None
    return found.hexdigest()


def earlier(disk: Disk, home: str) -> list[Earlier]:
    """All sessions of a home that were carried over, the newest day first; reads their heads."""
    made = []
    for folder in folders(disk, home):
        source = _source(disk, folder)
        if source is not None:
            made.append(Earlier(folder.rpartition("/")[2], source, folder))
    return made


def is_whole(disk: Disk, one: Earlier) -> bool:
    """Whether it was carried over to its end; an import that was killed leaves a part."""
    mark = mark_of(one.source).encode()
    try:
        with disk.open(journal_path(one.folder)) as file:
            size, at = file.size(), 0
            while at < size:
                block = file.read(at, _BLOCK + len(mark))
                if mark in block:
                    return True
                at += _BLOCK
    except StorageError:
        pass
    return False


def mark_of(source: Imported) -> str:
    """What the last record of an import says."""
    return f"{source.agent} {source.digest}: {_DONE}"


def land(disk: Disk, home: str, carrier: Carrier, times: Iterator[float]) -> str:
    """Write what the carrier makes while `times` is run through; gives the session's folder.

    `times` gives the time of each step (Unix seconds), which its records get. Whatever fails, no
    part of a session stays behind. Raises what `times` raises, `StorageError`.
    """
    at = next(times, 0.0)
    journal = Journal.create(disk, home, carrier.session, lambda: at)
    try:
        with journal:
            journal.write(carrier.take())
            for at in times:  # noqa: B007 - the journal's clock reads it
                _write(journal, carrier.take())
            _write(journal, carrier.take())
            carrier.mark(mark_of(carrier.source))
            journal.commit(carrier.take())
    except BaseException:
        erase(journal.folder)
        raise
    return journal.folder


def _write(journal: Journal, records: list[Known]) -> None:
    if records:
        journal.write(records)


def _source(disk: Disk, folder: str) -> Imported | None:
    try:
        with disk.open(journal_path(folder)) as file:
            for part in parts(file, 0, min(file.size(), _HEAD)):
                if isinstance(part, Found):
                    record = part.record
                    return record.imported if isinstance(record, Session) else None
    except StorageError:
        pass
    return None

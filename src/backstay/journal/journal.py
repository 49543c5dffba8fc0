"""The writer of one session: every commit is one write and one datasync, made once.

Blocking calls, made by one thread at a time; the driver calls from its worker thread.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Self

import msgspec

from backstay.core.record import LONGEST_LINE, Codec, Known
from backstay.errors import NewerFormat, StorageError, UnknownSession, UsageError
from backstay.journal.blobs import Blobs
from backstay.journal.disk import Absent, Disk, File, Lease
from backstay.journal.folders import (
    home_of,
    journal_path,
    lock_path,
    make_day,
    parent,
    session_folder,
)
from backstay.journal.payloads import LARGEST, inlined, outlined
from backstay.journal.reader import Reading, read

Clock = Callable[[], float]
"""Gives the time in Unix seconds."""


class Journal:
    """A session's journal, open for writing and locked.

    After a failure every further commit raises the same `StorageError` and leaves the disk alone.
    """

    def __init__(
        self, disk: Disk, folder: str, file: File, lease: Lease, *, clock: Clock, last: int
    ) -> None:
        """`create` and `open` are the ways in."""
        self.folder = folder
        """The session's folder."""
        self.path = journal_path(folder)
        self.last = last
        """The highest number that is on disk, or that damaged lines can have held."""
        self._written = last
        self._disk = disk
        self._file = file
        self._lease = lease
        self._clock = clock
        self._codec = Codec()
        self.blobs = Blobs(disk, home_of(folder), folder.rpartition("/")[2])
        """Where texts go that are too large for a record."""
        self._size = file.size()
        self._prefix = b""
        self._unsynced_folders = [folder, parent(folder)]
        self._failure: StorageError | None = None

    @property
    def size(self) -> int:
        """Bytes of its file, as far as they are written."""
        return self._size

    @classmethod
    def create(cls, disk: Disk, home: str, session: str, clock: Clock) -> Self:
        """A new journal for this id, in its folder in `home`. Nothing is in it until a commit.

        Raises `StorageError`.
        """
        folder = session_folder(home, session)
        make_day(disk, home, parent(folder))
        disk.mkdir(folder)
        lease = disk.lock(lock_path(folder), clock())
        try:
            file = disk.create(journal_path(folder))
        except BaseException:
            lease.release()
            raise
        return cls(disk, folder, file, lease, clock=clock, last=0)

    @classmethod
    def open(cls, disk: Disk, folder: str, clock: Clock) -> tuple[Self, Reading]:
        """An existing journal, with what it holds back to its last compaction.

        Damage is left as it is; a tail without newline gets one before the first new record.
        Raises `SessionHeld`, `EmptySession`, `NewerFormat`, `UnknownSession`, `StorageError`.
        """
        try:
            lease = disk.lock(lock_path(folder), clock())
        except Absent:
            raise UnknownSession(f"{folder} is no session: `sessions list` shows them") from None
        try:
            reading = read(disk, journal_path(folder))
            if reading.read_only:
                raise NewerFormat(f"{folder}: {reading.read_only}: upgrade Backstay to go on")
            file = disk.append_to(journal_path(folder))
            with _Closing(file):
                file.datasync()  # what was read may be in the page cache only
        except BaseException:
            lease.release()
            raise
        journal = cls(disk, folder, file, lease, clock=clock, last=reading.next_n - 1)
        reading.records = list(inlined(reading.records, journal.blobs))
        journal._size = reading.size
        journal._prefix = b"\n" if reading.unclosed else b""
        return journal, reading

    def commit(self, batch: Sequence[Known]) -> int:
        """Write the records and make them durable, with all that was written before.

        Sets their time. Returns the highest durable number. Raises `StorageError`; numbers that
        do not increase are a `UsageError`, and nothing is written.
        """
        self.write(batch)
        if self._written > self.last:
            with _Undoing(self):
                self._file.datasync()
                while self._unsynced_folders:
                    self._disk.sync_directory(self._unsynced_folders[0])
                    del self._unsynced_folders[0]
            self.last = self._written
        return self.last

    def write(self, batch: Sequence[Known]) -> None:
        """Write the records without making them durable: they outlive this process only.

        For what nobody waits for; the next commit covers it. Errors as for `commit`.
        """
        self._check()
        numbers = [self._written, *(record.n for record in batch)]
        if any(after <= before for before, after in pairwise(numbers)):
            raise UsageError(f"record numbers must increase, these do not: {numbers}")
        if not batch:
            return
        with _Undoing(self):
            content = self._prefix + self._lines(batch)
            if self._file.size() != self._size:
                raise StorageError(f"{self.path} was changed by another program: resume it anew")
            self._append(content)
            self._prefix = b""
            self._size += len(content)
            self._written = batch[-1].n

    def close(self) -> None:
        """Close the file and give the lock up; harmless when repeated."""
        if self._failure is None:
            self._failure = StorageError(f"{self.path} is closed: open the session again")
        self._file.close()
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        if not self._lease.held:
            raise StorageError(f"{self.path} belongs to the process this one was forked from")

    def _lines(self, batch: Sequence[Known]) -> bytes:
        now = self._clock()
        lines = []
        for record in batch:
            record.t = now
            try:
                line = self._codec.encode(record)
                if len(line) > LARGEST:
                    line = self._codec.encode(outlined(record, self.blobs))
            except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
                raise StorageError(f"record {record.n} can't be written: {error}") from error
            if len(line) > LONGEST_LINE:
                raise StorageError(f"record {record.n} has {len(line)} bytes: too long to be read")
            lines.append(line)
        return b"".join(lines)

    def _append(self, content: bytes) -> None:
        """A short write is cut back here, once; if that fails too, the next reader sees it."""
        try:
            self._file.append(content)
        except BaseException:
            try:
                self._file.truncate(self._size)
            except StorageError:
                pass
            raise


class _Closing:
    """Closes the file if what is done with it fails."""

    def __init__(self, file: File) -> None:
        self._file = file

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._file.close()


class _Undoing:
    """Keeps the first failure, so that nothing is ever tried behind it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if not isinstance(error, StorageError):
            error = StorageError(f"{self._journal.path}: a write was interrupted: resume")
        self._journal._failure = error  # noqa: SLF001 - its own other half


def look(disk: Disk, folder: str) -> Reading:
    """All that a session's journal holds, large texts in place; takes no lock, writes nothing.

    Raises `EmptySession`, `StorageError`.
    """
    reading = read(disk, journal_path(folder), everything=True)
    blobs = Blobs(disk, home_of(folder), folder.rpartition("/")[2])
    reading.records = list(inlined(reading.records, blobs))
    return reading

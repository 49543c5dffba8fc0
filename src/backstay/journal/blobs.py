"""Payloads too large for a record, stored once each under the sha256 of their bytes."""

from typing import Final

from backstay.errors import SessionError, StorageError
from backstay.journal.disk import Absent, Disk
from backstay.journal.folders import make_folder

_DIGITS: Final = frozenset("0123456789abcdef")
_LENGTH: Final = 64


class MissingBlob(SessionError):
    """A blob that a record names is not there, or not what it was."""


class Blobs:
    """The folder `blobs` of a home. Safe with many writers: equal names hold equal bytes."""

    def __init__(self, disk: Disk, home: str, unique: str) -> None:
        """`unique` is this process's own word for its temporary files (its session, its pid)."""
        self._disk = disk
        self._folder = f"{home}/blobs"
        self._unique = unique
        self._durable: set[str] = set()

    def put(self, content: bytes) -> str:
        """Store the bytes durably and give their digest. Nothing is written if they are there.

        They are young from now on, so that nobody removes them before a record names them
        (`removal`). Raises `StorageError`.
        """
        digest = _digest(content)
        if digest in self._durable and self._still_there(digest):
            return digest
        if not self._stored(digest, len(content)):
            self._store(digest, content)
        self._disk.sync_directory(self._folder)
        self._durable.add(digest)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a digest. Raises `MissingBlob` if they are gone or damaged."""
        if len(digest) != _LENGTH or not _DIGITS.issuperset(digest):
            raise MissingBlob(f"{digest[:80]!r} is no digest of a blob: the record is damaged")
        try:
            with self._disk.open(self.path(digest)) as file:
                content = file.read(0, file.size())
        except Absent:
            raise MissingBlob(f"{self.path(digest)} is missing: restore it to go on") from None
        if _digest(content) != digest:
            raise MissingBlob(f"{self.path(digest)} is damaged: restore it to go on")
        return content

    def path(self, digest: str) -> str:
        """The file of a blob."""
        return f"{self._folder}/{digest}"

    def _still_there(self, digest: str) -> bool:
        try:
            self._disk.touch(self.path(digest))
        except Absent:
            return False
        return True

    def _stored(self, digest: str, size: int) -> bool:
        try:
            self._disk.touch(self.path(digest))
            return self._disk.stat(self.path(digest)).size == size
        except Absent:
            return False

    def _store(self, digest: str, content: bytes) -> None:
        make_folder(self._disk, self._folder)
        temporary = f"{self.path(digest)}.{self._unique}"
        try:
            self._disk.unlink(temporary)
        except Absent:
            pass
        try:
            with self._disk.create(temporary) as file:
                file.append(content)
                file.datasync()
            self._disk.rename(temporary, self.path(digest))
        except StorageError:
            self._discard(temporary)
            raise

    def _discard(self, temporary: str) -> None:
        try:
            self._disk.unlink(temporary)
        except StorageError:
            pass


def _digest(content: bytes) -> str:
    from hashlib import sha256  # late: most sessions begin without a blob

    return sha256(content).hexdigest()

"""What the journal needs of a disk: synchronous calls, every failure a `StorageError`.

`posix` is the real one, `simulated` one that loses power on request. Paths are plain strings.
"""

import errno
from typing import Final, Protocol, Self

import msgspec

from backstay.errors import StorageError


class Absent(StorageError):
    """There is no such file or folder."""


class Present(StorageError):
    """There is one already."""


class Stat(msgspec.Struct, frozen=True):
    """What a listing needs to know of a path: bytes, Unix seconds, and whether it is a folder."""

    size: int
    mtime: float
    folder: bool


class File(Protocol):
    """An open file. What is appended is durable after `datasync`, not before."""

    def append(self, content: bytes) -> None:
        """Write all of it at the end. After a `StorageError` any part of it may be there."""

    def datasync(self) -> None:
        """Make content and size durable. After a `StorageError` nobody knows: never try again."""

    def truncate(self, size: int) -> None:
        """Cut the file back to so many bytes."""

    def size(self) -> int:
        """Bytes in the file now. A `StorageError` where the file was deleted meanwhile."""

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from an offset on; fewer than asked for only where the file ends."""

    def close(self) -> None:
        """Give the file up; harmless when repeated."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Lease(Protocol):
    """A session's lock while it is held."""

    @property
    def held(self) -> bool:
        """False after `release`, and in a process that was forked off the holder."""

    def release(self) -> None:
        """Give the lock up; harmless when repeated."""


class Disk(Protocol):
    """A file system. Files are made with mode 0600, folders with 0700."""

    def create(self, path: str) -> File:
        """A new file, open for appending and reading. `Present` if the name is taken."""

    def append_to(self, path: str) -> File:
        """An existing file, open for appending and reading. `Absent` if there is none."""

    def open(self, path: str) -> File:
        """An existing file, open for reading. `Absent` if there is none."""

    def mkdir(self, path: str) -> bool:
        """Whether the folder was made now; False if it was there. `Absent` without a parent."""

    def list(self, path: str) -> list[str]:
        """The names in a folder, sorted. `Absent` if there is none."""

    def stat(self, path: str) -> Stat:
        """Size, time of the last change, and sort. `Absent` if there is nothing."""

    def rename(self, old: str, new: str) -> None:
        """Move a file within its folder, atomically, over what has the new name."""

    def unlink(self, path: str) -> None:
        """Take a file's name away. `Absent` if there is none."""

    def touch(self, path: str) -> None:
        """Make now the time of a file's last change. `Absent` if there is none."""

    def sync_directory(self, path: str) -> None:
        """Make the names in a folder durable."""

    def lock(self, path: str, since: float) -> Lease:
        """Take the lock on this file, which is made if need be. `SessionHeld` if it is taken."""


_WHAT_TO_DO: Final = {
    errno.ENOSPC: "free some space, then resume",
    errno.EDQUOT: "free some space, then resume",
    errno.EFBIG: "free some space, then resume",
    errno.EROFS: "set BACKSTAY_HOME to a folder that can be written",
    errno.EACCES: "set BACKSTAY_HOME to a folder that is yours",
    errno.EPERM: "set BACKSTAY_HOME to a folder that is yours",
    errno.EIO: "nothing acknowledged is lost: check the disk, then resume",
    errno.EMFILE: "close some files or raise the limit (ulimit -n), then resume",
    errno.ENFILE: "close some files, then resume",
    errno.ENOLCK: "set BACKSTAY_HOME to a folder on a disk with file locks",
    errno.EOPNOTSUPP: "set BACKSTAY_HOME to a folder on a disk with file locks",
}
_KINDS: Final = {errno.ENOENT: Absent, errno.ENOTDIR: Absent, errno.EEXIST: Present}


def storage_error(path: str, code: int | None, text: str) -> StorageError:
    """The error for an errno met at a path: one line, with what to do where that is known."""
    shown = path if path.isprintable() else repr(path)
    advice = _WHAT_TO_DO.get(code or 0)
    message = f"{shown}: {text}" + (f": {advice}" if advice else "")
    return _KINDS.get(code or 0, StorageError)(message)

"""The real disk: `os` calls, short writes finished, each `OSError` turned into a `StorageError`."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL, ENOTSUP
from typing import Final, Self

from backstay.errors import StorageError
from backstay.journal import lock
from backstay.journal.disk import Stat, storage_error

_DARWIN: Final = os.uname().sysname == "Darwin"
_FULL_SYNC: Final = 51
"""F_FULLFSYNC of macOS, where fsync alone leaves the bytes in the drive's cache (fcntl(2))."""


class PosixFile:
    """An open file descriptor; what `disk.File` promises."""

    def __init__(self, path: str, flags: int) -> None:
        self._path = path
        with _mapped(path):
            self._fd = os.open(path, flags | os.O_CLOEXEC, 0o600)

    def append(self, content: bytes) -> None:
        with _mapped(self._path):
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    def datasync(self) -> None:
        with _mapped(self._path):
            _sync(self._fd)

    def truncate(self, size: int) -> None:
        with _mapped(self._path):
            os.ftruncate(self._fd, size)

    def size(self) -> int:
        with _mapped(self._path):
            found = os.fstat(self._fd)
        if not found.st_nlink:
            raise StorageError(f"{self._path} was deleted while it was open: start a new session")
        return found.st_size

    def read(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        with _mapped(self._path):
            while length > 0 and (part := os.pread(self._fd, length, offset)):
                parts.append(part)
                offset += len(part)
                length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with _mapped(self._path):
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PosixDisk:
    """The file system that this process sees; holds nothing."""

    def create(self, path: str) -> PosixFile:
        return PosixFile(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)

    def append_to(self, path: str) -> PosixFile:
        return PosixFile(path, os.O_RDWR | os.O_APPEND)

    def open(self, path: str) -> PosixFile:
        return PosixFile(path, os.O_RDONLY)

    def mkdir(self, path: str) -> bool:
        with _mapped(path):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise
                return False
        return True

    def list(self, path: str) -> list[str]:
        with _mapped(path):
            return sorted(os.listdir(path))

    def stat(self, path: str) -> Stat:
        with _mapped(path):
            found = os.stat(path)
        return Stat(found.st_size, found.st_mtime, stat.S_ISDIR(found.st_mode))

    def rename(self, old: str, new: str) -> None:
        with _mapped(old):
            os.rename(old, new)

    def unlink(self, path: str) -> None:
        with _mapped(path):
            os.unlink(path)

    def touch(self, path: str) -> None:
        with _mapped(path):
            os.utime(path)

    def sync_directory(self, path: str) -> None:
        with _mapped(path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            except OSError as error:
                if error.errno not in (EINVAL, ENOTSUP):  # some file systems can't, and need not
                    raise
            finally:
                os.close(fd)

    def lock(self, path: str, since: float) -> lock.Lease:
        return lock.acquire(path, since)


def _sync(fd: int) -> None:
    if not _DARWIN:
        os.fdatasync(fd)
        return
    import fcntl

    try:
        fcntl.fcntl(fd, _FULL_SYNC)
    except OSError as error:
        if error.errno not in (EINVAL, ENOTSUP):
            raise
        os.fsync(fd)


@contextmanager
def _mapped(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(path, error.errno, error.strerror or str(error)) from error
    except ValueError as error:  # a NUL byte in a path
        raise storage_error(path, None, str(error)) from error

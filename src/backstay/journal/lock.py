"""One writer a session: `flock` on a file of its own, never timed, with its holder written in it.

The kernel drops the lock when the holder dies, however it dies. The text in the file only tells
others who holds it; without the lock it means nothing.
"""

import fcntl
import os
import time
from typing import Final

import msgspec

from backstay.errors import SessionHeld
from backstay.journal.disk import storage_error

_TRIES: Final = 10
_PAUSE: Final = 0.01
"""Seconds. Whoever asks `holder` has the lock for some microseconds; that is waited out."""
_WIDTH: Final = 512


class Holder(msgspec.Struct, frozen=True):
    """Who writes a session: pid, host, start time (clock ticks since boot), Unix seconds."""

    pid: int
    host: str
    start: int
    since: float

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"pid {self.pid} on {self.host} since {since}"


class Lease:
    """The lock while this process has it. A forked child has it not."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        _leases.add(self)

    @property
    def held(self) -> bool:
        return self._fd >= 0

    def release(self) -> None:
        """Give the lock up; harmless when repeated."""
        _leases.discard(self)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


_leases: set[Lease] = set()


def _forked() -> None:
    """In a forked child: close, don't unlock, which would unlock for the parent too."""
    for lease in tuple(_leases):
        lease.release()


os.register_at_fork(after_in_child=_forked)


def acquire(path: str, since: float) -> Lease:
    """Take the lock on this file, made if need be.

    Raises `SessionHeld` naming the holder, `StorageError` where the file can't be made or locked.
    """
    try:
        fd = _locked(path)
    except OSError as error:
        raise storage_error(path, error.errno, error.strerror or str(error)) from error
    if fd is None:
        raise SessionHeld(
            f"the session is being written by {_named(path) or 'another process'}: "
            "wait until that ends, end it, or give it a prompt: backstay send ID PROMPT"
        )
    try:
        _sign(fd, Holder(os.getpid(), os.uname().nodename, _start_time(), since))
    except OSError as error:
        os.close(fd)
        raise storage_error(path, error.errno, error.strerror or str(error)) from error
    return Lease(fd)


def holder(path: str) -> Holder | None:
    """Who holds the lock on this file now, for readers; None if nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _named(path) or Holder(0, "an unknown host", 0, 0.0)
    finally:
        os.close(fd)
    return None


def _locked(path: str) -> int | None:
    """A descriptor that has the lock, or None if another one has it."""
    for attempt in range(_TRIES):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if attempt + 1 < _TRIES:
            time.sleep(_PAUSE)
    return None


def _sign(fd: int, who: Holder) -> None:
    """One write of a fixed width, so that a reader never meets half of it."""
    os.pwrite(fd, msgspec.json.encode(who).ljust(_WIDTH), 0)
    os.ftruncate(fd, _WIDTH)


def _named(path: str) -> Holder | None:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(_WIDTH), type=Holder)
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return None


def _start_time() -> int:
    """This process's start in clock ticks since boot (proc(5), stat, field 22); 0 elsewhere."""
    try:
        with open("/proc/self/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0

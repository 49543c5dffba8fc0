"""Deleting a session whole or not at all, and taking away files that nobody refers to.

What is deleted gets a name in the home's `trash` first, in one step, and is removed there: a kill in
between leaves something to sweep, never half a session.
"""

import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from backstay.errors import SessionHeld, StorageError, UnknownSession
from backstay.journal.disk import Absent, Disk
from backstay.journal.folders import lock_path, make_folder, parent
from backstay.journal.fork import deleting_path, release
from backstay.journal.journal import Clock
from backstay.journal.lock import holder

YOUNG: Final = 3600.0
"""Seconds: what changed within them may be about to be referred to, and stays."""
_GONE: Final = ".gone"
_SUPERVISOR: Final = "supervisor.lock"
"""Held as long as the supervisor of a session's commands lives (docs/effects.md)."""


class Swept(msgspec.Struct):
    """Files of one sort that were removed, or would be: how many, and bytes on the disk."""

    count: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """One more, of so many bytes."""
        self.count += 1
        self.size += size


def delete(disk: Disk, home: str, folder: str, clock: Clock) -> list[str]:
    """Delete the session in this folder; its forks get what they shared with it first.

    Gives the ids of these forks. Raises `SessionHeld` where the session or a fork is being
    written, or a command of the session is alive; `UnknownSession`, `StorageError`: nothing is
    deleted then.
    """
    name = folder.rpartition("/")[2]
    try:
        lease = disk.lock(lock_path(folder), clock())
    except Absent:
        raise UnknownSession(f"no session {name}: `sessions list` shows what is there") from None
    try:
        if is_at_work(folder):
            raise SessionHeld(f"commands of session {name} are alive (backstay ps): end them first")
        forks = release(disk, folder, clock)
        try:
            gone = _to_trash(disk, home, folder)
        except BaseException:
            disk.unlink(deleting_path(folder))
            raise
    finally:
        lease.release()
    erase(gone)
    return forks


def is_at_work(folder: str) -> bool:
    """Whether a supervisor watches over commands of the session in this folder."""
    return holder(f"{folder}/{_SUPERVISOR}") is not None


def trash(home: str) -> str:
    """The folder of what is being removed."""
    return f"{home}/trash"


def erase(path: str) -> int:
    """Remove a folder with all that is in it, or a file; what can't be removed stays.

    Gives the bytes that it took.
    """
    size = size_of(path)
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        try:
            os.unlink(path)
        except OSError:
            pass
    return size - size_of(path)


def size_of(path: str) -> int:
    """Bytes that a file, or a folder with all that is in it, takes on the disk."""
    total = 0
    places = [path]
    while places:
        place = places.pop()
        try:
            found = os.lstat(place)
            total += found.st_blocks * 512
            if stat.S_ISDIR(found.st_mode):
                places += [os.path.join(place, name) for name in os.listdir(place)]
        except OSError:
            continue
    return total


def sweep_trash(home: str, *, dry_run: bool) -> Swept:
    """What interrupted deletions have left."""
    swept = Swept()
    for path in _inside(trash(home)):
        swept.add(size_of(path) if dry_run else erase(path))
    return swept


def sweep_blobs(home: str, used: Iterable[str], now: float, *, dry_run: bool) -> Swept:
    """Blobs that are not among the `used`, and files that killed writers have left among them.

    Young ones stay: a blob is written before the record that names it.
    """
    swept = Swept()
    kept = set(used)
    for path in _inside(f"{home}/blobs"):
        name = os.path.basename(path)
        if name.endswith(_GONE):
            if not dry_run:
                _recover(path)
            continue
        found = _stat(path)
        if name in kept or found is None or now - found.st_mtime < YOUNG:
            continue
        if dry_run or _is_taken(path, now):
            swept.add(found.st_blocks * 512)
    return swept


def sweep_ephemeral(base: str, now: float, *, dry_run: bool) -> Swept:
    """Homes of ephemeral sessions whose process was killed."""
    swept = Swept()
    for path in _inside(base):
        mark, _, digits = os.path.basename(path).partition("-")
        named = mark == "backstay" and len(digits) == 16 and not digits.strip("0123456789abcdef")
        found = _stat(path)
        if not named or found is None or not stat.S_ISDIR(found.st_mode):
            continue
        if found.st_uid != os.getuid() or now - _newest(path) < YOUNG or _is_used(path):
            continue
        swept.add(size_of(path) if dry_run else erase(path))
    return swept


def _to_trash(disk: Disk, home: str, folder: str) -> str:
    make_folder(disk, trash(home))
    gone = f"{trash(home)}/{folder.rpartition('/')[2]}.{os.getpid()}.{time.monotonic_ns()}"
    try:
        os.rename(folder, gone)
    except OSError as error:
        raise StorageError(f"{folder} can't be deleted: {error.strerror}") from error
    disk.sync_directory(parent(folder))
    return gone


def _is_taken(path: str, now: float) -> bool:
    """Remove a file, unless somebody made it young since it was looked at."""
    gone = f"{path}{_GONE}"
    try:
        os.rename(path, gone)
        if now - os.stat(gone).st_mtime < YOUNG:
            os.rename(gone, path)
            return False
        os.unlink(gone)
    except OSError:
        return False
    return True


def _recover(path: str) -> None:
    """What a killed sweep had set aside is judged anew the next time."""
    try:
        os.rename(path, path.removesuffix(_GONE))
    except OSError:
        pass


def _is_used(home: str) -> bool:
    """Whether any session of a home is written, or has commands that are alive."""
    for folder, folders, _ in os.walk(home):
        if "effects" in folders:
            folders.remove("effects")
        if holder(lock_path(folder)) is not None or is_at_work(folder):
            return True
    return False


def _newest(path: str) -> float:
    times = (found.st_mtime for folder, _, _ in os.walk(path) if (found := _stat(folder)))
    return max(times, default=0.0)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _inside(folder: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    yield from (os.path.join(folder, name) for name in names)

"""A disk in memory that loses power, and fails, on request and reproducibly.

It keeps what is durable apart from what is only written. `crash` draws one of the disks that a
power cut may leave, `kill` is the end of a process. For tests, ours and those of users.
"""

import errno
import os
from collections.abc import Callable
from random import Random
from typing import Literal, Self

import msgspec

from backstay.errors import SessionHeld, StorageError
from backstay.journal.disk import Stat, storage_error
from backstay.journal.folders import parent

Operation = Literal[
    "create", "open", "mkdir", "list", "stat", "rename", "unlink", "sync_directory", "lock",
    "append", "datasync", "truncate", "read",
]  # fmt: skip


class Fault(msgspec.Struct, frozen=True):
    """A call that fails: its errno, and how many bytes an append still writes."""

    code: int = errno.EIO
    written: int = 0


class Ended(Exception):
    """The simulated process has ended; its code should not have gone on."""


class _Node:
    """A file: its bytes as processes see them, and as they are on the platter."""

    def __init__(self) -> None:
        self.live = bytearray()
        self.durable = bytearray()
        self.kept = 0
        """`durable` and `live` agree up to here."""
        self.unsynced: list[tuple[int, int]] = []
        """What was written since the last sync, from and to."""
        self.doubtful: list[tuple[int, int]] = []
        """What a failed sync covered: no later one does (the kernel takes it for clean)."""
        self.mtime = 0.0

    def append(self, content: bytes) -> None:
        if content:
            self.unsynced.append((len(self.live), len(self.live) + len(content)))
            self.live += content

    def truncate(self, size: int) -> None:
        del self.live[size:]
        self.live += bytes(size - len(self.live))
        self.kept = min(self.kept, size)
        self.unsynced = _clipped(self.unsynced, size)
        self.doubtful = _clipped(self.doubtful, size)

    def sync(self) -> None:
        self.durable[self.kept :] = self.live[self.kept :]
        self.kept = len(self.durable)
        self.unsynced = []

    def doubt(self) -> None:
        self.doubtful += self.unsynced
        self.unsynced = []

    def copy(self) -> "_Node":
        node = _Node()
        node.live, node.durable, node.kept = self.live[:], self.durable[:], self.kept
        node.unsynced, node.doubtful = self.unsynced[:], self.doubtful[:]
        node.mtime = self.mtime
        return node

    def after_crash(self, rng: Random) -> "_Node":
        """One of the files that a power cut may leave of this one."""
        node = _Node()
        node.mtime = self.mtime
        if len(self.live) < len(self.durable) and rng.random() < 0.5:
            content = self.durable[:]  # the cut back is lost
        else:
            content = self.live[:]
            unsynced = _clipped(self.unsynced + self.doubtful, len(content))
            if unsynced:
                first = max(self.kept, min(begin for begin, _ in unsynced))
                whole = len(content)
                del content[_drawn(rng, first, whole) :]
                for begin, end in _clipped(unsynced, len(content)):
                    _tear(rng, content, begin, end)
        node.live, node.durable, node.kept = content, content[:], len(content)
        return node


def _clipped(ranges: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    return [(begin, min(end, size)) for begin, end in ranges if begin < size]


def _drawn(rng: Random, first: int, last: int) -> int:
    """A length between two: often all, often nothing, else any."""
    return rng.choice([first, last, last, rng.randint(first, last)])


def _tear(rng: Random, content: bytearray, begin: int, end: int) -> None:
    """What may be on the platter of one write: all, zeros, or zeros from or up to some byte."""
    at = rng.randint(begin, end)
    first, last = rng.choice([(begin, begin), (begin, begin), (begin, end), (at, end), (begin, at)])
    content[first:last] = bytes(last - first)


class _Folder:
    """A folder: its names as processes see them, and the changes that are not durable yet."""

    def __init__(self) -> None:
        self.live: dict[str, _Node | _Folder] = {}
        self.durable: dict[str, _Node | _Folder] = {}
        self.unsynced: list[tuple[str, str, _Node | _Folder | None]] = []
        """Changes in order: (name that goes, name that comes, what comes)."""

    def change(self, gone: str, name: str, node: "_Node | _Folder | None") -> None:
        self.unsynced.append((gone, name, node))
        _apply(self.live, gone, name, node)

    def sync(self) -> None:
        self.durable = dict(self.live)
        self.unsynced = []

    def copy(self, made: "dict[int, _Node | _Folder]") -> "_Folder":
        folder = _Folder()
        folder.live = {name: _copied(node, made) for name, node in self.live.items()}
        folder.durable = {name: _copied(node, made) for name, node in self.durable.items()}
        folder.unsynced = [
            (gone, name, None if node is None else _copied(node, made))
            for gone, name, node in self.unsynced
        ]
        return folder

    def after_crash(self, rng: Random) -> "_Folder":
        """One of the folders that a power cut may leave: each change came through or did not."""
        folder = _Folder()
        names = dict(self.durable)
        for gone, name, node in self.unsynced:
            if rng.random() < 0.5:
                _apply(names, gone, name, node)
        for name, node in names.items():
            folder.live[name] = node.after_crash(rng)
        folder.durable = dict(folder.live)
        return folder


def _apply(
    names: "dict[str, _Node | _Folder]", gone: str, name: str, node: "_Node | _Folder | None"
) -> None:
    names.pop(gone, None)
    if node is not None:
        names[name] = node


def _copied(node: _Node | _Folder, made: dict[int, _Node | _Folder]) -> _Node | _Folder:
    if id(node) not in made:
        made[id(node)] = node.copy(made) if isinstance(node, _Folder) else node.copy()
    return made[id(node)]


class SimulatedDisk:
    """What `disk.Disk` promises, in memory. It begins with an empty root."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        """`clock` gives the times of changes, in Unix seconds."""
        self.calls: list[tuple[Operation, str]] = []
        """Every call that was made, with its path."""
        self.faults: dict[int, Fault] = {}
        """Which calls fail, by their place in `calls`."""
        self._root = _Folder()
        self._locks: set[str] = set()
        self._clock = clock
        self._ended = False
        self._waiting: tuple[Operation, int, Fault] | None = None

    def count(self, *operations: Operation) -> int:
        """How many calls of these sorts were made."""
        return sum(operation in operations for operation, _ in self.calls)

    def fail(self, operation: Operation, fault: Fault, after: int = 0) -> None:
        """The next call of this sort fails, or the one that comes `after` so many of them.

        It is found when it is made, so only one such fault waits at a time.
        """
        self._waiting = (operation, self.count(operation) + after, fault)

    def crash(self, rng: Random) -> "SimulatedDisk":
        """A disk as it may be after power was lost now. This one stays as it is: draw again."""
        disk = SimulatedDisk(self._clock)
        disk._root = self._root.after_crash(rng)
        return disk

    def kill(self) -> "SimulatedDisk":
        """The disk as the next process finds it: all that was written is there, unsynced or not.

        This one is dead from now on: a call raises `Ended`.
        """
        disk = SimulatedDisk(self._clock)
        root = _copied(self._root, {})
        assert isinstance(root, _Folder)  # noqa: S101 - a copy is of the same sort
        disk._root = root
        self._ended = True
        return disk

    def create(self, path: str) -> "SimulatedFile":
        self.called("create", path)
        folder, name = self._place(path)
        if name in folder.live:
            raise _error(path, errno.EEXIST)
        node = _Node()
        node.mtime = self._clock()
        folder.change("", name, node)
        return SimulatedFile(self, path, node)

    def append_to(self, path: str) -> "SimulatedFile":
        self.called("open", path)
        return SimulatedFile(self, path, self._file(path))

    def open(self, path: str) -> "SimulatedFile":
        self.called("open", path)
        return SimulatedFile(self, path, self._file(path), writable=False)

    def mkdir(self, path: str) -> bool:
        self.called("mkdir", path)
        folder, name = self._place(path)
        found = folder.live.get(name)
        if found is None:
            folder.change("", name, _Folder())
            return True
        if isinstance(found, _Folder):
            return False
        raise _error(path, errno.EEXIST)

    def list(self, path: str) -> list[str]:
        self.called("list", path)
        return sorted(self._folder(path).live)

    def stat(self, path: str) -> Stat:
        self.called("stat", path)
        node = self._node(path)
        if isinstance(node, _Folder):
            return Stat(0, 0.0, folder=True)
        return Stat(len(node.live), node.mtime, folder=False)

    def rename(self, old: str, new: str) -> None:
        self.called("rename", old)
        folder, name = self._place(old)
        target, new_name = self._place(new)
        if folder is not target:
            raise _error(old, errno.EXDEV)
        folder.change(name, new_name, self._file(old))

    def unlink(self, path: str) -> None:
        self.called("unlink", path)
        folder, name = self._place(path)
        self._file(path)
        folder.change(name, "", None)

    def touch(self, path: str) -> None:
        """Not among `calls`: there is nothing in it that a crash could lose."""
        self._file(path).mtime = self._clock()

    def sync_directory(self, path: str) -> None:
        self.called("sync_directory", path)
        self._folder(path).sync()

    def lock(self, path: str, since: float) -> "SimulatedLease":
        self.called("lock", path)
        folder, name = self._place(path)
        if path in self._locks:
            raise SessionHeld(f"{path} is locked by another simulated process")
        if name not in folder.live:
            folder.change("", name, _Node())
        self._locks.add(path)
        return SimulatedLease(self._locks, path)

    def called(self, operation: Operation, path: str) -> None:
        """Count a call, and fail it if it was to fail."""
        fault = self.fault(operation, path)
        if fault is not None:
            raise _error(path, fault.code)

    def fault(self, operation: Operation, path: str) -> Fault | None:
        """Count a call; the fault that it is to meet."""
        if self._ended:
            raise Ended(f"{operation} {path}")
        fault = self.faults.get(len(self.calls))
        waiting = self._waiting
        if waiting and waiting[0] == operation and waiting[1] == self.count(operation):
            fault, self._waiting = waiting[2], None
        self.calls.append((operation, path))
        return fault

    def now(self) -> float:
        """The time that a change gets."""
        return self._clock()

    def _node(self, path: str) -> _Node | _Folder:
        node: _Node | _Folder = self._root
        for name in path.split("/"):
            if name in ("", "."):
                continue
            if not isinstance(node, _Folder) or name not in node.live:
                raise _error(path, errno.ENOENT)
            node = node.live[name]
        return node

    def _folder(self, path: str) -> _Folder:
        node = self._node(path)
        if not isinstance(node, _Folder):
            raise _error(path, errno.ENOTDIR)
        return node

    def _file(self, path: str) -> _Node:
        node = self._node(path)
        if isinstance(node, _Folder):
            raise _error(path, errno.EISDIR)
        return node

    def _place(self, path: str) -> tuple[_Folder, str]:
        return self._folder(parent(path)), path.rpartition("/")[2]


class SimulatedFile:
    """An open file of a simulated disk; what `disk.File` promises."""

    def __init__(
        self, disk: SimulatedDisk, path: str, node: _Node, *, writable: bool = True
    ) -> None:
        self._disk = disk
        self._path = path
        self._node = node
        self._writable = writable
        self._closed = False

    def append(self, content: bytes) -> None:
        fault = self._called("append")
        if fault is None:
            self._node.append(content)
        else:
            self._node.append(content[: fault.written])
        self._node.mtime = self._disk.now()
        if fault is not None:
            raise _error(self._path, fault.code)

    def datasync(self) -> None:
        fault = self._called("datasync")
        if fault is not None:
            self._node.doubt()
            raise _error(self._path, fault.code)
        self._node.sync()

    def truncate(self, size: int) -> None:
        fault = self._called("truncate")
        if fault is not None:
            raise _error(self._path, fault.code)
        self._node.truncate(size)

    def size(self) -> int:
        if self._closed:
            raise _error(self._path, errno.EBADF)
        return len(self._node.live)

    def read(self, offset: int, length: int) -> bytes:
        if self._closed:
            raise _error(self._path, errno.EBADF)
        self._disk.called("read", self._path)
        return bytes(self._node.live[offset : offset + length])

    def close(self) -> None:
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _called(self, operation: Operation) -> Fault | None:
        if self._closed or not self._writable:
            raise _error(self._path, errno.EBADF)
        return self._disk.fault(operation, self._path)


class SimulatedLease:
    """A lock of a simulated disk."""

    def __init__(self, locks: set[str], path: str) -> None:
        self._locks = locks
        self._path = path
        self.held = True

    def release(self) -> None:
        """Give the lock up; harmless when repeated."""
        if self.held:
            self._locks.discard(self._path)
        self.held = False


def _error(path: str, code: int) -> StorageError:
    return storage_error(path, code, os.strerror(code))

"""Deleting whole or not at all, and sweeping what nobody refers to."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backstay.errors import SessionHeld, StorageError, UnknownSession
from backstay.journal import Blobs, PosixDisk, list_sessions, lock_path, look
from backstay.journal.fork import fork
from backstay.journal.ids import uuid7
from backstay.journal.removal import (
    YOUNG,
    delete,
    erase,
    size_of,
    sweep_blobs,
    sweep_ephemeral,
    sweep_trash,
)
from tests.journal.homes import head, put, turn

DISK = PosixDisk()
OLD = 1.0


def old(path: Path) -> Path:
    """The path, not changed for long."""
    os.utime(path, (OLD, OLD))
    return path


def blob(home: Path, content: bytes) -> Path:
    """An old blob."""
    return old(home / "blobs" / Blobs(DISK, str(home), "t").put(content))


def test_a_deleted_session_is_gone(home: Path) -> None:
    """With everything in its folder; the others and the day's folder stay."""
    folder, other = put(home, [head(), *turn(2, "a")], 1), put(home, [head()], 2)
    (folder / "effects" / "x-1").mkdir(parents=True)
    (folder / "effects" / "x-1" / "exit.json").write_bytes(b"{}")
    assert delete(DISK, str(home), str(folder), time.time) == []
    assert [entry.id for entry in list_sessions(DISK, str(home))] == [other.name]
    assert list((home / "trash").iterdir()) == []


def test_a_fork_keeps_what_it_shared(home: Path) -> None:
    """Deleting its parent copies that first."""
    folder = put(home, [head(), *turn(2, "the shared prompt")], 1)
    made = fork(DISK, str(folder), uuid7(time.time(), bytes(10)), time.time)
    before = look(DISK, made.folder).records
    assert delete(DISK, str(home), str(folder), time.time) == [made.id]
    after = look(DISK, made.folder)
    assert [record.n for record in after.records] == [record.n for record in before]
    assert after.damage == []


def test_who_is_at_work_is_left_alone(home: Path) -> None:
    """A session that is written, whose commands are alive, or whose fork is written, stays whole."""
    folder = put(home, [head(), *turn(2, "a")], 1)
    made = fork(DISK, str(folder), uuid7(time.time(), bytes(10)), time.time)
    supervisor = os.open(folder / "supervisor.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(supervisor, fcntl.LOCK_EX)
    with pytest.raises(SessionHeld, match="alive"):
        delete(DISK, str(home), str(folder), time.time)
    os.close(supervisor)
    for place in (str(folder), made.folder):
        lease = DISK.lock(lock_path(place), time.time())
        with pytest.raises(SessionHeld):
            delete(DISK, str(home), str(folder), time.time)
        lease.release()
    assert len(list_sessions(DISK, str(home))) == 2
    assert not (folder / "deleting").exists()
    assert delete(DISK, str(home), str(folder), time.time) == [made.id]


def test_what_is_no_session_can_not_be_deleted(home: Path) -> None:
    """Nothing is made in its place."""
    with pytest.raises(UnknownSession):
        delete(DISK, str(home), f"{home}/sessions/2025/01/01/x", time.time)
    assert list(home.iterdir()) == []


def test_where_the_trash_can_not_be_made_nothing_is_deleted(home: Path) -> None:
    """The session is as it was, and can be forked."""
    folder = put(home, [head(), *turn(2, "a")], 1)
    (home / "trash").write_bytes(b"")
    with pytest.raises(StorageError):
        delete(DISK, str(home), str(folder), time.time)
    assert len(list_sessions(DISK, str(home))) == 1
    assert not (folder / "deleting").exists()
    fork(DISK, str(folder), uuid7(time.time(), bytes(10)), time.time)


KILLED = """
import os, shutil, sys, time
from backstay.journal import PosixDisk
from backstay.journal import removal
home, folder, point = sys.argv[1:]
class Disk(PosixDisk):
    def sync_directory(self, path):
        if point == "named":
            os._exit(9)
        super().sync_directory(path)
if point == "half":
    class Half:
        @staticmethod
        def rmtree(path, ignore_errors):
            os.unlink(path + "/journal.jsonl")
            os._exit(9)
    removal.shutil = Half
removal.delete(Disk(), home, folder, time.time)
"""


@pytest.mark.processes
@pytest.mark.parametrize("point", ["named", "half"])
def test_a_kill_leaves_a_whole_session_or_none(home: Path, point: str) -> None:
    """Whenever it comes, what is listed is whole, and the rest is swept away."""
    folder = put(home, [head(), *turn(2, "a")], 1)
    (home / "trash").mkdir()
    ran = subprocess.run([sys.executable, "-c", KILLED, str(home), str(folder), point], check=False)
    assert ran.returncode == 9
    assert list_sessions(DISK, str(home)) == []
    dry = sweep_trash(str(home), dry_run=True)
    assert (dry.count, dry.size > 0) == (1, True)
    assert sweep_trash(str(home), dry_run=False) == dry
    assert sweep_trash(str(home), dry_run=False).count == 0


def test_blobs_that_nobody_names_go_by_age(home: Path) -> None:
    """Used ones stay, young ones too; a dry run takes nothing and says the same."""
    used, unused, young = (blob(home, text * 5000) for text in (b"a", b"b", b"c"))
    os.utime(young)
    left = Path(f"{used}.0199-killed")
    left.write_bytes(b"half")
    old(left)
    dry = sweep_blobs(str(home), {used.name}, time.time(), dry_run=True)
    assert unused.exists()
    swept = sweep_blobs(str(home), {used.name}, time.time(), dry_run=False)
    assert dry == swept
    assert swept.count == 2
    assert swept.size >= 5000
    assert sorted((home / "blobs").iterdir()) == sorted([used, young])


def test_a_blob_that_is_put_again_is_young(home: Path) -> None:
    """So a session that is about to name it does not lose it, in this process or another."""
    path = blob(home, b"instructions")
    Blobs(DISK, str(home), "another").put(b"instructions")
    assert sweep_blobs(str(home), (), time.time(), dry_run=False).count == 0
    same = Blobs(DISK, str(home), "same")
    same.put(b"instructions")
    old(path)
    same.put(b"instructions")
    assert sweep_blobs(str(home), (), time.time(), dry_run=False).count == 0
    old(path)
    assert sweep_blobs(str(home), (), time.time(), dry_run=False).count == 1
    same.put(b"instructions")
    assert path.read_bytes() == b"instructions"


def test_what_a_killed_sweep_set_aside_comes_back(home: Path) -> None:
    """Under its own name, to be judged the next time."""
    path = blob(home, b"x")
    path.rename(f"{path}.gone")
    assert sweep_blobs(str(home), {path.name}, time.time(), dry_run=False).count == 0
    assert path.exists()


def _held(home: Path) -> int:
    folder = home / "sessions" / "x"
    folder.mkdir(parents=True)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _none(_: Path) -> int:
    return os.open(os.devnull, os.O_RDONLY)


@pytest.mark.parametrize(
    "name, age, take, goes",
    [
        ("backstay-0123456789abcdef", 2 * YOUNG, _none, True),
        ("backstay-0123456789abcdef", 0, _none, False),
        ("backstay-0123456789abcdef", 2 * YOUNG, _held, False),
        ("backstay-0123456789abcdeX", 2 * YOUNG, _none, False),
        ("backstay-work", 2 * YOUNG, _none, False),
    ],
)
def test_homes_of_killed_ephemeral_sessions_go(
    tmp_path: Path, name: str, age: float, take: Callable[[Path], int], goes: bool
) -> None:
    """Old ones that nobody uses; whatever else stands there stays."""
    place = tmp_path / name
    place.mkdir()
    fd = take(place)
    now = time.time()
    for folder, _, _ in os.walk(place):
        os.utime(folder, (now - age, now - age))
    assert sweep_ephemeral(str(tmp_path), now, dry_run=True).count == goes
    assert sweep_ephemeral(str(tmp_path), now, dry_run=False).count == goes
    assert place.exists() is not goes
    os.close(fd)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """What a link leads to is neither counted nor removed."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(bytes(100_000))
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "link").symlink_to(tmp_path / "kept")
    assert size_of(str(tmp_path / "gone")) < 100_000
    assert erase(str(tmp_path / "gone")) < 100_000
    assert (tmp_path / "kept" / "file").exists()
    assert not (tmp_path / "gone").exists()

"""The simulated disk loses what a real one may lose, and nothing else."""

import errno
from random import Random

import pytest

from backstay.errors import StorageError
from backstay.journal import Absent
from backstay.journal.simulated import Ended, Fault, SimulatedDisk, SimulatedFile

DURABLE = b"durable."
LATER = b"0123456789"


def disk_with_file() -> tuple[SimulatedDisk, SimulatedFile]:
    """A disk with a file whose name and first bytes are durable."""
    disk = SimulatedDisk()
    file = disk.create("/a")
    file.append(DURABLE)
    file.datasync()
    disk.sync_directory("/")
    return disk, file


def left(disk: SimulatedDisk, path: str = "/a", seeds: int = 300) -> set[bytes | None]:
    """What a file may hold after a power cut; None where it is gone."""
    found: set[bytes | None] = set()
    for seed in range(seeds):
        try:
            with disk.crash(Random(seed)).open(path) as file:
                found.add(file.read(0, 1000))
        except Absent:
            found.add(None)
    return found


def test_what_was_synced_stays() -> None:
    """Synced bytes in a file with a synced name survive every power cut."""
    disk, _ = disk_with_file()
    assert left(disk) == {DURABLE}


def test_what_was_not_synced_may_be_anything() -> None:
    """Kept, lost, torn at every byte, or zeros; the synced part before it is never touched."""
    disk, file = disk_with_file()
    file.append(LATER)
    found = left(disk)
    assert {DURABLE, DURABLE + LATER, DURABLE + bytes(len(LATER))} <= found
    assert {DURABLE + LATER[:cut] for cut in range(10)} <= found
    assert any(content and content.endswith(b"\0" * 3 + LATER[3:]) for content in found)
    assert all(content is not None and content.startswith(DURABLE) for content in found)


def test_writes_come_through_in_any_order() -> None:
    """A later write can be on the platter without the one before it."""
    disk, file = disk_with_file()
    file.append(b"first")
    file.append(b"second")
    assert DURABLE + bytes(5) + b"second" in left(disk)


def test_names_need_a_sync_of_their_folder() -> None:
    """A new file may be gone with all its synced bytes; a rename came through whole or not."""
    disk, file = disk_with_file()
    with disk.create("/b") as other:
        other.append(b"new")
        other.datasync()
    assert left(disk, "/b") == {None, b"new"}
    disk.sync_directory("/")
    disk.rename("/b", "/a")
    assert left(disk) == {DURABLE, b"new"}
    disk.unlink("/a")
    assert left(disk) == {DURABLE, b"new", None}
    file.close()


def test_a_cut_back_may_be_lost() -> None:
    """Truncation is durable only after a sync."""
    disk, file = disk_with_file()
    file.truncate(3)
    assert left(disk) == {DURABLE, DURABLE[:3]}
    file.datasync()
    assert left(disk) == {DURABLE[:3]}


def test_a_failed_sync_leaves_doubt_for_good() -> None:
    """What a failed sync covered may be lost even after later syncs have succeeded."""
    disk, file = disk_with_file()
    file.append(LATER)
    disk.fail("datasync", Fault(errno.EIO))
    with pytest.raises(StorageError):
        file.datasync()
    file.append(b"more")
    file.datasync()
    found = left(disk)
    assert DURABLE + LATER + b"more" in found
    assert any(content != DURABLE + LATER + b"more" for content in found)
    assert all(content is not None and content.endswith(b"more") for content in found)


def test_a_killed_process_loses_nothing() -> None:
    """After a kill everything is there, and still not durable; the dead process can do nothing."""
    disk, file = disk_with_file()
    file.append(LATER)
    lease = disk.lock("/lock", 0.0)
    after = disk.kill()
    assert lease.held
    with after.open("/a") as again:
        assert again.read(0, 100) == DURABLE + LATER
    assert len(left(after)) > 3
    after.lock("/lock", 0.0)
    for use in (lambda: disk.list("/"), lambda: file.append(b"x"), file.datasync):
        with pytest.raises(Ended):
            use()


def test_a_crash_is_drawn_not_made() -> None:
    """The disk that crashes stays as it is, and one seed gives one result."""
    disk, file = disk_with_file()
    file.append(LATER)
    one, two = (disk.crash(Random(5)).open("/a").read(0, 100) for _ in range(2))
    assert one == two
    file.append(b"!")
    assert file.read(0, 100) == DURABLE + LATER + b"!"


def test_a_file_moves_within_its_folder_only() -> None:
    """A move to another folder, which no sync of one folder makes durable, is refused."""
    disk, _ = disk_with_file()
    disk.mkdir("/d")
    with pytest.raises(StorageError, match="link"):
        disk.rename("/a", "/d/a")
    assert disk.list("/") == ["a", "d"]
    assert disk.list("/d") == []


def test_a_fault_is_met_where_it_was_put() -> None:
    """By the place of the call, or by its sort; a short write leaves its beginning."""
    disk, file = disk_with_file()
    disk.faults = {len(disk.calls) + 1: Fault(errno.ENOSPC, written=4)}
    file.append(b"one")
    with pytest.raises(StorageError, match="No space left"):
        file.append(b"twotwo")
    file.append(b"three")
    assert file.read(0, 100) == DURABLE + b"onetwotthree"

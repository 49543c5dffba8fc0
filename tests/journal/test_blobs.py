"""Payloads by their digest: stored once, durable, checked when read."""

import errno
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from backstay.errors import SessionError, StorageError
from backstay.journal import Blobs, MissingBlob, PosixDisk
from backstay.journal.disk import Disk
from backstay.journal.simulated import Fault, SimulatedDisk

Place = tuple[Disk, str]
CONTENT = b"payload" * 20_000
DIGEST = sha256(CONTENT).hexdigest()


def test_what_is_put_is_got(place: Place) -> None:
    """A blob's name is the sha256 of its bytes."""
    disk, root = place
    blobs = Blobs(disk, f"{root}/home", "a")
    for content in (CONTENT, b"", b"\0"):
        digest = blobs.put(content)
        assert digest == sha256(content).hexdigest()
        assert blobs.get(digest) == content
    assert len(disk.list(f"{root}/home/blobs")) == 3


def test_a_blob_is_written_once() -> None:
    """The same bytes again cost no write, in this process or the next."""
    disk = SimulatedDisk()
    Blobs(disk, "/home", "a").put(CONTENT)
    appends = disk.count("append")
    again = Blobs(disk, "/home", "b")
    again.put(CONTENT)
    calls = len(disk.calls)
    again.put(CONTENT)
    assert disk.count("append") == appends
    assert len(disk.calls) == calls


def test_a_blob_is_private(tmp_path: Path) -> None:
    """The folder is 0700, the file 0600."""
    Blobs(PosixDisk(), str(tmp_path), "a").put(CONTENT)
    assert (tmp_path / "blobs").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "blobs" / DIGEST).stat().st_mode & 0o777 == 0o600


def test_a_blob_survives_a_power_cut() -> None:
    """Once `put` has returned the bytes are there, whatever the cut takes."""
    for seed in range(100):
        disk = SimulatedDisk()
        Blobs(disk, "/home", "a").put(CONTENT)
        assert Blobs(disk.crash(Random(seed)), "/home", "b").get(DIGEST) == CONTENT


def test_a_blob_found_after_a_kill_is_made_durable() -> None:
    """A second process does not take for durable what the first had only renamed."""
    for seed in range(100):
        disk = SimulatedDisk()
        disk.fail("sync_directory", Fault(errno.EIO), after=2)
        with pytest.raises(StorageError):
            Blobs(disk, "/home", "a").put(CONTENT)
        disk = disk.kill()
        Blobs(disk, "/home", "b").put(CONTENT)
        assert Blobs(disk.crash(Random(seed)), "/home", "c").get(DIGEST) == CONTENT


def test_every_call_may_fail() -> None:
    """A failure is a storage error and leaves no half blob under a digest; a retry succeeds."""
    failing = 0
    met = True
    while met:
        disk = SimulatedDisk()
        disk.faults = {failing: Fault(errno.ENOSPC, written=100)}
        try:
            Blobs(disk, "/home", "a").put(CONTENT)
            met = failing < len(disk.calls)
        except StorageError:
            met = True
        disk.faults = {}
        blobs = Blobs(disk.kill(), "/home", "a")
        try:
            assert blobs.get(DIGEST) == CONTENT
        except MissingBlob as error:
            assert "missing" in str(error)  # noqa: PT017 - either is right
        assert blobs.put(CONTENT) == DIGEST
        assert blobs.get(DIGEST) == CONTENT
        failing += 1
    assert failing > 8


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT[:-1] + b"x", bytes(len(CONTENT))])
def test_a_damaged_blob_is_told(place: Place, damage: bytes) -> None:
    """Bytes that do not match their name are not handed out; the wrong size is written anew."""
    disk, root = place
    blobs = Blobs(disk, root, "a")
    blobs.put(CONTENT)
    disk.unlink(f"{root}/blobs/{DIGEST}")
    with disk.create(f"{root}/blobs/{DIGEST}") as file:
        file.append(damage)
    with pytest.raises(MissingBlob, match="damaged"):
        blobs.get(DIGEST)
    if len(damage) != len(CONTENT):
        fresh = Blobs(disk, root, "b")
        fresh.put(CONTENT)
        assert fresh.get(DIGEST) == CONTENT


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "a" * 63, "g" * 64, "a" * 64])
def test_what_is_no_blob_is_missing(place: Place, digest: str) -> None:
    """Neither an unknown digest nor a path in its place opens anything."""
    disk, root = place
    with pytest.raises(MissingBlob) as caught:
        Blobs(disk, root, "a").get(digest)
    assert isinstance(caught.value, SessionError)
    assert str(caught.value).isprintable()


def test_a_leftover_is_no_obstacle(place: Place) -> None:
    """A temporary file of a process that died is replaced."""
    disk, root = place
    disk.mkdir(f"{root}/blobs")
    with disk.create(f"{root}/blobs/{DIGEST}.a") as file:
        file.append(b"half")
    assert Blobs(disk, root, "a").put(CONTENT) == DIGEST
    assert disk.list(f"{root}/blobs") == [DIGEST]

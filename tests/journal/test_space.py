"""What sessions take, and which blobs they name."""

import os
import socket
from pathlib import Path

import pytest

from backstay.journal import Blobs, PosixDisk
from backstay.journal.space import measure, named_blobs, with_named_by
from tests.journal.homes import head, put, turn

DISK = PosixDisk()


def grown(folder: Path, content: bytes) -> None:
    """Bytes at the end of a session's journal."""
    with open(folder / "journal.jsonl", "ab") as file:
        file.write(content)


@pytest.mark.parametrize("offset", [0, 1, 63, 64, 65])
def test_names_are_found_wherever_they_stand(home: Path, offset: int) -> None:
    """In a record, in a damaged line, across the bounds of what is read at once."""
    folder = put(home, [head()])
    size = os.stat(folder / "journal.jsonl").st_size
    name = "ab" * 32
    grown(folder, b"z" * (4 * 1024 * 1024 - size - offset) + name.encode() + b'"torn')
    assert named_blobs(DISK, str(folder)) == {"1" * 64, "2" * 64, name}


def test_what_is_no_name_is_none(home: Path) -> None:
    """Too short, too long, other letters; no journal names nothing."""
    folder = put(home, [head()])
    grown(folder, b"a" * 63 + b" " + b"b" * 65 + b" " + b"C" * 64)
    assert named_blobs(DISK, str(folder)) == {"1" * 64, "2" * 64}
    empty = home / "empty"
    empty.mkdir()
    assert named_blobs(DISK, str(empty)) == set()


def test_what_waits_beside_a_journal_names_blobs_too(home: Path) -> None:
    """A file in the session's folder counts, a socket is passed over."""
    folder = put(home, [head()])
    (folder / "waiting").write_text("ab" * 32)
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(folder)
        listening.bind("supervisor.sock")
        os.chdir(here)
        assert named_blobs(DISK, str(folder)) == {"1" * 64, "2" * 64, "ab" * 32}


def test_blobs_name_blobs(home: Path) -> None:
    """A large output that went to a blob may say where the whole of it is."""
    blobs = Blobs(DISK, str(home), "t")
    whole = blobs.put(b"the whole")
    told = blobs.put(f"see blobs/{whole}".encode())
    blobs.put(b"another")
    assert with_named_by(DISK, str(home), {told}) == {told, whole}
    assert with_named_by(DISK, str(home), {"0" * 64}) == {"0" * 64}


def test_a_home_is_measured(home: Path) -> None:
    """By class and session; a shared blob counts for each that names it and once for all."""
    blobs = Blobs(DISK, str(home), "t")
    text, picture = blobs.put(b"t" * 100_000), blobs.put(b"\x89PNG" + bytes(200_000))
    blobs.put(b"u" * 50_000)
    small, large = put(home, [head(), *turn(2, "a")], 1), put(home, [head()], 2)
    grown(small, text.encode())
    grown(large, f"{text} {picture}".encode())
    (large / "effects" / "x").mkdir(parents=True)
    (large / "effects" / "x" / "spool-0").write_bytes(bytes(300_000))
    found = measure(DISK, str(home))
    assert [folder for folder, _ in found.sessions] == [str(large), str(small)]
    first, second = (space for _, space in found.sessions)
    assert first.effects >= 300_000
    assert first.images >= 200_000
    assert first.blobs == second.blobs >= 100_000
    assert second.images == second.effects == 0
    assert found.home.blobs >= 150_000
    assert found.home.blobs < first.blobs + second.blobs
    assert found.unused >= 50_000
    assert found.home.total < 800_000

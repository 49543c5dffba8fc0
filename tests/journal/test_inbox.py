"""The inbox: letters are durable once sent, whole or not there, and in order."""

import errno
from pathlib import Path
from random import Random

import pytest

from backstay.errors import StorageError, UsageError
from backstay.journal import PosixDisk
from backstay.journal.inbox import LONGEST, Letter, discard, inbox_folder, send, waiting
from backstay.journal.simulated import Fault, SimulatedDisk

RANDOM = bytes(range(10))


def test_letters_come_in_the_order_of_their_sending(tmp_path: Path) -> None:
    """With what was said and under the ids that sending gave; taken out, they are gone."""
    disk, folder = PosixDisk(), str(tmp_path)
    first = send(disk, folder, Letter(kind="prompt", text="one"), 1000.0, RANDOM)
    second = send(disk, folder, Letter(kind="interrupt"), 1000.5, RANDOM)
    found = waiting(disk, folder)
    assert [(one.id, one.kind, one.text) for one in found] == [
        (first, "prompt", "one"),
        (second, "interrupt", ""),
    ]
    discard(disk, folder, first)
    discard(disk, folder, first)
    assert [one.id for one in waiting(disk, folder)] == [second]
    paths = [tmp_path / "inbox", *(tmp_path / "inbox").iterdir()]
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o700, 0o600]


def test_what_is_no_letter_stays_where_it_is(tmp_path: Path) -> None:
    """Half a letter, one of a newer version, a stranger's file: none is read, none is removed."""
    disk, folder = PosixDisk(), str(tmp_path)
    ident = send(disk, folder, Letter(kind="prompt", text="one"), 1000.0, RANDOM)
    place = Path(inbox_folder(folder))
    (place / f"{ident[:-1]}e.json").write_bytes(b'{"kind": "prompt", "te')
    (place / f"{ident[:-1]}f.json").write_bytes(b'{"kind": "newer"}')
    (place / "notes.json").write_bytes(b"{}")
    (place / f"{ident[:-1]}d.part").write_bytes(b"")
    assert [one.id for one in waiting(disk, folder)] == [ident]
    assert len(list(place.iterdir())) == 5


def test_a_session_without_an_inbox_has_no_letters(tmp_path: Path) -> None:
    """Nor is one made by looking."""
    assert waiting(PosixDisk(), str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_letter_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(UsageError, match="too long"):
        send(PosixDisk(), str(tmp_path), Letter(kind="prompt", text="x" * LONGEST), 1.0, RANDOM)
    assert waiting(PosixDisk(), str(tmp_path)) == []


def test_a_letter_is_whole_or_not_there_wherever_power_is_lost() -> None:
    """And once it was acknowledged it is there."""

    def disk() -> SimulatedDisk:
        made = SimulatedDisk()
        made.mkdir("/s")
        made.sync_directory("/")
        return made

    letter = Letter(kind="prompt", text="word " * 100)
    whole = disk()
    before = len(whole.calls)
    sent = send(whole, "/s", letter, 1000.0, RANDOM)
    for seed in range(20):
        assert [one.id for one in waiting(whole.crash(Random(seed)), "/s")] == [sent]
    for at in range(before, len(whole.calls)):
        cut = disk()
        cut.faults[at] = Fault(errno.EIO, written=40)
        with pytest.raises(StorageError):
            send(cut, "/s", letter, 1000.0, RANDOM)
        left = cut.kill()
        for one in (left, *(left.crash(Random(seed)) for seed in range(10))):
            found = waiting(one, "/s")
            assert [(found.id, found.text) for found in found] in ([], [(sent, letter.text)])

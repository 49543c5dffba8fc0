"""Titles and the mark of the archive: in the session's own folder, durable, never in the way."""

import errno
from pathlib import Path
from random import Random

import pytest

from backstay.errors import StorageError, UsageError
from backstay.journal.disk import Disk
from backstay.journal.label import (
    LONGEST_TITLE,
    Label,
    label_path,
    read_label,
    title_of,
    write_label,
)
from backstay.journal.simulated import Fault, SimulatedDisk

Place = tuple[Disk, str]


def test_what_is_written_is_read(place: Place) -> None:
    """A session without a label has none of it; the last write counts."""
    disk, root = place
    assert read_label(disk, root) == Label()
    write_label(disk, root, Label("ü 🙂", archived=True))
    write_label(disk, root, Label("second"))
    assert read_label(disk, root) == Label("second")
    assert disk.list(root) == ["label.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"title": 3}', b"\xff", b"[]", bytes(100)])
def test_a_damaged_label_is_none(place: Place, content: bytes) -> None:
    """It hides no session, and can be written anew."""
    disk, root = place
    with disk.create(label_path(root)) as file:
        file.append(content)
    assert read_label(disk, root) == Label()
    write_label(disk, root, Label("new"))
    assert read_label(disk, root) == Label("new")


def test_a_label_survives_power_cuts_and_failing_calls() -> None:
    """Whatever call fails, and whatever a cut takes, it is the old one or the new one."""
    failing, failed = 0, True
    while failed:
        disk = SimulatedDisk()
        write_label(disk, "", Label("old"))
        begun = len(disk.calls)
        disk.faults = {begun + failing: Fault(errno.ENOSPC, written=3)}
        try:
            write_label(disk, "", Label("new"))
            failed = False
        except StorageError:
            failed = True
        for seed in range(20):
            label = read_label(disk.crash(Random(seed)), "")
            assert label == Label("new") or (failed and label == Label("old"))
        failing += 1
    assert failing > 4


def test_a_label_is_private(tmp_path: Path) -> None:
    """Mode 0600."""
    from backstay.journal import PosixDisk

    write_label(PosixDisk(), str(tmp_path), Label("x"))
    assert (tmp_path / "label.json").stat().st_mode & 0o777 == 0o600


def test_a_title_is_one_line() -> None:
    """White space is one blank; a lone surrogate is replaced; too long is refused."""
    assert title_of("  a\n\tb  c ") == "a b c"
    assert title_of("\ud800") == "?"
    assert title_of("x" * LONGEST_TITLE)
    with pytest.raises(UsageError, match="at most"):
        title_of("x" * (LONGEST_TITLE + 1))

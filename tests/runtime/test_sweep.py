"""`sessions gc` as a whole: what goes, what stays, and that nothing is lost by it."""

import os
import time
from pathlib import Path

import pytest

from backstay.core.history import COMMAND_ENDED
from backstay.core.record import Note, SpoolRange
from backstay.journal import Blobs, PosixDisk, lock_path
from backstay.runtime.sweep import Report, sweep
from tests.journal.homes import done, head, put, turn

DISK = PosixDisk()


def effect(folder: Path, name: str, *, old: bool = True) -> Path:
    """An effect's folder that holds its exit and some output."""
    place = folder / "effects" / name
    place.mkdir(parents=True)
    (place / "exit.json").write_bytes(b'{"kind":"command","code":0}')
    (place / "spool-0").write_bytes(bytes(10_000))
    if old:
        os.utime(place, (1.0, 1.0))
    return place


def swept(home: Path, *, dry_run: bool = False) -> Report:
    """A sweep with no other folder to look at."""
    return sweep(str(home), f"{home}/none", dry_run=dry_run)


def test_effects_that_are_over_go(home: Path) -> None:
    """Those whose output is recorded; a dry run says the same and takes nothing."""
    folder = put(home, [head(), *turn(2, "a", effect="x-4")], 1)
    place = effect(folder, "x-4")
    dry = swept(home, dry_run=True)
    assert place.exists()
    report = swept(home)
    assert report == dry
    assert (report.effects.count, report.size >= 10_000) == (1, True)
    assert not place.exists()
    assert swept(home).size == 0


@pytest.mark.parametrize("why", ["young", "unanswered", "yielded", "unknown", "outside"])
def test_effects_that_may_be_needed_stay(home: Path, why: str) -> None:
    """Young ones, open calls, commands that run on, folders of no call, paths that lead out."""
    records = [head(), *turn(2, "a", effect="../../x" if why == "outside" else "x-4")]
    if why in ("unanswered", "yielded"):
        del records[5]
    if why == "yielded":
        records.insert(5, done(6, 4, status="yielded", spool=SpoolRange("x-4", 0, 10)))
    folder = put(home, records, 1)
    name = {"unknown": "x-99", "outside": "../../x"}.get(why, "x-4")
    place = effect(folder, name, old=why != "young")
    assert swept(home).effects.count == 0
    assert place.exists()


def test_a_command_that_ended_later_is_over(home: Path) -> None:
    """It yielded, and a note says that it has ended."""
    records = [head(), *turn(2, "a", effect="x-4")]
    records[5] = done(6, 4, status="yielded", spool=SpoolRange("x-4", 0, 10))
    records.append(Note(n=20, topic=COMMAND_ENDED, text="x-4"))
    place = effect(put(home, records, 1), "x-4")
    assert swept(home).effects.count == 1
    assert not place.exists()


def test_a_held_session_is_left_alone(home: Path) -> None:
    """Nothing of it goes, and the report counts it; its blobs stay as well."""
    folder = put(home, [head(), *turn(2, "a", effect="x-4")], 1)
    place = effect(folder, "x-4")
    lease = DISK.lock(lock_path(str(folder)), time.time())
    report = swept(home)
    lease.release()
    assert (report.effects.count, report.held) == (0, 1)
    assert place.exists()


def test_blobs_go_when_no_journal_names_them(home: Path) -> None:
    """What a session names stays, and what that names; the rest goes."""
    blobs = Blobs(DISK, str(home), "t")
    whole = blobs.put(b"whole")
    used = blobs.put(f"the whole is at {whole}".encode())
    unused = blobs.put(b"unused")
    folder = put(home, [head()], 1)
    with open(folder / "journal.jsonl", "ab") as file:
        file.write(f'{{"k":"item","$blob":"{used}"'.encode())
    for path in (home / "blobs").iterdir():
        os.utime(path, (1.0, 1.0))
    assert swept(home).blobs.count == 1
    assert sorted(path.name for path in (home / "blobs").iterdir()) == sorted([whole, used])
    assert unused not in (whole, used)


def test_a_journal_that_can_not_be_read_keeps_all_blobs(home: Path) -> None:
    """It may name any of them; the report says which it is."""
    path = home / "blobs" / Blobs(DISK, str(home), "t").put(b"perhaps")
    os.utime(path, (1.0, 1.0))
    folder = put(home, [head()], 1)
    (folder / "journal.jsonl").unlink()
    (folder / "journal.jsonl").mkdir()
    report = swept(home)
    assert report.unread == [str(folder)]
    assert path.exists()


def test_no_journal_is_changed(home: Path) -> None:
    """Not a byte of it, and a session can be opened afterwards."""
    folder = put(home, [head(), *turn(2, "a", effect="x-4")], 1)
    effect(folder, "x-4")
    before = (folder / "journal.jsonl").read_bytes()
    swept(home)
    assert (folder / "journal.jsonl").read_bytes() == before

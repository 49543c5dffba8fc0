"""Writing a session: one write and one sync a commit, nothing behind a failure."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from backstay.core.record import LONGEST_LINE, Note, Prompt
from backstay.errors import (
    EmptySession,
    NewerFormat,
    SessionHeld,
    StorageError,
    UnknownSession,
    UsageError,
)
from backstay.journal import Journal, PosixDisk, read, session_folder
from backstay.journal.disk import Disk
from backstay.journal.folders import journal_path, make_folder, parent
from backstay.journal.simulated import Fault, SimulatedDisk
from tests.journal.sample import (
    HOME,
    ID,
    NOW,
    clock,
    compaction,
    header,
    lines,
    numbers,
    prompt,
    put_journal,
    simulated,
    turn,
    twelve,
)

Place = tuple[Disk, str]


def note(n: int) -> Note:
    """A record of a number."""
    return Note(n=n, topic="t")


def test_what_is_committed_is_read_back(place: Place) -> None:
    """Every kind of record comes back as it was given, with its time."""
    disk, root = place
    with Journal.create(disk, f"{root}/home", ID, clock) as journal:
        given = twelve()
        assert journal.commit(given[:2]) == 2
        assert journal.commit(given[2:]) == 12
    reading = read(disk, journal.path)
    assert reading.records == given
    assert {record.t for record in given} == {NOW}
    assert reading.damage == []
    assert reading.whole
    assert reading.next_n == 13
    assert reading.identity is not None
    assert reading.identity.id == ID


def test_a_session_is_private_and_in_its_place(tmp_path: Path) -> None:
    """The id's day is the folder; folders are 0700, files 0600."""
    home = tmp_path / "deep" / "home"
    with Journal.create(PosixDisk(), str(home), ID, clock) as journal:
        journal.commit([header()])
    assert Path(journal.path) == home / "sessions/2025/10/09" / ID / "journal.jsonl"
    for path in (tmp_path / "deep").rglob("*"):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_an_open_session_costs_one_sync_a_commit() -> None:
    """A commit is one append and one datasync; folders are synced by the first commit only."""
    disk, folder = simulated(b"".join(lines(twelve())))
    journal, _ = Journal.open(disk, folder, clock)
    journal.commit([note(13)])
    first = disk.count("sync_directory")
    before = disk.count("append"), disk.count("datasync")
    for n in range(14, 18):
        journal.commit([note(n), note(n + 100)] if n == 17 else [note(n)])
    assert (disk.count("append"), disk.count("datasync")) == (before[0] + 4, before[1] + 4)
    assert disk.count("sync_directory") == first


def test_a_second_session_of_a_day_costs_two_folder_syncs() -> None:
    """Folders that were there are not synced again; the session's own name and its file's are."""
    disk = SimulatedDisk(clock)
    other = ID[:-1] + ("0" if ID[-1] != "0" else "1")
    with Journal.create(disk, HOME, ID, clock) as journal:
        journal.commit([header()])
    before = disk.count("sync_directory")
    with Journal.create(disk, HOME, other, clock) as journal:
        assert disk.count("sync_directory") == before
        journal.commit([header()])
    assert disk.count("sync_directory") == before + 2


def test_an_empty_commit_touches_nothing() -> None:
    """Nothing to write is nothing to sync."""
    disk, folder = simulated(b"".join(lines(twelve())))
    journal, _ = Journal.open(disk, folder, clock)
    calls = len(disk.calls)
    assert journal.commit([]) == 12
    assert len(disk.calls) == calls


def test_written_records_are_made_durable_by_the_next_commit() -> None:
    """`write` does not sync; a commit, even an empty one, covers what was written before."""
    disk, folder = simulated(b"".join(lines(twelve())))
    journal, _ = Journal.open(disk, folder, clock)
    syncs = disk.count("datasync")
    journal.write([note(13)])
    assert (journal.last, disk.count("datasync")) == (12, syncs)
    assert journal.commit([]) == 13
    assert disk.count("datasync") == syncs + 1
    assert numbers(read(disk, journal.path).records)[-1] == 13


@pytest.mark.parametrize("batch", [[12], [14, 14], [15, 14], [0]])
def test_numbers_must_increase(batch: list[int]) -> None:
    """A number that does not increase is refused before anything is written."""
    disk, folder = simulated(b"".join(lines(twelve())))
    journal, reading = Journal.open(disk, folder, clock)
    with pytest.raises(UsageError):
        journal.commit([note(n) for n in batch])
    assert journal.commit([note(13)]) == 13
    assert numbers(read(disk, journal.path).records) == [*numbers(reading.records), 13]


@pytest.mark.parametrize("seed", range(200))
def test_what_was_acknowledged_survives_a_power_cut(seed: int) -> None:
    """Whatever power loss does to the disk, a session opens with all that a commit returned for."""
    rng = Random(seed)
    disk = SimulatedDisk(clock)
    journal = Journal.create(disk, HOME, ID, clock)
    given = twelve()
    acknowledged = 0
    while given and rng.random() < 0.8:
        batch = [given.pop(0) for _ in range(min(len(given), rng.randint(1, 3)))]
        if rng.random() < 0.3:
            journal.write(batch)
        else:
            acknowledged = journal.commit(batch)
    if given and rng.random() < 0.5:
        journal.write(given[:3])
    after = disk.crash(rng)
    try:
        reopened, reading = Journal.open(after, journal.folder, clock)
    except (EmptySession, UnknownSession):
        assert acknowledged == 0
        return
    survived = [n for n in numbers(reading.records) if n <= acknowledged]
    assert survived == list(range(1, acknowledged + 1))
    assert set(map(repr, reading.records)) <= set(map(repr, twelve_timed()))
    repair = reading.repair()
    batch = [note(reading.next_n)] if repair is None else [repair, note(repair.n + 1)]
    reopened.commit(batch)
    reopened.close()
    again = read(after.crash(rng), journal.path)
    assert numbers(again.records) == [*numbers(reading.records), *numbers(batch)]
    assert again.news == []


def twelve_timed() -> list[object]:
    """The twelve records as the journal stamps them."""
    records = twelve()
    for record in records:
        record.t = NOW
    return list(records)


@pytest.mark.parametrize("seed", range(50))
def test_what_is_written_survives_a_kill(seed: int) -> None:
    """When only the process dies, even what was not synced is there."""
    rng = Random(seed)
    disk = SimulatedDisk(clock)
    journal = Journal.create(disk, HOME, ID, clock)
    given = twelve()
    cut = rng.randint(1, 12)
    journal.commit(given[:cut])
    journal.write(given[cut:])
    reopened, reading = Journal.open(disk.kill(), journal.folder, clock)
    assert numbers(reading.records) == list(range(1, 13))
    assert reopened.commit([note(13)]) == 13


def test_a_kill_between_two_processes_keeps_the_folders_durable() -> None:
    """A session made by a process that was killed is durable once a second one has committed."""
    for seed in range(60):
        disk = SimulatedDisk(clock)
        folder = Journal.create(disk, HOME, ID, clock).folder
        with disk.append_to(journal_path(folder)) as file:
            file.append(lines([header()])[0])
        disk = disk.kill()
        journal, _ = Journal.open(disk, folder, clock)
        journal.commit([prompt(2)])
        reading = read(disk.crash(Random(seed)), journal.path)
        assert numbers(reading.records) == [1, 2]


def test_a_day_that_another_process_made_is_made_durable() -> None:
    """A process that was killed after making the day's folder does not cost the next its session."""
    for seed in range(60):
        disk = SimulatedDisk(clock)
        day = parent(session_folder(HOME, ID))
        make_folder(disk, parent(day))
        disk.mkdir(day)
        journal = Journal.create(disk, HOME, ID, clock)
        journal.commit([header()])
        assert numbers(read(disk.crash(Random(seed)), journal.path).records) == [1]


def test_a_failed_sync_is_never_repeated() -> None:
    """After a failed datasync every commit raises the same error, and the disk is left alone."""
    disk, folder = simulated(b"".join(lines(twelve())))
    journal, _ = Journal.open(disk, folder, clock)
    disk.fail("datasync", Fault(errno.EIO))
    with pytest.raises(StorageError) as first:
        journal.commit([note(13)])
    calls = len(disk.calls)
    for batch in ([note(14)], []):
        with pytest.raises(StorageError) as again:
            journal.commit(batch)
        assert again.value is first.value
    assert len(disk.calls) == calls
    assert journal.last == 12
    assert disk.count("truncate") == 0


def test_nothing_is_tried_behind_an_interrupted_write() -> None:
    """Ctrl-C in the middle of a commit closes the journal for good, and the lock stays its own."""
    asked = 0

    def interrupted() -> float:
        nonlocal asked
        asked += 1
        if asked == 2:  # the first is the lock's
            raise KeyboardInterrupt
        return NOW

    disk, folder = simulated(b"".join(lines(twelve())))
    journal, _ = Journal.open(disk, folder, interrupted)
    with pytest.raises(KeyboardInterrupt):
        journal.commit([note(13)])
    calls = len(disk.calls)
    with pytest.raises(StorageError, match="interrupted: resume"):
        journal.commit([note(13)])
    assert len(disk.calls) == calls


def test_a_failed_sync_of_a_folder_counts_as_well() -> None:
    """The first commit is acknowledged only once the names that lead to it are durable."""
    disk = SimulatedDisk(clock)
    journal = Journal.create(disk, HOME, ID, clock)
    disk.fail("sync_directory", Fault(errno.EIO), after=1)
    with pytest.raises(StorageError):
        journal.commit([header()])
    assert journal.last == 0
    with pytest.raises(StorageError):
        journal.commit([note(2)])


@pytest.mark.parametrize("written", [0, 1, 30, 10_000])
def test_a_short_write_is_cut_back(written: int) -> None:
    """What a failed write left is taken away by the process that made it; others resume."""
    content = b"".join(lines(twelve()))
    disk, folder = simulated(content)
    journal, _ = Journal.open(disk, folder, clock)
    disk.fail("append", Fault(errno.ENOSPC, written=written))
    with pytest.raises(StorageError, match="free some space"):
        journal.commit([note(13), note(14)])
    assert disk.count("truncate") == 1
    with pytest.raises(StorageError):
        journal.commit([note(13)])
    journal.close()
    with disk.open(journal.path) as file:
        assert file.read(0, 10_000) == content
    reopened, reading = Journal.open(disk, folder, clock)
    assert reading.damage == []
    assert reopened.commit([note(13)]) == 13


def test_a_cut_back_that_fails_is_left_to_the_reader() -> None:
    """Truncation is tried once; the torn tail then is damage that the next opening states."""
    disk, folder = simulated(b"".join(lines(twelve())))
    journal, _ = Journal.open(disk, folder, clock)
    disk.fail("append", Fault(errno.ENOSPC, written=20))
    disk.faults = {len(disk.calls) + 1: Fault(errno.EIO)}
    with pytest.raises(StorageError, match="free some space"):
        journal.commit([note(13)])
    journal.close()
    assert disk.count("truncate") == 1
    reopened, reading = Journal.open(disk, folder, clock)
    assert [part.code for part in reading.news] == ["torn"]
    repair = reading.repair()
    assert repair is not None
    assert repair.n > 13
    reopened.commit([repair])
    again = read(disk, journal.path)
    assert numbers(again.records) == [*range(1, 13), repair.n]
    assert again.repair() is None


def test_every_call_may_fail() -> None:
    """Whichever call of a session fails, it is a storage error, and what was acknowledged stays."""
    disk = SimulatedDisk(clock)
    rounds = 60
    for failing in range(rounds):
        disk = SimulatedDisk(clock)
        disk.faults = {failing: Fault(errno.EIO, written=7)}
        acknowledged = 0
        folder = ""
        try:
            with Journal.create(disk, HOME, ID, clock) as journal:
                folder = journal.folder
                acknowledged = journal.commit([header(), prompt(2)])
                acknowledged = journal.commit([note(3)])
            reopened, _ = Journal.open(disk, folder, clock)
            with reopened:
                acknowledged = reopened.commit([note(4)])
        except StorageError:
            assert failing < len(disk.calls)
        disk.faults = {}
        if acknowledged:
            reading = read(disk.crash(Random(failing)), journal_path(folder))
            assert numbers(reading.records)[:acknowledged] == list(range(1, acknowledged + 1))
    assert rounds > len(disk.calls) + 1, "the last round met no fault"


def test_an_unclosed_tail_is_closed_first() -> None:
    """A last record without its newline is kept, and the next one gets a line of its own."""
    content = b"".join(lines(twelve()))[:-1]
    disk, folder = simulated(content)
    journal, reading = Journal.open(disk, folder, clock)
    assert reading.unclosed
    journal.commit([note(13)])
    with disk.open(journal.path) as file:
        assert file.read(0, 10_000) == content + b"\n" + lines([journal_note(13)])[0]


def journal_note(n: int) -> Note:
    """A note as the journal stamps it."""
    return Note(n=n, t=NOW, topic="t")


def test_opening_writes_nothing() -> None:
    """A damaged tail is left as it is: opening and closing change no byte."""
    content = b"".join(lines(twelve())) + b"\0" * 100 + b'{"k":"no'
    disk, folder = simulated(content)
    journal, _ = Journal.open(disk, folder, clock)
    journal.close()
    with disk.open(journal.path) as file:
        assert file.read(0, 100_000) == content


def test_what_can_not_be_opened_says_why(place: Place) -> None:
    """No session, an empty one and a newer one have their own errors, and no lock stays behind."""
    disk, root = place
    with pytest.raises(UnknownSession):
        Journal.open(disk, f"{root}/nothing", clock)
    newer = header()
    newer.format = 2
    for content, error in ((b"", EmptySession), (b"\0" * 9, EmptySession), (b"x\n", EmptySession)):
        folder = put_journal(disk, root, content)
        for _ in range(2):
            with pytest.raises(error):
                Journal.open(disk, folder, clock)
        disk.unlink(journal_path(folder))
    folder = put_journal(disk, root, lines([newer])[0])
    for _ in range(2):
        with pytest.raises(NewerFormat):
            Journal.open(disk, folder, clock)


def test_a_created_session_without_a_commit_is_empty(place: Place) -> None:
    """A process that died before its first commit leaves nothing to resume, and no obstacle."""
    disk, root = place
    journal = Journal.create(disk, root, ID, clock)
    journal.close()
    with pytest.raises(EmptySession):
        Journal.open(disk, journal.folder, clock)


def test_a_second_writer_is_refused(place: Place) -> None:
    """Creating and opening hold the session until it is closed."""
    disk, root = place
    journal = Journal.create(disk, root, ID, clock)
    journal.commit([header()])
    with pytest.raises(SessionHeld):
        Journal.open(disk, journal.folder, clock)
    with pytest.raises(SessionHeld):
        Journal.create(disk, root, ID, clock)
    assert len(read(disk, journal.path).records) == 1
    journal.close()
    journal.close()
    Journal.open(disk, journal.folder, clock)[0].close()
    with pytest.raises(StorageError, match="closed"):
        journal.commit([note(2)])


def test_a_foreign_write_stops_the_journal(place: Place) -> None:
    """Bytes that another program added are not written over, and not written behind."""
    disk, root = place
    with Journal.create(disk, root, ID, clock) as journal:
        journal.commit([header()])
        with disk.append_to(journal.path) as other:
            other.append(b"x")
        with pytest.raises(StorageError, match="another program"):
            journal.commit([note(2)])
        with disk.open(journal.path) as file:
            assert file.read(0, 10_000).endswith(b"}\nx")


@pytest.mark.parametrize(
    "item", [{"a" * (LONGEST_LINE + 1): 1}, {"text": object()}], ids=["too long", "not JSON"]
)
def test_what_can_not_be_read_back_is_not_written(item: dict[str, object]) -> None:
    """A record that no reader would take is refused, not acknowledged."""
    disk, folder = simulated(b"".join(lines(twelve())))
    journal, _ = Journal.open(disk, folder, clock)
    with pytest.raises(StorageError, match="record 13"):
        journal.commit([with_item(prompt(13), item)])
    assert disk.count("append") == 1


def with_item(record: Prompt, item: dict[str, object]) -> Prompt:
    """The same prompt with another item."""
    record.items = [item]
    return record


def test_a_forked_child_can_not_write(tmp_path: Path) -> None:
    """A child that was forked off the writer has no lock, and its commit is refused."""
    with Journal.create(PosixDisk(), str(tmp_path), ID, clock) as journal:
        journal.commit([header()])
        pid = os.fork()
        if pid == 0:
            try:
                journal.commit([note(2)])
            except StorageError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert journal.commit([note(2)]) == 2


def test_a_full_disk_costs_nothing_that_was_acknowledged(small_disk: Path) -> None:
    """On a real full disk the commit fails, and once there is room the session goes on."""
    disk = PosixDisk()
    journal = Journal.create(disk, str(small_disk), ID, clock)
    journal.commit([header(), prompt(2)])
    (small_disk / "ballast").write_bytes(bytes(100 * 1024))
    last = 2
    with pytest.raises(StorageError, match="free some space, then resume"):
        for n in range(3, 1000):
            last = journal.commit([prompt(n, "x" * 5000)])
    with pytest.raises(StorageError, match="free some space, then resume"):
        journal.commit([note(1000)])
    journal.close()
    (small_disk / "ballast").unlink()
    reopened, reading = Journal.open(disk, journal.folder, clock)
    assert numbers(reading.records) == list(range(1, last + 1))
    assert reading.damage == []
    assert reopened.commit([note(reading.next_n)]) == last + 1
    reopened.close()


def test_a_full_disk_refuses_a_new_session(small_disk: Path) -> None:
    """Without room for a folder there is an error that says so."""
    (small_disk / "ballast").write_bytes(bytes(255 * 1024))
    with pytest.raises(StorageError, match="free some space"):
        Journal.create(PosixDisk(), str(small_disk), ID, clock).commit([prompt(1, "x" * 50_000)])


def test_a_read_only_disk_can_be_read_and_not_written(small_disk: Path) -> None:
    """Opening for writing says what to do; reading works."""
    disk = PosixDisk()
    with Journal.create(disk, str(small_disk), ID, clock) as journal:
        journal.commit([header()])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="set BACKSTAY_HOME"):
        Journal.open(disk, journal.folder, clock)
    with pytest.raises(StorageError, match="set BACKSTAY_HOME"):
        Journal.create(disk, str(small_disk), "0" + ID[1:], clock)
    assert numbers(read(disk, journal.path).records) == [1]


WRITER = """
import sys, time
from backstay.core.record import Note
from backstay.journal import Journal, PosixDisk
journal, reading = Journal.open(PosixDisk(), sys.argv[1], time.time)
n = reading.next_n
while True:
    n = journal.commit([Note(n=n, topic="x" * 200)]) + 1
    print(n - 1, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """kill -9 at any moment: the next process finds every acknowledged record, and goes on."""
    disk = PosixDisk()
    with Journal.create(disk, str(tmp_path), ID, clock) as journal:
        journal.commit([header()])
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, journal.folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(20):
                writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            said = [int(line) for line in writer.stdout.read().splitlines()]
        reading = read(disk, journal.path)
        assert set(range(1, max(said, default=1) + 1)) <= set(numbers(reading.records))


def test_a_turn_costs_five_syncs() -> None:
    """The five commits of a one-tool turn are five datasyncs, and no sync of a folder."""
    disk, folder = simulated(b"".join(lines(twelve())))
    journal, _ = Journal.open(disk, folder, clock)
    journal.commit([note(13)])
    calls = disk.count("datasync", "sync_directory")
    records = turn(14)
    for batch in (records[:2], records[2:4], records[4:5], records[5:7], records[7:]):
        journal.commit(batch)
    assert disk.count("datasync", "sync_directory") == calls + 5


def test_a_compacted_session_opens_at_its_compaction() -> None:
    """Opening reads back to the compaction, and numbers go on from the end."""
    content = b"".join(lines([header(), *turn(2), compaction(11), note(12)]))
    disk, folder = simulated(content)
    journal, reading = Journal.open(disk, folder, clock)
    assert numbers(reading.records) == [11, 12]
    assert not reading.whole
    assert journal.commit([note(13)]) == 13


def test_what_was_read_at_opening_outlives_a_power_cut() -> None:
    """A killed process's unsynced records are made durable before anything builds on them."""
    for seed in range(20):
        disk = SimulatedDisk(clock)
        journal = Journal.create(disk, HOME, ID, clock)
        journal.commit([header()])
        journal.write([note(2)])
        killed = disk.kill()
        reopened, reading = Journal.open(killed, journal.folder, clock)
        assert [record.n for record in reading.records] == [1, 2]
        after = killed.crash(Random(seed))
        with Journal.open(after, reopened.folder, clock)[0] as last:
            assert last.last == 2


def test_home_that_can_not_be_made_is_told_with_what_to_do() -> None:
    """Where the system makes no folders at all, one line says which one and what helps."""
    with pytest.raises(StorageError, match=r"/proc/nowhere: .* set BACKSTAY_HOME") as raised:
        Journal.create(PosixDisk(), "/proc/nowhere/home", ID, clock)
    assert "\n" not in str(raised.value)

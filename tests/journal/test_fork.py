"""Forks refer to records of other sessions, read them back whole, and outlive them."""

import errno
from binascii import crc32
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import msgspec
import pytest

from backstay.core.history import History, Messages
from backstay.core.items import message_text
from backstay.core.record import (
    AnyRecord,
    Fork,
    Known,
    Note,
    Output,
    Prompt,
    Session,
    SpoolRange,
    TurnEnd,
)
from backstay.errors import (
    BackstayError,
    EmptySession,
    NewerFormat,
    SessionHeld,
    StorageError,
    UnknownSession,
    UsageError,
)
from backstay.journal import Journal, journal_path, list_sessions, look, read, session_folder, uuid7
from backstay.journal.disk import Disk
from backstay.journal.fork import Forked, deleting_path, fork, forks_of, materialise, release
from backstay.journal.posix import PosixDisk
from backstay.journal.simulated import Ended, Fault, SimulatedDisk
from tests.journal.sample import (
    HOME,
    ID,
    NOW,
    CountingDisk,
    clock,
    compaction,
    header,
    lines,
    numbers,
    prompt,
    put_journal,
    simulated,
    turn,
)

B, C = (uuid7(NOW + n, bytes(range(n, 10 + n))) for n in (1, 2))
TWO_TURNS = [header(), *turn(2), *turn(11)]
PARENT = b"".join(lines(TWO_TURNS))


def commit(disk: Disk, folder: str, *records: Known) -> None:
    """Go on in a session."""
    journal, _ = Journal.open(disk, folder, clock)
    with journal:
        journal.commit(records)


def own_prompt(n: int, session: str) -> Prompt:
    """A prompt of that session's."""
    made = prompt(n, f"asked in {session}")
    made.id = session
    return made


def texts(records: Sequence[AnyRecord]) -> list[bytes]:
    """The lines of the records."""
    return lines([record for record in records if isinstance(record, Known)])


def shared(disk: Disk, folder: str) -> list[int]:
    """The numbers that opening a session reads."""
    return numbers(read(disk, journal_path(folder)).records)


def forked(turn: int | None = None) -> tuple[SimulatedDisk, str, Forked]:
    """A disk with the parent, and a fork of it."""
    disk, folder = simulated(PARENT)
    return disk, folder, fork(disk, folder, B, clock, turn=turn)


def test_a_fork_reads_what_it_shares_and_then_its_own() -> None:
    """From the end of the last turn by default; numbers go on, and it is a session of its own."""
    disk, _, made = forked()
    assert (made.id, made.folder, made.cut) == (B, session_folder(HOME, B), False)
    reading = read(disk, journal_path(made.folder))
    assert numbers(reading.records) == list(range(1, 22))
    assert texts(reading.records)[:19] == lines(TWO_TURNS)
    own, refers = reading.records[19:]
    assert isinstance(own, Session)
    assert isinstance(refers, Fork)
    assert (own.origin, refers.must) == (refers.origin, True)
    assert (refers.origin.parent, refers.origin.upto, refers.ended) == (ID, 19, "completed")
    assert (reading.damage, reading.whole, reading.next_n) == ([], True, 22)
    assert reading.identity is not None
    assert reading.identity.id == B
    with disk.open(journal_path(made.folder)) as file:
        assert file.size() < len(PARENT), "nothing is copied"
    assert texts(look(disk, made.folder).records) == texts(reading.records)


def test_from_any_turn() -> None:
    """Turns count from 1; a turn that is not there is refused in a line that says what is."""
    disk, folder, made = forked(turn=1)
    assert made.turn == 1
    assert shared(disk, made.folder) == [*range(1, 11), 11, 12]
    for wrong in (0, 3, -1):
        with pytest.raises(UsageError, match=f"has no turn {wrong}: it has 2"):
            fork(disk, folder, C, clock, turn=wrong)


def test_both_go_on() -> None:
    """What is written to either afterwards is not in the other."""
    disk, folder, made = forked(turn=1)
    commit(disk, folder, Note(n=20, topic="parent"))
    commit(disk, made.folder, own_prompt(13, B))
    assert shared(disk, made.folder) == list(range(1, 14))
    assert shared(disk, folder) == list(range(1, 21))
    history = folded(disk, made.folder)
    assert (history.id, history.next) == (B, 14)
    assert [one.n for one in history.queued] == [13]


def folded(disk: Disk, folder: str) -> History:
    """What a session's records add up to."""
    history = History()
    for record in read(disk, journal_path(folder)).records:
        history.apply(record)
    return history


def test_a_turn_that_runs_is_left_out() -> None:
    """By default a fork shares all up to the last end; what was noted behind an end belongs to it."""
    running = [*TWO_TURNS, Note(n=20, topic="command_ended"), *turn(21)[:-1]]
    disk, folder = simulated(b"".join(lines(running)))
    made = fork(disk, folder, B, clock)
    assert made.cut
    assert shared(disk, made.folder) == [*range(1, 21), 21, 22]
    with pytest.raises(UsageError, match=r"turn 3 .* has not ended"):
        fork(disk, folder, C, clock, turn=3)
    early = fork(disk, folder, C, clock, turn=1)
    assert not early.cut, "that turn was asked for"
    assert shared(disk, early.folder)[-3:] == [10, 11, 12]


def test_prompts_that_wait_are_not_shared() -> None:
    """A prompt that was queued while the shared turn ran is the parent's."""
    first = turn(2)
    records = [header(), *first[:8], prompt(10, "later"), TurnEnd(n=11, turn=2, outcome="failed")]
    disk, folder = simulated(b"".join(lines(records)))
    made = fork(disk, folder, B, clock)
    assert folded(disk, made.folder).queued == []
    assert list_sessions(disk, HOME)[0].ended == "failed"


def test_a_reopened_turn_ends_where_it_ended_last() -> None:
    """The end behind which it was reopened is none."""
    records = [*TWO_TURNS, Note(n=20, topic="reopened", turn=11)]
    disk, folder = simulated(b"".join(lines([*records, TurnEnd(n=21, turn=11, outcome="failed")])))
    made = fork(disk, folder, B, clock, turn=2)
    assert shared(disk, made.folder) == list(range(1, 24))
    disk, folder = simulated(b"".join(lines(records)))
    assert shared(disk, fork(disk, folder, B, clock).folder) == list(range(1, 22))


def test_nothing_to_fork() -> None:
    """Without an ended turn there is nothing to share."""
    disk, folder = simulated(b"".join(lines(turn(1)[:5])))
    with pytest.raises(UsageError, match=r"no turn .* has ended yet"):
        fork(disk, folder, B, clock)
    disk, folder = simulated(b"")
    with pytest.raises(EmptySession):
        fork(disk, folder, B, clock)


def test_behind_and_before_a_compaction() -> None:
    """A fork reads back to the last compaction before it, also where a later one hides that."""
    records = [header(), *turn(2), compaction(11), *turn(12), *turn(21), compaction(30), *turn(31)]
    disk, folder = simulated(b"".join(lines(records)))
    for name, number, expected in (
        (B, 4, [*range(30, 40), 40, 41]),
        (C, 2, [*range(11, 21), 21, 22]),
        (uuid7(NOW + 9, bytes(10)), 1, [*range(1, 11), 11, 12]),
    ):
        made = fork(disk, folder, name, clock, turn=number)
        reading = read(disk, journal_path(made.folder))
        assert (numbers(reading.records), reading.damage) == (expected, [])
        assert numbers(look(disk, made.folder).records) == list(range(1, expected[-1] + 1))


def test_the_last_end_may_stand_before_the_last_compaction() -> None:
    """Where the tail holds no end of a turn, all is read."""
    records = [header(), *turn(2), *turn(11)[:5], compaction(16)]
    disk, folder = simulated(b"".join(lines(records)))
    assert shared(disk, fork(disk, folder, B, clock).folder) == list(range(1, 13))


def test_a_compaction_of_its_own_is_enough() -> None:
    """A fork that was compacted does not need the parent any more."""
    disk, folder, made = forked()
    journal, _ = Journal.open(disk, made.folder, clock)
    with journal:
        journal.commit([compaction(22)])
    disk.unlink(journal_path(folder))
    reading = read(disk, journal_path(made.folder))
    assert (numbers(reading.records), reading.damage) == ([22], [])


def test_forks_of_forks() -> None:
    """Each reads through all before it; a turn of the grandparent's is shared with it directly."""
    disk, folder, made = forked(turn=1)
    commit(disk, made.folder, *turn(13))
    commit(disk, folder, Note(n=20, topic="the parent goes on"))
    second = fork(disk, made.folder, C, clock)
    reading = read(disk, journal_path(second.folder))
    assert numbers(reading.records) == list(range(1, 24))
    assert reading.damage == []
    third = fork(disk, second.folder, uuid7(NOW + 9, bytes(10)), clock, turn=1)
    assert shared(disk, third.folder) == [*range(1, 11), 11, 12]
    assert set(forks_of(disk, HOME, ID)) == {made.folder, third.folder}
    assert list(forks_of(disk, HOME, B)) == [second.folder]


def test_sessions_that_were_forked_from_each_other_still_open() -> None:
    """A circle, which nobody makes but by copying files about, ends where it began."""
    disk, _, made = forked(turn=1)
    header, refers = read(disk, journal_path(made.folder)).records[-2:]
    assert isinstance(header, Session)
    assert isinstance(refers, Fork)
    header.origin = refers.origin = msgspec.structs.replace(refers.origin, parent=B)
    put(disk, journal_path(made.folder), b"".join(lines([header, refers])))
    reading = read(disk, journal_path(made.folder))
    assert numbers(reading.records) == [11, 12]
    assert [part.code for part in reading.damage] == ["shared"]


def test_the_model_is_told_what_it_cannot_reach() -> None:
    """A command that went on in the parent is out of reach: said once, forks of forks included."""
    records = [*TWO_TURNS]
    yielded = turn(11)[4]
    assert isinstance(yielded, Output)
    yielded.status, yielded.spool = "yielded", SpoolRange(f"{ID}-13", 0, 10)
    records[records.index(next(one for one in records if one.n == yielded.n))] = yielded
    disk, folder = simulated(b"".join(lines(records)))
    made = fork(disk, folder, B, clock)
    said = folded(disk, made.folder).segments[-1]
    assert isinstance(said, Messages)
    assert "(session ID 13) can't be reached from here" in message_text(said.items[0])
    second = fork(disk, made.folder, C, clock)
    history = folded(disk, second.folder)
    assert history.running == {}
    again = [
        one for one in history.segments if isinstance(one, Messages) and one.items == said.items
    ]
    assert len(again) == 1


# The prompt cache


def test_the_key_of_the_prompt_cache_is_the_parents() -> None:
    """As long as what it shares is in front of the model."""
    disk, _, made = forked()
    second = fork(disk, made.folder, C, clock)
    history = folded(disk, second.folder)
    assert (history.id, history.cache_key) == (C, ID)
    own = compaction(24)
    own.id = C
    history.apply(own)
    assert history.cache_key == C


# Parents that are lost, damaged, or not what they were


def test_without_its_parent_a_fork_opens_with_what_it_has() -> None:
    """And says what is missing, once."""
    disk, folder, made = forked()
    disk.unlink(journal_path(folder))
    journal, reading = Journal.open(disk, made.folder, clock)
    with journal:
        assert numbers(reading.records) == [20, 21]
        assert not reading.whole
        said = f"records 1 to 19 are missing: they stand in session {ID}, which is gone"
        assert [part.text for part in reading.news] == [said]
        repair = reading.repair()
        assert repair is not None
        journal.commit([repair])
    again = read(disk, journal_path(made.folder))
    assert (len(again.damage), again.news) == (1, [])


def test_another_history_under_the_same_number_is_not_taken() -> None:
    """A parent whose file was put back and went on differently is not what was forked."""
    disk, folder, made = forked()
    disk.unlink(journal_path(folder))
    other = [header(), *turn(2), *turn(11)[:-1], TurnEnd(n=19, turn=11, outcome="failed")]
    with disk.create(journal_path(folder)) as file:
        file.append(b"".join(lines(other)))
    reading = read(disk, journal_path(made.folder))
    assert numbers(reading.records) == [20, 21]
    assert "not what it was" in reading.damage[0].text


def test_an_earlier_record_that_was_changed_is_told() -> None:
    """The digest covers every shared record, not only the last one."""
    disk, folder, made = forked()
    disk.unlink(journal_path(folder))
    other = [*TWO_TURNS]
    other[1] = prompt(2, "something else")
    with disk.create(journal_path(folder)) as file:
        file.append(b"".join(lines(other)))
    reading = read(disk, journal_path(made.folder))
    assert numbers(reading.records) == list(range(1, 22))
    assert [part.text for part in reading.damage] == [
        "the shared records are not what they were when this session was forked"
    ]


def test_every_byte_of_a_fork() -> None:
    """A fork whose own file is damaged anywhere opens; one of its two heads is enough for all."""
    disk, _, made = forked(turn=1)
    commit(disk, made.folder, own_prompt(13, B), own_prompt(14, B))
    path = journal_path(made.folder)
    with disk.open(path) as file:
        content = file.read(0, file.size())
    sizes = [len(line) + 1 for line in content.split(b"\n")[:-1]]
    heads = sizes[0] + sizes[1]
    for at in range(len(content)):
        flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        zeroed = content[:at] + bytes(min(40, len(content) - at)) + content[at + 40 :]
        for changed in (flipped, zeroed, content[:at]):
            put(disk, path, changed)
            try:
                journal, reading = Journal.open(disk, made.folder, clock)
            except EmptySession:
                assert (changed, at < sizes[0]) == (content[:at], True)
                continue
            with journal:
                found = numbers(reading.records)
                one_head_left = any(n in found for n in (11, 12))
                assert (found[:10] == list(range(1, 11))) == one_head_left
                assert reading.next_n > max(found)
                if changed == flipped:
                    assert one_head_left
                    assert len(found) >= 13
                    assert at >= heads or found[-2:] == [13, 14]


def put(disk: SimulatedDisk, path: str, content: bytes) -> None:
    """Replace a file's bytes."""
    disk.unlink(path)
    with disk.create(path) as file:
        file.append(content)


def test_every_byte_of_a_parent() -> None:
    """A bad byte in the shared part costs the record that it is in, and is told; behind it nothing."""
    disk, folder, made = forked(turn=1)
    path = journal_path(folder)
    ends = [len(b"".join(lines(TWO_TURNS[: n + 1]))) for n in range(19)]
    for at in range(len(PARENT)):
        put(disk, path, PARENT[:at] + bytes([PARENT[at] ^ 1]) + PARENT[at + 1 :])
        reading = read(disk, journal_path(made.folder))
        lost = sum(end <= at for end in ends) + 1
        whole = at + 1 in ends or lost > 10
        expected = [n for n in range(1, 11) if whole or n != lost]
        assert numbers(reading.records) == [*expected, 11, 12]
        if lost > 10:
            assert reading.damage == []
        elif not whole:
            assert any(ID in part.text for part in reading.news)


def test_every_cut_of_a_parent() -> None:
    """A parent that lost its tail gives what it has left."""
    disk, folder, made = forked(turn=1)
    path = journal_path(folder)
    ends = [len(b"".join(lines(TWO_TURNS[: n + 1]))) for n in range(10)]
    for at in range(ends[-1] + 2):
        put(disk, path, PARENT[:at])
        reading = read(disk, journal_path(made.folder))
        left = sum(end - 1 <= at for end in ends)
        assert numbers(reading.records) == [*range(1, left + 1), 11, 12]
        assert bool(reading.damage) == (at < ends[-1])


# What it costs


def test_a_fork_costs_what_is_in_its_context(tmp_path: Path) -> None:
    """Of a parent of 20 MB with a compaction before the fork's turn, less than 500 KB are read."""
    disk = PosixDisk()
    filler = [prompt(n, "x" * 4000) for n in range(2, 2500)]
    later = [prompt(n, "x" * 4000) for n in range(2510, 5000)]
    records = [header(), *filler, compaction(2500), *turn(2501), *later]
    folder = put_journal(disk, str(tmp_path), b"".join(lines(records)))
    made = fork(disk, folder, B, clock, turn=1)
    counting = CountingDisk()
    reading = read(counting, journal_path(made.folder))
    assert numbers(reading.records) == [*range(2500, 2510), 2510, 2511]
    assert counting.file.read_bytes < 500 * 1024
    moved = b"".join(lines([Note(n=1, topic="x" * 300_000)]))
    path = Path(journal_path(folder))
    path.write_bytes(moved + b"".join(lines(records[1:])))
    counting = CountingDisk()
    reading = read(counting, journal_path(made.folder))
    assert numbers(reading.records) == [*range(2500, 2510), 2510, 2511]
    assert counting.file.read_bytes < 8 * 1024 * 1024, "where the hint is wrong it is searched"


def test_where_halving_goes_wrong_all_is_read(tmp_path: Path) -> None:
    """A file whose numbers do not grow is searched from its beginning."""
    disk = PosixDisk()
    folder = put_journal(disk, str(tmp_path), PARENT)
    made = fork(disk, folder, B, clock)
    more = lines([header(), *turn(2)])[1] * 2000
    Path(journal_path(folder)).write_bytes(b"\n" + PARENT + more)
    reading = read(disk, journal_path(made.folder))
    assert (numbers(reading.records), reading.damage) == (list(range(1, 22)), [])


# Deleting


def delete(disk: Disk, folder: str) -> None:
    """What deleting a session comes to."""
    lease = disk.lock(f"{folder}/lock", clock())
    try:
        release(disk, folder, clock)
        disk.unlink(journal_path(folder))
        disk.sync_directory(folder)
    finally:
        lease.release()


def test_a_fork_outlives_its_parent() -> None:
    """Its records are the same, line by line, and nothing is missing."""
    disk, folder, made = forked(turn=1)
    commit(disk, made.folder, own_prompt(13, B))
    second = fork_behind(disk, made.folder)
    before = texts(look(disk, made.folder).records)
    delete(disk, folder)
    reading = look(disk, made.folder)
    assert (texts(reading.records), reading.damage) == (before, [])
    assert reading.identity is not None
    assert reading.identity.id == B
    assert list(forks_of(disk, HOME, ID)) == []
    again = read(disk, journal_path(second.folder))
    assert (again.damage, len(again.records)) == ([], 23)
    commit(disk, made.folder, Note(n=23, topic="it goes on"))
    assert not materialise(disk, made.folder, clock), "there is nothing left to copy"
    delete(disk, made.folder)
    assert texts(look(disk, second.folder).records) == texts(again.records)


def test_blobs_that_forks_share_are_young_when_the_parent_goes() -> None:
    """A sweep that has read the forks already, and then finds no parent, leaves them alone."""
    now = [NOW]
    disk = SimulatedDisk(lambda: now[0])
    folder = put_journal(disk, HOME, PARENT)
    journal, _ = Journal.open(disk, folder, clock)
    with journal:
        digest = journal.blobs.put(b"a large output")
        journal.commit([Note(n=20, topic=digest)])
    fork(disk, folder, B, clock)
    now[0] += 1e6
    delete(disk, folder)
    assert disk.stat(f"{HOME}/blobs/{digest}").mtime == now[0]


def fork_behind(disk: Disk, folder: str) -> Forked:
    """A fork of a fork, behind a turn of its own that begins with its record 13."""
    commit(disk, folder, *turn(13)[1:])
    return fork(disk, folder, C, clock)


def test_a_grandparent_stays_referred_to() -> None:
    """Deleting the middle one copies its own records only; the fork then refers to the first."""
    disk, folder, made = forked(turn=1)
    commit(disk, made.folder, own_prompt(13, B))
    second = fork_behind(disk, made.folder)
    before = texts(look(disk, second.folder).records)
    delete(disk, made.folder)
    assert texts(look(disk, second.folder).records) == before
    assert list(forks_of(disk, HOME, ID)) == [second.folder]
    delete(disk, folder)
    assert texts(look(disk, second.folder).records) == before


def test_a_fork_that_is_written_refuses() -> None:
    """Its session is named, and nothing is deleted; afterwards the parent can be forked again."""
    disk, folder, made = forked()
    journal, _ = Journal.open(disk, made.folder, clock)
    with journal, pytest.raises(SessionHeld, match=f"^{B} is a fork of it, and "):
        delete(disk, folder)
    assert shared(disk, made.folder) == list(range(1, 22))
    assert "deleting" not in disk.list(folder)
    fork(disk, folder, C, clock)


def test_what_is_being_deleted_cannot_be_forked() -> None:
    """Whoever comes while it is deleted gives way; the mark of a deleter that died does not count."""
    disk, folder, _ = forked()
    lease = disk.lock(f"{folder}/lock", clock())
    release(disk, folder, clock)
    with pytest.raises(UnknownSession, match="is being deleted"):
        fork(disk, folder, C, clock)
    assert list_sessions(disk, HOME)[0].ended == "empty"
    lease.release()
    made = fork(disk, folder, uuid7(NOW + 9, bytes(10)), clock)
    assert shared(disk, made.folder) == list(range(1, 22))
    assert "deleting" not in disk.list(folder)


def test_there_may_be_nothing_left_to_copy() -> None:
    """A parent that is gone, or is not what it was, leaves the fork's own file as it is."""
    disk, folder, made = forked()
    put(disk, journal_path(folder), b"".join(lines([header(), *turn(2), *turn(12)])))
    assert not materialise(disk, made.folder, clock)
    disk.unlink(journal_path(folder))
    assert not materialise(disk, made.folder, clock)
    assert shared(disk, made.folder) == [20, 21]


def test_a_last_line_without_its_newline_gets_one() -> None:
    """In the copy, so that the fork's own first line begins a line."""
    disk, folder = simulated(PARENT[:-1])
    made = fork(disk, folder, B, clock)
    delete(disk, folder)
    reading = read(disk, journal_path(made.folder))
    assert (numbers(reading.records), reading.damage) == (list(range(1, 22)), [])


def test_what_a_newer_version_wrote_is_not_forked() -> None:
    """A record that must be understood could mean anything for what comes behind it."""
    head = b'{"k":"newer","must":true,"n":1'
    line = b'%b,"c":"%08x"}\n' % (head, crc32(head))
    disk, folder = simulated(line + b"".join(lines(turn(2))))
    with pytest.raises(NewerFormat, match="upgrade Backstay to fork it"):
        fork(disk, folder, B, clock)


def test_a_session_that_is_not_there_is_not_forked() -> None:
    """Its folder may be there still, as after a deletion that was cut."""
    disk, folder = simulated(PARENT)
    disk.unlink(journal_path(folder))
    with pytest.raises(EmptySession):
        fork(disk, folder, B, clock)


# Power cuts and kills at every operation


def at_every_call(
    make: Callable[[], SimulatedDisk], work: Callable[[SimulatedDisk], object], seeds: int
) -> list[SimulatedDisk]:
    """The disks that a kill or a power cut may leave at each call of some work."""
    left: list[SimulatedDisk] = []
    disk = make()
    before = len(disk.calls)
    work(disk)
    total = len(disk.calls) - before
    for at in range(total):
        disk = make()
        start = len(disk.calls)
        disk.faults[start + at] = Fault(errno.EIO, written=40)
        try:
            work(disk)
        except BackstayError:
            pass
        left.append(disk.kill())
        left += [left[-1].crash(Random(seed)) for seed in range(seeds)]
    return left


def test_making_a_fork_may_be_cut_anywhere() -> None:
    """The fork is there whole or is nothing to resume; the parent is as it was."""
    made = 0
    for disk in at_every_call(
        lambda: simulated(PARENT)[0],
        lambda disk: fork(disk, session_folder(HOME, ID), B, clock),
        seeds=10,
    ):
        assert texts(look(disk, session_folder(HOME, ID)).records) == lines(TWO_TURNS)
        try:
            reading = look(disk, session_folder(HOME, B))
        except EmptySession:
            continue
        made += 1
        assert numbers(reading.records)[:19] == list(range(1, 20))
        assert {part.code for part in reading.damage} <= {"header", "torn", "zeros", "garbage"}
    assert made


def test_a_fork_refers_to_what_is_durable() -> None:
    """What the parent's process had only written is synced before the fork is told of."""
    disk, folder = simulated(PARENT[:-200])
    with disk.append_to(journal_path(folder)) as file:
        file.append(PARENT[-200:])
    made = fork(disk, folder, B, clock)
    for seed in range(50):
        reading = read(disk.crash(Random(seed)), journal_path(made.folder))
        assert (numbers(reading.records), reading.damage) == (list(range(1, 22)), [])


def test_deleting_may_be_cut_anywhere() -> None:
    """At every moment the fork reads the same; done once more, it is done."""

    def make() -> SimulatedDisk:
        return forked(turn=1)[0]

    folder, path = session_folder(HOME, ID), journal_path(session_folder(HOME, B))
    expected = texts(read(make(), path).records)
    for disk in at_every_call(make, lambda disk: delete(disk, folder), seeds=10):
        reading = read(disk, path)
        assert (texts(reading.records), reading.damage) == (expected, [])
        if "journal.jsonl" in disk.list(folder):
            delete(disk, folder)
            assert texts(read(disk, path).records) == expected
            assert disk.list(session_folder(HOME, B)) == ["journal.jsonl", "lock"]


def test_a_killed_process_does_nothing_more() -> None:
    """The simulated deleter is really dead in the test above."""
    disk, folder, _ = forked()
    disk.kill()
    with pytest.raises(Ended):
        delete(disk, folder)


def test_a_full_disk_refuses_the_fork() -> None:
    """With the disk's own words, and the parent untouched."""
    disk, folder = simulated(PARENT)
    disk.fail("append", Fault(errno.ENOSPC))
    with pytest.raises(StorageError, match="free some space"):
        fork(disk, folder, B, clock)
    assert shared(disk, folder) == list(range(1, 20))
    assert deleting_path(folder) not in disk.list(folder)

"""What reading costs, and what it says of newer, unknown and very long things."""

import tracemalloc
from binascii import crc32
from pathlib import Path

import pytest

from backstay.core.record import Known, Note, Prompt, Repair, Session, Unknown
from backstay.errors import EmptySession
from backstay.journal import PosixDisk, read, statement, walk
from backstay.journal.folders import journal_path
from backstay.journal.lines import Found, line_start, parts
from backstay.journal.reader import BLOCK
from backstay.journal.simulated import SimulatedDisk
from tests.journal.sample import (
    HOME,
    ID,
    CountingDisk,
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

MEGABYTE = 1024 * 1024


def raw(body: str) -> bytes:
    """A line of these fields with the right checksum."""
    head = body.encode()
    return b'%b,"c":"%08x"}\n' % (head, crc32(head))


def write_large(path: Path, size: int) -> int:
    """A journal of a header and prompts, of at least this size; the number of its last record."""
    line = lines([prompt(0, "x" * 4000)])[0]
    n = 1
    with path.open("wb") as file:
        file.write(lines([header()])[0])
        while file.tell() < size:
            n += 1
            text = line.rpartition(b',"n":')[0] + b',"n":%d' % n
            file.write(b'%b,"c":"%08x"}\n' % (text, crc32(text)))
    return n


def test_reading_costs_what_lies_behind_the_compaction(tmp_path: Path) -> None:
    """Of 50 MB with a compaction near the end less than 200 KB are read."""
    path = tmp_path / "journal.jsonl"
    n = write_large(path, 50 * MEGABYTE)
    with path.open("ab") as file:
        file.write(b"".join(lines([compaction(n + 1), *turn(n + 2)])))
    disk = CountingDisk()
    reading = read(disk, str(path))
    assert numbers(reading.records) == list(range(n + 1, n + 11))
    assert reading.damage == []
    assert not reading.whole
    assert reading.next_n == n + 11
    assert disk.file.read_bytes < 200 * 1024


def test_a_long_way_back_is_read_in_blocks(tmp_path: Path) -> None:
    """Without a compaction all is read, at most twice, and no read is larger than a block."""
    path = tmp_path / "journal.jsonl"
    n = write_large(path, 10 * MEGABYTE)
    disk = CountingDisk()
    reading = read(disk, str(path))
    assert numbers(reading.records) == list(range(1, n + 1))
    assert reading.whole
    assert disk.file.longest_read <= 256 * 1024
    assert disk.file.read_bytes < 2.1 * path.stat().st_size


def test_zeros_need_no_memory(tmp_path: Path) -> None:
    """300 MB of zeros behind the last record are told as one damage, and are never held."""
    import resource

    path = tmp_path / "journal.jsonl"
    content = b"".join(lines(twelve()))
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(300 * MEGABYTE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reading = read(PosixDisk(), str(path))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert numbers(reading.records) == list(range(1, 13))
    codes = [(part.code, part.offset, part.length) for part in reading.damage]
    assert codes == [("zeros", len(content), 300 * MEGABYTE - len(content))]
    assert reading.next_n > 12 + (300 * MEGABYTE - len(content)) // 32
    assert grown < 50 * 1024, "kilobytes"


def test_zeros_between_records_are_passed() -> None:
    """Blocks of zeros of any size between two records, with or without newline, are skipped."""
    parts = lines(twelve())
    for size in (1, 4096, 70_000, 262_144, 1_000_000):
        for end in (b"", b"\n"):
            content = b"".join([*parts[:6], bytes(size), end, *parts[6:]])
            reading = read(*at(content))
            assert numbers(reading.records) == list(range(1, 13))
            assert [(part.code, part.length) for part in reading.damage] == [("zeros", size)]
            assert reading.next_n == 13


def at(content: bytes) -> tuple[SimulatedDisk, str]:
    """A disk and the path of a journal of these bytes on it."""
    disk, folder = simulated(content)
    return disk, journal_path(folder)


def test_a_line_longer_than_any_record_is_passed() -> None:
    """Its tail is still searched for a record, and memory stays within the longest line."""
    parts = lines(twelve())
    content = b"".join(
        [*parts[:6], b"x" * 900_000, *parts[6:8], b"y" * 500_000 + b"\n", *parts[8:]]
    )
    disk, folder = simulated(content)
    for everything in (False, True):
        reading = read(disk, journal_path(folder), longest=2000, everything=everything)
        assert numbers(reading.records) == list(range(1, 13))
        assert {part.code for part in reading.damage} == {"garbage"}
        assert sum(part.length for part in reading.damage) == 1_400_000


def test_a_long_line_needs_little_memory(tmp_path: Path) -> None:
    """Of a line of 30 MB no more than the longest allowed line is held, and some chunks."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(lines([header()])[0] + b"x" * (30 * MEGABYTE))
    tracemalloc.start()
    try:
        reading = read(PosixDisk(), str(path), longest=100_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert numbers(reading.records) == [1]
    assert peak < 3 * MEGABYTE


def test_many_damaged_lines_are_told_as_one() -> None:
    """A file of a hundred thousand damaged pieces does not give as many reports."""
    content = lines([header()])[0] + b"x\n\0\n" * 50_000 + lines([prompt(2)])[0]
    reading = read(*at(content))
    assert numbers(reading.records) == [1, 2]
    assert len(reading.damage) <= 101
    assert sum(part.length for part in reading.damage) >= 100_000


def test_a_line_full_of_beginnings_takes_no_longer_than_its_length() -> None:
    """A hostile line, all starts and ends of records, is given up after some passes over it."""
    hostile = (b'{"k":"' + b',"c":"00000000"}') * 50_000
    content = lines([header()])[0] + hostile + b"\n" + lines([prompt(2)])[0]
    assert numbers(read(*at(content)).records) == [1, 2]


def test_a_record_inside_a_record_is_no_record() -> None:
    """An object within a damaged item is not taken for a record of ours, checksum or not."""
    inner = lines([Note(n=77, topic="forged")])[0][:-1]
    outer = b'{"k":"item","attempt":1,"index":0,"item":{"a":[%b,%b],"b":%b},"n":2' % ((inner,) * 3)
    whole = raw(outer.decode())
    for cut in range(1, len(whole)):
        content = lines([header()])[0] + whole[cut:] + lines([prompt(3)])[0]
        reading = read(*at(content))
        assert numbers(reading.records) == [1, 3], cut


def test_an_unknown_record_is_kept() -> None:
    """A kind that is not known stays in its place and changes nothing."""
    content = b"".join([*lines([header()]), raw('{"k":"omen","n":2,"x":1'), *lines([prompt(3)])])
    reading = read(*at(content))
    assert numbers(reading.records) == [1, 2, 3]
    assert isinstance(reading.records[1], Unknown)
    assert reading.read_only == ""
    assert reading.damage == []


@pytest.mark.parametrize(
    "line",
    [
        raw('{"k":"omen","must":true,"n":2'),
        raw('{"k":"note","must":true,"topic":5,"n":2'),
        raw('{"k":"prompt","format":2,"n":2'),
    ],
)
def test_a_record_that_must_be_understood_makes_it_read_only(line: bytes) -> None:
    """A newer version's record is whole, and what this version can't do with it is said."""
    content = b"".join([*lines([header()]), line, *lines([prompt(3)])])
    reading = read(*at(content))
    assert numbers(reading.records) == [1, 2, 3]
    assert "newer Backstay" in reading.read_only
    assert reading.damage == []


@pytest.mark.parametrize("newer", [0, 1])
def test_a_newer_format_makes_it_read_only(newer: int) -> None:
    """Every record that has the format's number counts."""
    records: tuple[Session, Prompt] = header(), prompt(2)
    records[newer].format = 9
    reading = read(*at(b"".join(lines(records))))
    assert "format is 9" in reading.read_only


def test_a_whole_line_with_wrong_fields_is_garbage() -> None:
    """A record that this version should know and can't read costs only itself."""
    content = b"".join([*lines([header()]), raw('{"k":"note","n":2'), *lines([prompt(3)])])
    reading = read(*at(content))
    assert numbers(reading.records) == [1, 3]
    assert [part.code for part in reading.damage] == ["garbage"]
    assert "topic" in reading.damage[0].text


@pytest.mark.parametrize("body", ['{"k":"note","n":"2"', '{"k":["note"],"n":2', "[2", '{"n":2'])
def test_a_whole_line_that_is_no_record_is_garbage(body: str) -> None:
    """A right checksum alone makes no record, and no claim of a newer version."""
    content = b"".join([*lines([header()]), raw(body), *lines([prompt(3)])])
    reading = read(*at(content))
    assert numbers(reading.records) == [1, 3]
    assert [part.code for part in reading.damage] == ["garbage"]
    assert reading.read_only == ""


@pytest.mark.parametrize("last", [b"\n", b""], ids=["closed", "unclosed"])
def test_a_file_that_was_cut_back_is_read_to_its_end(last: bytes) -> None:
    """A writer may take a short write back after a reader asked for the size."""
    content = b"".join(lines(twelve())).removesuffix(b"\n") + last
    disk, path = at(content)
    with disk.open(path) as file:
        beyond = len(content) + 5000
        found = [part for part in parts(file, 0, beyond) if isinstance(part, Found)]
        assert numbers([part.record for part in found]) == list(range(1, 13))
        begins = len(content.rpartition(b"\n")[0]) + 1
        assert line_start(file, beyond - 10, beyond) == begins


@pytest.mark.parametrize(
    "target, begins", [(0, 0), (1, 3), (3, 3), (4, 6), (6, 6), (7, 6), (8, 6), (50_000, 6)]
)
def test_a_line_start_is_the_next_one_or_else_the_last(target: int, begins: int) -> None:
    """A line that begins at the target counts; where none follows, the one that holds it."""
    disk, path = at(b"ab\ncd\n" + b"e" * 100_000)
    with disk.open(path) as file:
        assert line_start(file, target, file.size()) == begins


def test_a_single_line_begins_the_file() -> None:
    """Without any newline there is one line only, however long."""
    disk, path = at(b"e" * 200_000)
    with disk.open(path) as file:
        assert line_start(file, 150_000, file.size()) == 0


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b"\0" * 10_000, b'{"k":"sess', b"hello\n"])
def test_no_whole_record_is_an_empty_session(content: bytes) -> None:
    """Nothing to resume is said as such."""
    for everything in (False, True):
        with pytest.raises(EmptySession, match="nothing to resume"):
            read(*at(content), everything=everything)
    assert not any(isinstance(part, Found) for part in walk(*at(content)))


def test_a_missing_journal_is_an_empty_session() -> None:
    """A folder whose journal was lost in a power cut has nothing to resume."""
    disk, folder = simulated(b"")
    disk.unlink(journal_path(folder))
    with pytest.raises(EmptySession):
        read(disk, journal_path(folder))


def test_a_lost_header_is_made_up_for() -> None:
    """A prompt or a compaction says what the session is; without any of them nothing does."""
    lost: list[list[Known]] = [[prompt(2)], [compaction(2), prompt(3)]]
    for records in lost:
        identity = read(*at(b"".join(lines(records)))).identity
        assert identity is not None
        assert (identity.id, identity.cwd) == (ID, "/place")
    reading = read(*at(lines([Note(n=2, topic="alone")])[0]))
    assert reading.identity is None
    assert [part.code for part in reading.damage] == ["header"]


def test_damage_says_where_it_is() -> None:
    """Offset, length and, in a file that was read in one go, the line."""
    parts = lines(twelve())
    parts[4] = parts[4][:20] + b"#" + parts[4][21:]
    reading = read(*at(b"".join(parts)))
    (damage,) = reading.damage
    start = sum(map(len, parts[:4]))
    assert (damage.code, damage.line) == ("checksum", 5)
    assert (damage.offset, damage.length) == (start, len(parts[4]) - 1)
    assert (
        str(damage) == f"a record whose checksum is wrong ({damage.length} bytes at byte {start})"
    )


def test_stated_damage_is_no_news() -> None:
    """Damage that a repair record states is reported ever after, but is not news."""
    parts = lines(twelve())
    content = b"".join([*parts[:5], b"garbage\n", *parts[5:]])
    first = read(*at(content))
    assert first.news == first.damage != []
    repair = Repair(n=13, action="damage", reason=statement(first.news))
    assert first.repair() == repair
    second = read(*at(content + lines([repair])[0]))
    assert second.damage == first.damage
    assert second.news == []
    assert second.repair() is None


def test_much_damage_is_stated_in_short() -> None:
    """A statement has an end, also where every line is damaged, and still leaves no news."""
    content = b"".join(lines([header(), *map(prompt, range(2, 500))])).replace(b"\n", b"\r\n")
    repair = read(*at(content)).repair()
    assert repair is not None
    assert repair.reason.endswith("and 449 more")
    reading = read(*at(content + lines([repair])[0]))
    assert len(reading.damage) == 499
    assert reading.news == []


def test_everything_is_read_on_request() -> None:
    """For showing and diagnosis what stands before a compaction is read too."""
    content = b"".join(lines([header(), *turn(2), compaction(11), prompt(12)]))
    disk, path = at(content)
    assert numbers(read(disk, path).records) == [11, 12]
    everything = read(disk, path, everything=True)
    assert numbers(everything.records) == list(range(1, 13))
    assert everything.whole
    assert [part.offset for part in walk(disk, path)] == [
        sum(map(len, content.splitlines(keepends=True)[:index])) for index in range(12)
    ]


def test_the_newest_compaction_counts() -> None:
    """Of several compactions reading stops at the last one."""
    records: list[Known] = [
        header(),
        compaction(2),
        prompt(3),
        compaction(4),
        prompt(5),
        compaction(6),
    ]
    assert numbers(read(*at(b"".join(lines(records)))).records) == [6]


def test_a_newer_record_before_the_compaction_is_read() -> None:
    """A record that changed places with the compaction is found where a block begins between."""
    moved: list[Known] = [header(), prompt(2), prompt(4, "x" * 20_000)]
    tail: list[Known] = [compaction(3), prompt(5, "x" * 55_000)]
    reading = read(*at(b"".join(lines([*moved, *tail]))))
    assert BLOCK - 20_000 < len(b"".join(lines(tail))) < BLOCK
    assert numbers(reading.records) == [3, 4, 5]
    assert {part.code for part in reading.damage} == {"order"}


def test_a_file_edited_elsewhere_is_read() -> None:
    """Carriage returns that an editor put in are passed over."""
    content = b"".join(lines(twelve())).replace(b"\n", b"\r\n")
    assert numbers(read(*at(content)).records) == list(range(1, 13))


def test_a_session_is_read_while_it_is_written() -> None:
    """A reader needs no lock."""
    disk, folder = simulated(b"".join(lines(twelve())))
    lease = disk.lock(f"{folder}/lock", 0.0)
    assert len(read(disk, journal_path(folder)).records) == 12
    lease.release()
    assert put_journal(disk, HOME + "2", b"") != folder

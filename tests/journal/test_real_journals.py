"""Journals of real runs that are damaged anywhere open, say what is wrong, and go on (P1, P2, P7)."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstay.core.record import AnyRecord, Attempt, AttemptEnd, Codec, Late, Output, Start
from backstay.errors import EmptySession
from backstay.journal import Journal, Reading
from backstay.journal.simulated import SimulatedDisk
from tests.journal import real_runs
from tests.journal.real_runs import Resumed
from tests.journal.sample import simulated
from tests.processes import end_processes_of

EVERY_MASK = (0x01, 0x80, 0xFF)


class Recorded(msgspec.Struct):
    """A journal, its lines and records, and what its damaged copies were already seen to do."""

    content: bytes
    lines: list[bytes]
    records: list[AnyRecord]
    ends: list[int]
    seen: set[tuple[Any, ...]] = msgspec.field(default_factory=set)
    """What the core was given; it has no other input, so the same again is the same again."""

    def whole(self, cut: int) -> int:
        """How many records end before this byte, their newline not counted."""
        return sum(end - 1 <= cut for end in self.ends)

    def started(self, reading: Reading) -> set[int]:
        """The calls whose start was on disk before some record that was read."""
        starts = [one for one in self.records if isinstance(one, Start)]
        return {one.call for one in starts if one.n < reading.records[-1].n}

    def hit(self, at: int) -> int:
        """The index of the line that holds this byte."""
        return sum(end <= at for end in self.ends)


def _recorded(folder: Path, rounds: int) -> Recorded:
    home = folder / "home"
    home.mkdir(mode=0o700)
    try:
        content, _ = real_runs.record(folder, home, rounds)
    finally:
        end_processes_of(home)
    lines = content.splitlines(keepends=True)
    records = [Codec().decode(line) for line in lines]
    ends = [sum(map(len, lines[: index + 1])) for index in range(len(lines))]
    return Recorded(content, lines, records, ends)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The journal of one round."""
    return _recorded(tmp_path_factory.mktemp("small"), 1)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The journal of three rounds."""
    return _recorded(tmp_path_factory.mktemp("long"), 3)


def check(
    original: Recorded,
    content: bytes,
    survivors: Sequence[int],
    codes: set[str] | None = None,
    past: int = 0,
) -> None:
    """Opening finds the records at these places, says what is wrong, and the session goes on.

    `codes` are those of the damage that is told; None stands for at least some damage. New
    records are numbered above `past`: damaged lines have had these numbers.
    """
    disk, folder = simulated(content)
    expected = [original.records[index] for index in survivors]
    try:
        journal, reading = real_runs.opened(disk, folder)
    except EmptySession:
        assert not survivors
        return
    assert reading.records == expected
    assert reading.next_n > past
    assert all(part.offset + part.length <= len(content) for part in reading.damage)
    assert reading.news == reading.damage
    told = {part.code for part in reading.damage}
    assert told == codes if codes is not None else told
    assert (reading.repair() is None) == (not told)
    given = (*survivors, reading.next_n, bool(told))
    if given not in original.seen:
        original.seen.add(given)
        _goes_on(original, content, (disk, journal, reading))


def _goes_on(
    original: Recorded, content: bytes, found: tuple[SimulatedDisk, Journal, Reading]
) -> None:
    """A new prompt is sent with all that survived; and without one a cut turn is finished."""
    disk, journal, reading = found
    resumed = Resumed(disk, journal, reading)
    assert not resumed.denied() & original.started(reading)
    resumed.prompt()
    assert resumed.missing(reading) == []
    journal.close()
    disk, folder = simulated(content)
    journal, reading = real_runs.opened(disk, folder)
    Resumed(disk, journal, reading).go_on()
    journal.close()


def cut_everywhere(original: Recorded) -> None:
    """A cut costs what stands behind it; one inside a line is told."""
    content, ends = original.content, {0, *original.ends}
    for at in range(len(content)):
        codes = set() if at in ends else {"torn"}
        past = original.whole(at) + (at not in ends and at + 1 not in ends)
        check(original, content[:at], range(original.whole(at)), codes, past)


def zero_everywhere(original: Recorded) -> None:
    """Zeros to the end cost what they cover, and are told."""
    content = original.content
    for at in range(len(content)):
        zeroed = content[:at] + bytes(len(content) - at)
        check(original, zeroed, range(original.whole(at)), past=len(original.lines))


def flip_everywhere(original: Recorded, mask: int) -> None:
    """A flipped byte costs its own record, a flipped newline none, and both are told."""
    content = original.content
    for at, byte in enumerate(content):
        flipped = content[:at] + bytes([byte ^ mask]) + content[at + 1 :]
        lost = -1 if at + 1 in original.ends else original.hit(at)
        survivors = [one for one in range(len(original.lines)) if one != lost]
        check(original, flipped, survivors, past=len(original.lines))


def drop(original: Recorded, gone: set[int]) -> None:
    """Lines that were taken out cost themselves; all but those at the end are told."""
    survivors = [one for one in range(len(original.lines)) if one not in gone]
    content = b"".join(original.lines[one] for one in survivors)
    codes = {"header"} if 0 in gone else set()
    if survivors[-1] - survivors[0] >= len(survivors):
        codes.add("missing")
    check(original, content, survivors, codes)


def move_every_line(original: Recorded) -> None:
    """Lines that come twice or change places cost nothing; one that is gone costs itself."""
    lines = original.lines
    everything = range(len(lines))
    for index, line in enumerate(lines):
        twice = [*lines[: index + 1], line, *lines[index + 1 :]]
        check(original, b"".join(twice), everything, {"duplicate"})
        check(original, b"".join([*lines, line]), everything, {"duplicate"})
        drop(original, {index})
    for first in range(len(lines) - 1):
        swapped = lines[:]
        swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
        check(original, b"".join(swapped), everything, {"order"})


def test_the_real_run_holds_what_is_hard_to_come_back_from(small: Recorded) -> None:
    """Parallel calls, a patch, a retry, a yielded command, an interrupt, a late result."""
    records = small.records
    outputs = {one.status for one in records if isinstance(one, Output)}
    assert outputs == {"done", "yielded", "deadline", "interrupted"}
    assert any(isinstance(one, Late) for one in records)
    assert any(isinstance(one, Start) and one.plan for one in records)
    assert any(isinstance(one, Attempt) and one.superseded for one in records)
    assert any(isinstance(one, AttemptEnd) and one.outcome == "cut" for one in records)
    check(small, small.content, range(len(records)), set())


def test_cut_at_every_byte(small: Recorded) -> None:
    """A real journal that ends anywhere opens with all before, and goes on."""
    cut_everywhere(small)


def test_zeroed_from_every_byte(small: Recorded) -> None:
    """A real journal with zeros for an end opens with all before, and goes on."""
    zero_everywhere(small)


def test_every_byte_flipped(small: Recorded) -> None:
    """A real journal with any bit flipped opens without that record, and goes on."""
    flip_everywhere(small, 0x01)


def test_every_line_moved(small: Recorded) -> None:
    """A real journal with a line twice, gone or in the wrong place opens, and goes on."""
    move_every_line(small)


def test_every_two_lines_dropped(small: Recorded) -> None:
    """A call that lost its start and its output is not said to have never started (P10)."""
    for first, second in combinations(range(len(small.lines)), 2):
        drop(small, {first, second})


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_a_long_journal_cut_and_zeroed_everywhere(long: Recorded) -> None:
    """The same for a longer session."""
    cut_everywhere(long)
    zero_everywhere(long)
    move_every_line(long)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mask", EVERY_MASK)
def test_a_long_journal_flipped_everywhere(long: Recorded, mask: int) -> None:
    """The same for a longer session, and with other bits."""
    flip_everywhere(long, mask)


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mask", EVERY_MASK[1:])
def test_every_byte_flipped_in_other_ways(small: Recorded, mask: int) -> None:
    """The small journal again, with other bits."""
    flip_everywhere(small, mask)

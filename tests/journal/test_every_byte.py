"""A journal that is damaged anywhere opens with exactly the records that survived (P7)."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstay.core.record import AnyRecord, Known, Note
from backstay.errors import EmptySession
from backstay.journal import Journal, Reading, read
from backstay.journal.folders import journal_path
from tests.journal.sample import clock, compaction, header, lines, numbers, simulated, turn, twelve

PLAIN = lines(twelve())
WHOLE = b"".join(PLAIN)
COMPACTED = lines([header(), *turn(2)[:4], compaction(6), *turn(7)[:6]])
ENDS = [sum(map(len, PLAIN[: index + 1])) for index in range(12)]


def opened(content: bytes) -> Reading | None:
    """What opening finds; None for an empty session. Opened twice, what was found is no news."""
    disk, folder = simulated(content)
    try:
        journal, reading = Journal.open(disk, folder, clock)
    except EmptySession:
        return None
    repair = reading.repair()
    added: list[Known] = [] if repair is None else [repair]
    added.append(Note(n=reading.next_n + len(added), topic="on"))
    journal.commit(added)
    again = read(disk, journal_path(folder))
    assert numbers(again.records) == numbers([*reading.records, *added])
    assert again.news == [], "what was stated is stated once"
    return reading


def expect(content: bytes, survivors: Sequence[int], codes: set[str] | None = None) -> None:
    """Opening finds these records of the twelve, and damage of these codes or at least some."""
    reading = opened(content)
    if reading is None:
        assert not survivors
        return
    assert numbers(reading.records) == list(survivors)
    assert all(part.offset + part.length <= len(content) for part in reading.damage)
    if codes is None:
        assert reading.damage
    else:
        assert {part.code for part in reading.damage} == codes
    assert all(part.text and "\n" not in str(part) for part in reading.damage)


def test_cut_at_every_byte() -> None:
    """Every record before the cut is there; a cut inside a line is told, and its number is past."""
    for cut in range(len(WHOLE)):
        whole = sum(end - 1 <= cut for end in ENDS)
        at_a_line = cut == 0 or cut in ENDS
        expect(WHOLE[:cut], range(1, whole + 1), set() if at_a_line else {"torn"})
        if whole and not at_a_line:
            disk, folder = simulated(WHOLE[:cut])
            torn = cut + 1 not in ENDS
            assert read(disk, journal_path(folder)).next_n > whole + torn


def test_zeroed_from_every_byte() -> None:
    """Every record before the zeros is there, and no number that they may cover is used again."""
    for cut in range(len(WHOLE)):
        content = WHOLE[:cut] + bytes(len(WHOLE) - cut)
        whole = sum(end - 1 <= cut for end in ENDS)
        expect(content, range(1, whole + 1))
        if whole:
            disk, folder = simulated(content)
            assert read(disk, journal_path(folder)).next_n > 12


def test_a_block_of_zeros_anywhere() -> None:
    """Zeros in the middle cost the records that they touch."""
    for begin in range(0, len(WHOLE) - 40, 7):
        for length in (1, 40, 300):
            content = WHOLE[:begin] + bytes(length) + WHOLE[begin + length :]
            content = content[: len(WHOLE)]
            stop = begin + length
            starts = [0, *ENDS[:-1]]
            survivors = [
                index + 1
                for index, (first, end) in enumerate(zip(starts, ENDS, strict=True))
                if end - 1 <= begin or first >= stop
            ]
            expect(content, survivors)


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_byte_flipped(mask: int) -> None:
    """A flipped byte costs its record; a flipped newline costs none."""
    for at, byte in enumerate(WHOLE):
        content = WHOLE[:at] + bytes([byte ^ mask]) + WHOLE[at + 1 :]
        hit = sum(end <= at for end in ENDS)
        lost = None if at + 1 in ENDS else hit + 1
        expect(content, [n for n in range(1, 13) if n != lost])


@pytest.mark.parametrize("text", [b"\n", b"\0", b"}", b'"', b"\\", b"\r\n", b'{"k":"', b"\xff"])
def test_bytes_put_in_anywhere(text: bytes) -> None:
    """Bytes that come into a line cost its record, between lines they cost nothing."""
    for at in range(len(WHOLE) + 1):
        content = WHOLE[:at] + text + WHOLE[at:]
        hit = sum(end <= at for end in ENDS)
        whole = hit == 12 or PLAIN[hit][:-1] in content
        if text == b"}" and hit < 12 and PLAIN[hit][:-1] + text in content:
            whole = False  # it may have been a part of something larger
        lost = None if whole else hit + 1
        reading = opened(content)
        assert reading is not None
        assert numbers(reading.records) == [n for n in range(1, 13) if n != lost]
        assert reading.damage or text == b"\n"


def test_each_line_duplicated() -> None:
    """A copy of a record is dropped and told, wherever it stands."""
    for index, line in enumerate(PLAIN):
        for place in range(index + 1, 13):
            copied = [*PLAIN[:place], line, *PLAIN[place:]]
            expect(b"".join(copied), range(1, 13), {"duplicate"})


def test_each_line_dropped() -> None:
    """A line that was taken out is told by its number, the last one excepted."""
    for index in range(12):
        content = b"".join([*PLAIN[:index], *PLAIN[index + 1 :]])
        survivors = [n for n in range(1, 13) if n != index + 1]
        codes = {"header"} if index == 0 else set() if index == 11 else {"missing"}
        expect(content, survivors, codes)


def test_each_pair_swapped() -> None:
    """Records out of order are put in order, and that is told."""
    for first in range(12):
        for second in range(first + 1, 12):
            swapped = PLAIN[:]
            swapped[first], swapped[second] = swapped[second], swapped[first]
            expect(b"".join(swapped), range(1, 13), {"order"})


def test_each_number_used_twice() -> None:
    """Of two different records with one number the first is kept, and the other is told."""
    for n in range(1, 12):
        other = lines([Note(n=n, topic="another")])[0]
        for place in range(n, 13):
            content = b"".join([*PLAIN[:place], other, *PLAIN[place:]])
            expect(content, range(1, 13), {"conflict"})
            reading = opened(content)
            assert reading is not None
            assert lines(known(reading.records)) == PLAIN


def known(records: Sequence[AnyRecord]) -> list[Known]:
    """The same records, none of an unknown kind."""
    assert all(isinstance(record, Known) for record in records)
    return [record for record in records if isinstance(record, Known)]


def test_each_newline_lost() -> None:
    """Two records on one line are both found."""
    for index in range(11):
        joined = [*PLAIN[:index], PLAIN[index][:-1], *PLAIN[index + 1 :]]
        reading = opened(b"".join(joined))
        assert reading is not None
        assert numbers(reading.records) == list(range(1, 13))


def test_each_line_torn_and_followed() -> None:
    """A line cut at any byte, without a newline, costs only itself: the next one is found."""
    for index in range(1, 11):
        line = PLAIN[index]
        for cut in range(1, len(line) - 1):
            content = b"".join([*PLAIN[:index], line[:cut], *PLAIN[index + 1 :]])
            expect(content, [n for n in range(1, 13) if n != index + 1])


def survivors_of(present: Sequence[int]) -> list[int]:
    """What is read of the compacted journal where these records are whole."""
    return [n for n in present if n >= 6] if 6 in present else list(present)


def test_a_compacted_journal_damaged_at_every_byte() -> None:
    """A damaged compaction gives way to what stands before it; else reading begins there."""
    content = b"".join(COMPACTED)
    ends = [sum(map(len, COMPACTED[: index + 1])) for index in range(12)]
    for at in range(len(content)):
        hit = sum(end <= at for end in ends) + 1
        lost = None if at + 1 in ends else hit
        flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        reading = opened(flipped)
        assert reading is not None
        present = [n for n in range(1, 13) if n != lost]
        assert numbers(reading.records) == survivors_of(present), at
        assert reading.whole == (lost == 6)
        cut = opened(content[:at])
        present = [index + 1 for index, end in enumerate(ends) if end - 1 <= at]
        assert numbers(cut.records if cut else []) == survivors_of(present), at


def test_a_compacted_journal_with_lines_moved() -> None:
    """Neighbours of a compaction that change places or come twice are all there, once."""
    for first in range(11):
        moved = COMPACTED[:]
        moved[first : first + 2] = moved[first + 1], moved[first]
        reading = opened(b"".join(moved))
        assert reading is not None
        assert numbers(reading.records) == list(range(6, 13))
    for index in range(12):
        for place in range(index + 1, 13):
            copied = [*COMPACTED[:place], COMPACTED[index], *COMPACTED[place:]]
            reading = opened(b"".join(copied))
            assert reading is not None
            assert numbers(reading.records) == list(range(6, 13))


Change = tuple[str, float, int, bytes]
changes = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "zero", "insert", "copy", "tail"]),
        st.floats(0, 1),
        st.integers(0, 300),
        st.binary(max_size=20) | st.sampled_from([b"\n", b'{"k":"', b'"c":"', *PLAIN]),
    ),
    min_size=1,
    max_size=5,
)


def changed(content: bytes, change: Change) -> bytes:
    """The content with one change made to it."""
    what, where, length, text = change
    at = int(where * len(content))
    head, rest = content[:at], content[at:]
    match what:
        case "flip":
            return head + bytes([rest[0] ^ (length % 255 + 1)]) + rest[1:] if rest else head
        case "cut":
            return head + rest[length:]
        case "zero":
            return head + bytes(min(length, len(rest))) + rest[length:]
        case "insert":
            return head + text + rest
        case "copy":
            return content + rest[:length]
        case _:
            return head


@settings(max_examples=300)
@given(st.sampled_from([PLAIN, COMPACTED]), changes)
def test_any_damage(original: list[bytes], made: list[Change]) -> None:
    """No damage makes opening fail, none invents a record, none costs a line that it left alone."""
    content = b"".join(original)
    for change in made:
        content = changed(content, change)
    reading = opened(content)
    framed = b"\n" + content + b"\n"
    untouched = [n for n, line in enumerate(original, 1) if b"\n" + line in framed]
    if reading is None:
        assert not untouched
        return
    kept = numbers(reading.records)
    assert all(before < after for before, after in pairwise(kept))
    assert set(lines(known(reading.records))) <= {*PLAIN, *COMPACTED}
    if reading.whole:
        assert set(untouched) <= set(kept)
    else:
        assert {n for n in untouched if n > kept[0]} <= set(kept)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\0" * 30, b"\n", *PLAIN])))
def test_any_bytes(pieces: list[bytes]) -> None:
    """Whatever is in the file, opening finds records or says that there are none."""
    content = b"".join(pieces)
    reading = opened(content)
    if reading is None:
        assert not any(line in pieces for line in PLAIN)
    else:
        assert set(lines(known(reading.records))) <= set(PLAIN)

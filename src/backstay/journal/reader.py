"""Reads a journal back: from its tail to the last compaction, or all of it.

Whatever the bytes are, the answer is the records that survived and what was found wrong; never an
exception other than `EmptySession` and `StorageError`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Final

import msgspec

from backstay.core.history import DAMAGE
from backstay.core.record import (
    FORMAT,
    LONGEST_LINE,
    AnyRecord,
    Basis,
    Compaction,
    Prompt,
    Repair,
    Session,
    Unknown,
)
from backstay.errors import EmptySession
from backstay.journal.disk import Absent, Disk, File
from backstay.journal.lines import Damage, Found, Part, line_start, parts

BLOCK: Final = 64 * 1024
"""Bytes: the first step back from the end; each further step doubles."""
_LARGEST_BLOCK: Final = 8 * 1024 * 1024
_SHORTEST_RECORD: Final = 32
"""Bytes; no record is shorter."""
_MOST_DAMAGE: Final = 100
"""Entries; of damage without a record between, what comes behind them is told as one."""
_MOST_STATED: Final = 50
"""Entries of one statement; the rest is counted."""
_AND_MORE: Final = " more"


class Identity(msgspec.Struct, frozen=True):
    """What a session is, from its header or from a record that repeats it."""

    id: str
    cwd: str
    basis: Basis
    format: int


class Reading(msgspec.Struct, kw_only=True):
    """What a journal holds."""

    records: list[AnyRecord]
    """The whole records, sorted by number, each number once."""
    damage: list[Damage]
    """What is wrong, in file order."""
    news: list[Damage]
    """The damage that no repair record of the journal states yet."""
    next_n: int
    """The first number that no record, damaged or not, can have had: count on from here."""
    whole: bool
    """Nothing was left out: `records` does not begin at a compaction."""
    size: int
    """Bytes in the file."""
    unclosed: bool
    """The last byte is no newline."""
    read_only: str = ""
    """Why this version may not write to it; "" if it may."""
    identity: Identity | None = None
    """None if neither the header nor anything that repeats it survived."""

    def repair(self) -> Repair | None:
        """The record to append first, before anything else, when the session is opened to write.

        It states the news; None if there are none. `next_n` counts without it.
        """
        if not self.news:
            return None
        return Repair(n=self.next_n, action=DAMAGE, reason=statement(self.news))


def read(
    disk: Disk, path: str, *, everything: bool = False, longest: int = LONGEST_LINE
) -> Reading:
    """Read the journal at `path` back to its last whole compaction, or all of it.

    Raises `EmptySession` if there is no whole record, `StorageError` if the disk can't be read.
    """
    try:
        file = disk.open(path)
    except Absent:
        raise _nothing(path) from None
    with file:
        size = file.size()
        found, begin = _gather(file, size, everything=everything, longest=longest)
        unclosed = size > 0 and file.read(size - 1, 1) != b"\n"
    if not any(isinstance(part, Found) for part in found):
        raise _nothing(path)
    return _reading(found, size, unclosed=unclosed, from_start=begin == 0, everything=everything)


def walk(disk: Disk, path: str, *, longest: int = LONGEST_LINE) -> Iterator[Part]:
    """Everything in file order, as it stands, in bounded memory: for diagnosis and export."""
    with disk.open(path) as file:
        yield from parts(file, 0, file.size(), longest)


def statement(damage: Sequence[Damage]) -> str:
    """The reason of the repair record that states this damage."""
    told = "; ".join(map(str, damage[:_MOST_STATED]))
    rest = len(damage) - _MOST_STATED
    return told if rest <= 0 else f"{told}; and {rest}{_AND_MORE}"


def _nothing(path: str) -> EmptySession:
    return EmptySession(f"{path} holds no whole record, there is nothing to resume: start anew")


def _gather(file: File, size: int, *, everything: bool, longest: int) -> tuple[list[Part], int]:
    """The parts of the file from some line on, and where that line begins."""
    regions: list[list[Part]] = []
    reach = _Reach()
    begin, block = size, BLOCK
    while begin > 0:
        end = begin
        begin = 0 if everything else line_start(file, end - block, end)
        block = min(2 * block, _LARGEST_BLOCK)
        regions.append(_merged(parts(file, begin, end, longest)))
        if not everything and reach.done(_whole(regions[-1])):
            break
    found = regions[0] if len(regions) == 1 else _merged(chain(*reversed(regions)))
    if begin > 0 or len(regions) > 1:
        for part in found:
            part.line = 0
    return found, begin


class _Reach:
    """How far back to read: to the newest compaction, and a record before it that it covers."""

    def __init__(self) -> None:
        self._newest = 0

    def done(self, region: list[Found]) -> bool:
        """Whether it is enough with this region, which stands before all that were given."""
        before = region
        for index, part in enumerate(region):
            if isinstance(part.record, Compaction) and part.record.n > self._newest:
                self._newest = part.record.n
                before = region[:index]
        return any(part.record.n < self._newest for part in before)


def _whole(found: Sequence[Part]) -> list[Found]:
    return [part for part in found if isinstance(part, Found)]


def _merged(found: Iterable[Part]) -> list[Part]:
    """The same, with damage that touches joined, and no more of it than can be told."""
    merged: list[Part] = []
    told = 0
    for part in found:
        last = merged[-1] if merged else None
        if isinstance(part, Damage):
            if isinstance(last, Damage) and _joins(last, part, told):
                last.length = part.offset + part.length - last.offset
                continue
            told += 1
        merged.append(part)
    return merged


def _joins(last: Damage, part: Damage, told: int) -> bool:
    if told >= _MOST_DAMAGE:
        last.code, last.text = "garbage", "damage of many kinds"
        return True
    return last.code == part.code and part.offset - (last.offset + last.length) <= 1


def _reading(
    found: list[Part], size: int, *, unclosed: bool, from_start: bool, everything: bool
) -> Reading:
    anchor = None if everything else _anchor(found)
    left_out = 0 if anchor is None else _left_out(found, anchor)
    found = found[left_out:]
    kept, damage = _settled(found, 0 if anchor is None else anchor.record.n)
    damage += [part for part in found if isinstance(part, Damage)]
    if anchor is None and from_start and not isinstance(kept[0].record, Session):
        damage.append(Damage("header", 0, 0, "the header is missing"))
    damage += _gaps(kept, damage)
    damage.sort(key=lambda part: part.offset)
    records = [part.record for part in kept]
    news = _news(damage, kept)
    return Reading(
        records=records,
        damage=damage,
        news=news,
        next_n=_next_number(kept[-1], news),
        whole=anchor is None and from_start,
        size=size,
        unclosed=unclosed,
        read_only=_read_only(records),
        identity=_identity(records),
    )


def _anchor(found: list[Part]) -> Found | None:
    """The newest compaction; of two copies the first."""
    compactions = [part for part in _whole(found) if isinstance(part.record, Compaction)]
    return max(compactions, key=lambda part: part.record.n, default=None)


def _left_out(found: list[Part], anchor: Found) -> int:
    """How many parts at the beginning the compaction covers: those before it, unless newer."""
    return next(
        index
        for index, part in enumerate(found)
        if isinstance(part, Found) and part.record.n >= anchor.record.n
    )


def _settled(found: list[Part], oldest: int) -> tuple[list[Found], list[Damage]]:
    """The records by number, each once, none older than `oldest`; and what that took."""
    kept: dict[int, Found] = {}
    damage: list[Damage] = []
    highest = 0
    for part in _whole(found):
        n = part.record.n
        first = kept.get(n)
        if first is not None:
            damage.append(_repeated(part, same=first.crc == part.crc))
        elif n < oldest:
            damage.append(_about(part, "order", f"record {n}, which the compaction covers"))
        else:
            kept[n] = part
            if n < highest:
                damage.append(_about(part, "order", f"record {n}, which stands behind {highest}"))
            highest = max(highest, n)
    return [kept[n] for n in sorted(kept)], damage


def _repeated(part: Found, *, same: bool) -> Damage:
    n = part.record.n
    if same:
        return _about(part, "duplicate", f"record {n} once more")
    return _about(part, "conflict", f"another record with the number {n}, left out")


def _about(part: Found, code: str, text: str) -> Damage:
    return msgspec.convert(
        {
            "code": code,
            "offset": part.offset,
            "length": part.length,
            "text": text,
            "line": part.line,
        },
        Damage,
    )


def _gaps(kept: list[Found], damage: list[Damage]) -> list[Damage]:
    """Numbers that no record has, where no damage explains it: a line was taken out."""
    offsets = sorted(part.offset for part in damage if part.code not in _OF_RECORDS)
    gaps = []
    for before, after in pairwise(kept):
        first, last = before.record.n + 1, after.record.n - 1
        explained = bisect_right(offsets, after.offset) > bisect_right(offsets, before.offset)
        if first > last or explained or _states_damage(after.record):
            continue
        numbers = f"record {first} is" if first == last else f"records {first} to {last} are"
        gaps.append(Damage("missing", after.offset, 0, f"{numbers} missing", after.line))
    return gaps


_OF_DISORDER: Final = frozenset({"duplicate", "order", "conflict"})
_OF_RECORDS: Final = _OF_DISORDER | {"header", "missing"}


def _states_damage(record: AnyRecord) -> bool:
    return isinstance(record, Repair) and record.action == DAMAGE


def _next_number(last: Found, news: list[Damage]) -> int:
    """One more than the highest, and than damaged lines behind it can have held.

    Where records are out of order, damage anywhere can have held them. Damage that is stated was
    reckoned with when it was: the statement's own number stands above it.
    """
    orderly = all(part.code not in _OF_DISORDER for part in news)
    room = sum(
        part.length // _SHORTEST_RECORD + 1
        for part in news
        if part.length and not (orderly and part.offset < last.offset)
    )
    return last.record.n + room + 1


def _news(damage: list[Damage], kept: list[Found]) -> list[Damage]:
    """The damage that is not stated; a statement that only counts some stands for all before it."""
    stated: set[str] = set()
    before = 0
    for part in kept:
        record = part.record
        if isinstance(record, Repair) and _states_damage(record):
            stated.update(record.reason.split("; "))
            if record.reason.endswith(_AND_MORE):
                before = max(before, part.offset)
    return [part for part in damage if str(part) not in stated and part.offset >= before]


def _read_only(records: list[AnyRecord]) -> str:
    for record in records:
        if isinstance(record, Unknown):
            if record.must:
                return f"it holds a record ({record.kind}) that a newer Backstay wrote"
        elif isinstance(record, Session | Prompt | Compaction) and record.format > FORMAT:
            return f"its format is {record.format}, this Backstay knows {FORMAT}"
    return ""


def _identity(records: list[AnyRecord]) -> Identity | None:
    for record in records:
        if isinstance(record, Session | Prompt | Compaction):
            return Identity(record.id, record.cwd, record.basis, record.format)
    return None

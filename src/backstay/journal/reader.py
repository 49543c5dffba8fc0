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
    Fork,
    Origin,
    Prompt,
    Repair,
    Session,
    Unknown,
)
from backstay.errors import EmptySession
from backstay.journal.disk import Absent, Disk, File
from backstay.journal.folders import home_of, journal_path, parent, session_folder
from backstay.journal.ids import is_id
from backstay.journal.lineage import LONGEST_CHAIN, digest, locate, origin_of, reaches
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
        own = _sheet(file, size, everything=everything, longest=longest)
        unclosed = size > 0 and file.read(size - 1, 1) != b"\n"
    if not own.kept:
        raise _nothing(path)
    return _reading(_chain(disk, path, own, everything=everything, longest=longest), size, unclosed)


def sheets(disk: Disk, path: str, *, everything: bool = False) -> list["Sheet"]:
    """What `read` reads, file by file, the session's own first.

    Raises `EmptySession` if there is no whole record, `StorageError`.
    """
    try:
        with disk.open(path) as file:
            own = _sheet(file, file.size(), everything=everything, longest=LONGEST_LINE)
    except Absent:
        raise _nothing(path) from None
    if not own.kept:
        raise _nothing(path)
    return _chain(disk, path, own, everything=everything, longest=LONGEST_LINE)


def _chain(disk: Disk, path: str, own: "Sheet", *, everything: bool, longest: int) -> list["Sheet"]:
    folder = parent(path)
    own.session = folder.rpartition("/")[2]
    if own.origin is None:
        return [own]
    return [own, *inherited(disk, home_of(folder), own, everything=everything, longest=longest)]


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


class Sheet(msgspec.Struct):
    """What was read of one file: its whole records by number, and what is wrong with it."""

    kept: list[Found]
    damage: list[Damage]
    news: list[Damage]
    """The damage that the file itself does not state."""
    whole: bool
    """Nothing of the file was left out."""
    origin: Origin | None = None
    """Where what stands before its first record is, if the file is a fork's and doesn't hold it."""
    session: str = ""
    """The id of the session whose file it is."""


def _sheet(
    file: File, end: int, *, everything: bool, longest: int, upto: int | None = None
) -> Sheet:
    """A file's records before some offset, none above `upto`."""
    found, begin = _gather(file, end, everything=everything, longest=longest)
    if upto is not None:
        found = [part for part in found if isinstance(part, Damage) or part.record.n <= upto]
    anchor = None if everything else _anchor(found)
    left_out = 0 if anchor is None else _left_out(found, anchor)
    found = found[left_out:]
    kept, damage = _settled(found, 0 if anchor is None else anchor.record.n)
    damage += [part for part in found if isinstance(part, Damage)]
    whole = anchor is None and begin == 0
    if whole and kept and not isinstance(kept[0].record, Session):
        damage.append(Damage("header", 0, 0, "the header is missing"))
    damage += _gaps(kept, damage)
    damage.sort(key=lambda part: part.offset)
    origin = origin_of(kept) if whole else None
    if origin is not None and reaches(kept, origin):
        origin = None
    return Sheet(kept, damage, _news(damage, kept), whole, origin)


def inherited(
    disk: Disk, home: str, fork: Sheet, *, everything: bool = False, longest: int = LONGEST_LINE
) -> Iterator[Sheet]:
    """The sheets that come before a fork's own, nearest first.

    What can't be had is a sheet without records that says so. Raises `StorageError`.
    """
    origin, seen = fork.origin, {fork.session}
    while origin is not None:
        lost = f"records 1 to {origin.upto} are missing: they stand in session {origin.parent[:80]}"
        if origin.parent in seen or len(seen) > LONGEST_CHAIN or not is_id(origin.parent):
            yield _lost(f"{lost}, which can't be")
            return
        seen.add(origin.parent)
        try:
            file = disk.open(journal_path(session_folder(home, origin.parent)))
        except Absent:
            yield _lost(f"{lost}, which is gone")
            return
        with file:
            place = locate(file, origin, longest)
            if place.strange:
                yield _lost(f"{lost}, which is not what it was")
                return
            sheet = _sheet(
                file, place.end, everything=everything, longest=longest, upto=origin.upto
            )
        _name(sheet, origin)
        yield sheet
        origin = sheet.origin


def _lost(text: str) -> Sheet:
    damage = [Damage("shared", 0, 0, text)]
    return Sheet([], damage, damage, whole=False)


def _name(sheet: Sheet, origin: Origin) -> None:
    """Say of damage in another file where it is, and that the last shared record is lost."""
    if not sheet.kept or sheet.kept[-1].record.n != origin.upto:
        lost = Damage("shared", 0, 0, f"record {origin.upto}, the last shared one, is missing")
        sheet.damage.append(lost)
        sheet.news.append(lost)
    sheet.session = origin.parent
    named = {id(part): _named(part, origin.parent) for part in sheet.damage}
    sheet.damage = [named[id(part)] for part in sheet.damage]
    sheet.news = [named[id(part)] for part in sheet.news]


def _named(part: Damage, session: str) -> Damage:
    return msgspec.structs.replace(part, text=f"in session {session}: {part.text}")


def _reading(chain: list[Sheet], size: int, unclosed: bool) -> Reading:  # noqa: FBT001
    """What the own file says (the first sheet), behind what it shares with others."""
    own = chain[0]
    found = [part for sheet in reversed(chain) for part in sheet.kept]
    before = [part for sheet in reversed(chain[1:]) for part in sheet.damage]
    news = [part for sheet in reversed(chain[1:]) for part in sheet.news]
    origin = own.origin
    if origin and not before and digest(found, origin.first, origin.upto) != origin.digest:
        before = news = [Damage("shared", 0, 0, _CHANGED)]
    records = [part.record for part in found]
    return Reading(
        records=records,
        damage=before + own.damage,
        news=_unstated(news, own.kept) + own.news,
        next_n=_next_number(own.kept[-1], own.news),
        whole=all(sheet.whole for sheet in chain),
        size=size,
        unclosed=unclosed,
        read_only=why_read_only(records),
        identity=_identity(records),
    )


_CHANGED: Final = "the shared records are not what they were when this session was forked"


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
    counted = [at for at, said in _statements(kept) if said.endswith(_AND_MORE)]
    before = max(counted, default=0)
    return [part for part in _unstated(damage, kept) if part.offset >= before]


def _unstated(damage: list[Damage], kept: list[Found]) -> list[Damage]:
    stated = {text for _, said in _statements(kept) for text in said.split("; ")}
    return [part for part in damage if str(part) not in stated]


def _statements(kept: list[Found]) -> Iterator[tuple[int, str]]:
    """Where damage is stated, and what is said."""
    for part in kept:
        if isinstance(part.record, Repair) and part.record.action == DAMAGE:
            yield part.offset, part.record.reason


def why_read_only(records: list[AnyRecord]) -> str:
    """Why this version must not write to a session with these records; "" if it may."""
    for record in records:
        if isinstance(record, Unknown):
            if record.must:
                return f"it holds a record ({record.kind}) that a newer Backstay wrote"
        elif isinstance(record, Session | Prompt | Compaction | Fork) and record.format > FORMAT:
            return f"its format is {record.format}, this Backstay knows {FORMAT}"
    return ""


def _identity(records: list[AnyRecord]) -> Identity | None:
    """From the newest header, which is the session's own; else from what repeats it."""
    for kinds, among in ((_HEADERS, reversed(records)), (_REPEATING, iter(records))):
        for record in among:
            if isinstance(record, kinds):
                return Identity(record.id, record.cwd, record.basis, record.format)
    return None


_HEADERS: Final = (Session, Fork)
_REPEATING: Final = (Prompt, Compaction)

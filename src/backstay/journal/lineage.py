"""Where the records that a fork shares stand in the file of the session it was forked from."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from backstay.core.record import LONGEST_LINE, Fork, Origin, Session
from backstay.journal.disk import File
from backstay.journal.lines import Found, line_start, parts

LONGEST_CHAIN: Final = 10_000
"""Sessions that are read at most, one forked from the other."""
_NEAR: Final = 256 * 1024
"""Bytes: a stretch that is passed through rather than halved."""


class Place(msgspec.Struct, frozen=True):
    """Where the shared records end in a file, and what speaks against their being the same."""

    end: int
    """Bytes: the offset behind the newline of the last one."""
    strange: bool = False
    """Another record has the number of the last one: this is another history."""


def origin_of(found: Iterable[Found]) -> Origin | None:
    """The origin of a file's records that reaches back furthest, None where there is none.

    A file holds more than one where shared records were copied into it.
    """
    origins = [
        part.record.origin
        for part in found
        if isinstance(part.record, Session | Fork) and part.record.origin is not None
    ]
    return min(origins, key=lambda one: one.upto, default=None)


def digest(found: Iterable[Found], first: int, upto: int) -> str:
    """What a fork keeps of the records that it shares, to know them again."""
    from hashlib import sha256  # late: most sessions are no forks

    summed = sha256()
    for part in found:
        if first <= part.record.n <= upto:
            summed.update(b"%d %08x\n" % (part.record.n, part.crc))
    return summed.hexdigest()


def locate(file: File, origin: Origin, longest: int = LONGEST_LINE) -> Place:
    """Where the shared records end in the parent's file.

    Costs one small read where the hint is right, some more where the file was written anew, and
    one pass over it where the record itself is damaged.
    """
    size = file.size()
    if (end := _at_hint(file, origin, size, longest)) is not None:
        return Place(end)
    place = _passed(file, origin, _near(file, origin.upto, size, longest), size, longest)
    if place is None or place.strange:
        place = _passed(file, origin, 0, size, longest)
    return place or Place(_behind(file, origin.upto, size, longest))


def _at_hint(file: File, origin: Origin, size: int, longest: int) -> int | None:
    if not 0 <= origin.offset < size:
        return None
    if origin.offset and file.read(origin.offset - 1, 1) != b"\n":
        return None
    end = line_start(file, origin.offset + 1, size)
    end = size if end <= origin.offset else end
    for part in parts(file, origin.offset, end, longest):
        if isinstance(part, Found):
            return end if _is_last(part, origin) else None
    return None


def _is_last(part: Found, origin: Origin) -> bool:
    return part.record.n == origin.upto and part.crc == origin.check


def _near(file: File, n: int, size: int, longest: int) -> int:
    """A line at or before record `n`, found by halving: numbers grow along a file."""
    low, high = 0, size
    while high - low > _NEAR:
        middle = line_start(file, (low + high) // 2, high)
        part = next(
            (one for one in parts(file, middle, high, longest) if isinstance(one, Found)), None
        )
        if middle <= low or part is None or part.record.n > n:
            high = (low + high) // 2
        else:
            low = middle
    return low


def _passed(file: File, origin: Origin, begin: int, size: int, longest: int) -> Place | None:
    """The end of the record itself, searched from some line on; None if it is not there."""
    strange = None
    for part in parts(file, begin, size, longest):
        if not isinstance(part, Found) or part.record.n != origin.upto:
            continue
        end = part.offset + part.length
        end += file.read(end, 1) == b"\n"
        if part.crc == origin.check:
            return Place(end)
        strange = Place(end, strange=True)
    return strange


def _behind(file: File, n: int, size: int, longest: int) -> int:
    """Where the first record with a higher number begins; the file's end without one."""
    for part in parts(file, 0, size, longest):
        if isinstance(part, Found) and part.record.n > n:
            return part.offset
    return size


def reaches(found: Sequence[Found], origin: Origin) -> bool:
    """Whether shared records stand among these: they were copied here."""
    return any(part.record.n <= origin.upto for part in found)

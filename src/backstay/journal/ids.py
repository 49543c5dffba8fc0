"""Session ids: UUIDs of version 7 (RFC 9562, 5.7), sorted by when they were made."""

from typing import Final

_HEX: Final = frozenset("0123456789abcdef")
_GROUPS: Final = (8, 4, 4, 4, 12)


def uuid7(seconds: float, random: bytes) -> str:
    """A new id from Unix seconds and at least ten random bytes."""
    bits = int(seconds * 1000) << 80 | int.from_bytes(random[:10], "big")
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    text = f"{bits & (1 << 128) - 1:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_id(text: str) -> bool:
    """Whether it has the shape of an id: lower-case hex digits in groups of 8, 4, 4, 4 and 12."""
    groups = text.split("-")
    return tuple(map(len, groups)) == _GROUPS and _HEX.issuperset("".join(groups))


def is_prefix(text: str) -> bool:
    """Whether an id can begin so; says nothing about its length."""
    return is_id(text + "00000000-0000-0000-0000-000000000000"[len(text) :])


def seconds(session: str) -> float:
    """When an id was made: Unix seconds, to the millisecond."""
    return int(session[:8] + session[9:13], 16) / 1000

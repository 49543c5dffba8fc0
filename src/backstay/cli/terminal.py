"""What a terminal is told: styles, widths, and text made harmless. Owns no wording."""

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from backstay.cli.sink import Sink

_ESCAPED: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (9, 10)
} | {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""Control characters but tab and newline, and those that reverse the direction of writing."""


def harmless(text: str) -> str:
    """The text with every control character spelled out: nothing in it moves a cursor."""
    return text.translate(_ESCAPED)


def one_line(text: str, width: int) -> str:
    """The text on one line of so many columns; what does not fit becomes an ellipsis."""
    text = " ".join(harmless(text).split())
    return text if columns(text) <= width else _fit(text, max(width - 3, 0)) + "..."


def columns(text: str) -> int:
    """Columns that a text takes, wide letters counted as two."""
    return sum(_columns(letter) for letter in text)


def _columns(letter: str) -> int:
    code = ord(letter)
    wide = 0x1100 <= code <= 0x115F or 0x2E80 <= code <= 0xA4CF or 0xAC00 <= code <= 0xD7A3
    return (
        2 if wide or 0xF900 <= code <= 0xFAFF or 0xFE30 <= code <= 0xFF60 or code > 0x1F000 else 1
    )


def _fit(text: str, width: int) -> str:
    taken = 0
    for place, letter in enumerate(text):
        taken += _columns(letter)
        if taken > width:
            return text[:place]
    return text


def dollars(amount: float) -> str:
    """An amount of US dollars with as many digits as tell it from nothing."""
    digits = 2 if amount >= 1 or amount == 0 else 4
    return f"${amount:,.{digits}f}" if round(amount, digits) or not amount else "under $0.0001"


class Style(msgspec.Struct, frozen=True):
    """How a terminal may be used."""

    color: bool = False
    live: bool = False
    """A line may be drawn over."""

    def __call__(self, text: str, *codes: int) -> str:
        """The text in these SGR codes, where colours are wanted."""
        if not (self.color and text and codes):
            return text
        return f"\x1b[{';'.join(map(str, codes))}m{text}\x1b[0m"

    def erase(self, drawn: int) -> str:
        """What takes a line of so many columns away; no escape code where none is wanted."""
        return "\r\x1b[K" if self.color else f"\r{' ' * drawn}\r"


DIM, BOLD, RED, GREEN, YELLOW = 2, 1, 31, 32, 33


def style(when: str, sink: Sink, environ: Mapping[str, str]) -> Style:
    """What `--color`, NO_COLOR, TERM and the descriptor allow."""
    capable = sink.is_terminal and environ.get("TERM", "dumb") != "dumb"
    auto = capable and not environ.get("NO_COLOR")
    return Style(color=when == "always" or (when == "auto" and auto), live=capable)


def width() -> int:
    """Columns of the terminal."""
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80

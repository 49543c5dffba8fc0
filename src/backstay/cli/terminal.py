"""Where output goes: descriptors that may close at any time, styles, and text made harmless.

Owns no wording. Writes go to the descriptor at once, so that nothing is left to flush at the end.
"""

import os
import re
import select
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

_SEQUENCE: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])"
)
"""Terminal control sequences, as commands print them for colours and titles."""
_ESCAPED: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (9, 10)
} | {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""Control characters but tab and newline, and those that reverse the direction of writing."""


def harmless(text: str) -> str:
    """The text with every control character spelled out: nothing in it moves a cursor."""
    return text.translate(_ESCAPED)


def plain(text: str) -> str:
    """A command's output: sequences taken out, overprinted lines as they end up, then harmless."""
    text = _SEQUENCE.sub("", text).replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return harmless(text)


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


class Sink:
    """A descriptor that is written to. Once it is closed at the other end, writes are dropped."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.closed = ""
        """Why nothing can be written any more."""
        self.on_closed: Callable[[str], None] = _ignore
        try:
            self.is_terminal = os.isatty(fd)
        except OSError:
            self.is_terminal = False

    def write(self, data: bytes) -> None:
        """Write it all, or find out that the other end is gone."""
        while data and not self.closed:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                select.select([], [self._fd], [], 1.0)
            except OSError as error:
                self._close(error.strerror or str(error))

    def text(self, text: str) -> None:
        """Write text; what UTF-8 can't carry becomes a question mark."""
        self.write(text.encode("utf-8", "replace"))

    def look(self) -> None:
        """Find out whether a pipe's reader is gone, although nothing is written."""
        if self.closed or not hasattr(select, "poll"):
            return
        poll = select.poll()
        poll.register(self._fd, 0)
        if any(found & (select.POLLERR | select.POLLNVAL) for _, found in poll.poll(0)):
            self._close("Broken pipe")

    def _close(self, why: str) -> None:
        self.closed = why
        self.on_closed(why)


def _ignore(_: str) -> None: ...


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

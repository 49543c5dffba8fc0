"""How much of a command's output a person sees: its beginning as it comes, its end at the end."""

import codecs
import re
from collections import deque
from typing import Final

from backstay.cli.terminal import harmless

HEAD: Final = 20
"""Lines that are shown as they come."""
TAIL: Final = 5
"""Lines that are shown at the end of a longer output."""
LONGEST: Final = 400
"""Characters of a line."""
_PARTIAL: Final = 64 * 1024
"""Characters without a newline after which a line is taken as it is."""

_SEQUENCE: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])"
)
"""Terminal control sequences, as commands print them for colours and titles."""


class Shown:
    """One command's output."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = ""
        self._count = 0
        self._tail: deque[str] = deque(maxlen=TAIL)

    def feed(self, data: bytes) -> list[str]:
        """The lines to show now."""
        self._partial += self._decoder.decode(data)
        *whole, self._partial = self._partial.split("\n")
        if len(self._partial) > _PARTIAL:
            whole.append(self._partial)
            self._partial = ""
        return self._take(whole)

    def rest(self) -> list[str]:
        """The lines to show at the end: how many were left out, and the last ones."""
        head = self._take([self._partial]) if self._partial else []
        self._partial = ""
        left_out = self._count - HEAD - len(self._tail)
        note = [f"... {left_out} lines left out ..."] if left_out > 0 else []
        return [*head, *note, *self._tail]

    def _take(self, lines: list[str]) -> list[str]:
        room = max(HEAD - self._count, 0)
        self._count += len(lines)
        self._tail.extend(_bounded(line) for line in lines[room:][-TAIL:])
        return [_bounded(line) for line in lines[:room]]


def _bounded(line: str) -> str:
    text = plain(line)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def plain(text: str) -> str:
    """A command's output: sequences taken out, overprinted lines as they end up, then harmless."""
    text = _SEQUENCE.sub("", text).replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return harmless(text)

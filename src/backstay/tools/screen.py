"""What was written to a terminal, as text: line by line, as each line ended up.

Owns the reading of control sequences, no screen: a program that paints a whole one leaves the lines
in the order in which it painted them. The bytes themselves stay in the spool.
"""

import re
from collections.abc import Callable
from typing import Final

_WIDEST: Final = 200
"""The last column that a sequence can lead to: a few bytes are not to make a long text."""
_LONGEST: Final = 256
"""Bytes of a sequence whose end may still come."""

_CSI: Final = r"\x1b\[(?P<given>[0-?]*)[ -/]*(?P<final>[@-~])"
_OTHER: Final = r"\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
_CONTROL: Final = re.compile(rf"{_CSI}|{_OTHER}|[\x00-\x08\x0a-\x1f\x7f-\x9f]")
"""ECMA-48: control sequences, control strings and other escapes, single controls but the tab."""
_WHOLE: Final = re.compile(f"{_CSI}|{_OTHER}".encode())
_BEGUN: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)")


def plain(data: bytes) -> str:
    """The text: no control characters but newlines and tabs; undecodable bytes are replaced."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    paper = _Paper()
    at = 0
    for found in _CONTROL.finditer(text):
        paper.write(text[at : found.start()])
        at = found.end()
        if final := found["final"]:
            paper.obey(final, found["given"])
        else:
            paper.control(found.group())
    paper.write(text[at:])
    return paper.text()


def unfinished(data: bytes) -> int:
    """How many bytes at the end may be the beginning of a sequence, or of the end of a line."""
    at = data.find(b"\x1b", max(len(data) - _LONGEST, 0))
    while at >= 0:
        whole = _WHOLE.match(data, at)
        if whole is None and _BEGUN.fullmatch(data, at):
            return len(data) - at
        at = data.find(b"\x1b", whole.end() if whole else at + 1)
    return 1 if data.endswith(b"\r") else 0


class _Paper:
    """Lines that are done, the line under the cursor, and where on it the cursor is."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._line: list[str] = []
        self._column = 0
        self._row = 0
        """The row of the line, where the program has said it; else 0."""

    def text(self) -> str:
        return "\n".join([*self._done, "".join(self._line)])

    def write(self, text: str) -> None:
        end = self._column + len(text)
        self._line[self._column : end] = text
        self._column = end

    def control(self, sign: str) -> None:
        """A single control character; sequences that mean nothing here come here too."""
        if sign == "\n":
            self._feed()
            self._row = 0
        elif sign == "\r":
            self._column = 0
        elif sign == "\b":
            self._column = max(self._column - 1, 0)

    def obey(self, final: str, given: str) -> None:
        """A control sequence: its last character and its parameters."""
        if act := _ACTS.get(final):
            first, _, second = given.partition(";")
            act(self, _number(first), _number(second))

    def to_row(self, row: int, column: int) -> None:
        """Go to a place on the screen: another row is another line. 0 is a row not known."""
        if (row != self._row or not row) and self._line:
            self._feed()
        self._row = row
        self.to_column(column)

    def to_column(self, column: int) -> None:
        """Go to a column of this line, from 1."""
        self._column = min(max(column, 1), _WIDEST) - 1
        self._line += " " * (self._column - len(self._line))

    def erase(self) -> None:
        """Erase the rest of the line."""
        del self._line[self._column :]

    def repeat(self, count: int) -> None:
        """Write the last character again."""
        last = self._line[self._column - 1 : self._column]
        self.write("".join(last) * min(count, max(_WIDEST - self._column, 0)))

    @property
    def column(self) -> int:
        """The column of the cursor, from 1."""
        return self._column + 1

    def _feed(self) -> None:
        self._done.append("".join(self._line).rstrip(" "))
        self._line = []
        self._column = 0


def _number(given: str) -> int:
    """A parameter; 1 if it is left out, and for what no number can be."""
    return max(int(given[:4]), 1) if given[:4].isdecimal() else 1


_ACTS: Final[dict[str, Callable[[_Paper, int, int], None]]] = {
    "A": lambda paper, _n, _m: paper.to_row(0, paper.column),
    "B": lambda paper, _n, _m: paper.to_row(0, paper.column),
    "C": lambda paper, n, _m: paper.to_column(paper.column + n),
    "D": lambda paper, n, _m: paper.to_column(paper.column - n),
    "E": lambda paper, _n, _m: paper.to_row(0, 1),
    "F": lambda paper, _n, _m: paper.to_row(0, 1),
    "G": lambda paper, n, _m: paper.to_column(n),
    "H": lambda paper, n, m: paper.to_row(n, m),
    "K": lambda paper, _n, _m: paper.erase(),
    "b": lambda paper, n, _m: paper.repeat(n),
    "d": lambda paper, n, _m: paper.to_row(n, paper.column),
    "f": lambda paper, n, m: paper.to_row(n, m),
}
"""The sequences that move text; colours, modes, titles and the rest mean nothing on paper."""

"""What the help of a command is made of, and how it is laid out from 40 columns on.

The same pages make the man page and the completion, so that none of them can tell another story.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from backstay.cli.options import Option, columns, table

WIDEST: Final = 80
_HANGING: Final = 6
"""Columns from which an indented line goes on with the one above it."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One command."""

    name: str
    """As it is typed behind `backstay`."""
    text: str
    """`usage:` with its lines, an empty line, then paragraphs; indented lines are kept apart."""
    rows: tuple[tuple[str, str], ...] = ()
    """Its own commands: how they are written, what they do."""
    options: tuple[Option, ...] = ()
    unhonoured: tuple[Option, ...] = ()
    """Taken, and answered with one line."""
    examples: tuple[tuple[str, str], ...] = ()
    """A command line, and what it does."""

    def help(self, width: int = WIDEST) -> str:
        """All of it in so many columns."""
        parts = [fitted(self.text, width)]
        if self.rows:
            parts.append(f"Commands:\n{columns(self.rows, width)}")
        if self.options:
            parts.append(f"Options:\n{table(self.options, width)}")
        if self.unhonoured:
            why = "Taken for the sake of programs written for Codex, and answered with one line:\n"
            parts.append(f"{fitted(why, width)}{table(self.unhonoured, width)}")
        if self.examples:
            parts.append(f"Examples:\n{_examples(self.examples, width)}")
        return "\n".join(parts)


def print_page(page: Page) -> None:
    """Print the help on stdout, as wide as that is."""
    print(page.help(help_width()), end="")


def help_width() -> int:
    """Columns for a help text."""
    from backstay.cli.listing import width_of

    return min(width_of(1), WIDEST)


def fitted(text: str, width: int) -> str:
    """The text with its paragraphs wrapped anew; an indented line stays a line of its own.

    Rows of two columns (`  --flag VALUE   what it does`, wrapped or not) stay a table.
    """
    lines: list[str] = []
    for block in _blocks(text):
        first = block[0]
        if not first:
            lines.append("")
        elif row := _row(block):
            lines += columns([row[:2]], width, row[2]).splitlines()
        elif first.startswith(("usage:", "       ")):
            lines += _wrapped(first, width, " " * 11)
        else:
            lines += _wrapped(
                " ".join(block), width, f"{_indent(first)}    " * bool(_indent(first))
            )
    return "".join(f"{line}\n" for line in lines)


def _blocks(text: str) -> Iterator[list[str]]:
    """Lines that belong together: a paragraph, or an indented line with what hangs on it."""
    block: list[str] = []
    for line in text.splitlines():
        hangs = block and _row(block) and len(_indent(line)) > _HANGING
        plain = block and block[0] and not block[0].startswith((" ", "usage:"))
        if block and not (hangs or (plain and line and not line.startswith(" "))):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _row(block: list[str]) -> tuple[str, str, int] | None:
    """Name, text and the column of the text, if this is a row of a table."""
    first = block[0]
    name, gap, text = first.strip().partition("  ")
    if not (first.startswith("  ") and gap and text and len(_indent(first)) < _HANGING):
        return None
    whole = " ".join([text, *block[1:]])
    return name, " ".join(whole.split()), first.index(text.strip(), len(name) + 2)


def _examples(rows: tuple[tuple[str, str], ...], width: int) -> str:
    lines = []
    for command, what in rows:
        lines += _wrapped(f"  {command}", width, "      ")
        lines += _wrapped(f"      {what}", width, "      ")
    return "".join(f"{line}\n" for line in lines)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _wrapped(text: str, width: int, hang: str) -> list[str]:
    import textwrap

    return textwrap.wrap(
        text, width, subsequent_indent=hang, break_on_hyphens=False, break_long_words=False
    )

"""What the help of a command is made of, and how it is laid out from 40 columns on.

The same pages make the man page and the completion, so that none of them can tell another story.
"""

import msgspec

from backstay.cli.options import Option, columns, table

WIDEST = 80


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
    """The text with its paragraphs wrapped anew; an indented line stays a line of its own."""
    lines: list[str] = []
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line and not line.startswith((" ", "usage:")):
            paragraph.append(line)
            continue
        lines += _wrapped(" ".join(paragraph), width, "") if paragraph else []
        paragraph = []
        hang = "           " if line.startswith(("usage:", "       ")) else _indent(line) + "    "
        lines += _wrapped(line, width, hang) if line else [""]
    return "".join(f"{line}\n" for line in lines[:-1])


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

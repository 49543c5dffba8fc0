"""Draws docs/man/backstay.1 from the pages of the help: `python -m tests.man`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from backstay.cli.main import CODES, COMMANDS, ENVIRONMENT
from backstay.cli.options import Option
from backstay.cli.page import Page
from backstay.cli.pages import CHAOS, TURNS, every

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "man" / "backstay.1"
_ABOUT: Final = """\
Backstay is a coding agent for the terminal: it works in your folder through shell commands and
patches, driven by any model that speaks the Responses API. Its sessions survive a stream that
closes in the middle, a retry, a kill -9, a full disk, a torn file and a second process.

Without a command it says which sessions of this folder were cut, run, or have prompts waiting, and
how to go on.
"""
_FILES: Final = (
    ("$BACKSTAY_HOME", "by default $XDG_DATA_HOME/backstay or ~/.local/share/backstay"),
    ("config.toml", "the configuration"),
    ("sessions/", "a folder for each session, with its journal"),
    ("AGENTS.md, skills/", "what the model is told in every folder"),
    ("log/", "what --debug wrote"),
)


def page() -> str:
    """The whole man page, in troff."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield '.\\" Made from the code by "make docs"; do not edit.'
    yield '.TH BACKSTAY 1 "" "Backstay" "User Commands"'
    yield ".SH NAME\nbackstay \\- a coding agent whose sessions survive everything"
    yield ".SH SYNOPSIS\n.B backstay\n.I COMMAND\n\\&..."
    yield ".SH DESCRIPTION"
    yield from _text(_ABOUT)
    yield ".SH COMMANDS"
    yield from _rows(COMMANDS)
    pages = {one.name: one for one in every()}
    for one in pages.values():
        yield from _section(one)
    exec_page = pages["exec"]
    yield ".SH OPTIONS OF THE COMMANDS THAT RUN A TURN"
    yield from _options(exec_page.options)
    yield ".PP\nTaken for the sake of programs written for Codex, and answered with one line:"
    yield from _options(exec_page.unhonoured)
    yield ".SH ENVIRONMENT"
    yield from _rows(ENVIRONMENT)
    yield ".SH FILES"
    yield from _rows(_FILES)
    yield ".SH EXIT STATUS"
    yield from _rows(CODES)


def _section(one: Page) -> Iterator[str]:
    usage, _, rest = one.text.partition("\n\n")
    yield f'.SH "{_escaped(f"backstay {one.name}".upper())}"'
    for line in usage.removeprefix("usage: ").splitlines():
        yield f".B {_escaped(line.strip())}\n.br"
    if one.name in CHAOS:
        yield ".PP\n.nf\n" + "\n".join(map(_escaped, rest.splitlines())) + "\n.fi"
    else:
        yield from _text(rest)
    yield from _rows(one.rows)
    if one.name not in TURNS:
        yield from _options(one.options)
    if one.examples:
        yield ".PP\nExamples:"
        yield from _rows(one.examples)


def _text(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        if paragraph:
            yield ".PP\n" + "\n".join(_escaped(line.strip()) for line in paragraph.splitlines())


def _options(options: tuple[Option, ...]) -> Iterator[str]:
    names = [", ".join(one.names) + (f" {one.value}" if one.value else "") for one in options]
    yield from _rows(
        tuple((name, one.help or one.ignored) for name, one in zip(names, options, strict=True))
    )


def _rows(rows: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for left, right in rows:
        yield f".TP\n.B {_escaped(left)}\n{_escaped(right)}"


def _escaped(text: str) -> str:
    """As text: no line is a request, no dash becomes a hyphen."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    text = (
        text.replace('"', "\\(dq").replace("…", "...").replace("~", "\\(ti").replace("^", "\\(ha")
    )
    return f"\\&{text}" if text.startswith((".", "\\(aq")) else text


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())

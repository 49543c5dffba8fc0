"""Help: every command has a page that fits its width, from 40 columns on."""

import shutil
import subprocess

import pytest

from backstay.cli.main import COMMANDS, MODULES, overview
from backstay.cli.page import fitted
from backstay.cli.pages import CHAOS, NAMES, TURNS, every, page
from backstay.errors import UsageError
from tests import man


@pytest.mark.parametrize("width", [40, 59, 60, 80])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_its_width(name: str, width: int) -> None:
    """No line is longer, but for one that is a single word; nothing is lost on the way."""
    wide, text = page(name).help(), page(name).help(width)
    assert [line for line in text.splitlines() if len(line) > width and " " in line.strip()] == []
    assert text.split() == wide.split()
    assert text.startswith(f"usage: backstay {name}")


def test_every_command_has_a_page() -> None:
    """Those that are started, and those that are listed."""
    assert {*TURNS, *MODULES, *CHAOS} == {*NAMES}
    assert {usage.split()[0] for usage, _ in COMMANDS} == {name.split()[0] for name in NAMES}
    assert [one.name for one in every()] == [*NAMES]
    with pytest.raises(UsageError):
        page("no-such-command")


@pytest.mark.parametrize("width", [40, 80])
def test_the_overview_fits(width: int) -> None:
    """And names each command."""
    text = overview(width)
    assert max(map(len, text.splitlines())) <= width
    assert all(f"\n  {name}" in text for name in TURNS)


def test_paragraphs_are_wrapped_and_tables_stay() -> None:
    """Rows of a table whose text goes on stay rows, in two columns or below each other."""
    text = "One\ntwo.\n\n  --a X   does this\n          and that\n  --b     b\n"
    assert fitted(text, 80) == "One two.\n\n  --a X   does this and that\n  --b     b\n"
    assert fitted(text, 40) == "One two.\n\n  --a X\n      does this and that\n  --b\n      b\n"


def test_the_man_page_is_that_of_the_help() -> None:
    """`make docs` draws it anew."""
    assert man.PAGE.read_text() == man.page(), "run `make docs`"


def test_the_man_page_is_read_without_a_warning() -> None:
    """By the formatter itself; flags keep their dashes."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-ww", "-Tascii", "-P-cbou", str(man.PAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "--skip-git-repo-check" in done.stdout
    assert "`codex exec`" in done.stdout

"""How sessions look in a list."""

import time
from pathlib import Path

import pytest

from backstay.cli.listing import Table, place_of, short_ids, when, width_of
from backstay.cli.terminal import Style, columns
from backstay.journal.sessions import Entry

ID = "01a2027d-031b-7b68-8000-000000000000"


@pytest.mark.parametrize("width", [40, 41, 59, 60, 80, 100, 200])
@pytest.mark.parametrize("folders", [False, True])
@pytest.mark.parametrize("text", ["short", "a long title " * 30, "日本語の長い題" * 20, ""])
def test_a_row_fits_the_width(width: int, folders: bool, text: str) -> None:
    """From 40 columns on, also for wide letters; the id is whole and the cut ones are marked."""
    entry = Entry(
        id=ID, path="/p", cwd="/a/very/long/folder/" * 9, started=0, active=0, ended="cut"
    )
    entry.prompt = text
    table = Table({ID: ID[:18]}, width, Style(), folders=folders)
    rows = table.row(entry, "cut").splitlines()
    assert all(columns(row) <= width for row in rows)
    assert rows[0].startswith(f"! {ID[:18]}  1970-01-01")
    assert ("cut" in rows[0][2:]) == (width >= 60)
    assert len(rows) == (1 if not folders or width > 90 else 2)
    assert ("folder" in rows[-1]) == folders


def test_an_id_is_as_short_as_it_can_be() -> None:
    """Eight characters, more where another session begins alike, in the list or not."""
    every = sorted(
        [ID, "01a2027d-031b-7b68-9000-000000000000", "02a2027d-031b-7b68-8000-000000000000"]
    )
    assert short_ids([ID, every[2]], every) == {ID: ID[:20], every[2]: "02a2027d"}
    assert short_ids([ID], [ID]) == {ID: ID[:8]}


@pytest.mark.parametrize(
    "ago, form",
    [(60, "%H:%M"), (3 * 86_400, "%a %H:%M"), (60 * 86_400, "%b %d"), (900 * 86_400, "%Y-%m-%d")],
)
def test_a_time_says_what_is_needed(ago: float, form: str) -> None:
    """The hour of today, the day of this week, the date of this year, else all of it."""
    now = time.mktime((2026, 9, 16, 12, 0, 0, 0, 0, -1))
    told = when(now - ago, now)
    assert told == time.strftime(form, time.localtime(now - ago))
    assert len(told) <= 10


def test_a_folder_is_told_by_its_end() -> None:
    """The user's own home is ~."""
    home = str(Path.home())
    assert place_of(home, 20) == "~"
    assert place_of(f"{home}/x", 20) == "~/x"
    assert place_of("/a/b/c/d/project", 9) == "…/project"
    assert place_of("", 9) == "?"


def test_elsewhere_a_row_is_not_cut(tmp_path: Path) -> None:
    """A pipe or a file has no width; COLUMNS gives it one."""
    with open(tmp_path / "file", "wb") as file:
        assert width_of(file.fileno()) >= 1000

"""`backstay` without arguments: which sessions of this folder need somebody, and how to go on."""

import os
import time
from pathlib import Path

import pytest

from backstay.cli.here import MOST, Standing, lines
from backstay.cli.terminal import Style, columns
from backstay.core.record import TurnEnd
from backstay.journal import PosixDisk, lock_path
from backstay.journal.sessions import Entry
from tests.cli.command import Command
from tests.journal.homes import head, put, turn

pytestmark = pytest.mark.processes
ID = "01a2027d-031b-7b68-8000-000000000000"


def rows(command: Command, **env: str) -> list[list[str]]:
    """What is said behind the short help, a list of words for each session."""
    done = command.run(env=env)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Backstay, ")
    _, found, said = done.out.partition("\nIn this folder:\n")
    return [line.split() for line in said.splitlines()] if found else []


def cut(command: Command, prompt: str, day: int, cwd: str = "") -> Path:
    """A session whose agent ended in the middle of its turn."""
    return put(command.home, [head(cwd or str(command.cwd)), *turn(2, prompt)[:3]], day)


def test_cut_sessions_of_this_folder_are_named_with_how_to_go_on(command: Command) -> None:
    """The last active first; those that are over, and those of other folders, are not mentioned."""
    first = cut(command, "fix the parser", 1)
    second = cut(command, "write docs", 2)
    cut(command, "elsewhere", 3, "/elsewhere")
    put(command.home, [head(str(command.cwd)), *turn(2, "that is over")], 4)
    now = time.time()
    os.utime(first / "journal.jsonl", (now - 60, now - 60))
    said = rows(command)
    assert [line[:2] for line in said] == [["backstay", "continue"]] * 2
    assert first.name.startswith(said[0][2])
    assert second.name.startswith(said[1][2])
    assert said[0][3] == "cut"
    assert said[0][-3:] == ["fix", "the", "parser"]
    assert command.run("sessions", "show", said[1][2]).code == 0


def test_a_session_that_runs_is_to_be_attached_to(command: Command) -> None:
    """While somebody holds it, with the process's number."""
    folder = cut(command, "fix the parser", 1)
    lease = PosixDisk().lock(lock_path(str(folder)), time.time())
    (said,) = rows(command)
    lease.release()
    assert said[1] == "attach"
    assert str(os.getpid()) in said
    assert rows(command)[0][1] == "continue"


def test_a_prompt_that_waits_is_mentioned(command: Command) -> None:
    """Also where the last turn is over."""
    folder = put(command.home, [head(str(command.cwd)), *turn(2, "that is over")], 4)
    assert command.run("send", folder.name, "one more thing").code == 0
    (said,) = rows(command)
    assert said[1] == "resume"
    assert said[3:6] == ["1", "prompt", "waiting"]


def test_there_are_at_most_a_handful(command: Command) -> None:
    """However many were cut."""
    for day in range(1, MOST + 3):
        cut(command, f"number {day}", day)
    assert len(rows(command)) == MOST


def test_what_failed_comes_behind_what_was_cut(command: Command) -> None:
    """And only for a day: whoever saw it fail knows of it."""
    now = time.time()
    cut(command, "cut long ago", 1)
    for ago in (3600, 2 * 86_400):
        failed = [*turn(2, f"failed {ago}")[:-1], TurnEnd(n=9, turn=2, outcome="failed")]
        put(command.home, [head(str(command.cwd)), *failed], 2, now - ago)
    assert [line[3:5] + line[-1:] for line in rows(command)] == [
        ["cut", "2025-10-09", "ago"],
        ["failed", time.strftime("%H:%M", time.localtime(now - 3598)), "3600"],
    ]


def test_where_nothing_can_be_found_out_nothing_is_said(command: Command, tmp_path: Path) -> None:
    """No home, a file in its place, a journal that is none: the short help, exit 0."""
    assert rows(command) == []
    assert list(command.home.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert rows(command, BACKSTAY_HOME=str(tmp_path / "file")) == []
    journal = cut(command, "x", 1) / "journal.jsonl"
    journal.write_bytes(b"\0" * 4096)
    rows(command)


@pytest.mark.parametrize("width", [40, 59, 60, 80, 200])
@pytest.mark.parametrize("state", ["cut", "failed, 2 prompts waiting, 3 commands alive"])
@pytest.mark.parametrize("text", ["", "a long title " * 30, "日本語の長い題" * 20])
def test_a_line_fits_its_width(width: int, state: str, text: str) -> None:
    """From 40 columns on, also for wide letters; the command is whole."""
    entry = Entry(id=ID, path="/p", started=0, active=0, ended="cut", prompt=text)
    head, line = lines([Standing(entry, state, "continue")], [ID], width, Style())
    assert max(columns(head), columns(line)) <= width
    assert f"continue {ID[:8]}  " in line

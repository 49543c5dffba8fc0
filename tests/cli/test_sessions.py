"""`backstay sessions ...` as a process: lists, searches, labels, deletes, sweeps."""

import os
import pty
import time
from pathlib import Path
from typing import Any

import pytest

from backstay.journal import PosixDisk, list_sessions, lock_path
from tests.cli.command import Command, Done
from tests.journal.homes import head, put, turn

pytestmark = pytest.mark.processes
USAGE = {"input_tokens": 1000, "output_tokens": 100}


@pytest.fixture
def folders(command: Command) -> list[Path]:
    """Three sessions: two of the working folder, the older one cut, and one of another folder."""
    here = str(command.cwd)
    return [
        put(command.home, [head(here), *turn(2, "fix the parser")[:3]], 1),
        put(command.home, [head("/elsewhere"), *turn(2, "mend the lexer", usage=USAGE)], 2),
        put(command.home, [head(here), *turn(2, "write docs", model="gpt-5", usage=USAGE)], 3),
    ]


def sessions(command: Command, *words: str, **how: Any) -> Done:
    """Run `backstay sessions WORDS`."""
    return command.run("sessions", *words, **how)


def test_a_list_is_of_this_folder(command: Command, folders: list[Path]) -> None:
    """The last active first, the cut ones marked; --all has the others, with their folder."""
    lines = sessions(command).out.splitlines()
    assert len(lines) == 2
    assert "write docs" in lines[0]
    assert lines[0].split()[0] in folders[2].name
    assert lines[1].startswith("! ")
    assert "cut" in lines[1]
    every = sessions(command, "list", "--all").out.splitlines()
    assert len(every) == 3
    assert "/elsewhere" in every[1]
    done = sessions(command, "-a", "-n", "1")
    assert (len(done.out.splitlines()), done.complaint) == (1, "2 more: -n 0 shows all")


def test_an_empty_folder_says_where_sessions_are(command: Command, folders: list[Path]) -> None:
    """Not that there are none."""
    command.cwd = command.home.parent
    done = sessions(command)
    assert (done.code, done.out) == (0, "")
    assert "--all looks at every folder (3 in all)" in done.complaint


def test_a_list_for_programs(command: Command, folders: list[Path]) -> None:
    """One object a line, with turns, tokens and cost; an unknown price is null."""
    priced, unpriced, cut = sessions(command, "-a", "--json").events
    assert priced["usage"]["input_tokens"] == 1000
    assert priced["cost"] == pytest.approx((1000 * 1.25 + 100 * 10) / 1e6)
    assert (unpriced["cost"], unpriced["turns"], unpriced["state"]) == (None, 1, "completed")
    assert (cut["state"], cut["cost"], cut["archived"], cut["title"]) == ("cut", 0.0, False, "")


def test_own_prices_go_first(command: Command, folders: list[Path]) -> None:
    """`[prices."MODEL"]` of config.toml; a wrong file is named and keeps nobody from the list."""
    config = command.home / "config.toml"
    config.write_text('[prices."m"]\ninput = 1000\noutput = 10000.5\n')
    assert sessions(command, "-a", "--json").events[1]["cost"] == pytest.approx(2.00005)
    assert "$2.00" in sessions(command, "show", folders[1].name).out
    config.write_text('[prices."m"]\ninput = "much"\n')
    done = sessions(command, "-a", "--json")
    assert done.events[1]["cost"] is None
    assert "config.toml: prices.input: expected" in done.complaint


def test_show_sums_up(command: Command, folders: list[Path]) -> None:
    """Turns, tokens and cost first, then by turn; what is not known is said to be unknown."""
    known = sessions(command, "show", folders[2].name).out
    assert "turns   1\ntokens: 1,000 in, 100 out; $0.002" in known
    assert "turn 1: prompt to gpt-5" in known
    unknown = sessions(command, "show", folders[1].name).out
    assert "cost unknown" in unknown
    assert 'the price of m is not known: [prices."MODEL"] sets it' in unknown


def test_a_search_tells_session_turn_and_words(command: Command, folders: list[Path]) -> None:
    """In this folder or all; found nothing: exit 1 and one line."""
    found = sessions(command, "search", "pars", "fix").out
    assert folders[0].name[:8] in found
    assert "turn 1" in found
    assert sessions(command, "search", "lexer").code == 1
    (hit,) = sessions(command, "search", "--all", "--json", "lexer").events
    assert (hit["id"], hit["turn"], hit["cwd"]) == (folders[1].name, 1, "/elsewhere")
    assert hit["snippet"] == "mend the lexer"
    odd = sessions(command, "search", "--", '"NEAR(', "'; DROP", "-x", "*")
    assert (odd.code, odd.out) == (1, "")
    assert "nothing found" in odd.complaint


def test_a_title_stays_with_the_session(command: Command, folders: list[Path]) -> None:
    """Whatever becomes of the catalogue; an empty one is taken away."""
    name = folders[2].name
    assert sessions(command, "rename", name, "The", "docs").code == 0
    (command.home / "catalogue.sqlite").unlink(missing_ok=True)
    assert "The docs" in sessions(command).out
    assert "title   The docs" in sessions(command, "show", name).out
    assert sessions(command, "search", "the docs").code == 0
    sessions(command, "rename", name, "")
    assert "write docs" in sessions(command).out


def test_archived_sessions_are_left_out(command: Command, folders: list[Path]) -> None:
    """Of lists, of searches and of --last, until they are taken back."""
    newest = folders[2].name
    assert sessions(command, "archive", newest, folders[1].name).code == 0
    assert "write docs" not in sessions(command, "-a").out
    assert "write docs" in sessions(command, "--archived").out
    assert sessions(command, "search", "docs").code == 1
    assert sessions(command, "search", "docs", "--archived").code == 0
    once = "model_providers.openai.request_max_retries=0"
    said = command.run("exec", "resume", "--last", "--yolo", "-m", "m", "-c", once).err
    assert folders[0].name in said
    assert newest not in said
    sessions(command, "unarchive", newest)
    assert "write docs" in sessions(command).out


def test_delete_needs_a_yes(command: Command, folders: list[Path]) -> None:
    """Without a terminal --yes; else exit 2, and nothing is deleted."""
    done = sessions(command, "delete", folders[0].name)
    assert (done.code, len(list_sessions(PosixDisk(), str(command.home)))) == (2, 3)
    assert "--yes" in done.complaint
    assert sessions(command, "delete", "--yes", folders[0].name, folders[1].name).code == 0
    (left,) = list_sessions(PosixDisk(), str(command.home))
    assert left.path == str(folders[2])
    assert sessions(command, "-a").out.count("\n") == 1


@pytest.mark.parametrize("answer, left", [("y", 2), ("n", 3), ("", 3)])
def test_delete_asks_on_a_terminal(
    command: Command, folders: list[Path], answer: str, left: int
) -> None:
    """It says which session is meant; anything but yes deletes nothing."""
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    process = command.start("sessions", "delete", folders[0].name[:13], stdin=theirs)
    _, err = process.communicate(timeout=50)
    os.close(theirs)
    os.close(ours)
    assert b"fix the parser" in err
    assert b"[y/N]" in err
    assert len(list_sessions(PosixDisk(), str(command.home))) == left
    assert (process.returncode == 0) == (left == 2)


def test_a_held_session_is_not_deleted(command: Command, folders: list[Path]) -> None:
    """Exit 3, and none of those that were named is deleted."""
    lease = PosixDisk().lock(lock_path(str(folders[0])), time.time())
    done = sessions(command, "delete", "--yes", folders[1].name, folders[0].name)
    lease.release()
    assert (done.code, len(list_sessions(PosixDisk(), str(command.home)))) == (3, 3)
    assert "being written by pid" in done.complaint
    missing = sessions(command, "delete", "--yes", folders[1].name, "00000000")
    assert (missing.code, len(list_sessions(PosixDisk(), str(command.home)))) == (3, 3)


def test_gc_says_how_much_was_freed(command: Command, folders: list[Path]) -> None:
    """First what would be, then what was, then nothing."""
    blobs = command.home / "blobs"
    blobs.mkdir()
    (blobs / ("a" * 64)).write_bytes(bytes(500_000))
    os.utime(blobs / ("a" * 64), (1, 1))
    env = {"TMPDIR": str(command.home.parent)}
    assert "would free 500 KB" in sessions(command, "gc", "--dry-run", env=env).out.replace(
        "504", "500"
    )
    done = sessions(command, "gc", env=env).out
    assert "1 blobs that no journal names" in done
    assert sessions(command, "gc", env=env).out == "freed 0 B\n"


def test_du_weighs(command: Command, folders: list[Path]) -> None:
    """A row for each session and one for all; for programs the bytes."""
    lines = sessions(command, "du").out.splitlines()
    assert lines[0].split()[:2] == ["session", "total"]
    assert lines[-1].startswith("all")
    assert len(lines) == 5
    assert max(map(len, sessions(command, "du", env={"COLUMNS": "40"}).out.splitlines())) <= 40
    first = sessions(command, "du", "--json", "-n", "1").events
    assert len(first) == 1
    assert first[0]["total"] >= first[0]["journal"] > 0


@pytest.mark.parametrize(
    "words, said",
    [
        (["lsit"], "did you mean list"),
        (["show"], "write it as: backstay sessions show ID"),
        (["rename", "0199"], "write it as"),
        (["list", "--yes"], "takes no --yes"),
        (["du", "-n", "x"], "it takes a number"),
        (["rename", "00000000", "x"], "no session"),
    ],
)
def test_a_wrong_word_is_one_line(command: Command, words: list[str], said: str) -> None:
    """That says what to write."""
    done = sessions(command, *words)
    assert done.code in (2, 3)
    assert said in done.complaint


def test_listing_needs_no_catalogue(command: Command, folders: list[Path]) -> None:
    """Where its file can't be, one line says so, and the list is the same."""
    before = sessions(command, "-a").out
    (command.home / "catalogue.lock").unlink()
    (command.home / "catalogue.lock").mkdir()
    done = sessions(command, "-a")
    assert done.out == before
    assert "can't be used" in done.complaint


def test_a_python_without_sqlite_lists_and_says_what_a_search_needs(
    command: Command, folders: list[Path], tmp_path: Path
) -> None:
    """The list is the same, after one line; a search is exit 1 and one line."""
    before = sessions(command, "-a").out
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "sqlite3.py").write_text("raise ImportError('no sqlite here')")
    path = os.pathsep.join(filter(None, [str(shadow), os.environ.get("PYTHONPATH")]))
    done = sessions(command, "-a", env={"PYTHONPATH": path})
    assert done.out == before
    assert "no sqlite here" in done.complaint
    here = sessions(command, "--archived", env={"PYTHONPATH": path})
    assert here.out == ""
    found = sessions(command, "search", "docs", env={"PYTHONPATH": path})
    assert (found.code, found.out) == (1, "")
    assert "sqlite3" in found.complaint


def test_a_folder_that_is_gone_is_said_to_be(command: Command, folders: list[Path]) -> None:
    """A list of this folder needs this folder."""
    done = command.run("sessions", preexec_fn=lambda: os.rmdir(command.cwd))
    assert done.code == 2
    assert "this folder is gone" in done.complaint

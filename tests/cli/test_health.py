"""`backstay doctor` as a process: the table, one session, data, repair, exit codes, nothing written."""

import fcntl
import json
import os
import sqlite3
from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.doctor.rollouts import ID, NAME, call, ended, meta, numbered, out, put, said, text
from tests.journal.homes import head
from tests.journal.homes import put as put_session

pytestmark = pytest.mark.processes
BROKEN = text(*numbered([meta(), said("x"), call("c"), ended("c", "hi\n")]))
SOUND = text(meta(id="s"), said("x"), call("c"), out("c"))


@pytest.fixture
def codex(home: Path) -> Path:
    """A CODEX_HOME with a broken session and a sound one; `~/.codex` of the command."""
    folder = home.parent / ".codex"
    day = folder / "sessions/2026/01/02"
    day.mkdir(parents=True)
    put(day, BROKEN)
    put(day, SOUND, NAME.replace("01997e76", "11997e76"))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """All files with what they hold."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_table(command: Command, codex: Path) -> None:
    """Damaged sessions, the worst first, of both agents; sound ones are counted. Nothing is written."""
    folder = put_session(command.home, [head()])
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b"junk\n")
    before = tree(command.home.parent)
    ran = command.run("doctor")
    assert ran.code == 1, ran.err
    first, second = ran.out.splitlines()
    assert first.split() == ["!", ID, "codex", str(len(BROKEN)), "B", "call-without-output"]
    assert second.split()[:3] == ["?", folder.name, "backstay"]
    assert "1 session is sound, 2 damaged" in ran.err
    assert tree(command.home.parent) == before
    assert len(command.run("doctor", "--all").out.splitlines()) == 3
    assert len(command.run("doctor", "-n", "1").out.splitlines()) == 1


def test_one_session(command: Command, codex: Path) -> None:
    """By id, beginning of an id, file, folder: what is wrong, where, and what became of its calls."""
    path = str(codex / "sessions/2026/01/02" / NAME)
    for name in (ID, ID[:8], path):
        ran = command.run("doctor", name)
        assert ran.code == 1
        assert "error call-without-output: line 3, byte " in ran.out
        assert "its true output stands in line 4" in ran.out
        assert "--repair writes a sound file" in ran.out
    ran = command.run("doctor", str(codex))
    assert (ran.code, len(ran.out.splitlines())) == (1, 1)


def test_data(command: Command, codex: Path) -> None:
    """One object a session, with its findings and the output that was found."""
    ran = command.run("doctor", "--json")
    found = {one["state"]: one for one in map(json.loads, ran.out.splitlines())}
    assert ran.code == 1
    assert found["sound"]["findings"] == []
    broken = found["damaged"]
    assert broken["counts"] == {"call-without-output": 1}
    assert broken["findings"][0]["line"] == 3
    assert broken["calls"][0]["output"].endswith("hi\n")
    assert sum(broken["du"].values()) == broken["bytes"] == len(BROKEN)


def test_sound_sessions_are_exit_0(command: Command, codex: Path) -> None:
    """Of what was asked for."""
    ran = command.run("doctor", "11997e76")
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "sound"


def test_no_sessions_at_all(command: Command) -> None:
    """Nothing is wrong, and one line says where was looked."""
    ran = command.run("doctor", env={"CODEX_HOME": str(command.home / "none")})
    assert (ran.code, ran.out) == (0, "")
    assert "there are no sessions in" in ran.err


def test_what_is_not_there(command: Command) -> None:
    """Exit 2, one line."""
    ran = command.run("doctor", "nonsense-that-is-nowhere")
    assert ran.code == 2
    assert "there is no session nonsense" in ran.complaint


def test_repair(command: Command, codex: Path) -> None:
    """Beside it, then in its place; said in words; the second time there is nothing to do."""
    folder = codex / "sessions/2026/01/02"
    ran = command.run("doctor", "--repair", ID)
    assert ran.code == 0, ran.err
    assert "gets an output: its true output stands in line 4" in ran.out
    assert (folder / NAME).read_bytes() == BROKEN
    repaired = (folder / NAME.replace(".jsonl", ".repaired.jsonl")).read_bytes()
    assert command.run("doctor", "--repair", "--in-place", ID).code == 0
    assert (folder / NAME).read_bytes() == repaired
    assert (folder / f"{NAME}.before-repair").read_bytes() == BROKEN
    ran = command.run("doctor", "--repair", "--in-place", ID)
    assert (ran.code, "nothing to repair" in ran.out) == (0, True)
    assert command.run("doctor").code == 0


def test_repairing_a_session_of_its_own(command: Command) -> None:
    """Nothing is written: resuming deals with it, and that is said."""
    folder = put_session(command.home, [head()])
    before = tree(command.home)
    ran = command.run("doctor", "--repair", str(folder))
    assert "repair themselves when resumed" in ran.out
    assert tree(command.home) == before


def test_the_list_that_codex_keeps(command: Command, codex: Path) -> None:
    """A session that it does not know, and a row whose file is gone; the list is only read."""
    day = codex / "sessions/2026/01/02"
    put(day, SOUND)
    database = sqlite3.connect(codex / "state_5.sqlite")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE threads (id TEXT, rollout_path TEXT)")
    rows = [(ID, str(day / NAME)), ("gone", str(day / "rollout-gone.jsonl"))]
    database.executemany("INSERT INTO threads VALUES (?, ?)", rows)
    database.commit()
    before = tree(codex)
    ran = command.run("doctor", "--json")
    assert tree(codex) == before
    database.close()
    found = [json.loads(line) for line in ran.out.splitlines()]
    said_of = {os.path.basename(one["path"]): [f["text"] for f in one["findings"]] for one in found}
    assert said_of[NAME] == []
    assert "does not list it" in said_of[NAME.replace("01997e76", "11997e76")][0]
    assert "rollout-gone.jsonl: gone" in said_of["state_5.sqlite"][0]
    assert ran.code == 1


def test_a_name_full_of_tricks(command: Command, codex: Path) -> None:
    """What somebody else's file says moves no cursor."""
    records = [meta(), call("\x1b[2Jc", cmd="\x1b]0;x\x07")]
    put(codex / "sessions/2026/01/02", text(*records))
    ran = command.run("doctor", ID)
    assert "\x1b" not in ran.out
    assert ran.code == 1


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="only Linux tells who holds a lock")
def test_a_session_that_codex_runs(command: Command, codex: Path) -> None:
    """Its open call has merely not ended: a note; and it is not replaced."""
    locks = codex / "thread-writer-locks"
    locks.mkdir()
    with (locks / f"{ID}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ran = command.run("doctor", "--json", ID)
        assert (ran.code, json.loads(ran.out)["running"]) == (0, True)
        assert command.run("doctor", "--repair", "--in-place", ID).code == 3
    assert command.run("doctor", ID).code == 1

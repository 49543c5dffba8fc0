"""`sessions export` and `import bundle` as processes: where it goes, what is said, exit codes."""

import json
import zipfile
from pathlib import Path

import pytest

from backstay.chaos import ChaosServer, hold, message, response
from backstay.chaos import call as asked
from tests.cli.command import Command, ended
from tests.journal.homes import head, put, turn

pytestmark = pytest.mark.processes
KEY = "sk-proj-a1B2c3D4e5F6g7H8i9J0k1L2m3N4"


@pytest.fixture
def folder(command: Command) -> Path:
    """A session with a key in its prompt."""
    return put(command.home, [head(str(command.cwd)), *turn(2, f"use {KEY} please")], 1)


def test_each_format_to_a_file_and_to_stdout(command: Command, folder: Path) -> None:
    """The same bytes; the file is its owner's alone, and one line says what was redacted."""
    for name, begins in (
        ("md", "# use [red"),
        ("html", "<!doctype html>"),
        ("jsonl", '{"type":"session"'),
    ):
        shown = command.run("sessions", "export", folder.name[:12], "--to", name)
        assert shown.code == 0
        assert shown.out.replace("\\", "").startswith(begins)
        assert KEY not in shown.out
        assert "redacted:openai-key:1" in shown.out
        assert shown.complaint == (
            "backstay: 1 secret redacted in 1 place; look before you pass it on"
        )
        target = command.cwd / f"page.{name}"
        for _ in range(2):
            done = command.run("sessions", "export", folder.name, "--to", name, "-o", str(target))
            assert (done.code, done.out) == (0, "")
        assert target.read_text() == shown.out
        assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in command.cwd.iterdir() if ".part" in path.name] == []


def test_nothing_is_redacted_where_that_is_asked_for(command: Command, folder: Path) -> None:
    """And that is said."""
    done = command.run("sessions", "export", folder.name, "--to", "md", "--redact", "none")
    assert KEY in done.out
    assert "nothing was redacted" in done.complaint


def test_the_users_own_key_is_known(command: Command) -> None:
    """Also a plain word in the variable that a provider is configured with."""
    (command.home / "config.toml").write_text(
        '[model_providers.mine]\nbase_url = "http://127.0.0.1:9/v1"\nenv_key = "MINE"\n'
    )
    session = put(command.home, [head(), *turn(2, "say plainword-of-mine")], 1)
    done = command.run(
        "sessions", "export", session.name, "--to", "md", env={"MINE": "plainword-of-mine"}
    )
    assert "plainword-of-mine" not in done.out
    assert "[redacted:mine:1]" in done.out.replace("\\", "")


def test_wrong_words_are_one_line(command: Command, folder: Path) -> None:
    """An unknown format or session, no format, and a place that can't be written."""
    for line, code, told in (
        ((folder.name, "--to", "pdf"), 2, "--to pdf: it takes one of md, html"),
        ((folder.name,), 2, "md, html, jsonl, bundle"),
        ((folder.name, "--to", "md", "--redact", "some"), 2, "default, none"),
        (("ffffffff", "--to", "md"), 3, "ffffffff"),
        ((folder.name, "--to", "md", "-o", "/dev/null/x"), 4, "name another file with -o"),
    ):
        done = command.run("sessions", "export", *line)
        assert (done.code, told in done.complaint) == (code, True), done.err


def test_a_bundle_is_resumed_elsewhere(command: Command, tmp_path: Path) -> None:
    """Another home, another folder: the first request extends the last one, and the call is paired."""
    script = [
        response(asked("exec_command", {"cmd": "echo once >> effects; echo hello"})),
        response(message("it says hello")),
        response(message("and goes on")),
    ]
    other, place = tmp_path / "other", tmp_path / "place"
    other.mkdir(mode=0o700)
    place.mkdir()
    with ChaosServer(script, strict=True) as server:
        command.url = server.url
        session = command.run(
            "exec", "--json", "--skip-git-repo-check", "-m", "m", "say it"
        ).session
        path = command.cwd / "session.zip"
        assert (
            command.run("sessions", "export", session, "--to", "bundle", "-o", str(path)).code == 0
        )
        there = Command(other, place, server.url)
        brought = there.run("import", "bundle", str(path), "--cwd", str(place))
        assert (brought.code, brought.out.strip()) == (0, session)
        done = there.run("resume", session, "more", "--json")
        assert done.code == 0, done.err
    before, after = server.bodies[1], server.bodies[2]
    assert after["input"][: len(before["input"])] == before["input"]
    assert "hello" in str(after["input"])
    assert after["instructions"] == before["instructions"]
    assert (command.cwd / "effects").read_text() == "once\n"


def test_a_session_that_runs_is_exported(command: Command) -> None:
    """Its process goes on undisturbed; what it has so far is in the page and in the bundle."""
    gate = command.home / "gate"
    held = response(message("late"), hold=hold(before="terminal", file=str(gate)))
    with ChaosServer([held]) as server:
        command.url = server.url
        with ended(command.start("exec", "--json", "-m", "m", "so far")) as process:
            assert process.stdout
            session = json.loads(process.stdout.readline())["thread_id"]
            page = command.run("sessions", "export", session, "--to", "md")
            path = command.cwd / "a.zip"
            packed = command.run("sessions", "export", session, "--to", "bundle", "-o", str(path))
            gate.touch()
            process.communicate(timeout=50)
        assert process.returncode == 0
    assert (page.code, packed.code) == (0, 0)
    assert "- running: " in page.out
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("manifest.json"))["live"] is True


def test_a_bundle_that_is_here_or_broken_is_one_line(command: Command, folder: Path) -> None:
    """Exit codes 2 and 3; --as-new gives another id."""
    path = command.cwd / "a.zip"
    assert (
        command.run("sessions", "export", folder.name, "--to", "bundle", "-o", str(path)).code == 0
    )
    again = command.run("import", "bundle", str(path))
    assert (again.code, "is here already" in again.complaint) == (2, True)
    new = command.run("import", "bundle", str(path), "--as-new")
    assert (new.code, new.out.strip() != folder.name) == (0, True)
    listed = command.run("sessions", "--all", "--json").events
    assert {one["id"] for one in listed} == {folder.name, new.out.strip()}
    path.write_bytes(path.read_bytes()[:-40])
    broken = command.run("import", "bundle", str(path))
    assert (broken.code, "is no whole bundle" in broken.complaint) == (3, True)
    missing = command.run("import", "bundle", str(path), "--cwd", str(path / "none"))
    assert (missing.code, "there is no such folder" in missing.complaint) == (2, True)

"""`import` and `sessions export --to codex` as a user types them."""

import json
from pathlib import Path

from backstay.chaos import ChaosServer, judge, message, response
from backstay.core.record import Prompt
from tests.cli.command import Command
from tests.doctor import codexfile as c
from tests.doctor.carried import records
from tests.doctor.test_claude import PLAIN
from tests.doctor.test_claude import write as write_claude

OTHER = "01a20332-806c-7c93-b05e-8903a252dddf"
CUT = [c.user("go"), c.thought(), c.call("c1"), c.ended("c1", "hi\n")]


def texts(items: list[dict[str, object]]) -> list[str]:
    """What was said or answered, in short; Backstay's own notes on folder and date left out."""
    found = [str(item.get("output") or item.get("content") or item["type"]) for item in items]
    return [one for one in found if "<environment_context>" not in one]


def test_imported_session_goes_on(command: Command, tmp_path: Path) -> None:
    """By the beginning of Codex's id; the request holds what was said, and the true output."""
    codex = tmp_path / "codex"
    c.write(codex, CUT)
    done = command.run("import", "codex", c.THREAD[:13], "--from", str(codex))
    assert done.code == 0, done.err
    session = done.out.strip()
    assert "true one" in done.err
    with ChaosServer([response(message("on"))], strict=True) as server:
        command.url = server.url
        again = command.run("resume", session, "and now", "-m", "m")
        assert again.code == 0, again.err
        body = server.requests[0].body
    assert judge(server.requests).ok
    found = texts(body["input"])
    assert "go" in found[0]
    assert "hi" in found[3]
    assert "and now" in found[4]
    assert len(found) == 5
    assert body["instructions"]
    basis = [one.basis for one in records(command.home, session) if isinstance(one, Prompt)]
    assert [bool(one.instructions) for one in basis] == [False, True], "the first request chose it"
    assert any(tool.get("name") == "exec_command" for tool in body["tools"])


def test_cut_turn_can_be_continued(command: Command, tmp_path: Path) -> None:
    """Without a prompt, as any session of Backstay's own."""
    path = c.write(tmp_path / "codex", [*CUT[:3], c.out("c1")])
    session = command.run("import", "codex", str(path)).out.strip()
    with ChaosServer([response(message("on"))], strict=True) as server:
        command.url = server.url
        again = command.run("resume", session, "-m", "m")
        assert again.code == 0, again.err
        items = [one for one in server.requests[0].body["input"] if "env" not in str(one)]
    assert items == [*CUT[:3], c.out("c1")]


def test_all_are_imported_once(command: Command, tmp_path: Path) -> None:
    """One id a session; the second time none. One that holds nothing keeps no other from it."""
    codex = tmp_path / "codex"
    c.write(codex, CUT)
    c.write(codex, [c.event("token_count")], OTHER)
    env = {"CODEX_HOME": str(codex)}
    done = command.run("import", "codex", "--all", env=env)
    assert (done.code, len(done.out.split())) == (0, 1)
    assert "no conversation" in done.err
    assert command.run("import", "codex", "--all", env=env).out == ""
    again = command.run("import", "codex", c.THREAD, env=env)
    assert again.out == done.out
    assert "already" in again.err
    more = command.run("import", "codex", c.THREAD, "--again", env=env)
    assert more.out.strip() not in ("", done.out.strip())


def test_wrong_words_are_refused(command: Command, tmp_path: Path) -> None:
    """Each with one line that says what to do."""
    codex = str(tmp_path / "codex")
    c.write(tmp_path / "codex", CUT)
    c.write(tmp_path / "codex", CUT, OTHER)
    for argv, code, says in (
        (["import", "codec", "x"], 2, "did you mean codex"),
        (["import", "codex"], 2, "--all"),
        (["import", "codex", "x", "--all"], 2, "not both"),
        (["import", "codex", "0123456789", "--from", codex], 3, "no session"),
        (["import", "codex", "01a20332", "--from", codex], 2, "2 sessions"),
        (["import", "codex", "--all", "--from", str(tmp_path)], 3, "no sessions"),
        (["import", "codex", str(tmp_path / "no.jsonl")], 4, "no file"),
        (["import", "agents-sdk", "--all"], 2, "name the SQLite file"),
        (["import", "claude", "0205f437", "--from", codex], 3, "no session"),
    ):
        done = command.run(*argv)
        assert done.code == code, (argv, done.err)
        assert says in done.err
        assert done.err.count("\n") == 1


def test_transcript_of_claude_code_goes_on(command: Command, tmp_path: Path) -> None:
    """By its id, from its folder."""
    write_claude(tmp_path / "claude", PLAIN)
    done = command.run("import", "claude", "0205f437", "--from", str(tmp_path / "claude"))
    assert done.code == 0, done.err
    with ChaosServer([response(message("on"))], strict=True) as server:
        command.url = server.url
        again = command.run("resume", done.out.strip(), "and now", "-m", "m")
        assert again.code == 0, again.err
        found = texts(server.requests[0].body["input"])
    assert "list them" in found[0]
    assert "and now" in found[-1]


def test_export_for_codex(command: Command, tmp_path: Path) -> None:
    """To stdout, to a file, or where Codex looks for it; never over a file that is there."""
    path = c.write(tmp_path / "codex", [*CUT, c.said("made")])
    session = command.run("import", "codex", str(path)).out.strip()
    done = command.run("sessions", "export", session, "--to", "codex")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert lines[0]["type"] == "session_meta"
    assert lines[0]["payload"]["id"] == session
    into = tmp_path / "into"
    into.mkdir()
    done = command.run("sessions", "export", session, "--to", "codex", "--into", str(into))
    assert done.code == 0, done.err
    (written,) = into.rglob("rollout-*.jsonl")
    assert written.read_text().splitlines()[0] == json.dumps(lines[0], separators=(",", ":"))
    assert written.stat().st_mode & 0o777 == 0o600
    again = command.run("sessions", "export", session, "--to", "codex", "--into", str(into))
    assert (again.code, "already" in again.err) == (2, True)
    wrong = command.run("sessions", "export", session, "--to", "md", "--into", str(into))
    assert (wrong.code, "--into" in wrong.err) == (2, True)

"""What other processes want of a session: `send`, `interrupt` and `attach` against a real one."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import ChaosServer, call, hold, judge, message, response
from tests.cli.command import Command, Done, ended
from tests.cli.test_turn import provider, wait_for

pytestmark = pytest.mark.processes


def said(server: ChaosServer) -> list[str]:
    """The user's own words in the newest request."""
    items = server.requests[-1].body["input"]
    texts = [item["content"][0]["text"] for item in items if item.get("role") == "user"]
    return [text for text in texts if not text.startswith("<")]


def letters(command: Command) -> list[Path]:
    """What lies in the inboxes."""
    return list(command.home.rglob("inbox/*"))


def session_of(command: Command) -> str:
    """The one session's id."""
    (journal,) = command.home.rglob("journal.jsonl")
    return journal.parent.name


def finished(process: subprocess.Popen[bytes]) -> Done:
    """The process to its end."""
    out, err = process.communicate(timeout=50)
    return Done(process.returncode, out.decode(), err.decode())


def held(command: Command, name: str) -> Any:
    """The stream stops before its end until the file of that name is there."""
    return hold(str(command.cwd / name), before="terminal")


@pytest.mark.parametrize("flag", ["--json", "--color=never"])
def test_a_prompt_that_is_sent_while_a_turn_runs_is_the_next_turn(
    command: Command, flag: str
) -> None:
    """The process that runs the session takes it up, in its turn, and ends after it."""
    script = [
        response(message("First."), hold=held(command, "go")),
        response(message("Second.")),
    ]
    with provider(command, *script) as server:
        with ended(command.start("exec", flag, "-m", "m", "one")) as process:
            server.wait(1)
            sent = command.run("send", session_of(command), "two")
            assert (sent.code, sent.err) == (0, "")
            assert f"held by pid {process.pid}" in sent.out
            wait_for(lambda: not letters(command))
            (command.cwd / "go").touch()
            done = finished(process)
        assert done.code == 0, done.err
        assert said(server) == ["one", "two"]
        assert judge(server.requests).ok, judge(server.requests).table()
    if flag == "--json":
        ends = [one for one in done.types if one.startswith("turn.")]
        assert ends == ["turn.started", "turn.completed"] * 2
        texts = [one["item"]["text"] for one in done.events if "item" in one]
        assert texts == ["First.", "Second."]
    else:
        assert done.out == "First.\nSecond.\n"
        assert "next: the prompt that was queued" in done.err


def test_a_prompt_that_is_sent_survives_a_kill_and_is_taken_once(command: Command) -> None:
    """Killed before or after it took the letter: the resumed session says it once, in its turn."""
    for moment in ("taken", "lying"):
        name = command.cwd / moment
        script = [
            response(call("exec_command", {"cmd": f"touch {name}; sleep 60"})),
            response(message("First.")),
            response(message("Second.")),
        ]
        with provider(command, *script) as server:
            with ended(command.start("exec", "--json", "-m", "m", "one")) as process:
                wait_for(name.exists)
                session = max(command.home.rglob("journal.jsonl")).parent.name
                if moment == "lying":
                    os.kill(process.pid, signal.SIGSTOP)
                command.run("send", session, "two")
                if moment == "taken":
                    wait_for(lambda: not letters(command))
                else:
                    assert len(letters(command)) == 1
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            done = command.run("resume", "--json", session)
            assert done.code == 0, done.err
            assert said(server) == ["one", "two"]
            assert not letters(command)
            assert command.run("resume", session).code == 2


def test_a_prompt_for_a_session_that_nobody_holds_waits(command: Command) -> None:
    """It says how to go on; resuming takes it, without a word of one's own or before it."""
    script = [response(message(text)) for text in ("First.", "Second.", "Third.", "Fourth.")]
    with provider(command, *script) as server:
        session = command.run("exec", "--json", "-m", "m", "one").session
        sent = command.run("send", session[:13], "two")
        assert f"backstay resume {session}" in sent.out
        assert command.run("resume", session).out == "Second.\n"
        command.run("send", session, stdin=b"three")
        assert command.run("resume", session, "four").out == "Third.\nFourth.\n"
        assert said(server) == ["one", "two", "three", "four"]
        assert judge(server.requests).ok


def test_an_interrupt_from_outside_is_as_ctrl_c(command: Command) -> None:
    """The turn ends as interrupted, with its reason, and can be continued."""
    name = command.cwd / "running"
    script = [
        response(call("exec_command", {"cmd": f"touch {name}; sleep 60"})),
        response(message("Done.")),
    ]
    with provider(command, *script):
        with ended(command.start("exec", "--json", "-m", "m", "one")) as process:
            wait_for(name.exists)
            asked = command.run("interrupt", session_of(command))
            assert (asked.code, asked.err) == (0, "")
            done = finished(process)
        assert done.code == 130
        assert "backstay interrupt" in done.events[-1]["error"]["message"]
        assert not letters(command)
        again = command.run("resume", done.session)
        assert (again.code, again.out) == (0, "Done.\n")
        nobody = command.run("interrupt", done.session)
        assert nobody.code == 2
        assert "no process holds" in nobody.complaint


def test_attach_follows_and_changes_nothing(command: Command) -> None:
    """What was and what comes, until the process ends; the journal's bytes are the session's own."""
    name = command.cwd / "ran"
    script = [
        response(call("exec_command", {"cmd": f"echo hello; touch {name}"})),
        response(message("All done."), hold=held(command, "go")),
    ]
    start = command.start
    with (
        provider(command, *script) as server,
        ended(start("exec", "--json", "-m", "m", "one")) as process,
    ):
        server.wait(2)
        attach = start("attach", "--color=never", session_of(command), bufsize=0)
        with ended(attach) as attached:
            assert attached.stderr is not None
            assert b"held by pid" in attached.stderr.readline()
            (command.cwd / "go").touch()
            done = finished(process)
            seen = finished(attached)
    assert done.code == seen.code == 0
    assert seen.out == "All done.\n"
    assert "echo hello" in seen.err
    assert "done in" in seen.err
    (journal,) = command.home.rglob("journal.jsonl")
    before = journal.read_bytes()
    told = command.run("attach", "--json", done.session)
    assert told.types[-1] == "turn.completed"
    assert journal.read_bytes() == before


@pytest.mark.parametrize(
    "words, text",
    [
        (["send"], "send needs a session"),
        (["send", "a", "b", "c"], "send needs a session"),
        (["interrupt"], "interrupt needs one session"),
        (["attach", "a", "b"], "attach needs one session"),
    ],
)
def test_what_is_missing_is_said(command: Command, words: list[str], text: str) -> None:
    """One line and exit 2."""
    done = command.run(*words)
    assert done.code == 2
    assert text in done.complaint


def test_an_unknown_session_is_exit_3(command: Command) -> None:
    """For each of the three."""
    for words in (["send", "0199c2aa", "p"], ["interrupt", "0199c2aa"], ["attach", "0199c2aa"]):
        done = command.run(*words)
        assert (done.code, "no session 0199c2aa" in done.complaint) == (3, True)

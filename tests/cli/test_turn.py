"""Whole turns through the real command line: real processes, commands and files, a fault server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import (
    ChaosServer,
    call,
    custom_call,
    cut,
    hold,
    http_error,
    judge,
    message,
    reasoning,
    response,
)
from tests.cli.command import LINE, Command, Done, ended
from tests.processes import processes_of

pytestmark = pytest.mark.processes


@contextmanager
def provider(command: Command, *script: Any) -> Iterator[ChaosServer]:
    """The command's provider plays this script, strictly."""
    with ChaosServer(list(script), strict=True) as server:
        command.url = server.url
        yield server


def prompts(server: ChaosServer) -> list[str]:
    """The texts of the user's messages in the newest request, the environment left out."""
    items = server.requests[-1].body["input"]
    texts = [item["content"][0]["text"] for item in items if item.get("role") == "user"]
    return [text for text in texts if "<environment_context>" not in text]


def wait_for(condition: Callable[[], object]) -> None:
    """Until it is true; the test's own time limit ends it otherwise."""
    while not condition():
        time.sleep(0.02)


def test_an_answer_goes_to_stdout_and_progress_to_stderr(command: Command) -> None:
    """stdout holds the answer alone; stderr says how to go on; the exit code is 0."""
    with provider(command, response(message("Forty-two."))):
        done = command.run("exec", "-m", "m", "what?")
    assert (done.code, done.out) == (0, "Forty-two.\n")
    assert "tokens: " in done.err
    assert "to go on: backstay resume " in done.err


def test_events_are_those_of_codex(command: Command) -> None:
    """A turn with a thought, a command, a patch and an answer: types, order and fields."""
    patch = "*** Begin Patch\n*** Add File: new.txt\n+hello\n*** End Patch"
    with provider(
        command,
        response(reasoning("**Looking**"), call("exec_command", {"cmd": "echo out; exit 3"})),
        response(custom_call("apply_patch", patch)),
        response(message("Done.")),
    ):
        done = command.run("exec", "--experimental-json", "-m", "m", "do it")
    assert done.types == [
        "thread.started",
        "turn.started",
        "item.completed:reasoning",
        "item.started:command_execution",
        "item.completed:command_execution",
        "item.completed:file_change",
        "item.completed:agent_message",
        "turn.completed",
    ]
    items = [event["item"] for event in done.events if "item" in event]
    assert items[0]["text"] == "**Looking**"
    assert items[1] == {
        "id": "item_1",
        "type": "command_execution",
        "command": "echo out; exit 3",
        "aggregated_output": "",
        "status": "in_progress",
    }
    assert (items[2]["id"], items[2]["aggregated_output"]) == ("item_1", "out\n")
    assert (items[2]["exit_code"], items[2]["status"]) == (3, "failed")
    assert items[3]["changes"] == [{"path": "new.txt", "kind": "add"}]
    assert items[3]["status"] == "completed"
    assert items[4]["text"] == "Done."
    assert set(done.events[-1]["usage"]) == {
        "input_tokens",
        "cached_input_tokens",
        "cache_write_input_tokens",
        "output_tokens",
        "reasoning_output_tokens",
    }
    assert (command.cwd / "new.txt").read_text() == "hello\n"
    assert done.code == 0


def test_an_answer_that_is_said_again_is_reported_once(command: Command, tmp_path: Path) -> None:
    """A message of a cut attempt is superseded: neither an event nor the answer holds it."""
    cut_answer = response(message("The ans"), fault=cut(before="terminal"))
    usage = {"input_tokens": 10, "cached_tokens": 4, "output_tokens": 3, "reasoning_tokens": 1}
    with provider(command, cut_answer, response(message("The answer."), usage=usage)):
        done = command.run("exec", "--json", "-m", "m", "-o", str(tmp_path / "last"), "p")
    said = [
        e["item"]["text"] for e in done.events if e.get("item", {}).get("type") == "agent_message"
    ]
    assert said == ["The answer."]
    assert (tmp_path / "last").read_text() == "The answer."
    (error,) = [e["item"] for e in done.events if e.get("item", {}).get("type") == "error"]
    assert error["message"].startswith("Reconnecting... 1/5 (")
    assert done.events[-1]["usage"] == {
        "input_tokens": 10,
        "cached_input_tokens": 4,
        "cache_write_input_tokens": 0,
        "output_tokens": 3,
        "reasoning_output_tokens": 1,
    }


def test_a_wrong_key_ends_at_once(command: Command) -> None:
    """One request, exit 1, one reason; the events end with turn.failed."""
    refusal = http_error(401, body={"error": {"message": "Incorrect API key provided"}})
    with provider(command, refusal, refusal) as server:
        done = command.run("exec", "--json", "-m", "m", "p")
        assert len(server.requests) == 1
    assert done.code == 1
    assert done.types[-2:] == ["error", "turn.failed"]
    assert "Incorrect API key" in done.events[-1]["error"]["message"]
    assert "sk-test" not in done.out + done.err


def test_what_a_refused_history_cost_is_said(command: Command) -> None:
    """One line names the refusal and what was changed; with --json it is an error item."""
    refused = http_error(400, body={"error": {"message": "No reasoning items, please."}})
    thought = response(reasoning("hm"), call("exec_command", {"cmd": "true"}))
    line = (
        "the provider refused the history (No reasoning items, please.): "
        "encrypted reasoning of before is not sent any more"
    )
    for flag in ("--color=never", "--json"):
        with provider(command, thought, refused, response(message("done"))):
            done = command.run("exec", flag, "-m", "m", "go")
        assert done.code == 0
        assert line in (done.out if flag == "--json" else done.err)


def test_an_unreachable_provider_fails_the_turn_and_keeps_the_session(command: Command) -> None:
    """Nobody listens: retries are told, exit 1, and the prompt is there to be continued."""
    done = command.run("exec", "-m", "m", "-c", "model_provider=x", *_unreachable(), "p")
    assert (done.code, done.out) == (1, "")
    assert "(1 of 1)" in done.err
    with provider(command, response(message("Back again."))) as server:
        again = command.run("continue", "-m", "m")
        assert prompts(server) == ["p"]
    assert (again.code, again.out) == (0, "Back again.\n")


def _unreachable() -> list[str]:
    return ["-c", 'model_providers.x={base_url="http://127.0.0.1:9/v1", request_max_retries=1}']


def test_a_prompt_comes_as_an_argument_on_stdin_or_both(command: Command) -> None:
    """stdin alone is the prompt; beside a prompt it is a block; an empty one adds nothing."""
    cases: list[tuple[list[str], bytes, str]] = [
        (["from here"], b"", "from here"),
        (["from here"], b" \n", "from here"),
        ([], "from stdin \u00e9".encode(), "from stdin \u00e9"),
        (["-"], b"from stdin\n", "from stdin\n"),
        (["from here"], b"more\n", "from here\n\n<stdin>\nmore\n</stdin>"),
    ]
    with provider(command, *[response(message("ok"))] * len(cases)) as server:
        for words, stdin, expected in cases:
            done = command.run("exec", "-m", "m", *words, stdin=stdin)
            assert done.code == 0, done.err
            assert prompts(server) == [expected]


def test_a_session_is_resumed_by_id_by_prefix_and_as_the_last_one(command: Command) -> None:
    """Each resume continues the same history under the same id."""
    with provider(command, *[response(message("ok"))] * 5) as server:
        session = command.run("exec", "--json", "-m", "m", "one").session
        for number, words in enumerate(
            (
                ["exec", "resume", session, "again"],
                ["exec", "-m", "m", "resume", "--last", "again"],
                ["resume", session[:18], "again"],
            ),
            2,
        ):
            done = command.run(*words, "--json")
            assert done.code == 0, done.err
            assert done.session == session
            assert len(prompts(server)) == number
        assert judge(server.requests).ok, judge(server.requests).table()


def test_resume_without_a_prompt_and_with_nothing_cut_says_so(command: Command) -> None:
    """Exit 2 and one line; the session stays as it is."""
    with provider(command, response(message("ok"))) as server:
        session = command.run("exec", "--json", "-m", "m", "one").session
        for words in (["exec", "resume", session], ["continue"]):
            done = command.run(*words, "--json")
            assert done.code == 2
            assert "nothing to continue" in done.complaint
        assert len(server.requests) == 1


def test_an_interrupt_is_recorded_and_the_turn_goes_on_later(command: Command) -> None:
    """Ctrl-C while a command runs: exit 130, turn.failed, no process left; `continue` finishes."""
    script = [
        response(call("exec_command", {"cmd": "touch running; sleep 60"})),
        response(message("Finished.")),
    ]
    with provider(command, *script) as server:
        with ended(command.start("exec", "--json", "-m", "m", "p")) as process:
            wait_for((command.cwd / "running").exists)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=50)
        done = Done(process.returncode, out.decode(), err.decode())
        assert done.code == 130
        assert done.types[-1] == "turn.failed"
        assert "Ctrl-C" in done.events[-1]["error"]["message"]
        assert f"backstay resume {done.session}" in done.err
        assert not processes_of(command.home)
        again = command.run("exec", "--json", "resume", done.session)
        assert again.code == 0, again.err
        assert again.types[-2:] == ["item.completed:agent_message", "turn.completed"]
        assert judge(server.requests).ok, judge(server.requests).table()


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["TERM", "HUP"]
)
def test_term_and_hup_interrupt_once_and_name_themselves_in_the_exit_code(
    command: Command, number: signal.Signals, code: int
) -> None:
    """While the stream is silent: the turn is recorded as interrupted, the exit code is the signal's."""
    gate = str(command.home / "never")
    with provider(
        command, response(message("late"), hold=hold(before="terminal", file=gate))
    ) as server:
        with ended(command.start("exec", "--json", "-m", "m", "p")) as process:
            wait_for(lambda: server.requests)
            process.send_signal(number)
            out, _ = process.communicate(timeout=50)
        assert process.returncode == code
        assert json.loads(out.splitlines()[-1])["type"] == "turn.failed"
        Path(gate).touch()


def test_the_second_interrupt_ends_at_once(command: Command) -> None:
    """A command that ignores TERM holds the first Ctrl-C up; the second exits 130 all the same."""
    stubborn = "trap '' TERM INT; touch running; while :; do sleep 0.1; done"
    with (
        provider(command, response(call("exec_command", {"cmd": stubborn}))),
        ended(command.start("exec", "--json", "-m", "m", "p")) as process,
    ):
        wait_for((command.cwd / "running").exists)
        while process.poll() is None:  # two that come together may be delivered as one
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        _, err = process.communicate()
    assert process.returncode == 130
    assert b"ended at once; to go on: backstay resume" in err


def test_a_closed_stdout_interrupts_the_turn(command: Command) -> None:
    """The reader of the events goes away: no traceback, exit 130, the turn can be continued."""
    script = [response(call("exec_command", {"cmd": "touch running; sleep 60"}))]
    with provider(command, *script, response(message("ok"))):
        with ended(command.start("exec", "--json", "-m", "m", "p")) as process:
            assert process.stdout
            session = json.loads(process.stdout.readline())["thread_id"]
            wait_for((command.cwd / "running").exists)
            process.stdout.close()
            process.stdout = None
            _, err = process.communicate(timeout=50)
        assert process.returncode == 130
        assert b"Traceback" not in err
        assert command.run("resume", session).code == 0


def test_an_ephemeral_session_leaves_nothing(command: Command, tmp_path: Path) -> None:
    """The answer is there, the home stays empty, and the temporary folder is gone."""
    place = tmp_path / "tmp"
    place.mkdir()
    with provider(
        command, response(call("exec_command", {"cmd": "true"})), response(message("ok"))
    ):
        done = command.run("exec", "-m", "m", "--ephemeral", "p", env={"TMPDIR": str(place)})
    assert (done.code, done.out) == (0, "ok\n")
    assert "resume" not in done.err
    assert list(place.iterdir()) == []
    assert list(command.home.iterdir()) == []


def test_what_is_not_done_is_said_in_one_line_each(command: Command) -> None:
    """Flags and keys without effect: one line each, and the turn runs."""
    flags = ["--trust", "--enable", "x"]
    keys = ["approval_policy=on-request", "features.x=true"]
    keys.append("sandbox_workspace_write.network_access=false")
    words = [*flags, *(word for key in keys for word in ("-c", key))]
    with provider(command, response(message("ok"))):
        done = command.run("exec", "--json", "-m", "m", *words, "--", "p")
    assert done.code == 0
    lines = done.err.splitlines()
    assert len(lines) == 2 + len(keys) + 1
    assert sum(line.startswith(LINE) for line in lines) == 1


def test_no_command_gets_to_see_a_key(command: Command) -> None:
    """Neither the usual variables nor those that a provider block names reach a command."""
    keys = {"CODEX_API_KEY": "sk-codex", "MY_KEY": "sk-mine", "MY_HEADER": "sk-header"}
    block = 'base_url="URL", env_key="MY_KEY", env_http_headers={X-A="MY_HEADER"}'
    with provider(
        command, response(call("exec_command", {"cmd": "env > seen"})), response(message("ok"))
    ) as server:
        config = f"model_providers.mine={{{block.replace('URL', server.url)}}}"
        words = ["-c", config, "-c", "model_provider=mine", "-m", "m", "p"]
        done = command.run("exec", *words, env=keys)
    assert done.code == 0, done.err
    assert "sk-" not in (command.cwd / "seen").read_text()
    assert not [path for path in command.home.rglob("*.jsonl") if b"sk-" in path.read_bytes()]


def test_nothing_a_model_or_a_command_writes_reaches_a_terminal_raw(command: Command) -> None:
    """Control characters in what is printed for people are spelled out or taken out."""
    script = [
        response(
            call("exec_command", {"cmd": "printf '\\033]0;evil\\007\\033[31mred\\033[2J\\n'"})
        ),
        response(message("bye \x1b]0;evil\x07")),
    ]
    reading, writing = os.openpty()
    try:
        with (
            provider(command, *script),
            ended(
                command.start(
                    "exec", "-m", "m", "p", stdout=writing, stderr=writing, env={"TERM": "dumb"}
                )
            ) as process,
        ):
            process.wait(timeout=50)
            shown = os.read(reading, 1 << 16)
    finally:
        os.close(reading)
        os.close(writing)
    assert b"red" in shown
    assert b"bye \\x1b]0;evil\\x07" in shown
    assert b"\x1b" not in shown
    assert b"\x07" not in shown


def test_sessions_lists_and_shows_without_writing(command: Command) -> None:
    """The list has id, state and prompt; show tells the cut and the output; no byte changes."""
    script = [
        response(call("exec_command", {"cmd": "echo hello"}), fault=cut(after="call")),
        response(message("Done.")),
    ]
    with provider(command, *script):
        session = command.run("exec", "--json", "-m", "m", "the first prompt").session
    (journal,) = command.home.rglob("journal.jsonl")
    before = journal.read_bytes()
    listed = command.run("sessions").out
    assert session[:8] in listed
    assert "completed" in listed
    assert "the first prompt" in listed
    (entry,) = command.run("sessions", "list", "--json").events
    assert (entry["id"], entry["state"]) == (session, "completed")
    shown = command.run("sessions", "show", session).out
    for text in ("the first prompt", "$ echo hello", "hello", "tried again", "Done.", "completed"):
        assert text in shown
    journal.write_bytes(before + b'{"torn')
    assert "damage" in command.run("sessions", "show", session).out
    assert journal.read_bytes() == before + b'{"torn'


def test_ps_lists_what_is_alive(command: Command) -> None:
    """A command that runs is listed with its session and text, and gone when it has ended."""
    with (
        provider(command, response(call("exec_command", {"cmd": "touch running; sleep 61"}))),
        ended(command.start("exec", "--json", "-m", "m", "p")) as process,
    ):
        wait_for((command.cwd / "running").exists)
        (alive,) = command.run("ps", "--json").events
        assert alive["command"] == "touch running; sleep 61"
        assert alive["agent"] == process.pid
        assert (alive["output"], alive["tty"], alive["number"]) == (0, False, 4)
        listed = command.run("ps").out
        assert "sleep 61" in listed
        assert f"{alive['session']}-4\n" in listed
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=50)
    assert command.run("ps").out == ""


def test_ps_ends_a_command(command: Command) -> None:
    """One that is named ends with all that it started; the model is told, and the turn goes on."""
    answers = [
        response(call("exec_command", {"cmd": "touch running; sleep 61 & sleep 62"})),
        response(message("I see.")),
    ]
    with (
        provider(command, *answers) as server,
        ended(command.start("exec", "--json", "-m", "m", "p")) as process,
    ):
        wait_for((command.cwd / "running").exists)
        (alive,) = command.run("ps", "--json").events
        assert command.run("ps", "--end", f"{alive['session'][:20]}-4").code == 0
        process.communicate(timeout=50)
        assert process.returncode == 0
        said = str(server.bodies[1]["input"][-1])
        assert "Process ended by signal 15 (SIGTERM) (the user ended it)" in said
    assert command.run("ps").out == ""
    for wrong in ("4", f"{alive['session']}-4", f"{alive['session']}-5"):
        done = command.run("ps", "--end", wrong)
        assert done.code == 2
        assert len(done.err.splitlines()) == 1


def test_a_disk_that_refuses_ends_the_turn_and_loses_nothing(command: Command) -> None:
    """Exit 4, turn.failed all the same; with room again the true output is there."""
    script = [response(call("exec_command", {"cmd": "seq 2200; echo x >> ran"}))]
    with provider(command, *script, response(message("ok"))) as server:
        shell = 'ulimit -f 24; exec "$0" -m backstay exec --json -m m p'
        # Else half a .pyc would be left beside the sources.
        environment = command.environment({"PYTHONDONTWRITEBYTECODE": "1"})
        limited = subprocess.run(
            ["sh", "-c", shell, sys.executable],
            cwd=command.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        done = Done(limited.returncode, limited.stdout.decode(), limited.stderr.decode())
        assert done.code == 4
        assert done.types[-1] == "turn.failed"
        assert "could not be recorded" in done.events[-1]["error"]["message"]
        assert done.complaint.endswith(f"backstay resume {done.session}")
        again = command.run("resume", "--json", done.session)
        assert again.code == 0, again.err
        (output,) = [i for i in server.requests[-1].body["input"] if "output" in i]
        assert output["output"].endswith("\n2199\n2200\n")
    assert (command.cwd / "ran").read_text() == "x\n"


def test_a_call_that_a_killed_process_left_is_told_by_the_next_one(command: Command) -> None:
    """The command outlives the killed agent: `resume` shows its true output and exit code."""
    text = "touch running; while [ ! -e go ]; do sleep 0.05; done; echo late"
    with provider(
        command, response(call("exec_command", {"cmd": text})), response(message("ok"))
    ) as server:
        with ended(command.start("exec", "--json", "-m", "m", "p")) as process:
            assert process.stdout
            session = json.loads(process.stdout.readline())["thread_id"]
            wait_for((command.cwd / "running").exists)
            process.kill()
            process.wait()
        (command.cwd / "go").touch()
        done = command.run("exec", "resume", session, "--json")
        assert done.code == 0, done.err
        items = [event["item"] for event in done.events if event["type"] == "item.completed"]
        (item,) = [one for one in items if one["type"] == "command_execution"]
        assert (item["command"], item["exit_code"]) == (text, 0)
        assert item["aggregated_output"] == "late\n"
        assert judge(server.requests).ok, judge(server.requests).table()
    assert not processes_of(command.home)

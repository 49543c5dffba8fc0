"""Commands that yielded, and an agent that never comes back: the dead-man line, and what is told."""

import os

import pytest

from backstay.chaos import call, message, response
from tests.process.agent import JSON, Bench, alive
from tests.processes import processes_of

pytestmark = pytest.mark.processes

NAP = f"sleep 302.{os.getpid()}"
SHORT = ("-c", "command_grace_seconds=0.3")


def developer(bench: Bench) -> str:
    """What the last request tells the model beside prompts and outputs."""
    return str([one for one in bench.inputs()[-1] if one.get("role") == "developer"])


def test_yielded_command_is_ended_after_the_grace_period_and_the_model_is_told(
    bench: Bench,
) -> None:
    """Nobody came back in time: the command and its supervisor are gone, and that is said."""
    bench.serve(
        bench.held(bench.command("one", f"echo begun; {NAP}", yield_time_ms=250)),
        response(message("done")),
    )
    agent = bench.exec("go", *SHORT)
    bench.wait(bench.outputs, "the command has yielded")
    assert alive(NAP.replace(" ", "\0"))
    agent.kill()
    bench.wait(lambda: not processes_of(bench.home), "the grace period is over")
    assert alive(NAP.replace(" ", "\0")) == []
    assert bench.exited() == 1
    assert bench.resume().end().code == 0
    (shown,) = bench.sent()
    number = bench.calls()[0].n
    assert f"Process running with session ID {number}" in shown
    assert f"session ID {number} has ended" in developer(bench)
    assert "because the agent that ran it had died" in developer(bench)
    assert bench.runs("one") == 1
    bench.check()
    told = developer(bench)
    bench.serve(response(message("more")))
    assert bench.resume("and on").end().code == 0
    assert developer(bench) == told
    bench.check()


def test_running_call_is_ended_after_the_grace_period_and_answered_truly(bench: Bench) -> None:
    """A call that had no output yet gets one that says how its command ended, and what it printed."""
    bench.serve(bench.held(bench.command("one", f"echo begun; {NAP}")), response(message("done")))
    agent = bench.exec("go", *SHORT)
    bench.wait(bench.spooled, "the command runs")
    agent.kill()
    bench.wait(lambda: not processes_of(bench.home), "the grace period is over")
    assert bench.resume().end().code == 0
    (told,) = bench.sent()
    assert "because the agent that ran it had died" in told
    assert told.endswith("Output:\nbegun\n")
    assert (bench.runs("one"), bench.runs("one-end")) == (1, 0)
    bench.check()


def test_yielded_command_lives_on_within_the_grace_period_and_is_polled(bench: Bench) -> None:
    """After a kill -9 and a resume `write_stdin` reaches the same command, each byte shown once."""
    line = "echo begun; read line; echo got $line"
    bench.serve(bench.held(bench.command("one", line, yield_time_ms=250, tty=True)))
    agent = bench.exec("go")
    bench.wait(bench.outputs, "the command has yielded")
    agent.kill()
    number = bench.calls()[0].n
    says: JSON = {"session_id": number, "chars": "hello\n", "yield_time_ms": 20_000}
    bench.serve(response(call("write_stdin", says)), response(message("done")))
    assert bench.resume().end().code == 0
    first, second = bench.sent()
    assert "begun" in first
    assert second.endswith("Output:\nhello\ngot hello\none-output\n")
    assert bench.runs("one") == bench.runs("one-end") == 1
    bench.check()


def test_command_that_ended_while_nobody_was_there_is_told(bench: Bench) -> None:
    """A yielded command that finished between kill and resume is reported with its exit code."""
    go = bench.root / "go"
    waits = f"while [ ! -e {go} ]; do sleep 0.05; done; exit 7"
    bench.serve(
        bench.held(bench.command("one", waits, yield_time_ms=250)), response(message("done"))
    )
    agent = bench.exec("go")
    bench.wait(bench.outputs, "the command has yielded")
    agent.kill()
    go.touch()
    bench.wait(bench.exited, "the command has ended")
    assert bench.resume().end().code == 0
    assert "has ended: Process exited with code 7" in developer(bench)
    bench.check()


def test_commands_that_a_run_leaves_are_told_to_the_next_one(bench: Bench) -> None:
    """The end of `exec` ends a yielded command, says so to the user, and later to the model."""
    bench.serve(
        response(bench.command("one", NAP, yield_time_ms=250)), response(message("done")),
        response(message("more")),
    )  # fmt: skip
    ended = bench.exec("go").end()
    assert ended.code == 0
    number = bench.calls()[0].n
    assert f"session ID {number} was ended" in ended.err
    assert bench.resume("and on").end().code == 0
    assert f"session ID {number} was ended" in developer(bench)
    assert alive(NAP.replace(" ", "\0")) == []
    bench.check()

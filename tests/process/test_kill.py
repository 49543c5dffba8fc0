"""Killed with SIGKILL around an effect: its true output, or an honest word, and never a second run."""

import os
import signal

import pytest

from backstay.chaos import custom_call, message, response
from backstay.core.record import Start
from tests.process.agent import Bench, alive
from tests.processes import processes_of

pytestmark = pytest.mark.processes

NAP = f"sleep 300.{os.getpid()}"
PATCH = "*** Begin Patch\n*** Add File: new.txt\n+made by the patch\n*** End Patch"
PATCHED = "Success. Updated the following files:\nA new.txt\n"


def finish(bench: Bench) -> None:
    """Resume to the end of the turn; nothing may be left running."""
    ended = bench.resume().end()
    assert ended.code == 0, ended.err
    assert ended.out.endswith("done\n")
    assert bench.turns() == ["completed"]
    assert processes_of(bench.home) == {}
    bench.check()


def test_killed_after_a_command_is_recorded_and_before_its_stream_ends(bench: Bench) -> None:
    """The output that was on disk is what the resumed session sends; the command ran once."""
    bench.serve(bench.held(bench.command("one")), response(message("done")))
    agent = bench.exec("go")
    bench.wait(bench.outputs, "the output is recorded")
    agent.kill()
    finish(bench)
    assert bench.sent()[0].endswith("Output:\none-output\n")
    assert bench.runs("one") == bench.runs("one-end") == 1


def test_killed_after_a_command_has_ended_and_before_that_is_recorded(bench: Bench) -> None:
    """The supervisor's word is enough: an agent that was frozen and killed loses no output."""
    bench.serve(
        bench.held(bench.command("one", "sleep 0.5; echo printed")), response(message("done"))
    )
    agent = bench.exec("go")
    bench.wait(lambda: bench.runs("one"), "the command runs")
    agent.signal(signal.SIGSTOP)
    bench.wait(bench.exited, "the supervisor has the exit")
    agent.kill()
    assert bench.outputs() == []
    finish(bench)
    assert bench.sent()[0].endswith("Output:\nprinted\none-output\n")
    assert bench.statuses() == ["done"]
    assert bench.runs("one") == bench.runs("one-end") == 1


@pytest.mark.parametrize("moment", ["recorded", "applied"])
def test_killed_after_a_patch_and_before_its_stream_ends(bench: Bench, moment: str) -> None:
    """A patch that was applied is answered with its true output, and is not applied again."""
    bench.serve(bench.held(custom_call("apply_patch", PATCH)), response(message("done")))
    agent = bench.exec("go")
    made = bench.cwd / "new.txt"
    bench.wait(made.exists if moment == "applied" else bench.outputs, f"the patch is {moment}")
    agent.kill()
    identity = made.stat().st_ino
    finish(bench)
    assert bench.sent() == [PATCHED]
    assert (made.stat().st_ino, made.read_text()) == (identity, "made by the patch\n")


def test_killed_with_two_of_three_parallel_calls_done(bench: Bench) -> None:
    """Both finished outputs are kept, the third command is adopted; each ran once."""
    go = bench.root / "go"
    slow = bench.command("slow", f"while [ ! -e {go} ]; do sleep 0.05; done")
    bench.serve(
        bench.held(bench.command("one"), slow, bench.command("three")), response(message("done"))
    )
    agent = bench.exec("go")
    bench.wait(lambda: len(bench.outputs()) == 2 and bench.runs("slow"), "two are done")
    agent.kill()
    resumed = bench.resume()
    bench.wait(lambda: "taken over" in resumed.err, "the third is taken over")
    go.touch()
    assert resumed.end().code == 0
    printed = [text.rpartition("Output:\n")[2] for text in bench.sent()]
    assert printed == ["one-output\n", "slow-output\n", "three-output\n"]
    assert bench.statuses() == ["done"] * 3
    assert [bench.runs(f"{name}-end") for name in ("one", "slow", "three")] == [1, 1, 1]
    assert processes_of(bench.home) == {}
    bench.check()


@pytest.mark.parametrize("ended", [False, True], ids=["still running", "ended meanwhile"])
def test_killed_while_a_command_runs(bench: Bench, *, ended: bool) -> None:
    """The command outlives the agent, and the resumed session has all that it printed."""
    go = bench.root / "go"
    waits = f"echo begun; while [ ! -e {go} ]; do sleep 0.05; done"
    bench.serve(bench.held(bench.command("one", waits)), response(message("done")))
    agent = bench.exec("go")
    bench.wait(lambda: bench.runs("one"), "the command runs")
    agent.kill()
    if ended:
        go.touch()
        bench.wait(bench.exited, "the command has ended")
        finish(bench)
    else:
        resumed = bench.resume()
        bench.wait(lambda: "taken over" in resumed.err, "it is taken over")
        assert bench.runs("one-end") == 0
        go.touch()
        assert resumed.end().code == 0
    assert bench.sent()[0].endswith("Output:\nbegun\none-output\n")
    assert bench.statuses() == ["done"]
    assert bench.runs("one") == bench.runs("one-end") == 1
    bench.check()


def supervisor(starts: list[Start]) -> int:
    """The supervisor's pid, as the first start record has it."""
    recorded = starts[0].supervisor
    assert recorded is not None
    return recorded.pid


@pytest.mark.parametrize("orphan", ["agent first", "supervisor first"])
def test_killed_together_with_the_supervisor(bench: Bench, orphan: str) -> None:
    """Nobody knows what became of the command: that is said, with what it printed; it is ended."""
    waits = f"echo begun; {NAP}"
    bench.serve(bench.held(bench.command("one", waits)), response(message("done")))
    agent = bench.exec("go")
    bench.wait(lambda: bench.runs("one") and bench.spooled(), "the command runs")
    pids = [agent.pid, supervisor(bench.starts())]
    if orphan == "supervisor first":
        agent.signal(signal.SIGSTOP)  # else it may record the end before it is killed itself
        pids.reverse()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    agent.end()
    finish(bench)
    (told,) = bench.sent()
    assert "unknown" in told
    assert "verify before repeating" in told
    assert told.endswith("begun\n")
    assert bench.statuses() == ["unknown"]
    assert (bench.runs("one"), bench.runs("one-end")) == (1, 0)
    assert alive(NAP.replace(" ", "\0")) == []


def test_supervisor_killed_under_a_living_agent(bench: Bench) -> None:
    """The agent notices, ends what is left, says that the outcome is unknown, and goes on."""
    again = bench.command("two")
    bench.serve(
        response(bench.command("one", f"echo begun; {NAP}")),
        response(again),
        response(message("done")),
    )
    agent = bench.exec("go")
    bench.wait(lambda: bench.runs("one") and bench.spooled(), "the command runs")
    os.kill(supervisor(bench.starts()), signal.SIGKILL)
    assert agent.end().code == 0
    first, second = bench.sent()
    assert "unknown" in first
    assert "begun" in first
    assert second.endswith("two-output\n")
    assert alive(NAP.replace(" ", "\0")) == []
    assert processes_of(bench.home) == {}
    bench.check()

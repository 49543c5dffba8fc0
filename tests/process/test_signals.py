"""Signals and a reader that goes away: the turn is recorded as interrupted, and can be finished."""

import os
import signal
from collections.abc import Callable

import pytest

from backstay.chaos import cut, http_error, message, response
from tests.process.agent import Agent, Bench, alive
from tests.processes import processes_of

pytestmark = pytest.mark.processes

NAP = f"sleep 301.{os.getpid()}"


def twice(agent: Agent) -> None:
    """A supervisor of processes that is in a hurry."""
    agent.signal(signal.SIGTERM)
    agent.signal(signal.SIGTERM)


ONCE: dict[str, tuple[int, Callable[[Agent], None]]] = {
    "Ctrl-C": (130, lambda agent: agent.signal(signal.SIGINT)),
    "Ctrl-C to the whole group": (130, lambda agent: os.killpg(agent.pid, signal.SIGINT)),
    "SIGTERM": (143, lambda agent: agent.signal(signal.SIGTERM)),
    "SIGTERM twice": (143, twice),
    "SIGHUP": (129, lambda agent: agent.signal(signal.SIGHUP)),
    "SIGHUP to the whole group": (129, lambda agent: os.killpg(agent.pid, signal.SIGHUP)),
}


def finished_by_continue(bench: Bench) -> None:
    """`backstay continue` finishes the turn in the folder where it was cut."""
    ended = bench.start("continue", "-m", "m", "--yolo").end()
    assert (ended.code, ended.out) == (0, "done\n"), ended.err
    assert bench.turns()[-1] == "completed"
    assert processes_of(bench.home) == {}
    bench.check()


@pytest.mark.parametrize("how", ONCE)
def test_signal_interrupts_the_turn_and_stops_its_command(bench: Bench, how: str) -> None:
    """The exit code names the signal, the command is gone, its output says so, the turn goes on."""
    code, send = ONCE[how]
    call = bench.command("one", f"echo printed so far; {NAP}")
    bench.serve(response(call), response(message("done")))
    agent = bench.exec("go")
    bench.wait(bench.spooled, "the command runs")
    send(agent)
    ended = agent.end()
    assert ended.code == code
    assert bench.session in ended.err
    assert "Traceback" not in ended.err
    assert bench.turns() == ["interrupted"]
    assert bench.statuses() == ["interrupted"]
    assert alive(NAP.replace(" ", "\0")) == []
    finished_by_continue(bench)
    assert "interrupted" in bench.sent()[0]
    assert "printed so far" in bench.sent()[0]
    assert bench.runs("one") == 1


def test_second_ctrl_c_ends_at_once_and_leaves_the_rest_to_settlement(bench: Bench) -> None:
    """Nobody waits for a command that takes its time to end; the next run says what became of it."""
    asked = bench.root / "asked"
    call = bench.command("one", f"trap ': > {asked}' TERM; echo printed so far; {NAP}; {NAP}")
    bench.serve(response(call), response(message("done")))
    agent = bench.exec("go")
    bench.wait(bench.spooled, "the command runs")
    agent.signal(signal.SIGINT)
    bench.wait(asked.exists, "the command was asked to end")
    agent.signal(signal.SIGINT)
    assert agent.end().code == 130
    assert bench.turns() == []
    finished_by_continue(bench)
    (told,) = bench.sent()
    assert "printed so far" in told
    assert alive(NAP.replace(" ", "\0")) == []
    assert bench.runs("one") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_while_the_model_speaks(bench: Bench, number: signal.Signals) -> None:
    """A stream that is open is given up; what the turn had is kept, and it is finished later."""
    bench.serve(
        response(bench.command("one")),
        bench.held(message("half an answer")),
        response(message("done")),
    )
    agent = bench.exec("go")
    bench.server.wait(2)
    agent.signal(number)
    assert agent.end().code == 128 + number
    assert bench.turns() == ["interrupted"]
    finished_by_continue(bench)
    assert bench.sent()[0].endswith("one-output\n")


def test_ctrl_c_while_a_retry_is_waited_for(bench: Bench) -> None:
    """A wait ends at once, and no further request is sent."""
    patient = http_error(429, headers={"Retry-After": "200"})
    bench.serve(patient, response(message("done")))
    agent = bench.exec("go")
    bench.wait(lambda: "trying again in 3 min" in agent.err, "the wait is shown")
    agent.signal(signal.SIGINT)
    assert agent.end().code == 130
    assert len(bench.server.requests) == 1
    finished_by_continue(bench)


@pytest.mark.parametrize("option", ["--json", "--color=never"])
def test_closed_stdout_is_an_interrupt(bench: Bench, option: str) -> None:
    """When the reader has gone the command is stopped, and the session can be resumed."""
    bench.serve(response(bench.command("one", NAP)), response(message("done")))
    reader, writer = os.pipe()
    agent = bench.exec("go", option, out=writer)
    os.close(writer)
    bench.wait(lambda: bench.runs("one"), "the command runs")
    os.close(reader)
    ended = agent.end()
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert bench.turns() == ["interrupted"]
    assert alive(NAP.replace(" ", "\0")) == []
    finished_by_continue(bench)


def test_stdout_that_was_never_open_is_an_interrupt_before_the_next_effect(bench: Bench) -> None:
    """`| head -0`: whatever the moment, the run ends with 130 or done, never with a traceback."""
    bench.serve(response(bench.command("one")), response(message("done")), repeat=True)
    reader, writer = os.pipe()
    os.close(reader)
    agent = bench.exec("go", "--json", out=writer)
    os.close(writer)
    ended = agent.end()
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert bench.turns() == ["interrupted"]
    assert bench.runs("one") == 0


def test_interrupt_during_a_cut_and_retried_turn_keeps_the_prompt(bench: Bench) -> None:
    """Interrupted in the second attempt: the turn that goes on has what the first one did."""
    bench.serve(
        response(bench.command("one"), fault=cut(after="call")),
        response(bench.command("two", NAP)),
        response(message("done")),
    )
    agent = bench.exec("go")
    bench.wait(lambda: bench.runs("two"), "the second command runs")
    agent.signal(signal.SIGINT)
    assert agent.end().code == 130
    finished_by_continue(bench)
    first, second = bench.sent()
    assert first.endswith("one-output\n")
    assert "interrupted" in second

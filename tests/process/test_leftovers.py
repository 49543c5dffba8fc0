"""When a run of the command line has ended, no process of any tool is left."""

import os
import signal

import pytest

from backstay.chaos import http_error, message, response
from tests.process.agent import Bench, alive
from tests.processes import processes_of

pytestmark = pytest.mark.processes

NAP = f"sleep 300.{os.getpid()}"
STUBBORN = {
    "in the background": f"{NAP} &",
    "in a session of its own": f"setsid {NAP} &",
    "without its environment": f"env -i setsid {NAP} >/dev/null 2>&1 &",
    "behind a parent that ended": f"( setsid sh -c '{NAP} & {NAP} &' & )",
    "deaf to TERM and HUP": f"trap '' TERM HUP; {NAP}; {NAP}",
    "without its output": f"nohup {NAP} >/dev/null 2>&1 </dev/null &",
}


def assert_nothing_left(bench: Bench) -> None:
    """Neither a command nor the supervisor nor the agent lives."""
    assert alive(NAP.replace(" ", "\0")) == []
    assert processes_of(bench.home) == {}


def napping() -> bool:
    """Whether a command sleeps."""
    return bool(alive(NAP.replace(" ", "\0")))


@pytest.mark.parametrize("how", STUBBORN)
def test_nothing_is_left_after_exec_and_after_resume(bench: Bench, how: str) -> None:
    """A run that was killed leaves its command alone; the resume that finishes it ends them all."""
    call = bench.command("one", STUBBORN[how], yield_time_ms=250)
    bench.serve(bench.held(call), response(call), response(message("done")))
    agent = bench.exec("go")
    bench.wait(bench.outputs, "the command has answered")
    bench.wait(napping, "something sleeps")
    agent.kill()
    assert bench.resume().end().code == 0
    assert bench.runs("one") == 2
    assert_nothing_left(bench)
    bench.check()


def test_nothing_is_left_after_a_turn_that_failed(bench: Bench) -> None:
    """A refusal of the provider ends the turn and everything that it had started."""
    call = bench.command("one", f"setsid {NAP} & {NAP}", yield_time_ms=250)
    bench.serve(response(call), http_error(403))
    ended = bench.exec("go").end()
    assert ended.code == 1
    assert bench.runs("one") == 1
    assert_nothing_left(bench)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_after_a_signal(bench: Bench, number: signal.Signals) -> None:
    """A signal ends the commands that run and those that had yielded."""
    yielded = bench.command("one", f"setsid {NAP} & {NAP}", yield_time_ms=250)
    bench.serve(response(yielded), bench.held(bench.command("two", f"trap '' TERM; {NAP}")))
    agent = bench.exec("go")
    bench.wait(lambda: bench.runs("two"), "both run")
    agent.signal(number)
    assert agent.end().code == 128 + number
    assert_nothing_left(bench)


def test_background_process_lives_for_as_long_as_the_turn(bench: Bench) -> None:
    """A server that one command starts is there for the next one, and ends with the run."""
    looks = "tr '\\0' ' ' < /proc/$(cat pid)/cmdline"
    bench.serve(
        response(bench.command("one", f"{NAP} & echo $! > pid")),
        response(bench.command("two", looks)),
        response(message("done")),
    )
    assert bench.exec("go").end().code == 0
    assert NAP in bench.sent()[1]
    assert_nothing_left(bench)
    bench.check()

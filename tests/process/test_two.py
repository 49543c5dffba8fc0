"""Two processes and one session: one writes, the other is told who does, and no prompt is lost."""

import os
import signal

import pytest

from backstay.chaos import message, response
from backstay.core.items import message_text
from backstay.core.record import Prompt
from tests.process.agent import Bench
from tests.processes import processes_of

pytestmark = pytest.mark.processes


def prompts(bench: Bench) -> list[str]:
    """The prompts that were accepted, in order."""
    return [message_text(one.items[-1]) for one in bench.records() if isinstance(one, Prompt)]


def assert_refused(bench: Bench, holder: int, *words: str) -> None:
    """The session is held: one line that names the holder, exit 3, not a byte written."""
    before = bench.journal.read_bytes()
    ended = bench.exec("resume", bench.session, *words).end()
    assert ended.code == 3
    assert f"pid {holder} on {os.uname().nodename} since " in ended.one_line()
    assert ended.out == ""
    assert bench.journal.read_bytes() == before


@pytest.mark.parametrize("words", [("second",), ()], ids=["with a prompt", "without"])
def test_second_process_is_refused_by_name(bench: Bench, words: tuple[str, ...]) -> None:
    """While one process writes a session another one is refused, and changes nothing."""
    bench.serve(
        bench.held(bench.command("one")), response(message("done")), response(message("more"))
    )
    holder = bench.exec("first")
    bench.wait(bench.outputs, "the first one is at work")
    assert_refused(bench, holder.pid, *words)
    assert len(bench.server.requests) == 1
    holder.kill()
    assert bench.resume().end().code == 0
    assert bench.resume("third").end().code == 0
    assert prompts(bench) == ["first", "third"]
    assert bench.runs("one") == 1
    assert processes_of(bench.home) == {}
    bench.check()


def test_stopped_holder_still_holds(bench: Bench) -> None:
    """A lock is not timed: a process that is merely suspended keeps it, and goes on when woken."""
    go = bench.root / "go"
    waits = f"while [ ! -e {go} ]; do sleep 0.05; done"
    bench.serve(response(bench.command("one", waits)), response(message("done")))
    holder = bench.exec("first")
    bench.wait(lambda: bench.runs("one"), "the first one is at work")
    holder.signal(signal.SIGSTOP)
    assert_refused(bench, holder.pid, "second")
    holder.signal(signal.SIGCONT)
    go.touch()
    assert holder.end().code == 0
    assert prompts(bench) == ["first"]
    bench.check()


def test_commands_of_a_dead_holder_do_not_hold(bench: Bench) -> None:
    """Its commands and their supervisor live on after kill -9; the lock does not live with them."""
    bench.serve(
        bench.held(bench.command("one", "sleep 1")),
        bench.held(bench.command("two")),
        response(message("done")),
    )
    first = bench.exec("first")
    bench.wait(lambda: bench.runs("one"), "the command runs")
    first.kill()
    second = bench.resume()
    bench.wait(lambda: len(bench.outputs()) == 2, "the second one is at work")
    assert_refused(bench, second.pid, "third")
    second.kill()
    assert bench.resume("fourth").end().code == 0
    assert prompts(bench) == ["first", "fourth"]
    assert bench.runs("one") == 1
    bench.check()


def test_many_at_once_let_one_in(bench: Bench) -> None:
    """Of six that start together exactly those that got in are recorded; none is half accepted."""
    bench.serve(response(message("zero")), response(message("done"), delay=1.0), repeat=True)
    assert bench.exec("zero").end().code == 0
    agents = {f"prompt-{number}": bench.resume(f"prompt-{number}") for number in range(6)}
    codes = {name: agent.end().code for name, agent in agents.items()}
    accepted = [name for name, code in codes.items() if code == 0]
    assert {*codes.values()} <= {0, 3}
    assert accepted
    assert sorted(prompts(bench)) == sorted(["zero", *accepted])
    assert bench.turns() == ["completed"] * (len(accepted) + 1)
    bench.check()


def test_readers_are_not_refused(bench: Bench) -> None:
    """Listing and showing need no lock and take none."""
    bench.serve(bench.held(bench.command("one")), response(message("done")))
    holder = bench.exec("first")
    bench.wait(bench.outputs, "the first one is at work")
    before = bench.journal.read_bytes()
    for words in (["sessions"], ["sessions", "show", bench.session], ["ps"]):
        shown = bench.start(*words).end()
        assert (shown.code, shown.err) == (0, "")
    assert bench.journal.read_bytes() == before
    assert holder.running
    holder.kill()
    assert bench.resume().end().code == 0
    bench.check()

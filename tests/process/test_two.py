"""Two processes and one session: one writes, the other is told who does, and no prompt is lost."""

import os
import signal
from functools import partial

import pytest

from backstay.chaos import hold, message, response
from backstay.core.items import message_text
from backstay.core.record import Prompt
from tests.process.agent import JSON, Agent, Bench, Ended
from tests.processes import processes_of

pytestmark = pytest.mark.processes


def prompts(bench: Bench) -> list[str]:
    """The prompts that were accepted, in order."""
    return [message_text(one.items[-1]) for one in bench.records() if isinstance(one, Prompt)]


def asked(bench: Bench) -> list[str]:
    """What the user says in the last request, in order."""
    last = bench.inputs()[-1]
    return [message_text(one) for one in last if one.get("role") == "user"]


def settled(bench: Bench, least: int) -> bool:
    """So many calls have their output, and no other one is open."""
    return len(bench.outputs()) == len(bench.calls()) >= least


def assert_refused(bench: Bench, holder: int, *words: str) -> None:
    """The session is held: one line that names the holder, exit 3, not a byte written."""
    before = bench.journal.read_bytes()
    assert_names(holder, bench.exec("resume", bench.session, *words).end())
    assert bench.journal.read_bytes() == before


def assert_names(holder: int, ended: Ended) -> None:
    """A refusal: exit 3, and one line that names the holder."""
    assert ended.code == 3, ended.err
    assert f"pid {holder} on {os.uname().nodename} since " in ended.one_line()
    assert ended.out == ""


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


def held_until(bench: Bench, name: str) -> JSON:
    """A response whose stream waits in front of its end for a file."""
    return response(message(name), hold=hold(bench.root / name, before="terminal", seconds=60))


def race(bench: Bench, prompts: list[str]) -> tuple[str, Agent]:
    """Start a process for each prompt at once; the prompt that got in, and its process.

    It must still be at work when this returns; every other one has been refused by its name.
    """
    agents = {prompt: bench.resume(prompt) for prompt in prompts}
    bench.wait(lambda: sum(one.running for one in agents.values()) <= 1, "all but one have ended")
    ((winner, holder),) = ((prompt, one) for prompt, one in agents.items() if one.running)
    for prompt, agent in agents.items():
        if prompt != winner:
            assert_names(holder.pid, agent.end())
    return winner, holder


def test_five_at_once_let_exactly_one_in(bench: Bench) -> None:
    """One gets the session, four are told by whom, and only its prompt is accepted, three times."""
    bench.serve(response(message("zero")), *(held_until(bench, f"go-{n}") for n in range(3)))
    assert bench.exec("zero").end().code == 0
    accepted = ["zero"]
    for number in range(3):
        winner, holder = race(bench, [f"prompt-{number}-{one}" for one in range(5)])
        (bench.root / f"go-{number}").touch()
        assert holder.end().code == 0, holder.err
        accepted.append(winner)
        assert prompts(bench) == accepted
        assert asked(bench)[-len(accepted) :] == accepted
    assert bench.turns() == ["completed"] * 4
    assert processes_of(bench.home) == {}
    bench.check()


def test_five_in_a_row_each_after_the_kill_of_the_last(bench: Bench) -> None:
    """Whoever holds the session is killed at work; the next one gets it at once, and no prompt goes."""
    names = [f"prompt-{number}" for number in range(5)]
    held = (bench.held(bench.command(f"command-{number}")) for number in range(5))
    bench.serve(*held, response(message("done")))
    for number, name in enumerate(names):
        holder = bench.resume(name) if number else bench.exec(name)
        bench.wait(partial(settled, bench, number + 1), f"{name} is at work")
        assert_refused(bench, holder.pid, "refused")
        holder.kill()
        assert prompts(bench) == names[: number + 1]
    assert bench.resume().end().code == 0
    assert prompts(bench) == names
    assert asked(bench)[-5:] == names
    assert [bench.runs(f"command-{number}") for number in range(5)] == [1] * 5
    assert bench.turns()[-1] == "completed"
    assert processes_of(bench.home) == {}
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

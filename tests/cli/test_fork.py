"""`fork` and `sessions fork`: a new session behind a turn of another one."""

import time

import pytest

from backstay.chaos import ChaosServer, hold, message, response
from tests.cli.command import Command, ended

pytestmark = pytest.mark.processes


def test_a_fork_runs_its_prompt_on_the_shared_history(command: Command) -> None:
    """As `codex exec fork`; the parent goes on without it."""
    script = [response(message(text)) for text in ("one", "two", "fork", "three")]
    with ChaosServer(script, strict=True) as server:
        command.url = server.url
        parent = command.run("exec", "--json", "-m", "m", "first").session
        assert command.run("resume", parent, "second").code == 0
        done = command.run("exec", "fork", parent, "--turn", "1", "other", "--json")
        assert (done.code, done.session != parent) == (0, True)
        assert command.run("resume", parent, "third").code == 0
    inputs = [body["input"] for body in server.bodies]
    assert inputs[2][: len(inputs[0])] == inputs[0]
    said = [str(item["content"]) for item in inputs[2][len(inputs[0]) :]]
    assert len(said) == 2
    assert ("one" in said[0], "other" in said[1]) == (True, True)
    assert "other" not in str(inputs[3])


def test_a_session_that_runs_is_forked_behind_its_last_ended_turn(command: Command) -> None:
    """While another process holds it; a line says what is left out. Before any end: refused."""
    gate = command.home / "gate"
    held = response(message("two"), hold=hold(before="terminal", file=str(gate)))
    with ChaosServer([response(message("one")), held, response(message("fork"))]) as server:
        command.url = server.url
        parent = command.run("exec", "--json", "-m", "m", "first").session
        with ended(command.start("resume", parent, "second")) as process:
            while len(server.requests) < 2:
                time.sleep(0.02)
            done = command.run("fork", parent, "other", "--json")
            assert done.code == 0
            assert done.types[:2] == ["thread.started", "item.completed:error"]
            assert "is not over" in str(done.events[1])
            gate.touch()
            process.communicate(timeout=50)
        assert process.returncode == 0
    texts = str(server.bodies[2]["input"])
    assert ("one" in texts, "second" in texts, "other" in texts) == (True, False, True)


def test_without_a_prompt_nothing_runs(command: Command) -> None:
    """The new id is printed; the last turn is the default, and a turn that is not there is told."""
    with ChaosServer([response(message("one")), response(message("on"))], strict=True) as server:
        command.url = server.url
        parent = command.run("exec", "--json", "-m", "m", "first").session
        lines = (["fork", parent], ["sessions", "fork", parent, "--turn", "1"])
        made = [command.run(*line) for line in lines]
        assert [done.code for done in made] == [0, 0]
        forks = [done.out.strip() for done in made]
        assert len({parent, *forks}) == 3
        wrong = command.run("sessions", "fork", parent, "--turn", "2")
        assert wrong.code == 2
        assert "has no turn 2: it has 1" in wrong.complaint
        shown = command.run("sessions", "show", forks[1])
        assert f"a fork: what stands above is of session {parent}" in shown.out
        assert "first" in shown.out
        assert command.run("resume", forks[1], "more").code == 0
    assert "first" in str(server.bodies[1]["input"])

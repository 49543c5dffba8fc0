"""Where a kill or an interrupt falls outside of effects: prompts, waits, answers, settlement."""

import os
import signal

import pytest

from backstay.chaos import cut, http_error, message, response, stall
from tests.process.agent import Agent, Bench, alive
from tests.processes import processes_of

pytestmark = pytest.mark.processes

NAP = f"sleep 303.{os.getpid()}"


def finish(bench: Bench, *words: str) -> None:
    """Resume to the end of the turn."""
    ended = bench.resume(*words).end()
    assert ended.code == 0, ended.err
    assert ended.out.endswith("done\n")
    assert bench.turns()[-1] == "completed"
    assert processes_of(bench.home) == {}
    bench.check()


def texts(bench: Bench) -> str:
    """The last request's input."""
    return str(bench.inputs()[-1])


def test_killed_before_the_first_byte_of_an_answer(bench: Bench) -> None:
    """The prompt is on disk before its request is sent: it need not be given again."""
    bench.serve(
        response(message("never"), fault=stall(before="headers")), response(message("done"))
    )
    agent = bench.exec("a prompt")
    bench.server.wait(1)
    agent.kill()
    finish(bench)
    assert texts(bench).count("a prompt") == 1


def test_killed_while_a_message_streams(bench: Bench) -> None:
    """Half an answer is not given to the model as one, and the user gets one answer."""
    bench.serve(bench.held(message("half an answer")), response(message("done")))
    agent = bench.exec("a prompt")
    bench.wait(lambda: any("half" in str(one) for one in bench.records()), "a message is recorded")
    agent.kill()
    finish(bench)
    assert "half an answer" not in texts(bench)


def test_killed_while_a_retry_is_waited_for(bench: Bench) -> None:
    """The attempts that were made stay counted, and the turn goes on at once."""
    bench.serve(http_error(503, headers={"Retry-After": "200"}), response(message("done")))
    agent = bench.exec("a prompt")
    bench.wait(lambda: "trying again in 3 min" in agent.err, "the wait is shown")
    agent.kill()
    finish(bench)


def test_killed_behind_a_cut_with_the_output_in_the_retry(bench: Bench) -> None:
    """A cut stream, then a kill: what the first attempt did is in the third request."""
    bench.serve(
        response(bench.command("one"), message("half"), fault=cut(after="call")),
        bench.held(bench.command("two")),
        response(message("done")),
    )
    agent = bench.exec("a prompt")
    bench.wait(lambda: len(bench.outputs()) == 2, "both outputs are recorded")
    agent.kill()
    finish(bench)
    assert [text.rpartition("Output:\n")[2] for text in bench.sent()] == [
        "one-output\n",
        "two-output\n",
    ]
    assert bench.runs("one") == bench.runs("two") == 1


def test_new_prompt_on_a_killed_turn_keeps_what_it_did(bench: Bench) -> None:
    """The cut turn ends as superseded, its output is in the new turn's request."""
    bench.serve(bench.held(bench.command("one", "sleep 0.3")), response(message("done")))
    agent = bench.exec("first")
    bench.wait(lambda: bench.runs("one"), "the command runs")
    agent.kill()
    finish(bench, "second")
    assert bench.turns() == ["superseded", "completed"]
    assert bench.sent()[0].endswith("one-output\n")
    assert bench.runs("one-end") == 1
    assert texts(bench).index("first") < texts(bench).index("second")


def taken_over(bench: Bench, *words: str) -> Agent:
    """Resume, up to where the command that still runs has been taken over."""
    agent = bench.resume(*words)
    bench.wait(lambda: "taken over" in agent.err, "the command is taken over")
    return agent


@pytest.mark.parametrize("words", [(), ("another prompt",)], ids=["no prompt", "a prompt"])
def test_interrupted_while_a_command_is_taken_over(bench: Bench, words: tuple[str, ...]) -> None:
    """Ctrl-C during settlement stops the adopted command; nothing is sent, no prompt is lost.

    A prompt that was accepted has ended the cut turn, and its own turn is the one that goes on.
    """
    bench.serve(
        bench.held(bench.command("one", f"echo printed so far; {NAP}")),
        response(message("done")),
    )
    agent = bench.exec("first")
    bench.wait(bench.spooled, "the command runs")
    agent.kill()
    resumed = taken_over(bench, *words)
    resumed.signal(signal.SIGINT)
    assert resumed.end().code == 130
    assert alive(NAP.replace(" ", "\0")) == []
    assert len(bench.server.requests) == 1
    finish(bench)
    assert "interrupted" in bench.sent()[0]
    assert "printed so far" in bench.sent()[0]
    assert all(word in texts(bench) for word in words)
    assert len(bench.server.requests) == 2
    assert bench.runs("one") == 1


def test_killed_while_a_command_is_taken_over(bench: Bench) -> None:
    """A kill during settlement changes nothing: the next resume takes over what still runs."""
    go = bench.root / "go"
    waits = f"while [ ! -e {go} ]; do sleep 0.05; done"
    bench.serve(bench.held(bench.command("one", waits)), response(message("done")))
    agent = bench.exec("first")
    bench.wait(lambda: bench.runs("one"), "the command runs")
    for _ in range(3):
        agent.kill()
        agent = taken_over(bench)
    go.touch()
    assert agent.end().code == 0
    assert bench.sent()[0].endswith("one-output\n")
    assert bench.runs("one") == bench.runs("one-end") == 1
    bench.check()


def test_continue_finishes_the_newest_cut_turn_of_the_folder(bench: Bench) -> None:
    """`backstay continue` needs no id, and `exec resume --last` none either."""
    bench.serve(bench.held(bench.command("one")), bench.held(bench.command("two")))
    agent = bench.exec("first")
    bench.wait(bench.outputs, "the output is recorded")
    agent.kill()
    agent = bench.start("continue", "--yolo")
    bench.wait(lambda: len(bench.outputs()) == 2, "the turn goes on")
    agent.kill()
    bench.serve(response(message("done")))
    ended = bench.start("exec", "--yolo", "resume", "--last").end()
    assert (ended.code, ended.out) == (0, "done\n"), ended.err
    assert len(bench.sent()) == 2
    bench.check()


def test_what_was_found_is_said_before_the_session_goes_on(bench: Bench) -> None:
    """The line behind the session's name; then the call, with what became of it."""
    bench.serve(bench.held(bench.command("one", "sleep 0.2")), response(message("done")))
    agent = bench.exec("a prompt")
    bench.wait(lambda: bench.runs("one"), "the command runs")
    agent.kill()
    bench.wait(lambda: bench.runs("one-end"), "the command has ended")
    resumed = bench.resume().end()
    _, cut, call, *_ = resumed.err.splitlines()
    assert cut.startswith(
        "the session was cut: its agent ended in the middle of a turn, 1 call had"
    )
    assert call.startswith("$ echo one")
    assert call.endswith(("(it had ended; its output is recovered)", "taken over)"))
    assert resumed.out == "done\n"

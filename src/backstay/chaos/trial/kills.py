"""Scenarios in which the agent is killed, interrupted or started twice, and its session resumed."""

import os
import re
import time
from collections.abc import Callable
from typing import Any, Final

from backstay.chaos import build
from backstay.chaos.trial.agent import Ended, wait_for
from backstay.chaos.trial.commands import Command
from backstay.chaos.trial.model import Step, holds, text_of
from backstay.chaos.trial.scenario import scenario
from backstay.chaos.trial.stage import GO_ON, Broken, Stage

JSON = dict[str, Any]
SETTLE: Final = 0.5
"""Seconds in which an agent may take note that a command has begun or ended."""
GRACE: Final = 3.0
"""Seconds after the agent's end in which its commands may end."""
HONEST: Final = re.compile(
    r"unknown|unclear|uncertain|not known|may have|might have|could have|cannot tell|can't tell|"
    r"(un|not )determined|not sure|verify|whether",
    re.IGNORECASE,
)
RUNS_ON: Final = re.compile(
    r"still running|is running|process running|session[ _]id", re.IGNORECASE
)
SECOND: Final = "The second prompt, sent meanwhile."
THIRD: Final = "The third prompt."


def _open(stage: Stage, seconds: float = 120.0) -> Callable[..., JSON]:
    """A response whose stream stays open behind its calls."""
    hold = build.hold(stage.never, before="terminal", seconds=seconds)
    return lambda *calls: build.response(*calls, hold=hold)


def _silent(stage: Stage) -> Callable[..., JSON]:
    """A response that does not begin."""
    hold = build.hold(stage.never, before="headers", seconds=120.0)
    return lambda *calls: build.response(*calls, hold=hold)


def _false(stage: Stage, command: Command) -> list[str]:
    """What the model is told of a command that was cut, where that is more than anybody knows."""
    last = stage.inputs[-1] if stage.requests else []
    if holds(last, command):
        return []
    told = stage.told(command)
    if not told:
        return [f"the model is told nothing of {command.name}, which had begun"]
    if HONEST.search(told[-1]):
        return []
    if RUNS_ON.search(told[-1]) and (stage.tools_alive() or stage.bench.ended(command)):
        return []
    came = "came to its end" if stage.bench.ended(command) else "had begun"
    words = " ".join(told[-1].split())[:160]
    return [f"{command.name} {came}, and the model is told {words!r} as if that were known"]


def _resumed(stage: Stage, run: Any) -> Ended:
    stage.kill(run)
    return stage.resumed()


@scenario(
    "kill-after-command",
    "kill -9 when a command is done and the response still streams, then resume: its output is in "
    "the next request, and it ran once.",
    "streaming",
)
def _after_command(stage: Stage) -> list[str]:
    command = stage.bench.command("work")
    stage.play(Step([command], _open(stage)))
    run = stage.started(lambda: _done(command), "the command is done while the stream is open")
    time.sleep(SETTLE)
    ended = _resumed(stage, run)
    late = [] if holds(_second(stage), command) else ["the first request after it lacks the output"]
    return stage.found(ended, command) or late


@scenario(
    "kill-before-next-response",
    "kill -9 while the model thinks about a command's output, then resume: the output is in the next "
    "request, and it ran once.",
    "resume",
)
def _before_next(stage: Stage) -> list[str]:
    commands = [stage.bench.command(name) for name in ("first", "second")]
    stage.play(Step(commands[:1]), Step(commands[1:], _silent(stage)))
    run = stage.started(lambda: len(stage.requests) > 1, "the second request")
    return stage.found(_resumed(stage, run), *commands)


@scenario(
    "kill-in-command",
    "kill -9 while a command runs, then resume: it is not run again, and the model is told the true "
    "output or that the outcome is unknown.",
    "resume",
)
def _in_command(stage: Stage) -> list[str]:
    command = stage.bench.waiting("work", seconds=20)
    stage.play(Step([command]))
    run = stage.started(lambda: stage.bench.begun(command), "the command begins")
    time.sleep(SETTLE)
    stage.kill(run)
    again = stage.agent.resume(GO_ON)
    wait_for(lambda: not again.running, 1.0)
    stage.bench.let_go()
    ended = again.end(stage.timeout)
    often = [*stage.how_ended(ended), *stage.how_often(command), *stage.judged()]
    return often or _false(stage, command)


@scenario(
    "kill-two-of-three",
    "kill -9 when two of three parallel commands are done, then resume: both outputs are in the next "
    "request, none of the three runs again, nothing false is said of the third.",
    "resume",
)
def _two_of_three(stage: Stage) -> list[str]:
    done = [stage.bench.command(name) for name in ("first", "second")]
    third = stage.bench.waiting("third", seconds=20)
    stage.play(Step([*done, third], _open(stage) if stage.traits.streams else build.response))
    begun = stage.bench.begun
    ready = lambda: all(map(_done, done)) and begun(third)  # noqa: E731  said once, here
    run = stage.started(ready, "two commands are done and the third runs")
    time.sleep(SETTLE)
    stage.kill(run)
    again = stage.agent.resume(GO_ON)
    wait_for(lambda: not again.running, 1.0)
    stage.bench.let_go()
    ended = again.end(stage.timeout)
    found = [*stage.how_ended(ended), *stage.how_often(*done, third), *stage.lost(*done)]
    return [*found, *stage.judged()] or _false(stage, third)


@scenario(
    "kill-twice",
    "kill -9 when a command is done, resume, kill -9 again before an answer, resume: the output is "
    "in every request from then on, and it ran once.",
    "streaming",
)
def _twice(stage: Stage) -> list[str]:
    commands = [stage.bench.command(name) for name in ("first", "second")]
    stage.play(Step(commands[:1], _open(stage)), Step(commands[1:], _silent(stage)))
    run = stage.started(lambda: _done(commands[0]), "the command is done while the stream is open")
    time.sleep(SETTLE)
    stage.kill(run)
    again = stage.agent.resume(GO_ON)
    if not wait_for(lambda: len(stage.requests) > 1, stage.timeout):
        raise Broken(f"no request after the resume: {again.end(0).last_words}")
    return stage.found(_resumed(stage, again), *commands)


@scenario(
    "no-process-left",
    "kill -9 while a command runs that has started another, then resume to the end: neither of the "
    "two is left behind.",
    "resume",
)
def _left_behind(stage: Stage) -> list[str]:
    command = stage.bench.delegating("lingering", seconds=90)
    stage.play(Step([command], wait_ms=1000, again=False))
    run = stage.started(lambda: len(stage.tools_alive()) > 1, "the command starts another")
    time.sleep(SETTLE)
    ended = _resumed(stage, run)
    wait_for(lambda: not stage.tools_alive(), GRACE)
    left = stage.tools_alive()
    found = [f"left behind: {', '.join(one.words for one in left)}"] if left else []
    return [*stage.how_ended(ended), *found]


@scenario(
    "interrupt",
    "Ctrl-C while a command runs: the agent ends, so does the command, and the session goes on with "
    "valid requests that tell of the call; the command is not run again.",
    "resume",
)
def _interrupt(stage: Stage) -> list[str]:
    command = stage.bench.waiting("work", seconds=90)
    stage.play(Step([command]))
    run = stage.started(lambda: stage.bench.begun(command), "the command begins")
    time.sleep(SETTLE)
    run.interrupt()
    stopped = wait_for(lambda: not run.running, 15)
    if not stopped:
        return ["it did not end within 15 s of Ctrl-C"]
    wait_for(lambda: not stage.tools_alive(), GRACE)
    left = ["the command still runs"] if stage.tools_alive() else []
    stage.bench.let_go()
    ended = stage.resumed()
    untold = [] if stage.told(command) else [f"the model is told nothing of {command.name}"]
    found = [*left, *stage.how_ended(ended), *stage.how_often(command), *stage.judged()]
    return found or untold


@scenario(
    "two-processes",
    "A second process on a session that is at work is refused, or its prompt is kept: nothing of "
    "either is lost.",
    "resume",
)
def _two_processes(stage: Stage) -> list[str]:
    command = stage.bench.waiting("work", seconds=45)
    stage.play(Step([command]), asides=(SECOND, THIRD))
    run = stage.started(lambda: stage.bench.begun(command), "the command begins")
    other = stage.agent.resume(SECOND)
    wait_for(lambda: not other.running, 8)
    stage.bench.let_go()
    first, second = run.end(stage.timeout), other.end(stage.timeout)
    third = stage.resumed(THIRD)
    apart = ("lost_output", "changed_output")  # two processes speak in turns
    found = [f"the first process: {text}" for text in stage.how_ended(first)]
    found += [f"the third: {text}" for text in stage.how_ended(third)]
    if second.code is None:
        found.append("the second process did not end")
    last = " ".join(map(text_of, stage.inputs[-1])) if stage.requests else ""
    if second.code == 0 and SECOND not in last:
        found.append("the second prompt was accepted and is lost")
    return [*found, *stage.how_often(command), *stage.lost(command), *stage.judged(apart)]


def _done(command: Command) -> bool:
    return os.path.exists(command.done)


def _second(stage: Stage) -> list[JSON]:
    return stage.inputs[1] if len(stage.requests) > 1 else []

"""One session killed again and again at moments drawn by seed: nothing lost, nothing twice."""

import os
import random
import re
import shlex
import signal
import time
from collections.abc import Iterator
from itertools import count

import pytest

from backstay.chaos import custom_call, message, response
from backstay.core.items import message_text
from backstay.core.record import Prompt
from tests.process.agent import JSON, Agent, Bench
from tests.processes import processes_of

pytestmark = pytest.mark.processes

KILLS = 10
STEPS = 40
SEEDS = range(100, 110)


def step(bench: Bench, number: int) -> JSON:
    """A response with calls of every kind, and no two effects alike."""
    hurry = shlex.quote(str(bench.root / "hurry"))
    slow = f"test -e {hurry} || sleep 0.2"
    calls = [bench.command(f"step-{number}", slow)]
    if number % 3 == 1:
        calls.append(bench.command(f"side-{number}", slow))
    if number % 4 == 2:
        name = f"file-{number}.txt"
        patch = f"*** Begin Patch\n*** Add File: {name}\n+{name}\n*** End Patch"
        calls.append(custom_call("apply_patch", patch))
    return response(*calls)


def survive(bench: Bench, agent: Agent, chance: random.Random, *, all_of_it: bool) -> None:
    """Let the agent write some records more, wait a little, and kill it, or it and its supervisor."""
    least = len(bench.records()) + chance.randint(1, 8)
    bench.wait(lambda: len(bench.records()) >= least, "records are written")
    time.sleep(chance.random() * 0.05)
    assert agent.running, agent.err
    if all_of_it and chance.random() < 0.5:
        for one in bench.starts()[-1:]:
            if one.supervisor is not None and one.supervisor.pid in processes_of(bench.home):
                os.kill(one.supervisor.pid, signal.SIGKILL)
    agent.kill()


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.deep) for n in SEEDS)])
def test_ten_kills_in_one_session_lose_nothing_and_repeat_nothing(bench: Bench, seed: int) -> None:
    """Every call has one output; every command that began has its true one, and began once."""
    killed_ten_times(bench, random.Random(seed), all_of_it=False)
    names = set()
    for name, status, text in settled(bench):
        if status == "done":
            names.add(name)
            assert name in text
        else:
            assert_without_effect(bench, name, status, text)
    began = bench.ledger.read_text().split()
    ends = [name.removesuffix("-end") for name in began if name.endswith("-end")]
    files = [path.name for path in bench.cwd.glob("file-*.txt")]
    assert len(began) == len({*began}) == 2 * len(ends)
    assert {*ends, *files} == names


@pytest.mark.parametrize("seed", [7, *(pytest.param(n, marks=pytest.mark.deep) for n in SEEDS)])
def test_ten_kills_supervisor_included_are_told_honestly(bench: Bench, seed: int) -> None:
    """What nobody knows is unknown; nothing began twice; what is said to be done or not began is so."""
    killed_ten_times(bench, random.Random(seed), all_of_it=True)
    began = bench.ledger.read_text().split()
    assert len(began) == len({*began})
    for name, status, text in settled(bench):
        if status == "unknown":
            assert "verify before repeating" in text
        elif status == "done":
            assert f"{name}-end" in began or (bench.cwd / name).exists()
        else:
            assert_without_effect(bench, name, status, text)


@pytest.mark.parametrize("kills", [25, pytest.param(200, marks=pytest.mark.deep)])
def test_long_session_survives_every_kill(bench: Bench, kills: int) -> None:
    """No effect twice; what is said to be done was done once, and the model is told at the end."""
    endure(bench, kills, random.Random(kills))
    ran_to_its_end(bench)
    began = bench.ledger.read_text().split()
    assert len(began) == len({*began})
    done, told = 0, bench.sent()
    for name, status, text in settled(bench):
        assert told.count(text) >= 1
        if status == "done":
            done += 1
            assert name in text
            assert told.count(text) == 1
            assert f"{name}-end" in began or (bench.cwd / name).read_text() == f"{name}\n"
        elif status == "unknown":
            assert "verify before repeating" in text
        else:
            assert_without_effect(bench, name, status, text)
    assert done > kills // 3  # it went on meanwhile, however slow the machine is


def assert_without_effect(bench: Bench, name: str, status: str, text: str) -> None:
    """It never began, or it is a patch that was cut before it changed anything; and it did not."""
    assert status == "never_started" or (status == "failed" and "No files were changed" in text), (
        text
    )
    assert name not in bench.ledger.read_text().split()
    assert not (bench.cwd / name).exists()


def endure(bench: Bench, kills: int, chance: random.Random) -> None:
    """Kill a session so often: as soon as it has got on, or at any moment after it was started."""
    numbers = count()
    hurry = bench.root / "hurry"
    bench.improvise(
        lambda _: response(message("done")) if hurry.exists() else step(bench, next(numbers))
    )
    agent = bench.exec("go")
    bench.wait(lambda: any(isinstance(one, Prompt) for one in bench.records()), "the prompt is in")
    survive(bench, agent, chance, all_of_it=False)
    for _ in range(kills - 1):
        agent = bench.resume()
        if chance.random() < 0.5:
            time.sleep(chance.random())
            assert agent.running, agent.err
            agent.kill()
        else:
            survive(bench, agent, chance, all_of_it=True)


def killed_ten_times(bench: Bench, chance: random.Random, *, all_of_it: bool) -> None:
    """Run a session of many calls through ten kills to its end."""
    steps = (step(bench, number) for number in range(STEPS))
    bench.serve(*steps, response(message("done")), repeat=True)
    survive(bench, bench.exec("go"), chance, all_of_it=all_of_it)
    for _ in range(KILLS - 1):
        accepted = any(isinstance(one, Prompt) for one in bench.records())
        agent = bench.resume(*([] if accepted else ["go"]))
        survive(bench, agent, chance, all_of_it=all_of_it)
    ran_to_its_end(bench)


def ran_to_its_end(bench: Bench) -> None:
    """Let the session end undisturbed; everything is in order then, and nothing runs any more."""
    (bench.root / "hurry").touch()
    ended = bench.resume().end()
    assert ended.code == 0, ended.err
    assert processes_of(bench.home) == {}
    assert bench.turns() == ["completed"]
    bench.check()


def settled(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """For each call the name of its effect, how it came to its one output, and what that says."""
    outputs = {one.call: one for one in bench.outputs()}
    calls = bench.calls()
    assert len(bench.outputs()) == len(outputs) == len(calls) == len(bench.sent())
    assert len(calls) > 2 * KILLS
    for call in calls:
        output = outputs[call.n]
        yield ran(str(call.item)), output.status, message_text(output.item)


def ran(call: str) -> str:
    """The name of the effect that a call item asks for."""
    (name,) = {
        *re.findall(r"echo ((?:step|side)-\d+) >>", call),
        *re.findall(r"file-\d+\.txt", call),
    }
    return str(name)

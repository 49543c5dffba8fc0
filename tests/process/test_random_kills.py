"""One session killed again and again at moments drawn by seed: nothing lost, nothing twice."""

import random
import shlex
import time

import pytest

from backstay.chaos import custom_call, message, response
from backstay.core.items import message_text
from backstay.core.record import Prompt
from tests.process.agent import JSON, Agent, Bench
from tests.processes import processes_of

pytestmark = pytest.mark.processes

KILLS = 10
STEPS = 60


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


def survive(bench: Bench, agent: Agent, chance: random.Random) -> None:
    """Let the agent write some records more, wait a little, and kill it."""
    least = len(bench.records()) + chance.randint(1, 8)
    bench.wait(lambda: len(bench.records()) >= least, "records are written")
    time.sleep(chance.random() * 0.05)
    assert agent.running, agent.err
    agent.kill()


@pytest.mark.parametrize("seed", [1, 2])
def test_ten_kills_in_one_session_lose_nothing_and_repeat_nothing(bench: Bench, seed: int) -> None:
    """Every call has one output; every command that began has its true one, and began once."""
    chance = random.Random(seed)
    steps = (step(bench, number) for number in range(STEPS))
    bench.serve(*steps, response(message("done")), repeat=True)
    survive(bench, bench.exec("go"), chance)
    for _ in range(KILLS - 1):
        accepted = any(isinstance(one, Prompt) for one in bench.records())
        survive(bench, bench.resume(*([] if accepted else ["go"])), chance)
    (bench.root / "hurry").touch()
    ended = bench.resume().end()
    assert ended.code == 0, ended.err
    assert processes_of(bench.home) == {}
    assert bench.turns() == ["completed"]
    bench.check()

    outputs = {one.call: one for one in bench.outputs()}
    calls = bench.calls()
    assert len(bench.outputs()) == len(outputs) == len(calls) == len(bench.sent())
    assert len(calls) > 2 * KILLS
    names = set()
    for call in calls:
        text, status = message_text(outputs[call.n].item), outputs[call.n].status
        assert status in ("done", "never_started"), text
        name = ran(bench, str(call.item))
        if status == "done":
            names.add(name)
            assert name in text
    began = bench.ledger.read_text().split()
    files = {path.name for path in bench.cwd.glob("file-*.txt")}
    ends = [name.removesuffix("-end") for name in began if name.endswith("-end")]
    assert sorted(began) == sorted({*began})
    assert {*ends} | files == names
    assert len(began) == 2 * len(ends)


def ran(bench: Bench, call: str) -> str:
    """The name of the effect that a call item asks for."""
    names = [f"{kind}-{number}" for number in range(STEPS) for kind in ("step", "side")]
    files = [f"file-{number}.txt" for number in range(STEPS)]
    (name,) = {
        *(name for name in names if f"echo {name} >>" in call),
        *(name for name in files if name in call),
    }
    return name

"""Compaction in real processes: killed while a summary is made, right behind its record, held."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from backstay.chaos import call, hold, message, response
from backstay.core.items import message_text
from backstay.core.record import Compaction, Output
from tests.process.agent import Agent, Bench

JSON = dict[str, Any]
pytestmark = pytest.mark.processes
SMALL = ("-c", "model_auto_compact_token_limit=9000")
ASKED = "about to be replaced by a summary"


def model(bench: Bench, steps: int) -> Callable[[JSON], JSON]:
    """Makes so many calls with a thousand tokens of output each, counted in the ledger."""

    def answer(body: JSON) -> JSON:
        if ASKED in message_text(body["input"][-1]):
            return response(message("Summary: steps were made."), usage=None)
        made = bench.runs("step")
        if made >= steps:
            return response(message("done"), usage=None)
        printed = "head -c 4000 /dev/zero | tr '\\0' x"
        return response(bench.command("step", printed), usage=None)

    return answer


def compactions(bench: Bench) -> list[Compaction]:
    """The compaction records."""
    return [one for one in bench.records() if isinstance(one, Compaction)]


def begun(bench: Bench, *words: str, steps: int = 12) -> Agent:
    """A turn of so many steps, in a window that holds about eight of them."""
    bench.improvise(model(bench, steps))
    return bench.exec(*SMALL, *words, "the prompt")


@pytest.mark.parametrize(
    "point", ["before-write:compaction", "after-write:compaction", "after-sync:compaction"]
)
def test_a_kill_around_the_record_loses_nothing(bench: Bench, point: str) -> None:
    """Whether the record is there or not, the turn goes on, and no step runs twice."""
    bench.environ["BACKSTAY_CRASH"] = f"{point}:1"
    assert begun(bench).end().code == -9
    there = len(compactions(bench))
    assert there == (point != "before-write:compaction")
    del bench.environ["BACKSTAY_CRASH"]
    ended = bench.resume(*SMALL).end()
    assert ended.code == 0, ended.err
    assert len(compactions(bench)) >= 1
    assert bench.runs("step") == bench.runs("step-end") == 12
    assert bench.turns() == ["completed"]
    steps = [one.tally.steps for one in compactions(bench)]
    assert steps == sorted(set(steps))


def test_a_kill_while_a_summary_is_made_loses_nothing(bench: Bench) -> None:
    """Nothing was recorded of it; it is made anew."""
    ordinary = model(bench, 12)
    held = response(message("half"), hold=hold(bench.root / "never", before="terminal", seconds=60))

    def slow(body: JSON) -> JSON:
        return held if ASKED in message_text(body["input"][-1]) else ordinary(body)

    bench.improvise(slow)
    agent = bench.exec(*SMALL, "the prompt")
    bench.wait(
        lambda: any(ASKED in json.dumps(one.body) for one in bench.server.requests), "a summary"
    )
    agent.kill()
    assert compactions(bench) == []
    bench.improvise(ordinary)
    assert bench.resume(*SMALL).end().code == 0
    assert len(compactions(bench)) >= 1
    assert bench.runs("step") == 12
    assert bench.turns() == ["completed"]


def test_the_command_compacts_and_says_so(bench: Bench) -> None:
    """With its line and its item; a second time there is nothing, an unknown session is refused."""
    bench.improvise(model(bench, 2))
    assert bench.exec("the prompt").end().code == 0
    ended = bench.start("compact", "-m", "m", "--yolo", bench.session).end()
    assert ended.code == 0
    assert "compacted: " in ended.err
    assert "(it was asked for)" in ended.err
    again = bench.start("compact", "-m", "m", "--yolo", "--last").end()
    assert (again.code, "there is nothing to compact" in again.err) == (0, True)
    assert bench.start("compact", "-m", "m", "--yolo", "00000000").end().code == 3
    assert bench.start("compact").end().code == 2
    shown = bench.start("sessions", "show", bench.session).end()
    assert "Summary: steps were made." in shown.out
    assert shown.out.count("x" * 3000) == 2


def test_json_tells_a_compaction_and_all_tokens_are_counted(bench: Bench) -> None:
    """An item of its own; the turn's usage has the tokens of before and of the summary."""
    ordinary = model(bench, 12)

    def counted(body: JSON) -> JSON:
        return ordinary(body) | {"usage": {"input_tokens": 1000, "output_tokens": 10}}

    bench.improvise(counted)
    bench.environ["BACKSTAY_CRASH"] = "after-sync:compaction:1"
    code = (
        bench.exec("-c", "model_auto_compact_token_limit=2000", "--json", "the prompt").end().code
    )
    assert code == -9
    del bench.environ["BACKSTAY_CRASH"]
    ended = bench.resume("-c", "model_auto_compact_token_limit=2000", "--json").end()
    assert ended.code == 0
    lines = [json.loads(line) for line in ended.out.splitlines()]
    kinds = [one["item"]["type"] for one in lines if one["type"] == "item.completed"]
    made = compactions(bench)
    assert kinds.count("context_compaction") == len(made) - 1
    assert lines[-1]["type"] == "turn.completed"
    assert lines[-1]["usage"]["output_tokens"] == 10 * (13 + len(made))


def test_a_session_that_is_held_is_not_compacted(bench: Bench) -> None:
    """Exit 3, and it says who holds it."""
    bench.serve(response(call("exec_command", {"cmd": "sleep 30"})))
    agent = bench.exec("the prompt")
    bench.wait(lambda: any(not isinstance(one, Output) for one in bench.starts()), "a start")
    ended = bench.start("compact", "-m", "m", "--yolo", bench.session).end()
    assert ended.code == 3
    assert str(agent.pid) in ended.err
    agent.kill()

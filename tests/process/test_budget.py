"""A budget holds across processes: a kill does not start it anew, `continue` does."""

import json

import pytest

from backstay.chaos import message, response
from tests.process.agent import Bench

pytestmark = pytest.mark.processes

USED = {"input_tokens": 60, "output_tokens": 40}


def test_a_budget_counts_what_was_used_before_a_kill(bench: Bench) -> None:
    """Two steps in two processes; the third request is never sent, and `continue` sends it."""
    bench.serve(
        response(bench.command("first"), usage=USED),
        bench.held(bench.command("second", "sleep 0.1")),
        response(bench.command("third"), usage=USED),
        response(message("done")),
    )
    agent = bench.exec("--max-tokens", "200", "a prompt")
    bench.wait(lambda: len(bench.outputs()) == 2, "the second call has its output")
    agent.kill()
    ended = bench.resume("--max-tokens", "200", "--json").end()
    assert ended.code == 1, ended.err
    failed = json.loads(ended.out.splitlines()[-1])
    assert (failed["type"], failed["code"]) == ("turn.failed", "budget")
    assert "200 of 200 tokens" in failed["error"]["message"]
    assert len(bench.server.requests) == 3
    assert "to go on: backstay resume" in ended.err
    assert bench.turns() == ["failed"]
    ended = bench.resume("--max-tokens", "200").end()
    assert ended.code == 0, ended.err
    assert bench.turns() == ["failed", "completed"]
    bench.check()


def test_dollars_need_a_price_before_anything_is_sent(bench: Bench) -> None:
    """Exit 2, one line that says what to write; with the price it runs."""
    bench.serve(response(message("done"), usage=USED))
    ended = bench.exec("--max-cost", "0.01", "a prompt").end()
    assert ended.code == 2
    assert '[prices."m"]' in ended.one_line()
    assert bench.server.requests == []
    prices = "prices.m={input=1.0, output=1.0}"
    ended = bench.exec("--max-cost", "0.01", "-c", prices, "a prompt").end()
    assert ended.code == 0, ended.err

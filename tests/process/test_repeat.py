"""A provider that says things twice: one execution, one output."""

import pytest

from backstay.chaos import custom_call, cut, message, repeat, response
from tests.process.agent import Bench

pytestmark = pytest.mark.processes

PATCH = "*** Begin Patch\n*** Add File: new.txt\n+made by the patch\n*** End Patch"


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("style", ["openai", "copilot", "llamacpp"])
def test_repeated_event_is_one_execution(bench: Bench, style: str, times: int) -> None:
    """A done call that comes again, by whatever key the provider has, runs once."""
    bench.serve(
        response(bench.command("one"), fault=repeat(times=times, after="call"), style=style),
        response(message("done")),
    )
    assert bench.exec("go").end().code == 0
    assert bench.runs("one") == 1
    assert len(bench.calls()) == len(bench.sent()) == 1
    bench.check()


def test_repeated_patch_is_applied_once(bench: Bench) -> None:
    """A second application would fail, since the file is there: there is none."""
    bench.serve(
        response(custom_call("apply_patch", PATCH), fault=repeat(times=2, after="call")),
        response(message("done")),
    )
    assert bench.exec("go").end().code == 0
    assert bench.sent() == ["Success. Updated the following files:\nA new.txt\n"]
    bench.check()


def test_call_of_a_cut_attempt_that_the_model_makes_again_is_a_call_of_its_own(
    bench: Bench,
) -> None:
    """What a model asks for twice runs twice; both calls and both outputs are in history."""
    call = bench.command("one", call_id="call_same")
    bench.serve(response(call, fault=cut(after="call")), response(call), response(message("done")))
    assert bench.exec("go").end().code == 0
    assert bench.runs("one") == 2
    assert len(bench.sent()) == 2
    bench.check()

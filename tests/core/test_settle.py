"""Settlement: a call that its tool did not end gets an output that is true."""

from typing import Literal

import pytest

from backstay.core import settle as s
from backstay.core.events import Evidence, Result
from backstay.core.record import Call, SpoolRange
from tests.core.wire import custom

CALL = Call(n=7, attempt=3, index=0, item=custom("c1"))
TRUE = Result(content="the true output", spool=SpoolRange("s-7", 0, 9), show={"exit": 0})


@pytest.mark.parametrize("replay", ["never", "safe"])
@pytest.mark.parametrize("found", ["recovered", "answered"])
def test_a_result_that_is_known_is_the_output(
    found: Literal["recovered", "answered"], replay: s.Replay
) -> None:
    """A recovered result, or a check's answer, is taken whatever the tool declares."""
    assert s.settle(Evidence(found=found, result=TRUE), replay) == s.Close(TRUE)


@pytest.mark.parametrize("replay", ["never", "safe"])
def test_what_still_runs_is_adopted(replay: s.Replay) -> None:
    """A second start beside a running effect is never right."""
    assert s.settle(Evidence(found="running"), replay) == s.TakeOver()


@pytest.mark.parametrize("replay", ["never", "safe"])
def test_what_never_began_is_said_to_have_never_begun(replay: s.Replay) -> None:
    """It had no effect and is safe to repeat; the reason is named."""
    found = s.settle(Evidence(found="unstarted", detail="its claim was free"), replay)
    assert isinstance(found, s.Close)
    assert found.result.status == "never_started"
    assert "never started (its claim was free)" in str(found.result.content)


@pytest.mark.parametrize("found", ["unknown", "recovered", "answered"])
def test_what_nobody_knows_is_said_to_be_unknown(
    found: Literal["unknown", "recovered", "answered"],
) -> None:
    """No evidence, or evidence that lacks its result: verify before repeating."""
    evidence = Evidence(found=found, partial="half a line", detail="another boot")
    decided = s.settle(evidence, "never")
    assert isinstance(decided, s.Close)
    assert decided.result.status == "unknown"
    text = str(decided.result.content)
    assert "unknown (another boot)" in text
    assert "verify before repeating" in text
    assert text.endswith("Its output until then:\nhalf a line")


def test_only_what_is_declared_safe_runs_again() -> None:
    """And only where nothing better is known."""
    assert s.settle(Evidence(found="unknown"), "safe") == s.RunAgain()
    assert s.settle(Evidence(found="unknown"), "never") != s.RunAgain()


@pytest.mark.parametrize("why", ["interrupted", "deadline"])
@pytest.mark.parametrize("status", ["done", "failed", "yielded"])
def test_a_tool_that_was_done_before_it_was_stopped_keeps_its_result(
    why: Literal["interrupted", "deadline"], status: Literal["done", "failed", "yielded"]
) -> None:
    """A true result is never replaced by a story."""
    result = Result(content="all of it", status=status)
    assert s.stopped(result, why) is result


@pytest.mark.parametrize("why, words", [("interrupted", "user"), ("deadline", "time limit")])
def test_a_tool_that_was_stopped_says_so_and_what_it_had_printed(
    why: Literal["interrupted", "deadline"], words: str
) -> None:
    """The output names the reason, holds the partial output, and keeps where that is stored."""
    result = Result(content="partial", status="interrupted", spool=SpoolRange("s-7", 0, 7))
    found = s.stopped(result, why)
    assert found.status == why
    assert words in str(found.content)
    assert str(found.content).endswith("until then:\npartial")
    assert found.spool == result.spool
    nothing = s.stopped(Result(content="", status="unknown"), why)
    assert "until then" not in str(nothing.content)


def test_parts_of_a_stopped_tool_are_kept() -> None:
    """Content parts stay behind the text that says why."""
    image = {"type": "input_image", "image_url": "data:,"}
    found = s.stopped(Result(content=[image], status="unknown"), "deadline")
    assert found.content == [{"type": "input_text", "text": s.DEADLINE}, image]


def test_an_output_record_holds_all_of_the_result() -> None:
    """It names its call by number, and answers in the call's own item type."""
    record = s.output(9, CALL, TRUE)
    assert (record.n, record.call, record.status) == (9, 7, "done")
    assert (record.spool, record.show) == (TRUE.spool, TRUE.show)
    assert record.item == (
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "the true output"}
    )


def test_a_late_result_names_its_call() -> None:
    """The model can tell which call it belongs to."""
    assert s.late(CALL, TRUE) == "A late result of the call c1:\nthe true output"
    parts = [{"type": "input_text", "text": "seen"}, {"type": "input_image", "image_url": "data:,"}]
    assert s.late(CALL, Result(content=parts)).endswith(":\nseen")
    assert "(not a text)" in s.late(CALL, Result(content=[]))

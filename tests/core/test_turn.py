"""The turn machine, as scripts of what happens and what it does. `test_world` plays at random."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.core import events as e
from backstay.core.commands import Finish, Send
from backstay.core.dialect import Dialect
from backstay.core.items import CLIENT_CALLS, OUTPUTS, SERVER_CALLS, Item, message
from backstay.core.record import Codec, Late, Output, Prompt, TurnEnd
from backstay.core.retry import Policy
from backstay.core.table import Phase
from backstay.errors import UsageError
from tests.core.conftest import unchecked_fail
from tests.core.past import BASIS, Past, shape
from tests.core.play import DIALECTS
from tests.core.playbook import SYNCED, Playbook, done, ended, finished, prompt, settled
from tests.core.wire import custom, function, said, thought

Make = Callable[..., Playbook]

CUTS: list[tuple[e.OutcomeKind, dict[str, Any]]] = [
    ("cut", {"reason": "the connection was closed"}),
    ("cut", {"reason": "the connection was reset"}),
    ("cut", {"reason": "half an event"}),
    ("cut", {"reason": "the body ended before response.completed"}),
    ("stalled", {"reason": "silence"}),
    ("failed", {"code": "server_error"}),
    ("failed", {"code": ""}),
    ("refused", {"status": 503}),
    ("unreachable", {}),
]


def begun(make: Make, **fields: Any) -> Playbook:
    """A new session whose first attempt, record 3, was sent."""
    return make(**fields) >> prompt("go") << "append prompt 2; attempt 3" >> SYNCED << "send 3: go"


# The seed


def test_custom_tool_call_output_survives_a_stream_that_ends_before_response_completed(
    playbook: Make,
) -> None:
    """The retried request holds the true custom_tool_call_output; the patch is applied once."""
    patch = custom("c1", name="edit")
    machine = (
        begun(playbook)
        >> done(3, 0, patch)
        << "append call 4"
        << "prepare 4"
        >> e.Prepared(4, plan={"files": 1})
        << "append start of 4"
        >> SYNCED
        << "start 4 c1 planned"
        >> finished(4, "Success")
        << "append output of 4 done"
        >> ended(3, "cut")
        << "append end of 3 cut"
        << "wait 3: 0.2 s 1/5"
        >> e.Woke(3)
        << "append attempt 8"
        >> SYNCED
        << "send 8: go c1 =c1"
    ).check()
    assert machine.world.sent[1:] == [
        patch,
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "Success"},
    ]
    assert machine.world.started == {4}


@pytest.mark.parametrize("call", [function("c1"), custom("c1", name="look")])
@pytest.mark.parametrize("kind, fields", CUTS)
def test_a_finished_call_survives_every_way_in_which_a_stream_ends(
    playbook: Make, kind: e.OutcomeKind, fields: dict[str, Any], call: Item
) -> None:
    """Close, reset, half an event, clean end, stall, failure, error, refusal: one door."""
    limit = 4 if kind in ("refused", "unreachable") else 5
    (
        begun(playbook)
        >> done(3, 0, call)
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 c1"
        >> ended(3, kind, **fields)
        >> finished(4)
        << f"append output of 4 done; end of 3 {kind}"
        << f"wait 3: 0.2 s 1/{limit}"
        >> e.Woke(3)
        << "append attempt 8"
        >> SYNCED
        << "send 8: go c1 =c1"
    ).check(Phase.STREAMING)


def test_three_parallel_calls_of_which_one_is_slow(playbook: Make) -> None:
    """Each output is recorded as it comes; the retry waits for the slow one and holds all three."""
    (
        begun(playbook)
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> done(3, 1, function("b"))
        << "append call 6; start of 6"
        >> done(3, 2, function("c"))
        << "append call 8; start of 8"
        >> SYNCED
        << "start 4 a"
        << "start 6 b"
        << "start 8 c"
        >> finished(8)
        << "append output of 8 done"
        >> finished(4)
        << "append output of 4 done"
        >> ended(3, "cut")
        >> SYNCED
        >> finished(6)
        << "append output of 6 done; end of 3 cut"
        << "wait 3: 0.2 s 1/5"
        >> e.Woke(3)
        << "append attempt 14"
        >> SYNCED
        << "send 14: go a b c =a =b =c"
    ).check()


@pytest.mark.parametrize("kind, after", [("completed", 1), ("incomplete", 1)])
def test_an_answered_response_leads_to_the_next_step(
    playbook: Make, kind: e.OutcomeKind, after: int
) -> None:
    """Calls were made: what they gave is sent at once, without a wait (DESIGN 4.4)."""
    (
        begun(playbook)
        >> done(3, 0, function("c1"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 c1"
        >> finished(4)
        << "append output of 4 done"
        >> ended(3, kind)
        << f"append end of 3 {kind}; attempt 8"
        >> SYNCED
        << "send 8: go c1 =c1"
    ).check()


# What a response may end a turn with


def test_an_answer_without_calls_completes_the_turn(playbook: Make) -> None:
    """The end is told once it is on disk."""
    (
        begun(playbook)
        >> done(3, 0, said("hello"))
        << "append item 4"
        >> ended(3)
        << "append end of 3 completed; turn 2 completed"
        >> SYNCED
        << "finish 2 completed"
    ).check(Phase.IDLE)


def test_an_incomplete_answer_without_calls_fails_the_turn_and_keeps_what_was_said(
    playbook: Make,
) -> None:
    """Complete items stay, partial ones go, and the model is told why (DESIGN 4.4 and 4.5)."""
    machine = (
        begun(playbook)
        >> done(3, 0, said("whole"))
        << "append item 4"
        >> done(3, 1, said("hal", status="incomplete"))
        << "append item 5"
        >> ended(3, "incomplete", reason="max_output_tokens")
        << "append end of 3 incomplete; turn 2 failed"
        >> SYNCED
        << "finish 2 failed"
        >> prompt("more")
        << "append prompt 8; attempt 9"
        >> SYNCED
        << "send 9: go whole The turn above was cut: the response is incomplete: "
        "max_output_tokens. more"
    ).check()
    assert machine.world.sent[2]["role"] == "developer"


@pytest.mark.parametrize(
    "kind, fields",
    [
        ("refused", {"status": 401}),
        ("refused", {"status": 400, "code": "invalid_request_error"}),
        ("failed", {"code": "invalid_prompt"}),
        ("refused", {"status": 429, "code": "insufficient_quota"}),
        ("refused", {"status": 429, "retry_after": 3600.0}),
    ],
)
def test_what_waiting_does_not_cure_fails_the_turn_at_once(
    playbook: Make, kind: e.OutcomeKind, fields: dict[str, Any]
) -> None:
    """No retry, and the provider's code is told (FACTS 10)."""
    play = (
        begun(playbook)
        >> ended(3, kind, **fields)
        << f"append end of 3 {kind}; turn 2 failed"
        >> SYNCED
        << "finish 2 failed"
    )
    play.check(Phase.IDLE)


def test_retries_come_to_an_end(playbook: Make) -> None:
    """Five waits, then the turn ends as failed and can be continued."""
    play = begun(playbook)
    attempt = 3
    for tries in range(1, 6):
        seconds = 0.2 * 2 ** (tries - 1)
        play >> ended(attempt, "cut") << f"append end of {attempt} cut"
        play << f"wait {attempt}: {seconds:.1f} s {tries}/5"
        play >> e.Woke(attempt) << f"append attempt {attempt + 2}"
        play >> SYNCED << f"send {attempt + 2}: go"
        attempt += 2
    play >> ended(attempt, "cut") << f"append end of {attempt} cut; turn 2 failed"
    play >> SYNCED << "finish 2 failed"
    play.check(Phase.IDLE)


def test_twenty_cut_attempts_that_made_calls_end_the_turn(playbook: Make) -> None:
    """Progress resets the retries, but not for ever."""
    play = begun(playbook, policy=Policy(most_cut=2))
    (
        play
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 a"
        >> finished(4)
        << "append output of 4 done"
        >> ended(3, "cut")
        << "append end of 3 cut"
        << "wait 3: 0.2 s 1/5"
        >> e.Woke(3)
        << "append attempt 8"
        >> SYNCED
        << "send 8: go a =a"
        >> done(8, 0, function("b"))
        << "append call 9; start of 9"
        >> SYNCED
        << "start 9 b"
        >> finished(9)
        << "append output of 9 done"
        >> ended(8, "cut")
        << "append end of 8 cut; turn 2 failed"
        >> SYNCED
        << "finish 2 failed"
    ).check()


# Written ahead


def test_nothing_is_sent_or_started_before_its_record_is_on_disk(playbook: Make) -> None:
    """`Appended` of an older record releases nothing."""
    (
        playbook()
        >> prompt()
        << "append prompt 2; attempt 3"
        >> e.Appended(2)
        >> e.Appended(3)
        << "send 3: go"
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> done(3, 1, function("b"))
        << "append call 6; start of 6"
        >> e.Appended(4)
        >> e.Appended(5)
        << "start 4 a"
        >> e.Appended(6)
        >> e.Appended(7)
        << "start 6 b"
    ).check()


def test_a_finished_call_is_recorded_while_the_stream_flows(playbook: Make) -> None:
    """It does not wait for the end of the stream, nor for other calls."""
    (
        begun(playbook)
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 a"
        >> finished(4)
        << "append output of 4 done"
        >> done(3, 1, function("b"))
        << "append call 7; start of 7"
        >> SYNCED
        << "start 7 b"
    ).check(Phase.STREAMING)


def test_the_machine_does_not_wait_for_one_record_before_it_takes_the_next(
    playbook: Make,
) -> None:
    """Calls that came before the disk answered start in order, once it does."""
    (
        begun(playbook)
        >> done(3, 0, said("x"))
        << "append item 4"
        >> done(3, 1, function("a"))
        << "append call 5; start of 5"
        >> ended(3)
        >> SYNCED
        << "start 5 a"
        >> finished(5)
        << "append output of 5 done; end of 3 completed; attempt 9"
        >> SYNCED
        << "send 9: go x a =a"
    ).check()


# Calls


def test_an_exclusive_call_waits_for_all_before_it_and_holds_back_all_after(
    playbook: Make,
) -> None:
    """Calls start in call order (DESIGN 4.2)."""
    (
        begun(playbook)
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> done(3, 1, function("b", name="alone"))
        << "append call 6"
        >> done(3, 2, function("c"))
        << "append call 7"
        >> SYNCED
        << "start 4 a"
        >> finished(4)
        << "append output of 4 done; start of 6"
        >> SYNCED
        << "start 6 b"
        >> finished(6)
        << "append output of 6 done; start of 7"
        >> SYNCED
        << "start 7 c"
    ).check()


def test_queued_calls_run_although_the_stream_was_cut(playbook: Make) -> None:
    """The model made them (DESIGN 4.3)."""
    (
        begun(playbook)
        >> done(3, 0, function("a", name="alone"))
        << "append call 4; start of 4"
        >> done(3, 1, function("b", name="alone"))
        << "append call 6"
        >> SYNCED
        << "start 4 a"
        >> ended(3, "cut")
        >> finished(4)
        << "append output of 4 done; start of 6"
        >> SYNCED
        << "start 6 b"
        >> finished(6)
        << "append output of 6 done; end of 3 cut"
        << "wait 3: 0.2 s 1/5"
    ).check(Phase.WAITING)


def test_a_preparation_may_end_a_call_without_an_effect(playbook: Make) -> None:
    """A patch that doesn't apply has its answer before anything is touched."""
    (
        begun(playbook)
        >> done(3, 0, custom("p"))
        << "append call 4"
        << "prepare 4"
        >> done(3, 1, function("a"))
        << "append call 5"
        >> e.Prepared(4, result=e.Result(content="no such file", status="failed"))
        << "append output of 4 failed; start of 5"
        >> e.Prepared(4, plan={})
        >> SYNCED
        << "start 5 a"
    ).check()


@pytest.mark.parametrize(
    "call, words",
    [
        (function("c1", name="fly"), "no tool 'fly' here; it was not run. The tools are: alone"),
        (function("c1", '{"cmd": "rm'), "arguments of this call to look are not a JSON object"),
        (
            {"type": "shell_call", "call_id": "c1", "environment": {"type": "local"}},
            "no tool 'shell_call'",
        ),
    ],
)
def test_a_call_that_can_not_run_is_answered(playbook: Make, call: Item, words: str) -> None:
    """An unknown tool or broken arguments get an output that says so; the turn goes on."""
    machine = (
        begun(playbook)
        >> done(3, 0, call)
        << "append call 4; output of 4 rejected"
        >> ended(3)
        << "append end of 3 completed; attempt 7"
        >> SYNCED
        << "send 7: go c1 =c1"
    ).check()
    assert words in str(machine.world.sent[2]["output"])


def test_a_call_that_was_cut_never_runs_and_never_enters_history(playbook: Make) -> None:
    """Status `incomplete` (FACTS 4); the reasoning that led to it goes with it."""
    (
        begun(playbook)
        >> done(3, 0, thought("rs"))
        << "append item 4"
        >> done(3, 1, function("c1", '{"cmd": "rm', status="incomplete"))
        >> ended(3, "incomplete", reason="max_output_tokens")
        << "append end of 3 incomplete; turn 2 failed"
        >> SYNCED
        << "finish 2 failed"
    ).check()


def test_a_repeated_event_is_dropped_whatever_it_holds(playbook: Make) -> None:
    """An item is known by its attempt and index; the first done wins (P3)."""
    (
        begun(playbook)
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> done(3, 0, function("a"))
        >> done(3, 0, function("b", '{"x":1}'))
        >> done(2, 1, function("c"))
        >> SYNCED
        << "start 4 a"
        >> ended(2, "cut")
        >> finished(4)
        << "append output of 4 done"
        >> ended(3)
        << "append end of 3 completed; attempt 8"
    ).check()


def test_a_reused_call_id_is_a_new_call(playbook: Make) -> None:
    """Providers count per response (FACTS 7): it runs, under an id of its own in the view."""
    (
        begun(playbook)
        >> done(3, 0, function("c1"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 c1"
        >> finished(4)
        << "append output of 4 done"
        >> ended(3)
        << "append end of 3 completed; attempt 8"
        >> SYNCED
        << "send 8: go c1 =c1"
        >> done(8, 0, function("c1"))
        << "append call 9; start of 9"
        >> SYNCED
        << "start 9 c1"
        >> finished(9)
        << "append output of 9 done"
        >> ended(8)
        << "append end of 8 completed; attempt 13"
        >> SYNCED
        << "send 13: go c1 =c1 call_r9 =call_r9"
    ).check()


def test_a_deadline_stops_the_call_and_says_so(playbook: Make) -> None:
    """The output names the time limit and keeps what was printed; the turn goes on."""
    machine = (
        begun(playbook)
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> e.DeadlinePassed(4)
        >> SYNCED
        << "start 4 a"
        >> e.DeadlinePassed(4)
        << "stop 4 deadline"
        >> e.DeadlinePassed(4)
        >> e.DeadlinePassed(99)
        >> finished(4, "half", "interrupted")
        << "append output of 4 deadline"
        >> ended(3)
        << "append end of 3 completed; attempt 8"
        >> SYNCED
        << "send 8: go a =a"
    ).check()
    assert "time limit" in machine.world.sent[2]["output"]
    assert machine.world.sent[2]["output"].endswith("half")


def test_a_late_result_is_recorded_and_told_as_a_message(playbook: Make) -> None:
    """A recorded output is final; what comes after it is said beside it (DESIGN 4.3)."""
    play = (
        begun(playbook)
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 a"
        >> finished(4, "first")
        << "append output of 4 done"
        >> finished(4, "second")
        << "append late 7"
        >> finished(99)
        >> ended(3)
        << "append end of 3 completed; attempt 9"
        >> SYNCED
        << "send 9: go a =a A late result of the call a:\nsecond"
    )
    machine = play.check()
    assert machine.world.sent[2]["output"] == "first"


# Cut attempts


def test_a_cut_attempt_keeps_all_up_to_its_last_call(playbook: Make) -> None:
    """What is behind it is superseded when the step is tried again (DESIGN 4.5)."""
    (
        begun(playbook)
        >> done(3, 0, thought("rs"))
        << "append item 4"
        >> done(3, 1, function("a"))
        << "append call 5; start of 5"
        >> done(3, 2, thought("rs2"))
        << "append item 7"
        >> done(3, 3, said("half an answer"))
        << "append item 8"
        >> SYNCED
        << "start 5 a"
        >> finished(5)
        << "append output of 5 done"
        >> ended(3, "cut")
        << "append end of 3 cut"
        << "wait 3: 0.2 s 1/5"
        >> e.Woke(3)
        << "append attempt 11 without [7, 8]"
        >> SYNCED
        << "send 11: go ~sealed a =a"
        >> done(11, 0, said("the answer"))
        << "append item 12"
        >> ended(11)
        << "append end of 11 completed; turn 2 completed"
        >> prompt("next")
        << "append prompt 15; attempt 16"
        >> SYNCED
        << "finish 2 completed"
        << "send 16: go ~sealed a =a the answer next"
    ).check()


def test_a_call_that_the_provider_ran_counts_as_a_call(playbook: Make) -> None:
    """What was said before a web search that is done stays (DESIGN 4.5)."""
    search: Item = {"type": "web_search_call", "id": "ws", "status": "completed"}
    (
        begun(playbook)
        >> done(3, 0, said("let me see"))
        << "append item 4"
        >> done(3, 1, search)
        << "append item 5"
        >> done(3, 2, said("half"))
        << "append item 6"
        >> ended(3, "cut")
        << "append end of 3 cut"
        << "wait 3: 0.2 s 1/5"
        >> e.Woke(3)
        << "append attempt 8 without [6]"
        >> SYNCED
        << "send 8: go let me see web_search_call"
    ).check()


def test_refused_reasoning_is_dropped_once(playbook: Make) -> None:
    """The decision is recorded before the one retry, and holds from then on (FACTS 9)."""
    code = "invalid_encrypted_content"
    (
        begun(playbook)
        >> done(3, 0, thought("rs"))
        << "append item 4"
        >> done(3, 1, function("a"))
        << "append call 5; start of 5"
        >> SYNCED
        << "start 5 a"
        >> finished(5)
        << "append output of 5 done"
        >> ended(3)
        << "append end of 3 completed; attempt 9"
        >> SYNCED
        << "send 9: go ~sealed a =a"
        >> ended(9, "refused", status=400, code=code)
        << "append end of 9 refused; repair drop_reasoning; attempt 12"
        >> SYNCED
        << "send 12: go a =a"
        >> ended(12, "refused", status=400, code=code)
        << "append end of 12 refused; repair drop_field; attempt 15"
        >> SYNCED
        << "send 15: go a =a"
        >> ended(15, "refused", status=400, code=code)
        << "append end of 15 refused; repair as_text; attempt 18"
        >> SYNCED
        << "send 18: go The tool look was called with:\n{}\nIt answered:\ndone"
        >> ended(18, "refused", status=400, code=code)
        << "append end of 18 refused; repair undo; turn 2 failed"
        >> SYNCED
        << "finish 2 failed"
    ).check()


# Interrupts


def test_an_interrupt_before_the_request_is_sent_takes_it_back(playbook: Make) -> None:
    """Nothing was sent, and nothing will be."""
    (
        playbook()
        >> prompt()
        << "append prompt 2; attempt 3"
        >> e.Interrupted()
        << "append end of 3 interrupted; turn 2 interrupted"
        >> SYNCED
        << "finish 2 interrupted"
    ).check(Phase.IDLE)


def test_an_interrupt_while_the_stream_flows(playbook: Make) -> None:
    """The stream is given up; running calls are stopped, others were never started."""
    machine = (
        begun(playbook)
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 a"
        >> done(3, 1, function("b"))
        << "append call 6; start of 6"
        >> done(3, 2, function("c", name="alone"))
        << "append call 8"
        >> e.Interrupted()
        << "append output of 8 never_started; output of 6 never_started"
        << "abort 3"
        << "stop 4 interrupted"
        >> SYNCED
        >> e.Interrupted()
        >> done(3, 3, function("d"))
        >> e.DeadlinePassed(4)
        >> ended(3, "interrupted")
        >> finished(4, "half", "interrupted")
        << "append output of 4 interrupted; end of 3 interrupted; turn 2 interrupted"
        >> SYNCED
        << "finish 2 interrupted"
        >> e.Continued()
        << "append note reopened; attempt 15"
        >> SYNCED
        << "send 15: go a b c =a =b =c The turn above was cut: interrupted by the user."
    ).check()
    outputs = [one for one in machine.world.records if isinstance(one, Output)]
    assert [one.status for one in outputs] == ["never_started", "never_started", "interrupted"]
    assert str(outputs[2].item["output"]).endswith("half")


def test_an_interrupt_while_calls_are_drained(playbook: Make) -> None:
    """The stream is over already: only the call is stopped; its true result counts."""
    machine = (
        begun(playbook)
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 a"
        >> ended(3)
        >> e.Interrupted()
        << "stop 4 interrupted"
        >> finished(4, "all of it")
        << "append output of 4 done; end of 3 completed; turn 2 interrupted"
        >> SYNCED
        << "finish 2 interrupted"
    ).check(Phase.IDLE)
    assert [one.status for one in machine.world.records if isinstance(one, Output)] == ["done"]


def test_an_interrupt_while_a_call_is_prepared(playbook: Make) -> None:
    """A plan that comes after it is not carried out."""
    (
        begun(playbook)
        >> done(3, 0, custom("p"))
        << "append call 4"
        << "prepare 4"
        >> e.Interrupted()
        << "abort 3"
        >> ended(3, "interrupted")
        >> e.Prepared(4, plan={})
        << "append output of 4 never_started; end of 3 interrupted; turn 2 interrupted"
        >> SYNCED
        << "finish 2 interrupted"
    ).check(Phase.IDLE)


def test_an_interrupt_after_a_deadline_stops_no_call_twice(playbook: Make) -> None:
    """The first reason for the stop is the one that is told."""
    (
        begun(playbook)
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 a"
        >> e.DeadlinePassed(4)
        << "stop 4 deadline"
        >> e.Interrupted()
        << "abort 3"
        >> finished(4, "", "interrupted")
        << "append output of 4 deadline"
        >> ended(3, "interrupted")
        << "append end of 3 interrupted; turn 2 interrupted"
    ).check(Phase.IDLE)


def test_an_interrupt_during_a_wait_ends_the_turn(playbook: Make) -> None:
    """The wake-up that is under way wakes nobody."""
    (
        begun(playbook)
        >> ended(3, "cut")
        << "append end of 3 cut"
        << "wait 3: 0.2 s 1/5"
        >> e.DeadlinePassed(3)
        >> e.Interrupted()
        << "append turn 2 interrupted"
        >> e.Woke(3)
        >> SYNCED
        << "finish 2 interrupted"
        >> e.Interrupted()
        >> e.DeadlinePassed(3)
    ).check(Phase.IDLE)


def test_a_wake_up_that_comes_late_wakes_no_other_wait(playbook: Make) -> None:
    """Only the attempt that is waited after is tried again."""
    play = (
        begun(playbook)
        >> ended(3, "cut")
        << "append end of 3 cut"
        << "wait 3: 0.2 s 1/5"
        >> e.Interrupted()
        << "append turn 2 interrupted"
        >> prompt("next")
        << "append prompt 6; attempt 7"
        >> SYNCED
        << "finish 2 interrupted"
        << "send 7: go The turn above was cut: interrupted by the user. next"
        >> e.Woke(3)
        >> done(7, 0, function("a"))
        << "append call 8; start of 8"
        >> SYNCED
        << "start 8 a"
        >> ended(7, "cut")
        >> e.Woke(3)
        >> finished(8)
        << "append output of 8 done; end of 7 cut"
        << "wait 7: 0.2 s 1/5"
        >> e.Woke(3)
        >> e.Woke(7)
        << "append attempt 12"
    )
    play.check(Phase.STREAMING)


# Prompts


def test_a_prompt_during_a_turn_is_recorded_at_once_and_waits(playbook: Make) -> None:
    """It begins its turn when the one under way is over (DESIGN 4)."""
    (
        begun(playbook)
        >> prompt("second")
        << "append prompt 4"
        >> done(3, 0, function("a"))
        << "append call 5; start of 5"
        >> SYNCED
        << "start 5 a"
        >> ended(3)
        >> prompt("third")
        << "append prompt 7"
        >> finished(5)
        << "append output of 5 done; end of 3 completed; attempt 10"
        >> SYNCED
        << "send 10: go a =a"
        >> ended(10)
        << "append end of 10 completed; turn 2 completed; attempt 13"
        >> SYNCED
        << "finish 2 completed"
        << "send 13: go a =a second"
        >> ended(13, "refused", status=401)
        << "append end of 13 refused; turn 4 failed; attempt 16"
        >> SYNCED
        << "finish 4 failed"
        << "send 16: go a =a second The turn above was cut: the provider refused the request "
        "(HTTP 401). third"
    ).check()


@pytest.mark.parametrize("model", ["m", "other"])
def test_a_prompt_brings_its_own_model(playbook: Make, model: str) -> None:
    """A queued prompt is sent with what it was given, not with what ran before."""
    play = (
        begun(playbook)
        >> prompt("second", model)
        << "append prompt 4"
        >> ended(3)
        << "append end of 3 completed; turn 2 completed; attempt 7"
    )
    machine = play.check()
    (send,) = [one for one in machine.handle(e.Appended(7)) if isinstance(one, Send)]
    assert send.request.model == model


def test_an_interrupt_leaves_queued_prompts_for_the_next_one(playbook: Make) -> None:
    """Nothing starts by itself after the user said stop."""
    (
        begun(playbook)
        >> prompt("second")
        << "append prompt 4"
        >> e.Interrupted()
        << "abort 3"
        >> prompt("third")
        << "append prompt 5"
        >> ended(3, "interrupted")
        << "append end of 3 interrupted; turn 2 interrupted"
        >> SYNCED
        << "finish 2 interrupted"
        >> prompt("fourth")
        << "append prompt 8; attempt 9"
        >> SYNCED
        << "send 9: go The turn above was cut: interrupted by the user. second"
    ).check()


def test_a_prompt_during_a_wait_does_not_end_it(playbook: Make) -> None:
    """The turn under way is tried again first."""
    (
        begun(playbook)
        >> ended(3, "cut")
        << "append end of 3 cut"
        << "wait 3: 0.2 s 1/5"
        >> prompt("second")
        << "append prompt 5"
        >> e.Noted("ended", "commands")
        << "append note ended"
        >> e.Woke(3)
        << "append attempt 7"
        >> SYNCED
        << "send 7: go"
    ).check()


def test_half_a_surrogate_pair_is_sent_as_it_is_recorded(playbook: Make) -> None:
    """Text that UTF-8 can't say is mended before it enters history, so that both agree."""
    machine = (
        playbook()
        >> prompt("a\udcff")
        << "append prompt 2; attempt 3"
        >> SYNCED
        << "send 3: a\ufffd"
        >> done(3, 0, function("c1"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 c1"
        >> finished(4, "b\ud800")
        << "append output of 4 done"
    ).check()
    last = machine.world.records[-1]
    assert isinstance(last, Output)
    assert last.item["output"] == "b\ufffd"


odd: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=3)
    | st.sampled_from(["output_text", "assistant", "{}", "look", "incomplete", "container"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "text", "role", "content"]), inner)
    ),
    max_leaves=5,
)
FIELDS = ["id", "call_id", "name", "arguments", "input", "status", "content", "summary", "role"]
FIELDS += ["encrypted_content", "environment", "execution", "action", "output", "phase"]
TYPES = [*CLIENT_CALLS, *OUTPUTS, *SERVER_CALLS, "message", "reasoning", "compaction", "odd", 3]


@given(
    st.lists(
        st.builds(
            lambda kind, fields: {"type": kind} | fields,
            st.sampled_from(TYPES),
            st.dictionaries(st.sampled_from(FIELDS), odd, max_size=6),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(DIALECTS),
)
def test_no_item_can_brick_a_session(items: list[dict[str, Any]], dialect: Dialect) -> None:
    """Whatever shape a provider's items have: taken, answered, paired, sent, and read again."""
    play = Playbook(dialect=dialect)
    machine = play.check()
    machine.handle(prompt())
    machine.handle(e.Appended(3))
    for at, item in enumerate(items):
        machine.handle(done(3, at, item))
    machine.handle(e.Appended(machine.issued()))
    for call in sorted(machine.running):
        machine.handle(finished(call))
    machine.handle(ended(3, "cut"))
    if machine.turn.phase is Phase.WAITING:
        machine.handle(e.Woke(3))
        machine.handle(e.Appended(machine.issued()))
    machine.check_replay()
    assert [Codec().decode(Codec().encode(one)) for one in machine.world.records] == (
        machine.world.records
    )


# A disk that refuses


STORAGE_FAILS: list[tuple[str, Callable[[Make], Playbook], list[str]]] = [
    ("idle", lambda make: make(), ["finish 0 storage"]),
    (
        "before the request is sent",
        lambda make: make() >> prompt() << "append prompt 2; attempt 3",
        ["abort 3", "finish 2 storage"],
    ),
    ("streaming", begun, ["abort 3", "finish 2 storage"]),
    (
        "a call that is held",
        lambda make: begun(make) >> done(3, 0, function("a")) << "append call 4; start of 4",
        ["abort 3", "finish 2 storage"],
    ),
    (
        "a call that runs",
        lambda make: (
            begun(make)
            >> done(3, 0, function("a"))
            << "append call 4; start of 4"
            >> SYNCED
            << "start 4 a"
            >> done(3, 1, function("b", name="alone"))
            << "append call 6"
        ),
        ["abort 3", "stop 4 interrupted", "finish 2 storage"],
    ),
    (
        "draining",
        lambda make: (
            begun(make)
            >> done(3, 0, function("a"))
            << "append call 4; start of 4"
            >> SYNCED
            << "start 4 a"
            >> ended(3)
        ),
        ["stop 4 interrupted", "finish 2 storage"],
    ),
    (
        "stopping",
        lambda make: begun(make) >> e.Interrupted() << "abort 3",
        ["abort 3", "finish 2 storage"],
    ),
    (
        "waiting",
        lambda make: begun(make) >> ended(3, "cut") << "append end of 3 cut" << "wait 3: 0.2 s 1/5",
        ["finish 2 storage"],
    ),
]


@pytest.mark.parametrize(
    "before, lines", [case[1:] for case in STORAGE_FAILS], ids=[case[0] for case in STORAGE_FAILS]
)
def test_a_disk_that_refuses_ends_everything(
    playbook: Make, before: Callable[[Make], Playbook], lines: list[str]
) -> None:
    """What can't be recorded must not happen: nothing is sent, started or appended any more."""
    play = before(playbook) >> e.AppendFailed("No space left on device")
    for line in lines:
        play << line
    machine = play.check(Phase.BROKEN)
    last = machine.issued()
    for event in (
        e.Appended(last),
        prompt(),
        finished(4),
        ended(3),
        done(3, 9, function("z")),
        e.Woke(3),
        e.Interrupted(),
        e.Continued(),
    ):
        assert machine.handle(event) == []


# Opening


def cut_after(past: Past, *, start: bool = True, name: str = "look") -> int:
    """A journal whose process died during a call: the call's number."""
    turn = past.prompt()
    call = past.call(past.attempt(turn), 0, function("a", name=name))
    if start:
        past.start(call)
    return call


def test_a_call_that_was_not_started_is_said_to_be_so(playbook: Make) -> None:
    """Row one of DESIGN 5: no `start`; nobody has to be asked."""
    past = Past()
    cut_after(past, start=False)
    machine = (
        playbook(past.records)
        << "append output of 4 never_started; end of 3 died"
        >> SYNCED
        >> e.Continued()
        << "append attempt 7"
        >> SYNCED
        << "send 7: go a =a"
    ).check()
    assert "safe to make it again" in machine.world.sent[2]["output"]


@pytest.mark.parametrize(
    "name, evidence, status, words",
    [
        ("look", settled(4, "unstarted"), "never_started", "never started"),
        ("look", settled(4, "recovered", "the true output"), "done", "the true output"),
        ("look", settled(4, "answered", "the check's answer"), "done", "the check's answer"),
        ("look", settled(4, "unknown"), "unknown", "verify before repeating"),
        ("gone", settled(4, "unknown"), "unknown", "verify before repeating"),
        ("safe", settled(4, "recovered", "the true output"), "done", "the true output"),
    ],
)
def test_an_open_call_is_settled_by_evidence(
    playbook: Make, name: str, evidence: e.Settled, status: str, words: str
) -> None:
    """Rows one, two, four and five of DESIGN 5: the settlement is written, then the turn goes on."""
    past = Past()
    cut_after(past, name=name)
    machine = (
        playbook(past.records)
        << "probe 4"
        >> settled(99, "unknown")
        >> e.Continued()
        >> evidence
        << f"append output of 4 {status}; end of 3 died; attempt 8"
        >> SYNCED
        << "send 8: go a =a"
    ).check()
    assert words in machine.world.sent[2]["output"]


def test_a_call_that_still_runs_is_adopted(playbook: Make) -> None:
    """Row three of DESIGN 5: its true result is its output; a prompt waits for it."""
    past = Past()
    cut_after(past)
    (
        playbook(past.records)
        << "probe 4"
        >> prompt("next")
        << "append prompt 6"
        >> settled(4, "running")
        << "adopt 4"
        >> e.Noted("adopted", "")
        << "append note adopted"
        >> finished(4)
        << "append output of 4 done; end of 3 died; turn 2 superseded; attempt 11"
        >> SYNCED
        << "finish 2 superseded"
        << "send 11: go a =a The turn above was cut: a new prompt was given. next"
    ).check()


def test_an_adopted_call_has_its_deadline(playbook: Make) -> None:
    """It is stopped like any other."""
    past = Past()
    cut_after(past)
    (
        playbook(past.records)
        << "probe 4"
        >> e.DeadlinePassed(4)
        >> settled(4, "running")
        << "adopt 4"
        >> e.DeadlinePassed(4)
        << "stop 4 deadline"
        >> finished(4, "", "interrupted")
        << "append output of 4 deadline; end of 3 died"
    ).check(Phase.IDLE)


def test_only_a_tool_declared_safe_runs_again(playbook: Make) -> None:
    """Row five of DESIGN 5: with the same effect id, once a new start record is on disk.

    The first one was read back, which does not mean that it was synced.
    """
    past = Past()
    cut_after(past, name="safe")
    (
        playbook(past.records)
        << "probe 4"
        >> settled(4, "unknown")
        << "append start of 4"
        >> SYNCED
        << "start 4 a"
        >> finished(4)
        << "append output of 4 done; end of 3 died"
    ).check(Phase.IDLE)


def test_several_open_calls_are_settled_one_by_one(playbook: Make) -> None:
    """The session is open when the last has its output."""
    past = Past()
    attempt = past.attempt(past.prompt())
    for at, ident in enumerate("abc"):
        past.start(past.call(attempt, at, function(ident)))
    (
        playbook(past.records)
        << "probe 4"
        << "probe 6"
        << "probe 8"
        >> settled(8, "unknown")
        << "append output of 8 unknown"
        >> settled(8, "recovered", "too late")
        >> settled(4, "running")
        << "adopt 4"
        >> settled(6, "recovered", "x")
        << "append output of 6 done"
        >> finished(4)
        << "append output of 4 done; end of 3 died"
        >> e.Continued()
        << "append attempt 14"
        >> SYNCED
        << "send 14: go a b c =a =b =c"
    ).check()


@pytest.mark.parametrize("name", ["look", "safe"])
def test_an_interrupt_while_calls_are_settled(playbook: Make, name: str) -> None:
    """What runs is stopped, what could run again doesn't; the turn stays cut."""
    past = Past()
    attempt = past.attempt(past.prompt())
    past.start(past.call(attempt, 0, function("a")))
    past.start(past.call(attempt, 1, function("b", name=name)))
    past.start(past.call(attempt, 2, function("c")))
    (
        playbook(past.records)
        << "probe 4"
        << "probe 6"
        << "probe 8"
        >> settled(4, "running")
        << "adopt 4"
        >> e.Continued()
        >> e.Interrupted()
        << "stop 4 interrupted"
        >> settled(6, "unknown")
        << "append output of 6 unknown"
        >> settled(8, "running")
        << "adopt 8"
        << "stop 8 interrupted"
        >> finished(4, "", "interrupted")
        << "append output of 4 interrupted"
        >> finished(8, "", "interrupted")
        << "append output of 8 interrupted; end of 3 died"
        >> SYNCED
        << "finish 0 interrupted"
        >> e.Continued()
        << "append attempt 14"
    ).check()


def test_a_disk_that_refuses_while_calls_are_settled(playbook: Make) -> None:
    """Adopted calls are stopped: nobody could record what they give."""
    past = Past()
    cut_after(past)
    (
        playbook(past.records)
        << "probe 4"
        >> settled(4, "running")
        << "adopt 4"
        >> e.AppendFailed("full")
        << "stop 4 interrupted"
        << "finish 2 storage"
    ).check(Phase.BROKEN)


# Going on


@pytest.mark.parametrize("outcome", ["cut", "stalled", "failed", "refused", "interrupted"])
def test_a_turn_that_was_cut_goes_on_where_it_was(playbook: Make, outcome: str) -> None:
    """The step is tried again, without what the cut attempt said behind its last call."""
    past = Past()
    attempt = past.attempt(past.prompt())
    past.answered(attempt, 0, function("a"))
    past.item(attempt, 1, said("half"))
    past.ended(attempt, outcome)
    machine = (
        playbook(past.records)
        >> e.Continued()
        << "append attempt 8 without [6]"
        >> SYNCED
        << "send 8: go a =a"
    ).check()
    assert machine.turn.history.attempts[8].record.step == 1


def test_a_turn_whose_response_was_complete_goes_to_its_next_step(playbook: Make) -> None:
    """Calls and outputs are there: nothing is said or run again."""
    past = Past()
    attempt = past.attempt(past.prompt())
    past.answered(attempt, 0, function("a"))
    past.item(attempt, 1, said("kept"))
    past.ended(attempt)
    machine = (
        playbook(past.records)
        >> e.Continued()
        << "append attempt 8"
        >> SYNCED
        << "send 8: go a kept =a"
    ).check()
    assert machine.turn.history.attempts[8].record.step == 2


def test_a_turn_that_lacked_only_its_end_gets_it(playbook: Make) -> None:
    """The answer was complete; nothing is asked again."""
    past = Past()
    attempt = past.attempt(past.prompt())
    past.item(attempt, 0, said("answer"))
    past.ended(attempt)
    (
        playbook(past.records)
        >> e.Continued()
        << "append turn 2 completed"
        >> SYNCED
        << "finish 2 completed"
    ).check(Phase.IDLE)


@pytest.mark.parametrize("outcome", ["failed", "interrupted"])
def test_a_failed_or_interrupted_turn_is_reopened(playbook: Make, outcome: str) -> None:
    """By a note; its counters start anew and messages kept at its end stay (DESIGN 4)."""
    past = Past()
    turn = past.prompt()
    attempt = past.attempt(turn)
    past.item(attempt, 0, said("kept"))
    past.ended(attempt, "cut")
    past.closed(turn, outcome, message("developer", "cut"))
    (
        playbook(past.records)
        >> e.Continued(model="n")
        << "append note reopened; attempt 8"
        >> SYNCED
        << "send 8: go kept cut"
        >> ended(8, "cut")
        << "append end of 8 cut"
        << "wait 8: 0.2 s 1/5"
    ).check()


def test_a_turn_that_was_reopened_and_cut_at_once_goes_on(playbook: Make) -> None:
    """A crash between the note and its attempt loses neither."""
    past = Past()
    turn = past.prompt()
    attempt = past.attempt(turn)
    past.item(attempt, 0, said("kept"))
    past.ended(attempt, "cut")
    past.closed(turn, "failed", message("developer", "cut"))
    machine = (playbook(past.records) >> e.Continued() << "append note reopened; attempt 8").check()
    again = Playbook(machine.world.records[:7])
    (again >> e.Continued() << "append attempt 8" >> SYNCED << "send 8: go kept cut").check()


@pytest.mark.parametrize("outcome", ["completed", "superseded"])
def test_where_no_turn_was_cut_there_is_nothing_to_continue(playbook: Make, outcome: str) -> None:
    """It is said, and nothing is written."""
    past = Past()
    turn = past.prompt()
    past.ended(past.attempt(turn))
    past.closed(turn, outcome)
    (playbook(past.records) >> e.Continued() << "finish 0 nothing").check(Phase.IDLE)
    (playbook() >> e.Continued() << "finish 0 nothing").check(Phase.IDLE)


def test_a_prompt_that_was_accepted_and_not_begun_is_not_lost(playbook: Make) -> None:
    """A crash behind the prompt's record: `continue` begins it, a new prompt lets it go first."""
    past = Past()
    past.prompt("accepted")
    (
        playbook(past.records)
        >> e.Continued()
        << "append attempt 3"
        >> SYNCED
        << "send 3: accepted"
    ).check()
    (
        playbook(past.records)
        >> prompt("new")
        << "append prompt 3; attempt 4"
        >> SYNCED
        << "send 4: accepted"
        >> ended(4)
        << "append end of 4 completed; turn 2 completed; attempt 7"
        >> SYNCED
        << "finish 2 completed"
        << "send 7: accepted new"
    ).check()


def test_a_prompt_ends_a_cut_turn(playbook: Make) -> None:
    """As superseded; what was said stays, and the model is told (DESIGN 4.5)."""
    past = Past()
    attempt = past.attempt(past.prompt())
    past.item(attempt, 0, said("half an answer"))
    past.item(attempt, 1, thought("rs"))
    machine = (
        playbook(past.records)
        << "append end of 3 died"
        >> prompt("next")
        << "append prompt 7; turn 2 superseded; attempt 9"
        >> SYNCED
        << "finish 2 superseded"
        << "send 9: go half an answer The turn above was cut: a new prompt was given. next"
    ).check()
    (end,) = [one for one in machine.world.records if isinstance(one, TurnEnd)]
    assert end.item is not None


def test_continue_and_a_prompt_while_calls_are_settled(playbook: Make) -> None:
    """The cut turn is finished first, then the prompt's."""
    past = Past()
    cut_after(past)
    (
        playbook(past.records)
        << "probe 4"
        >> prompt("next")
        << "append prompt 6"
        >> e.Continued(model="n")
        >> settled(4, "recovered", "x")
        << "append output of 4 done; end of 3 died; attempt 9"
        >> SYNCED
        << "send 9: go a =a"
        >> ended(9)
        << "append end of 9 completed; turn 2 completed; attempt 12"
    ).check()


def test_damage_is_stated_before_anything_else(playbook: Make) -> None:
    """What was found wrong becomes a record, with its reason (DESIGN 6)."""
    past = Past()
    past.prompt()
    machine = (
        playbook(past.records, damage="line 3 is not whole")
        << "append repair damage"
        >> SYNCED
        >> e.Continued()
        << "append attempt 4"
        >> SYNCED
        << "send 4: go"
    ).check()
    assert machine.turn.history.open_calls() == []


def test_where_records_are_missing_a_missing_start_proves_nothing(playbook: Make) -> None:
    """A record that damage took may have been the start of a call: somebody has to look."""
    past = Past()
    attempt = past.attempt(past.prompt())
    past.start(past.call(attempt, 0, function("a")))
    past.call(attempt, 1, function("b"))
    del past.records[4]
    (playbook(past.records) << "append output of 6 never_started" << "probe 4").check()


def test_a_session_whose_header_was_lost_takes_what_it_is_given(playbook: Make) -> None:
    """Id, folder and basis of the one who opens it count where no record says them."""
    machine = playbook([]).check(Phase.IDLE)
    assert (machine.turn.history.id, machine.turn.history.basis) == ("s", BASIS)


def test_a_request_carries_what_the_prompt_was_given_with(playbook: Make) -> None:
    """Model, effort and basis; the session's id is the cache key (FACTS 12)."""
    machine = playbook().check()
    machine.handle(e.PromptGiven([message("user", "x")], BASIS, "big", provider="p", effort="high"))
    (send,) = machine.handle(e.Appended(3))
    assert isinstance(send, Send)
    request = send.request
    assert (request.model, request.effort, request.session) == ("big", "high", "s")
    assert request.basis == BASIS


def test_a_dialect_reaches_the_request(playbook: Make) -> None:
    """Custom calls go out as functions where custom tools are not known."""
    play = (
        begun(playbook, dialect=Dialect(custom_tools=False))
        >> done(3, 0, custom("c1", name="look"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 c1"
        >> finished(4)
        << "append output of 4 done"
        >> ended(3)
        << "append end of 3 completed; attempt 8"
        >> SYNCED
        << "send 8: go c1 =c1"
    )
    assert play.check().world.sent[1]["type"] == "function_call"


# The table, and the playbooks themselves


def test_an_event_that_a_phase_does_not_take_is_misuse(playbook: Make) -> None:
    """It changes nothing and names both; the machine goes on."""
    machine = begun(playbook).check()
    with pytest.raises(UsageError, match="streaming does not take Continued"):
        machine.turn.handle(e.Continued())
    assert machine.handle(ended(3)) != []


def test_late_and_notes_are_records_of_their_own(playbook: Make) -> None:
    """In every phase that is open."""
    machine = (
        begun(playbook)
        >> ended(3)
        << "append end of 3 completed; turn 2 completed"
        >> e.Noted("ended", "x", message("developer", "noted"))
        << "append note ended"
        >> SYNCED
        << "finish 2 completed"
    ).check()
    assert not [one for one in machine.world.records if isinstance(one, Late)]
    assert isinstance(machine.world.records[1], Prompt)


def test_a_playbook_shows_what_differs(playbook: Make) -> None:
    """Its error is the script with a mark at the line that is not so."""
    play = playbook() >> prompt() << "append prompt 2" >> SYNCED << "send 3: go"
    with pytest.raises(AssertionError) as caught:
        play.check()
    lines = str(caught.value).splitlines()
    assert "-    << append prompt 2" in lines
    assert "+    << append prompt 2; attempt 3" in lines
    assert "     << send 3: go" in lines


def test_a_playbook_that_is_never_checked_fails() -> None:
    """A script that nobody ran proves nothing."""
    with pytest.raises(AssertionError, match="never checked"):
        unchecked_fail([Playbook()])


def test_the_watch_sees_what_it_is_there_for() -> None:
    """A request that leaves an output out, and an early finish, do not get past it."""
    past = Past()
    attempt = past.attempt(past.prompt())
    past.answered(attempt, 0, function("a"))
    machine = (Playbook(past.records) << "append end of 3 died").check()
    with pytest.raises(AssertionError, match="second output"):
        machine._append([Output(n=7, call=4, item={})])  # noqa: SLF001
    machine.world.durable = 0
    with pytest.raises(AssertionError, match="P4"):
        machine._command(Finish(2, "completed"))  # noqa: SLF001
    assert shape(machine.world.sent) == []

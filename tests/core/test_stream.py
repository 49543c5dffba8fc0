"""The assembler of one response, in every style that providers are known to stream."""

from typing import Any

import pytest

from backstay.core.events import Outcome
from backstay.core.items import Item
from backstay.core.stream import Added, Delta, Done, Ended, Response, StreamEvent
from tests.core.wire import (
    added,
    assemble,
    created,
    custom,
    data,
    done,
    event,
    final,
    function,
    items,
    notices,
    outcome,
    said,
    thought,
)

HELLO = said("hello", id="msg_1")


def test_a_plain_response() -> None:
    """Text comes as it is said, the item when it is done, the ending with its id and usage."""
    usage = {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 2}}
    found = assemble(
        created(),
        added(HELLO, 0),
        event("response.output_text.delta", output_index=0, item_id="msg_1", delta="hel"),
        event("response.output_text.delta", output_index=0, item_id="msg_1", delta="lo"),
        event("response.output_text.done", output_index=0, item_id="msg_1", text="hello"),
        done(HELLO, 0),
        final(output=[HELLO], usage=usage),
    )
    assert found == [
        Added(0, HELLO),
        Delta("text", 0, "hel"),
        Delta("text", 0, "lo"),
        Done(0, HELLO),
        Ended(Outcome(kind="completed", response="resp_1", usage=usage)),
    ]


@pytest.mark.parametrize(
    "kind, channel",
    [
        ("response.refusal.delta", "text"),
        ("response.reasoning_summary_text.delta", "reasoning"),
        ("response.reasoning_text.delta", "reasoning"),
        ("response.function_call_arguments.delta", "arguments"),
        ("response.custom_tool_call_input.delta", "arguments"),
        ("response.code_interpreter_call_code.delta", "other"),
    ],
)
def test_deltas_have_a_channel(kind: str, channel: str) -> None:
    """What a piece of text belongs to is told by its event; an unknown one is `other`."""
    assert assemble(event(kind, output_index=4, delta="x"))[0] == Delta(channel, 4, "x")


def test_deltas_without_text_are_skipped() -> None:
    """A delta that is no string (audio, a logprob) is nobody's text."""
    assert len(assemble(event("response.audio.delta", output_index=0, delta={"a": 1}))) == 1


def test_the_final_output_may_be_empty() -> None:
    """Items that were done stand, although `response.completed` lists none (FACTS 2)."""
    found = assemble(created(), done(HELLO, 0), done(function("c1"), 1), final(output=[]))
    assert items(found) == [(0, HELLO), (1, function("c1"))]


@pytest.mark.parametrize("output", [None, {}, "none", [None, 3, "x"]])
def test_a_senseless_final_output_is_no_output(output: Any) -> None:
    """What isn't a list of items adds none and breaks nothing."""
    found = assemble(done(HELLO, 0), final(output=output))
    assert items(found) == [(0, HELLO)]
    assert outcome(found).kind == "completed"


def test_items_that_only_the_final_output_has_are_taken_from_there() -> None:
    """They take the place that the final output gives them (FACTS 2)."""
    listed: Item = {"type": "mcp_list_tools", "id": "mcpl_1", "tools": []}
    found = assemble(created(), done(HELLO, 1), final(output=[listed, HELLO]))
    assert items(found) == [(1, HELLO), (0, listed)]
    assert items(assemble(final(output=[HELLO, function("c1")]))) == [
        (0, HELLO),
        (1, function("c1")),
    ]


def test_a_place_that_is_taken_is_not_given_again() -> None:
    """Where places in the final output and in the stream disagree, a new item goes behind."""
    listed: Item = {"type": "mcp_list_tools", "id": "mcpl_1"}
    found = assemble(done(HELLO, 0), done(function("c1"), 1), final(output=[listed, HELLO]))
    assert items(found)[2:] == [(2, listed)]


def test_done_wins_over_the_final_output() -> None:
    """Encrypted reasoning differs in every event; the one that was done counts (FACTS 3)."""
    found = assemble(
        added(thought("rs_1", "a"), 0),
        done(thought("rs_1", "b"), 0),
        final(output=[thought("rs_1", "c")]),
    )
    assert items(found) == [(0, thought("rs_1", "b"))]


def test_ids_that_change_with_every_event() -> None:
    """GitHub Copilot's: the index says what is what, to the end (FACTS 5)."""
    call = function("call_a", id="fc_2")
    found = assemble(
        added(thought("rs_1"), 0),
        done(thought("rs_2"), 0),
        added(function("call_a", id="fc_1"), 1),
        event("response.function_call_arguments.delta", output_index=1, item_id="x", delta="{}"),
        done(call, 1),
        final(output=[thought("rs_3"), function("call_a", id="fc_3")]),
    )
    assert items(found) == [(0, thought("rs_2")), (1, call)]
    assert [one for one in found if isinstance(one, Delta)] == [Delta("arguments", 1, "{}")]


def test_events_without_an_index_are_told_apart_by_id() -> None:
    """llama.cpp's: a message and two calls, whose pieces are mixed (FACTS 5 and 15)."""
    first, second = function("c1", id="fc_1"), function("c2", '{"a":1}', id="fc_2")
    found = assemble(
        created(),
        added(HELLO),
        event("response.output_text.delta", item_id="msg_1", delta="hello"),
        added(first),
        added(second),
        event("response.function_call_arguments.delta", item_id="fc_2", delta='{"a":1}'),
        event("response.function_call_arguments.delta", item_id="fc_1", delta="{}"),
        done(HELLO),
        done(second),
        done(first),
        final(output=[HELLO, first, second]),
    )
    assert items(found) == [(0, HELLO), (2, second), (1, first)]
    assert [one.index for one in found if isinstance(one, Delta)] == [0, 2, 1]


def test_events_with_neither_index_nor_id_are_taken_in_order() -> None:
    """The first item that is done is the first that began; text belongs to the last that began."""
    found = assemble(
        added(function("c1")),
        event("response.function_call_arguments.delta", delta="a"),
        added(function("c2")),
        event("response.function_call_arguments.delta", delta="b"),
        done(function("c1")),
        done(function("c2")),
        done(said("at the end")),
        final(output=[function("c1"), function("c2"), said("at the end")]),
    )
    assert [at for at, _ in items(found)] == [0, 1, 2]
    assert [one.index for one in found if isinstance(one, Delta)] == [0, 1]


def test_events_are_known_by_their_data_or_by_their_line() -> None:
    """OpenRouter sends no event lines, comments and a [DONE]; others no type in the data."""
    found = assemble(
        b": OPENROUTER PROCESSING\n\n",
        data({"type": "response.output_item.done", "output_index": 0, "item": HELLO}),
        b"event: response.output_item.done\n" + data({"output_index": 1, "item": function("c1")}),
        b"event: response.completed\n" + data({"response": {"id": "r"}}),
        data(b"[DONE]"),
    )
    assert items(found) == [(0, HELLO), (1, function("c1"))]
    assert outcome(found) == Outcome(kind="completed", response="r")


def test_done_markers_before_the_end_are_nothing() -> None:
    """A [DONE] without a terminal event doesn't make a response complete."""
    found = assemble(created(), done(HELLO, 0), data(b"[DONE]"), cut="closed")
    assert outcome(found) == Outcome(kind="cut", reason="closed", response="resp_1")
    assert notices(found) == []


def test_the_last_event_may_lack_its_blank_line() -> None:
    """A terminal event at the very end counts without it (FACTS 5)."""
    found = assemble(created(), done(HELLO, 0), final(output=[]).rstrip(b"\n"))
    assert outcome(found).kind == "completed"


def test_half_an_event_at_the_end_is_nothing() -> None:
    """Bytes that a cut left are no event and no item."""
    whole = done(function("c1"), 0)
    for end in range(len(whole.rstrip()) - 1):
        found = assemble(created(), whole[:end], cut="closed")
        assert found == [Ended(Outcome(kind="cut", reason="closed", response="resp_1"))], end


def test_unknown_events_are_skipped_wherever_they_are() -> None:
    """`codex.rate_limits` may come first (FACTS 6)."""
    odd = event("codex.rate_limits", rate_limits={"primary": 3}, item={"type": "message"})
    found = assemble(odd, created(), odd, done(HELLO, 0), odd, final(output=[]), odd)
    assert items(found) == [(0, HELLO)]
    assert notices(found) == []


@pytest.mark.parametrize(
    "odd", [b"{", b"null", b'"text"', b"[1]", b"\xff", b"", b'{"type":3}', b"[" * 20000]
)
def test_an_event_that_is_no_json_object_is_skipped_with_a_notice(odd: bytes) -> None:
    """It is noted, and the stream goes on (FACTS 6)."""
    found = assemble(created(), data(odd), done(HELLO, 0), final(output=[]))
    assert len(notices(found)) == 1
    assert items(found) == [(0, HELLO)]
    assert outcome(found).kind == "completed"


def test_item_events_without_an_item_are_skipped_with_a_notice() -> None:
    """There is nothing to take from them."""
    found = assemble(event("response.output_item.done", output_index=0), final(output=[HELLO]))
    assert len(notices(found)) == 1
    assert items(found) == [(0, HELLO)]


def test_json_that_few_can_read_is_read() -> None:
    """Half a surrogate pair and numbers out of range cost their own place only."""
    body = (
        b'{"type":"response.output_item.done","output_index":0,"item":'
        b'{"type":"message","role":"assistant","content":"a\\ud83db","big":1e999,"n":%d}}'
    ) % 10**40
    ((_, item),) = items(assemble(data(body), final(output=[])))
    assert item["content"] == "a\ufffdb"
    assert item["n"] == 10**40


def test_a_repeated_done_is_dropped_whatever_it_holds() -> None:
    """The first done of an index wins (DESIGN 4)."""
    found = assemble(
        done(function("c1"), 0),
        done(function("c1"), 0),
        done(function("other", '{"x":1}'), 0),
        added(function("c1"), 0),
        final(output=[]),
    )
    assert items(found) == [(0, function("c1"))]
    assert not [one for one in found if isinstance(one, Added)]


def test_a_repeated_done_without_index_is_known_by_its_id() -> None:
    """The item's id is its identity where a server sends no index."""
    call = function("c1", id="fc_1")
    assert items(assemble(done(call), done(call | {"call_id": "c9"}), final())) == [(0, call)]


@pytest.mark.parametrize("call", [function("c1", '{"a":1}'), custom("c1")])
def test_the_same_call_at_another_index_is_a_repetition(call: Item) -> None:
    """Same call id, name and arguments: it was said before."""
    assert items(assemble(done(call, 0), done(call, 3), final(output=[]))) == [(0, call)]


def test_another_call_under_the_same_call_id_is_a_second_call() -> None:
    """Other arguments, another name or another kind make it one that runs."""
    calls = [
        function("c1", '{"a":1}'),
        function("c1", '{"a":2}'),
        function("c1", '{"a":1}', name="other"),
        custom("c1"),
    ]
    found = assemble(*(done(call, at) for at, call in enumerate(calls)), final(output=[]))
    assert items(found) == list(enumerate(calls))


def test_a_call_in_the_final_output_that_was_not_done_is_found() -> None:
    """Matching by kind never hides a call behind another."""
    first, second = function("c1"), function("c2")
    found = assemble(done(first, 0), final(output=[first, second]))
    assert items(found) == [(0, first), (1, second)]


def test_what_shares_a_call_id_but_not_its_kind_is_another_item() -> None:
    """A call and the output that the provider itself gave it are two items."""
    call: Item = {"type": "shell_call", "call_id": "c1", "action": {}}
    answer: Item = {"type": "shell_call_output", "call_id": "c1", "output": []}
    assert items(assemble(done(call, 0), final(output=[call, answer]))) == [(0, call), (1, answer)]


def test_a_call_that_was_cut_comes_out_as_what_it_is() -> None:
    """A done item with status `incomplete` and broken arguments stays as the provider said it."""
    call = function("c1", '{"cmd": "rm', status="incomplete")
    found = assemble(
        added(call | {"arguments": ""}, 0),
        event("response.function_call_arguments.done", output_index=0, arguments='{"cmd": "rm'),
        done(call, 0),
        final("response.incomplete", incomplete_details={"reason": "max_output_tokens"}),
    )
    assert items(found) == [(0, call)]
    assert (outcome(found).kind, outcome(found).code) == ("incomplete", "max_output_tokens")


def test_an_item_that_only_began_never_comes_out() -> None:
    """Arguments that were complete do not make an item that was never done."""
    found = assemble(
        added(function("c1", ""), 0),
        event("response.function_call_arguments.done", output_index=0, arguments="{}"),
    )
    assert items(found) == []
    assert outcome(found).kind == "cut"


@pytest.mark.parametrize(
    "wire, code, reason",
    [
        (
            event("error", error={"type": "server_error", "code": "slow_down", "message": "no"}),
            "slow_down",
            "no",
        ),
        (event("error", error={"type": "overloaded_error"}), "overloaded_error", "error"),
        (event("error", code="server_error", message="flat", param=None), "server_error", "flat"),
        (event("error", error="plain words"), "", "plain words"),
        (event("error"), "", "error"),
        (
            data({"error": {"code": 500, "message": "no match", "type": "server_error"}}),
            "500",
            "no match",
        ),
        (
            final("response.failed", error={"code": "rate_limit_exceeded", "message": "later"}),
            "rate_limit_exceeded",
            "later",
        ),
        (final("response.failed", error=None), "", "response.failed"),
        (final("response.cancelled"), "", "response.cancelled"),
    ],
)
def test_failures_in_all_their_shapes(wire: bytes, code: str, reason: str) -> None:
    """Both shapes of `error`, llama.cpp's bare one and `response.failed` say why (FACTS 6, 15)."""
    end = outcome(assemble(created(), added(function("c1", ""), 0), wire))
    assert (end.kind, end.code, end.reason) == ("failed", code, reason)
    assert end.response == "resp_1"


@pytest.mark.parametrize(
    "details, code", [({"reason": "content_filter"}, "content_filter"), (None, ""), ({}, "")]
)
def test_an_incomplete_response_says_why(details: Any, code: str) -> None:
    """The reason is the provider's, or that it gave none."""
    end = outcome(assemble(final("response.incomplete", incomplete_details=details)))
    assert (end.kind, end.code) == ("incomplete", code)
    assert end.reason == code or "did not say" in end.reason


def test_an_event_that_only_mentions_an_error_is_no_end() -> None:
    """`error: null` and errors of known events (a failed mcp_call) end nothing."""
    found = assemble(
        data({"type": "response.mcp_call.failed", "output_index": 0, "error": {"message": "x"}}),
        data({"error": None}),
        done(HELLO, 0),
        final(output=[]),
    )
    assert items(found) == [(0, HELLO)]
    assert outcome(found).kind == "completed"


def test_nothing_comes_after_the_end() -> None:
    """Bytes behind the terminal event are not looked at, in the same piece or later."""
    response = Response()
    found = response.feed(final(output=[]) + done(HELLO, 0) + event("error", message="late"))
    assert [type(one) for one in found] == [Ended]
    assert response.feed(done(HELLO, 0)) == []
    assert response.close("cut", "closed") == []


@pytest.mark.parametrize("kind", ["cut", "stalled", "interrupted"])
def test_a_stream_that_just_ends_ends_as_it_is_told(kind: Any) -> None:
    """Without a terminal event the driver's word for it counts, and the response's id is kept."""
    response = Response()
    response.feed(created("resp_9") + event("response.in_progress", response={"id": 3}))
    assert response.close(kind, "it stopped") == [
        Ended(Outcome(kind=kind, reason="it stopped", response="resp_9"))
    ]
    assert response.ended


def test_an_answer_in_one_piece() -> None:
    """A provider that doesn't stream gives the same items and endings."""
    found = Response().whole({"id": "r", "status": "completed", "output": [HELLO]})
    assert found == [Done(0, HELLO), Ended(Outcome(kind="completed", response="r"))]
    failed = Response().whole({"id": "r", "status": "failed", "error": {"code": "server_error"}})
    assert outcome(failed).code == "server_error"


@pytest.mark.parametrize("odd", [None, [], {"status": "queued", "output": [HELLO]}, {"status": []}])
def test_an_answer_in_one_piece_that_is_not_finished_is_cut(odd: Any) -> None:
    """It is no response that could be acted on: no items, and worth another try."""
    found: list[StreamEvent] = Response().whole(odd)
    assert items(found) == []
    assert outcome(found).kind == "cut"


def test_an_answer_without_a_status_is_complete() -> None:
    """Compatible servers leave it out."""
    assert outcome(Response().whole({"output": []})).kind == "completed"

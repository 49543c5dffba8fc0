"""The prompt view: what of a history is sent, in which order, and in which dialect."""

from typing import Any

import msgspec
import pytest

from backstay.core.items import Item, message
from backstay.core.mend import DROP_REASONING
from backstay.core.pairing import problems
from backstay.core.record import Compaction, Late, Note, Output, Repair
from tests.core.past import BASIS, Past, shape
from tests.core.wire import custom, function, said, thought

SERVER_RUN: Item = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}}


def begun() -> tuple[Past, int, int]:
    """A journal with a prompt and its first attempt: the journal and both numbers."""
    past = Past()
    turn = past.prompt()
    return past, turn, past.attempt(turn)


def test_an_attempt_reads_by_index_then_outputs_by_call() -> None:
    """Order depends on places alone, not on when an item or an output was recorded."""
    past, _, attempt = begun()
    second = past.call(attempt, 3, function("c2"))
    past.item(attempt, 0, thought("rs"))
    past.output(second)
    first = past.call(attempt, 1, function("c1"))
    past.item(attempt, 2, said("between"))
    past.output(first)
    assert shape(past.view()) == ["go", "~sealed", "c1", "between", "c2", "=c1", "=c2"]


def test_attempts_follow_each_other() -> None:
    """What a cut attempt keeps stands before the next attempt's items, outputs included."""
    past, turn, first = begun()
    past.answered(first, 0, function("c1"))
    lost = past.item(first, 1, said("cut off"))
    past.ended(first, "cut")
    again = past.attempt(turn, drop=[lost])
    past.answered(again, 0, function("c2"))
    assert shape(past.view()) == ["go", "c1", "=c1", "c2", "=c2"]


def test_messages_of_a_cut_turn_that_ended_stay() -> None:
    """Only a next attempt of the step supersedes; the end of a turn does not."""
    past, turn, attempt = begun()
    past.item(attempt, 0, thought("a", "one"))
    past.item(attempt, 1, said("half an answer"))
    past.item(attempt, 2, thought("b", "two"))
    past.item(attempt, 3, said("partial", status="incomplete"))
    past.ended(attempt, "cut")
    past.closed(turn, "failed", message("developer", "cut"))
    assert shape(past.view()) == ["go", "~one", "half an answer", "cut"]


def test_a_call_without_an_output_is_not_sent() -> None:
    """What isn't answered isn't in the view, nor the reasoning that led to it."""
    past, _, attempt = begun()
    past.item(attempt, 0, thought("rs"))
    past.call(attempt, 1, function("c1"))
    past.answered(attempt, 2, function("c2"))
    assert shape(past.view()) == ["go", "c2", "=c2"]


@pytest.mark.parametrize(
    "follower, stays",
    [
        (said("x"), True),
        (function("c1"), True),
        (custom("c1"), True),
        (SERVER_RUN, True),
        (None, False),
        (said("x", status="incomplete"), False),
        ({"type": "local_shell_call", "call_id": "c1", "action": {}}, False),
    ],
)
def test_reasoning_needs_the_item_it_led_to(follower: Item | None, *, stays: bool) -> None:
    """Reasoning is sent directly before its item, or not at all (FACTS 8)."""
    past, _, attempt = begun()
    past.item(attempt, 0, thought("a", "one"))
    past.item(attempt, 1, thought("b", "two"))
    if follower is not None and "call_id" in follower:
        past.answered(attempt, 2, follower)
    elif follower is not None:
        past.item(attempt, 2, follower)
    past.answered(attempt, 4, function("c9"))
    found = shape(past.view())
    assert (found[1:3] == ["~one", "~two"]) is stays
    assert stays or not [word for word in found if word.startswith("~")]
    assert problems(past.view()) == []


def test_reasoning_is_not_given_to_an_item_behind_a_gap() -> None:
    """Where the item that followed was lost, the next one does not take its place."""
    past, _, attempt = begun()
    past.item(attempt, 0, thought("rs"))
    past.item(attempt, 2, said("x"))
    assert shape(past.view()) == ["go", "x"]


def test_reasoning_before_an_item_that_the_dialect_refuses_goes_with_it() -> None:
    """An item that isn't sent takes along what must stand before it."""
    past, _, attempt = begun()
    past.item(attempt, 0, thought("rs"))
    past.item(attempt, 1, SERVER_RUN)
    past.item(attempt, 2, said("x"))
    assert shape(past.view()) == ["go", "~sealed", "web_search_call", "x"]
    assert shape(past.view(unknown_items=False)) == ["go", "x"]


@pytest.mark.parametrize("encrypted", [None, ""])
def test_reasoning_that_nobody_can_read_is_not_sent(encrypted: str | None) -> None:
    """Without encrypted content a provider that stores nothing can't know it."""
    past, _, attempt = begun()
    past.item(attempt, 0, thought("rs", encrypted))
    past.item(attempt, 1, said("x"))
    assert shape(past.view()) == ["go", "x"]


def test_reasoning_is_kept_from_dialects_without_it() -> None:
    """llama.cpp answers 400 to encrypted reasoning (FACTS 15)."""
    past, _, attempt = begun()
    past.item(attempt, 0, thought("rs"))
    past.item(attempt, 1, said("x"))
    assert shape(past.view(encrypted_reasoning=False)) == ["go", "x"]


def test_refused_reasoning_is_dropped_up_to_the_repair() -> None:
    """What was recorded before the repair goes; what comes after it is sent (FACTS 9)."""
    past, turn, attempt = begun()
    past.item(attempt, 0, thought("rs", "old"))
    past.answered(attempt, 1, function("c1"))
    past.ended(attempt)
    past.add(Repair, action=DROP_REASONING, reason="refused")
    past.add(Repair, action="skipped_line", reason="a torn line")
    attempt = past.attempt(turn, 2)
    past.item(attempt, 0, thought("rs", "new"))
    past.item(attempt, 1, said("x"))
    assert shape(past.view()) == ["go", "c1", "=c1", "~new", "x"]


def test_ids_are_sent_only_where_they_are_stored() -> None:
    """Elsewhere they are "not found" (FACTS 9); fields of responses are never sent."""
    past, _, attempt = begun()
    past.item(attempt, 0, thought("rs_1", status="completed"))
    past.item(attempt, 1, said("x", id="msg_1", status="completed", phase="final"))
    past.answered(attempt, 2, function("c1", id="fc_1", status="completed"))
    past.item(attempt, 3, SERVER_RUN)
    plain = past.view()
    assert not [item for item in plain if "id" in item or "status" in item]
    assert plain[2] == {
        "type": "message",
        "role": "assistant",
        "phase": "final",
        "content": [{"type": "output_text", "text": "x"}],
    }
    stored = past.view(store=True)
    assert [item.get("id") for item in stored] == [None, "rs_1", "msg_1", "fc_1", "ws_1", None]
    assert stored[4] == SERVER_RUN


def test_an_id_is_used_once() -> None:
    """The first item keeps it: "Duplicate item found with id" is a refusal for ever (FACTS 8)."""
    past, turn, attempt = begun()
    past.item(attempt, 0, said("x", id="msg_1"))
    past.ended(attempt)
    past.item(past.attempt(turn, 2), 0, said("y", id="msg_1"))
    found = past.view(store=True)
    assert [item.get("id") for item in found] == [None, "msg_1", None]
    assert problems(found) == []


def test_reasoning_always_has_a_summary() -> None:
    """The API demands the field."""
    past, _, attempt = begun()
    past.item(attempt, 0, {"type": "reasoning", "encrypted_content": "x"})
    past.item(attempt, 1, said("x"))
    assert past.view()[1] == {"type": "reasoning", "summary": [], "encrypted_content": "x"}


def test_calls_stand_together_where_the_dialect_wants_it() -> None:
    """Messages move in front of the first call, each with its reasoning (FACTS 8, DeepSeek)."""
    past, _, attempt = begun()
    past.item(attempt, 0, thought("a", "one"))
    past.answered(attempt, 1, function("c1"))
    past.item(attempt, 2, thought("b", "two"))
    past.item(attempt, 3, said("between"))
    past.item(attempt, 4, thought("c", "three"))
    past.answered(attempt, 5, function("c2"))
    assert shape(past.view(calls_together=True)) == (
        ["go", "~two", "between", "~one", "c1", "~three", "c2", "=c1", "=c2"]
    )
    assert problems(past.view(calls_together=True)) == []


def test_custom_tools_become_functions_where_they_are_not_known() -> None:
    """llama.cpp drops them silently; in history the item stays what it is (FACTS 15)."""
    past, _, attempt = begun()
    past.answered(attempt, 0, custom("c1", 'say "hi"'), "patched")
    assert past.view()[1:] == [
        {"type": "custom_tool_call", "call_id": "c1", "name": "edit", "input": 'say "hi"'},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "patched"},
    ]
    call, answer = past.view(custom_tools=False)[1:]
    assert (call["type"], call["call_id"], call["name"]) == ("function_call", "c1", "edit")
    assert msgspec.json.decode(call["arguments"]) == {"input": 'say "hi"'}
    assert answer == {"type": "function_call_output", "call_id": "c1", "output": "patched"}


@pytest.mark.parametrize("arguments", ['{"cmd": "rm', "[1]", '"x"', "nul", '{"a":"\\ud800"}'])
def test_broken_arguments_are_replaced(arguments: str) -> None:
    """Arguments that are no JSON object never get into a request (FACTS 16)."""
    past, _, attempt = begun()
    past.answered(attempt, 0, function("c1", arguments))
    sent = msgspec.json.decode(past.view()[1]["arguments"])
    assert "not valid JSON" in sent["error"]


@pytest.mark.parametrize(
    "arguments, sent", [("", "{}"), (None, "{}"), ("{}", "{}"), ('{ "a": 1 }', '{ "a": 1 }')]
)
def test_good_arguments_are_sent_as_they_came(arguments: Any, sent: str) -> None:
    """Byte for byte; none at all are an empty object."""
    past, _, attempt = begun()
    past.answered(attempt, 0, function("c1", arguments))
    assert past.view()[1]["arguments"] == sent


def test_a_call_id_is_used_once() -> None:
    """A second use gets an id of its own in call and output, in a response and later (FACTS 7)."""
    past, turn, attempt = begun()
    past.answered(attempt, 0, function("c1"), "one")
    second = past.answered(attempt, 1, function("c1", '{"x":1}'), "two")
    past.ended(attempt)
    attempt = past.attempt(turn, 2)
    third = past.answered(attempt, 0, custom("c1"), "three")
    nameless = past.answered(attempt, 1, function(""), "four")
    found = past.view()
    assert shape(found[:5]) == ["go", "c1", f"call_r{second}", "=c1", f"=call_r{second}"]
    assert shape(found[5:7]) == [f"call_r{third}", f"call_r{nameless}"]
    assert shape(found[7:]) == [f"=call_r{third}", f"=call_r{nameless}"]
    assert [item["output"] for item in found if "output" in item] == ["one", "two", "three", "four"]
    assert problems(found) == []


def test_a_derived_call_id_is_used_once_too() -> None:
    """A provider's id may look like a derived one."""
    past, _, attempt = begun()
    past.answered(attempt, 0, function("c1"))
    past.answered(attempt, 1, function("call_r8"))
    assert past.answered(attempt, 2, function("c1", '{"x":1}')) == 8
    assert shape(past.view())[1:4] == ["c1", "call_r8", "call_r8x"]
    assert problems(past.view()) == []


def test_an_orphan_output_is_told_as_a_message() -> None:
    """An output whose call damage took says what it was, at its place."""
    past, turn, attempt = begun()
    past.add(Output, call=99, item={"type": "function_call_output", "call_id": "c", "output": "42"})
    past.ended(attempt)
    past.item(past.attempt(turn, 2), 0, said("x"))
    prompt, orphan, last = past.view()
    assert orphan["role"] == "developer"
    assert orphan["content"][0]["text"].endswith("missing from the history:\n42")
    assert shape([prompt, last]) == ["go", "x"]


def test_late_results_and_notices_stand_where_they_came() -> None:
    """They are messages behind the attempt during which they came."""
    past, turn, attempt = begun()
    past.answered(attempt, 0, function("c1"))
    past.add(Late, call=4, item=message("developer", "late"))
    past.add(Note, topic="ended", item=message("developer", "noted"))
    past.add(Note, topic="silent")
    past.item(past.attempt(turn, 2), 0, said("x"))
    assert shape(past.view()) == ["go", "c1", "=c1", "late", "noted", "x"]


def test_a_queued_prompt_is_not_in_the_view_before_its_turn() -> None:
    """It is on disk, and sent with its own turn only."""
    past, turn, attempt = begun()
    later = past.prompt("later")
    past.item(attempt, 0, said("x"))
    past.ended(attempt)
    assert shape(past.view()) == ["go", "x"]
    past.closed(turn, "completed")
    past.attempt(later)
    assert shape(past.view()) == ["go", "x", "later"]


def test_a_compaction_replaces_what_was_before_it() -> None:
    """Its items open the view; ids used in them stay taken."""
    past, turn, attempt = begun()
    past.answered(attempt, 0, function("c1"))
    kept = [message("user", "go"), function("c1"), past.view()[2], message("user", "summary")]
    past.add(Compaction, id="s", cwd="/w", basis=BASIS, items=kept, turn=turn, model="m")
    again = past.answered(past.attempt(turn, 2), 0, function("c1"))
    found = past.view()
    assert shape(found) == (["go", "c1", "=c1", "summary", f"call_r{again}", f"=call_r{again}"])
    assert problems(found) == []


@pytest.mark.parametrize("kind", ["local_shell_call", "computer_call"])
def test_calls_whose_answer_is_no_text_are_told_as_messages(kind: str) -> None:
    """Both halves of the pair become one message."""
    past, _, attempt = begun()
    past.answered(attempt, 0, {"type": kind, "call_id": "c1"}, "not here")
    (told,) = past.view()[1:]
    assert told["role"] == "developer"
    assert kind in told["content"][0]["text"]
    assert "not here" in told["content"][0]["text"]


def test_built_in_calls_are_paired_by_their_own_ids() -> None:
    """An approval request pairs by its id; its answer names it."""
    past, _, attempt = begun()
    past.answered(attempt, 0, {"type": "mcp_approval_request", "id": "a1", "name": "x"})
    again = past.answered(attempt, 1, {"type": "mcp_approval_request", "id": "a1", "name": "y"})
    found = past.view()[1:]
    assert [item.get("id") or item["approval_request_id"] for item in found] == (
        ["a1", f"call_r{again}", "a1", f"call_r{again}"]
    )
    assert problems(found) == []


SEARCH: Item = {"type": "tool_search_call", "execution": "server", "call_id": None}
TOOLS: Item = {"type": "tool_search_output", "execution": "server", "call_id": None, "tools": []}
HOSTED: Item = {
    "type": "shell_call",
    "call_id": "h1",
    "environment": {"type": "container_reference", "container_id": "cntr_1"},
}
PRINTED: Item = {"type": "shell_call_output", "call_id": "h1", "output": []}


@pytest.mark.parametrize("pair", [(SEARCH, TOOLS), (HOSTED, PRINTED)])
def test_hosted_calls_are_sent_with_the_output_that_the_provider_said(
    pair: tuple[Item, Item],
) -> None:
    """Both halves, in their places; a half alone is not sent, nor its reasoning (FACTS 8, 14)."""
    past, _, attempt = begun()
    past.item(attempt, 0, thought("rs"))
    past.item(attempt, 1, pair[0])
    past.item(attempt, 2, pair[1])
    past.item(attempt, 3, pair[1])
    past.item(attempt, 4, pair[0])
    past.item(attempt, 5, pair[0])
    past.item(attempt, 6, said("x"))
    found = past.view()
    assert [item["type"] for item in found] == (
        ["message", "reasoning", pair[0]["type"], pair[1]["type"], "message"]
    )
    assert problems(found) == []


def test_reasoning_does_not_lead_to_an_output() -> None:
    """Between a hosted call and its output it has no follower of its own."""
    past, _, attempt = begun()
    past.item(attempt, 0, SEARCH)
    past.item(attempt, 1, thought("rs"))
    past.item(attempt, 2, TOOLS)
    assert [item["type"] for item in past.view()[1:]] == [SEARCH["type"], TOOLS["type"]]
    assert problems(past.view()) == []


def test_the_view_leaves_history_as_it_is() -> None:
    """Twice the same, and no item of the journal is changed by it."""
    past, _, attempt = begun()
    past.answered(attempt, 0, function("c1", "{", id="fc"))
    past.answered(attempt, 1, function("c1", "{}", id="fc"))
    before = msgspec.json.encode(past.records)
    assert past.view() == past.view()
    assert msgspec.json.encode(past.records) == before


def test_a_record_of_no_attempt_opens_one() -> None:
    """Damage that took the attempt's record costs the record only: pairs stay whole."""
    past = Past()
    past.prompt()
    past.add(Note, topic="stands where the attempt was")
    past.answered(3, 0, function("c1"))
    assert shape(past.view()) == ["go", "c1", "=c1"]

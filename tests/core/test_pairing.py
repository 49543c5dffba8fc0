"""Pairing: outputs have the shape that their calls demand, and what is unpaired is found."""

import pytest

from backstay.core.items import (
    CLIENT_CALLS,
    Item,
    arguments,
    call_id,
    is_call,
    is_server_call,
    kind,
    message,
    message_text,
    tool_name,
)
from backstay.core.pairing import output_item, problems
from tests.core.wire import custom, function, said, thought


@pytest.mark.parametrize("name", sorted(CLIENT_CALLS))
def test_an_output_pairs_with_its_call(name: str) -> None:
    """Every kind of call that a client answers gets the type that answers it, under its id."""
    call: Item = {"type": name, "id": "i1", "call_id": "c1", "execution": "client"}
    answer = output_item(call, "text")
    assert answer["type"] == CLIENT_CALLS[name]
    assert call_id(answer) == "c1"
    assert "text" in str(answer)
    assert problems([call, answer]) == []


def test_an_approval_is_never_given_by_itself() -> None:
    """A request that nobody approved is answered with no."""
    assert output_item({"type": "mcp_approval_request", "id": "a1"}, "no tool") == {
        "type": "mcp_approval_response",
        "approval_request_id": "a1",
        "approve": False,
        "reason": "no tool",
    }


def test_content_parts_go_through() -> None:
    """Function and custom calls may be answered with a list of parts (FACTS 13)."""
    parts = [{"type": "input_text", "text": "x"}]
    assert output_item(function("c1"), parts)["output"] == parts
    assert output_item({"type": "shell_call", "call_id": "c1"}, parts)["output"][0]["stderr"] == ""


def answer(call: Item) -> Item:
    """An output for the call."""
    return output_item(call, "done")


@pytest.mark.parametrize(
    "found, words",
    [
        ([function("c1")], "no output for call c1"),
        ([answer(function("c1"))], "no call before the output of c1"),
        ([answer(custom("c1")), custom("c1")], "no call before"),
        ([custom("c1"), answer(custom("c1")), answer(custom("c1"))], "a second output for c1"),
        ([custom("c1"), function("c1"), answer(custom("c1"))], "c1 is used twice"),
        ([said("x", id="m"), said("y", id="m")], "item id m is used twice"),
        ([thought("rs")], "reasoning without"),
        ([thought("rs"), message("user", "x")], "reasoning without"),
        ([custom("c1"), thought("rs"), answer(custom("c1"))], "reasoning without"),
    ],
)
def test_what_a_provider_would_refuse_is_found(found: list[Item], words: str) -> None:
    """One sentence for each problem (FACTS 8)."""
    assert words in " | ".join(problems(found))


def test_what_is_paired_is_left_in_peace() -> None:
    """Reasoning before a message, a call, other reasoning or a server's call is fine."""
    search: Item = {"type": "web_search_call", "id": "ws"}
    call = custom("c1")
    found = [thought("a"), thought("b"), said("x"), thought("c"), call, thought("d"), search]
    assert problems([message("user", "go"), *found, answer(call)]) == []


def test_an_item_says_what_it_is() -> None:
    """The type, or what the role tells where the type was left out."""
    assert kind({"role": "user", "content": "x"}) == "message"
    assert kind({"type": None}) == "unknown"
    assert tool_name({"type": "shell_call"}) == "shell_call"
    assert tool_name(custom("c", name="edit")) == "edit"


def test_a_tool_search_is_the_clients_only_if_it_says_so() -> None:
    """`execution` decides who answers."""
    ours: Item = {"type": "tool_search_call", "execution": "client"}
    theirs: Item = {"type": "tool_search_call", "execution": "server"}
    assert (is_call(ours), is_server_call(ours)) == (True, False)
    assert (is_call(theirs), is_server_call(theirs)) == (False, True)
    assert not is_server_call(function("c1"))


@pytest.mark.parametrize(
    "raw, value", [('{"a": 1}', {"a": 1}), ("", {}), ("[]", None), ("{", None), ('"\ud800"', None)]
)
def test_arguments_are_an_object_or_nothing(raw: str, value: object) -> None:
    """Whatever a model wrote: a dict, or None and never an exception."""
    assert arguments(function("c1", raw)) == value


@pytest.mark.parametrize("raw", [3, {"a": 1}, "[" * 100_000])
def test_arguments_that_are_no_text_or_too_deep_are_nothing(raw: object) -> None:
    """A type that the API doesn't know, or nesting without end."""
    assert arguments({"type": "function_call", "arguments": raw}) is None


def test_the_text_of_an_item_is_its_parts_joined() -> None:
    """Strings, text parts and refusals; what isn't text is left out."""
    refusal = {"type": "refusal", "refusal": "no"}
    parts = [{"text": "a"}, refusal, {"text": 3}, "odd", {"type": "input_image"}]
    assert message_text({"content": parts}) == "ano"
    assert message_text({"output": "plain"}) == "plain"
    assert message_text({"type": "reasoning"}) == ""

"""The judge: for each finding an input that has it, and one beside it that has not."""

from typing import Any

import pytest

from backstay.chaos import ChaosServer, judge, message, response
from backstay.chaos.judge import inspect
from tests.chaos.bodies import (
    JSON,
    assistant,
    body,
    called,
    custom,
    custom_output,
    output,
    thought,
    user,
)
from tests.chaos.client import fetch


def codes(*items: JSON, **options: Any) -> list[str]:
    """The codes of what is wrong with one request."""
    return judge([body(*items)], **options).codes


# ----- within one request


def test_a_well_formed_session_is_ok() -> None:
    """Calls of all kinds with their outputs, reasoning, messages: nothing to say."""
    items = [
        *(user(), thought(), called("a"), called("b"), output("b"), output("a")),
        *(thought(), thought(), assistant(), custom("c"), custom_output("c"), user("more")),
        {"type": "web_search_call", "id": "ws_1", "action": {}},
        {"type": "local_shell_call", "call_id": "d", "action": {}},
        {"type": "local_shell_call_output", "call_id": "d", "output": "x"},
    ]
    verdict = judge([body(*items[:6]), body(*items)])
    assert verdict.ok
    assert verdict.findings == []
    assert verdict.table() == "2 requests, nothing wrong"


@pytest.mark.parametrize(
    "items, wrong, index",
    [
        ([user(), called()], "call_without_output", 1),
        ([custom("a"), user()], "call_without_output", 0),
        ([called("a"), called("b"), output("b")], "call_without_output", 0),
        ([user(), output()], "output_without_call", 1),
        ([called("a"), output("a"), output("b")], "output_without_call", 2),
        ([called(), output(), output()], "duplicate_output", 2),
        ([called(), output(), called(), output()], "duplicate_call", 2),
        ([output(), called()], "output_before_call", 0),
        ([called(), custom_output()], "mismatched_output", 1),
        ([custom(), output()], "mismatched_output", 1),
        ([called(arguments='{"x":'), output()], "bad_arguments", 0),
        ([called(arguments="[1]"), output()], "bad_arguments", 0),
        ([called(arguments=""), output()], "bad_arguments", 0),
        ([called(arguments=None), output()], "missing_field", 0),
        ([called(), output(text=None)], "missing_field", 1),
        ([user(), thought()], "reasoning_without_item", 1),
        ([thought(), user(), assistant()], "reasoning_without_item", 0),
        ([called(), thought(), output()], "reasoning_without_item", 1),
        ([assistant() | {"id": "msg_1"}], "item_id", 0),
        ([thought(id="rs_1"), assistant()], "item_id", 0),
        ([thought(id="rs_1", encrypted_content=None), assistant()], "stored_item", 0),
        ([{"type": "item_reference", "id": "msg_1"}], "stored_item", 0),
        ([user() | {"id": "own-1"}, assistant() | {"id": "own-1"}], "duplicate_item", 1),
    ],
)
def test_what_is_wrong_with_one_request(items: list[JSON], wrong: str, index: int) -> None:
    """Each fault is found by its name at its item, and nothing else is found."""
    verdict = judge([body(*items)])
    assert [(f.code, f.index, f.request) for f in verdict.findings] == [(wrong, index, 0)]
    assert not verdict.ok
    assert wrong in verdict.table()


@pytest.mark.parametrize(
    "items",
    [
        [called("a"), called("b"), output("a"), output("b")],
        [called("a"), assistant(), output("a")],
        [called(arguments="{}"), output(text=[{"type": "input_text", "text": "x"}])],
        [called(), output(text="")],
        [thought(), called(), output()],
        [thought(), {"type": "web_search_call", "id": "ws_1"}],
        [{"role": "user", "content": "short form"}],
        [user() | {"id": "own-1"}, assistant() | {"id": "own-2"}],
        [
            {"type": "tool_search_call", "call_id": None},
            {"type": "tool_search_output", "call_id": None},
        ],
    ],
)
def test_what_is_right_with_one_request(items: list[JSON]) -> None:
    """Close to what is wrong, but not wrong."""
    assert judge([body(*items)]).findings == []


def test_ids_are_fine_where_the_server_stores() -> None:
    """With store: true (the default) the server's item ids may be sent."""
    items = [thought(id="rs_1", encrypted_content=None), assistant() | {"id": "msg_1"}]
    for request in ({"input": items}, {"input": items, "store": True}):
        assert judge([request]).ok
    assert judge([{"input": items, "store": False}]).codes == ["stored_item", "item_id"]


def test_ids_are_one_finding_a_request() -> None:
    """However many items carry an id, the request has one finding that counts them."""
    items = [thought(id="rs_1"), called(id="fc_1"), output(), assistant() | {"id": "msg_1"}]
    verdict = judge([body(*items), body(*items)])
    assert [(f.code, f.request, f.index) for f in verdict.findings] == [
        ("item_id", 0, 0),
        ("item_id", 1, 0),
    ]
    assert verdict.findings[0].text == "the id rs_1 and 2 more sent with store: false"


def test_codes_can_be_ignored() -> None:
    """What is ignored is neither wrong nor in the table."""
    requests = [body(called(id="fc_1"))]
    assert judge(requests).codes == ["item_id", "call_without_output"]
    assert judge(requests, ignore=["item_id"]).codes == ["call_without_output"]
    assert judge(requests, ignore=["item_id", "call_without_output"]).ok


def test_images_and_unknown_items_are_noted_not_wrong() -> None:
    """They are in the findings and in the table, and the verdict is still ok."""
    image = {"type": "input_image", "image_url": "data:image/png;base64,xx"}
    items = [user() | {"content": [image]}, called(), output(text=[image]), {"type": "mystery"}]
    verdict = judge([body(*items)])
    assert verdict.ok
    assert [(f.code, f.index) for f in verdict.findings] == [
        ("image", 0),
        ("image", 2),
        ("unknown_item", 3),
    ]
    assert "(image)" in verdict.table()


def test_deepseek_wants_calls_together_then_outputs() -> None:
    """A message between, or a call behind an output of the same step, is refused there only."""
    good = [
        called("a"),
        thought(),
        called("b"),
        output("a"),
        output("b"),
        assistant(),
        called("c"),
        output("c"),
    ]
    for wrong in (
        [called("a"), assistant(), called("b"), output("a"), output("b")],
        [called("a"), called("b"), output("a"), called("c"), output("b"), output("c")],
        [called("a"), assistant(), output("a")],
        [called("a"), assistant(), assistant(), output("a")],
    ):
        assert codes(*wrong) == []
        assert codes(*wrong, dialect="deepseek") == ["calls_apart"]
    assert codes(*good, dialect="deepseek") == []


# ----- between requests

FIRST = [user(), called(), output()]


def test_a_request_that_extends_the_one_before_is_ok() -> None:
    """The same items, then more; also the same request again."""
    more = [*FIRST, assistant(), user("next")]
    assert judge([body(*FIRST), body(*FIRST), body(*more)]).findings == []


@pytest.mark.parametrize(
    "second, wrong",
    [
        ([user("other"), called(), output(), user()], [("changed_prefix", 0)]),
        ([*FIRST[:2], assistant(), FIRST[2]], [("changed_prefix", 2)]),
        ([user()], [("changed_prefix", -1), ("lost_output", -1)]),
        ([user(), assistant("I did it")], [("changed_prefix", 1), ("lost_output", -1)]),
        (
            [user(), called(), output(text="aborted")],
            [("changed_prefix", 2), ("changed_output", 2)],
        ),
    ],
)
def test_what_is_wrong_between_two_requests(
    second: list[JSON], wrong: list[tuple[str, int]]
) -> None:
    """The first item that differs is named; outputs that went or changed are named by their call."""
    findings = judge([body(*FIRST), body(*second)]).findings
    assert [(f.code, f.index) for f in findings] == wrong
    assert {f.request for f in findings} == {1}


def test_an_output_that_was_lost_earlier_is_found_once() -> None:
    """The loss is reported where it happens; outputs are remembered over all requests."""
    verdict = judge(
        [body(*FIRST), body(*FIRST, user("2")), body(user()), body(user(), assistant())]
    )
    assert [(f.code, f.request) for f in verdict.findings if f.code == "lost_output"] == [
        ("lost_output", 2)
    ]


def test_instructions_and_tools_must_not_change_by_a_byte() -> None:
    """Also another order of keys in a tool changes the bytes and with them the cached prefix."""
    tool = {"type": "function", "name": "f"}
    turned = {"name": "f", "type": "function"}
    first = body(user(), tools=[tool])
    assert judge([first, body(user(), tools=[tool])]).ok
    assert judge([first, body(user(), tools=[turned])]).codes == ["changed_tools"]
    assert judge([first, body(user(), tools=[tool], instructions="J")]).codes == [
        "changed_instructions"
    ]


def test_a_declared_change_is_allowed_once() -> None:
    """A compaction may change the prefix in its request, not in the next."""
    requests = [body(*FIRST), body(user("summary")), body(user("other"))]
    assert judge(requests, changes=[1]).codes == ["changed_prefix"]
    assert judge(requests, changes=[1, 2]).ok


def test_must_contain_looks_into_the_last_request() -> None:
    """A text that some output must hold, or the output of a certain call."""
    requests = [body(*FIRST)]
    assert judge(requests, must_contain=["result"]).ok
    assert judge(requests, must_contain={"a": "resu"}).ok
    assert judge(requests, must_contain=["other"]).codes == ["missing_output"]
    assert judge(requests, must_contain={"b": "result"}).codes == ["missing_output"]
    assert judge([], must_contain=["x"]).codes == ["missing_output"]
    parts = [{"type": "input_text", "text": "result"}]
    assert judge([body(called(), output(text=parts))], must_contain=["result"]).ok


def test_the_judge_takes_what_the_server_logged() -> None:
    """Request objects, log entries, JSON text and bodies give the same verdict."""
    first, second = body(*FIRST, stream=True), body(user(), stream=True)
    with ChaosServer([response(message("x"))], repeat=True) as server:
        fetch(server.url, first)
        fetch(server.url, second)
        logged = server.log
    expected = ["changed_prefix", "lost_output"]
    assert judge(logged).codes == expected
    assert judge([request.entry() for request in logged]).codes == expected
    assert judge([request.raw for request in logged]).codes == expected
    assert judge([first, second]).codes == expected


def test_other_paths_in_a_log_are_not_judged() -> None:
    """Only requests for responses count."""
    entry = {"connection": 1, "path": "/v1/models", "body": None}
    assert judge([entry, {**entry, "path": "/v1/responses", "body": body(called())}]).codes == [
        "call_without_output"
    ]


def test_the_table_has_a_line_for_each_finding() -> None:
    """A summary, a heading, then request, item, code and text."""
    lines = judge([body(user(), called())]).table().splitlines()
    assert lines[0] == "1 requests, 1 wrong"
    assert lines[2].split()[:3] == ["0", "1", "call_without_output"]
    assert lines[2].endswith("no output for a")


@pytest.mark.parametrize("given", ["text", None, [], [3, "x", None], [{"type": 7}], {"a": 1}])
def test_nothing_that_a_client_sends_breaks_the_judge(given: Any) -> None:
    """Odd inputs give findings or none, never an exception."""
    inspect({"input": given})
    judge([{"input": given}, {"input": given}])
    judge([{}, {"input": given}], dialect="deepseek")

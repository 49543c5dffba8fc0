"""The strict provider: refusals in the words of the real APIs."""

from typing import Any

import pytest

from backstay.chaos import ChaosServer, message, response
from tests.chaos.bodies import (
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


@pytest.mark.parametrize(
    "items, text",
    [
        ([called("c1")], "No tool output found for function call c1."),
        ([custom("c1")], "No tool output found for custom tool call c1."),
        ([output("c1")], "No tool call found for function call output with call_id c1."),
        ([custom_output("c1")], "No tool call found for custom tool call output with call_id c1."),
        (
            [output("c1"), called("c1")],
            "No tool call found for function call output with call_id c1.",
        ),
        (
            [thought(id="rs_1"), user()],
            "Item 'rs_1' of type 'reasoning' was provided without its required following item.",
        ),
        (
            [user() | {"id": "msg_1"}, user() | {"id": "msg_1"}],
            "Duplicate item found with id msg_1. Remove duplicate items from your input and try again.",
        ),
        (
            [user(), called(arguments=None), output()],
            "Missing required parameter: 'input[1].arguments'.",
        ),
        ([called(), output(), output()], "Duplicate function_call_output found for call_id a."),
        ([called(), output(), called(), output()], "Duplicate function_call found for call_id a."),
    ],
)
def test_a_bad_history_is_refused_in_the_real_words(items: list[Any], text: str) -> None:
    """HTTP 400 with the text; the response is not used up, and the log says what was refused."""
    with ChaosServer([response(message("fine"))], strict=True) as server:
        answer = fetch(server.url, body(*items, stream=True))
        assert (answer.status, answer.json["error"]["message"]) == (400, text)
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert server.requests[0].refusal == text
        assert fetch(server.url, body(user(), stream=True)).types[-1] == "response.completed"
    with ChaosServer([response(message("fine"))]) as lenient:
        assert fetch(lenient.url, body(*items, stream=True)).status == 200


def test_an_item_that_was_not_stored_is_not_found() -> None:
    """404, as the real API answers an id that store: false did not keep."""
    with ChaosServer([response(message("x"))], strict=True) as server:
        items = [thought(id="rs_9", encrypted_content=None), assistant()]
        answer = fetch(server.url, body(*items))
        assert answer.status == 404
        assert answer.json["error"]["message"].startswith("Item with id 'rs_9' not found.")


def test_deepseek_refuses_calls_that_do_not_stand_together() -> None:
    """Paired items with a message between them are refused by that dialect only."""
    items = [called("c1"), assistant(), called("c2"), output("c1"), output("c2")]
    with ChaosServer([response(message("x"))], strict=True, dialect="deepseek") as server:
        answer = fetch(server.url, body(*items))
        assert answer.json["error"]["message"] == "No tool output found for tool call c1."
    with ChaosServer([response(message("x"))], strict=True) as server:
        assert fetch(server.url, body(*items)).status == 200


def test_a_good_history_is_taken_and_broken_arguments_too() -> None:
    """Strict refuses only what the real API refuses: bad arguments pass it, the judge finds them."""
    items = [user(), thought(), called(arguments="{"), output(), assistant() | {"id": "msg_7"}]
    with ChaosServer([response(message("x"))], strict=True) as server:
        assert fetch(server.url, body(*items)).status == 200


def test_a_request_without_input_is_refused() -> None:
    """As the real API says it."""
    with ChaosServer([response(message("x"))], strict=True) as server:
        answer = fetch(server.url, {"model": "m"})
        assert answer.json["error"]["message"] == "Missing required parameter: 'input'."

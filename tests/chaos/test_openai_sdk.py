"""The official openai Python client talks to the fault server without a complaint.

Opt-in: skipped where the package `openai` is not installed.
"""

from typing import Any

import pytest

from backstay.chaos import (
    ChaosServer,
    call,
    custom_call,
    cut,
    http_error,
    message,
    reasoning,
    response,
    web_search,
)

openai = pytest.importorskip("openai", reason="the package openai is not installed")

OUTPUT = [
    reasoning("Hm."),
    message("Words."),
    call("f", {"a": 1}, "c1"),
    custom_call("p", "text", "c2"),
    web_search("q"),
]
KINDS = ["reasoning", "message", "function_call", "custom_tool_call", "web_search_call"]


def client(server: ChaosServer, **options: Any) -> Any:
    """A client of the server that does not retry."""
    return openai.OpenAI(base_url=server.url, api_key="k", max_retries=0, **options)


def test_streaming_gives_the_final_response() -> None:
    """The client's own accumulation agrees with the final response."""
    with (
        ChaosServer([response(*OUTPUT)]) as server,
        client(server) as sdk,
        sdk.responses.stream(model="m", input="x") as stream,
    ):
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == "Words."
    assert [item.type for item in final.output] == KINDS
    assert final.usage.total_tokens == final.usage.input_tokens + final.usage.output_tokens


def test_without_streaming_the_response_is_typed() -> None:
    """Items come back as the client's types."""
    with ChaosServer([response(*OUTPUT)]) as server, client(server) as sdk:
        answer = sdk.responses.create(model="m", input="x")
        assert [item.type for item in answer.output] == KINDS
        assert answer.output[2].arguments == '{"a":1}'
        assert [model.id for model in sdk.models.list()] == ["chaos"]


def test_faults_are_the_clients_errors() -> None:
    """A cut stream, a 429 and an exhausted script raise what the client documents."""
    script = [response(*OUTPUT, fault=cut(after="call")), http_error(429)]
    with ChaosServer(script) as server, client(server) as sdk:
        with pytest.raises(openai.APIConnectionError):
            list(sdk.responses.create(model="m", input="x", stream=True))
        with pytest.raises(openai.RateLimitError):
            sdk.responses.create(model="m", input="x")
        with pytest.raises(openai.BadRequestError, match="script exhausted"):
            sdk.responses.create(model="m", input="x")


def test_strict_refusals_reach_the_client() -> None:
    """The text of the real API arrives as BadRequestError."""
    with ChaosServer([], strict=True) as server, client(server) as sdk:
        orphan = {"type": "function_call_output", "call_id": "c9", "output": "x"}
        with pytest.raises(
            openai.BadRequestError, match="No tool call found for function call output"
        ):
            sdk.responses.create(model="m", input=[orphan])

"""The official openai Python client talks to the fault server without a complaint.

Opt-in: skipped where the package `openai` is not installed.
"""

import asyncio
from typing import Any

import pytest

from backstay.chaos import (
    ChaosServer,
    call,
    custom_call,
    cut,
    error,
    failed,
    http_error,
    incomplete,
    judge,
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


@pytest.mark.parametrize("style", ["openai", "chatgpt", "copilot", "openrouter"])
def test_every_event_is_of_a_type_that_the_client_knows(style: str) -> None:
    """In the styles of providers that send indexes each event is parsed into its own class."""
    with (
        ChaosServer([response(*OUTPUT, style=style)]) as server,
        client(server) as sdk,
        sdk.responses.create(model="m", input="x", stream=True) as stream,
    ):
        seen = list(stream)
    classes = [type(one).__name__ for one in seen]
    assert (classes[0], classes[-1]) == ("ResponseCreatedEvent", "ResponseCompletedEvent")
    assert [one.item.type for one in seen if one.type == "response.output_item.done"] == KINDS
    numbers = [one.sequence_number for one in seen]
    assert numbers == list(range(numbers[0], numbers[0] + len(seen)))


def test_the_asynchronous_client_streams_too() -> None:
    """The same events, on asyncio."""

    async def types(url: str) -> list[str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as sdk:
            stream = await sdk.responses.create(model="m", input="x", stream=True)
            return [event.type async for event in stream]

    with ChaosServer([response(*OUTPUT)]) as server:
        seen = asyncio.run(types(server.url))
    assert (seen[0], seen[-1]) == ("response.created", "response.completed")


def test_endings_that_are_no_success_are_typed() -> None:
    """Failed and incomplete come as events with their reasons, an error event is raised."""
    script = [
        response(*OUTPUT, fault=failed(code="server_error")),
        response(*OUTPUT, fault=incomplete(reason="max_output_tokens")),
        response(*OUTPUT, fault=error(message="Too much.")),
    ]
    with ChaosServer(script) as server, client(server) as sdk:
        last = list(sdk.responses.create(model="m", input="x", stream=True))[-1]
        assert (last.response.status, last.response.error.code) == ("failed", "server_error")
        last = list(sdk.responses.create(model="m", input="x", stream=True))[-1]
        assert last.response.incomplete_details.reason == "max_output_tokens"
        with pytest.raises(openai.APIError, match="Too much"):
            list(sdk.responses.create(model="m", input="x", stream=True))


def test_the_client_retries_what_the_server_says_it_may() -> None:
    """Its own retries on 429 and 500 reach the next response of the script."""
    script = [
        http_error(429, headers={"Retry-After": "0"}),
        http_error(500, headers={"retry-after-ms": "1"}),
        response(message("At last.")),
    ]
    with ChaosServer(script) as server, client(server).with_options(max_retries=2) as sdk:
        assert sdk.responses.create(model="m", input="x").output_text == "At last."
        assert [one.status for one in server.requests] == [429, 500, 200]


def test_a_tool_loop_on_the_clients_own_items_is_judged_well() -> None:
    """Items that the client gives back as it got them, with their outputs, pass the strict server."""
    script = [response(call("f", {"a": 1}, "c1"), message("I call.")), response(message("Done."))]
    with ChaosServer(script, strict=True) as server, client(server) as sdk:
        history: list[Any] = [{"role": "user", "content": "go"}]
        first = sdk.responses.create(model="m", input=history)
        history += [item.model_dump(exclude_none=True) for item in first.output]
        history.append({"type": "function_call_output", "call_id": "c1", "output": "1"})
        assert sdk.responses.create(model="m", input=history).output_text == "Done."
        assert judge(server.requests, must_contain={"c1": "1"}).ok

"""A checkup of providers that misbehave in known ways: what it finds, and what that means."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from backstay.chaos import (
    ChaosServer,
    call,
    custom_call,
    http_error,
    keepalive_trap,
    message,
    reasoning,
    response,
    stall,
)
from backstay.core.dialect import Dialect
from backstay.model.checkup import FEWEST, MOST, Asked, Checkup, Report
from backstay.model.http import HttpTransport
from backstay.model.provider import Provider, Secret
from tests.model.exchange import KEY

JSON = dict[str, Any]
MODEL = "chaos-1"


def examine(url: str, *, model: str = MODEL, seconds: float = 20.0, **fields: Any) -> Report:
    """Run a checkup against this address."""

    async def main() -> Report:
        transport = HttpTransport(environ={})
        provider = Provider(name="it", base_url=url, key=Secret(KEY), **fields)
        try:
            return await Checkup(Asked(provider, model, transport, seconds)).run()
        finally:
            await transport.close()

    return asyncio.run(main())


def verdicts(report: Report) -> dict[str, str]:
    """Each finding's word."""
    return {one.name: one.verdict for one in report.findings}


def details(report: Report) -> dict[str, str]:
    """What is said beside each."""
    return {one.name: one.detail for one in report.findings}


def refused(text: str) -> JSON:
    """HTTP 400, as most say it."""
    return http_error(400, body={"error": {"message": text, "type": "invalid_request_error"}})


def of(body: JSON, kind: str) -> bool:
    """Whether the input holds an item of this type."""
    return any(item.get("type") == kind for item in body["input"])


def faithful(body: JSON) -> JSON:
    """Answers as api.openai.com does."""
    tools = body.get("tools", [])
    if body["model"] != MODEL:
        return http_error(
            404, body={"error": {"message": "no such model", "code": "model_not_found"}}
        )
    if tools and tools[0]["type"] == "custom":
        return response(custom_call("note", "hello"))
    if tools and not of(body, "function_call"):
        return response(call("weather", {"city": "Oslo"}), call("weather", {"city": "Rome"}))
    if body.get("include"):
        return response(reasoning("hm", encrypted_content="encrypted"), message("ok"))
    return response(message("ok"))


def local(body: JSON) -> JSON:
    """Answers as llama.cpp does (FACTS 15)."""
    if of(body, "web_search_call"):
        return refused("Cannot determine type of 'item'")
    if "input_image" in str(body["input"]):
        return http_error(500, body={"error": {"message": "image input is not supported"}})
    tools = body.get("tools", [])
    if tools and tools[0]["type"] == "custom":
        return response(message("hello"), usage={"input_tokens": 30, "output_tokens": 2})
    if tools and not of(body, "function_call"):
        return response(call("weather", {"city": "Oslo"}), fault=keepalive_trap())
    return response(message("ok"), fault=keepalive_trap())


def test_a_provider_that_does_all_of_it() -> None:
    """Every question but those of endpoints that the server lacks is answered with yes."""
    with ChaosServer(faithful) as server:
        report = examine(server.url)
        log = server.requests
    found = verdicts(report)
    assert report.works
    assert {name for name, verdict in found.items() if verdict != "yes"} == {
        "model_known",
        "done_marker",
        "store",
        "compact_endpoint",
    }
    assert "encrypted" in str([one.body for one in log][-4:])
    defaults = {name: getattr(Dialect(), name) for name in report.dialect}
    assert report.dialect == defaults
    assert report.requests > len(log)
    assert FEWEST <= report.requests <= MOST
    assert report.tokens > 0


def test_a_local_server_that_drops_custom_tools_and_closes_connections() -> None:
    """Each misbehaviour is named, and the dialect is the one that helps."""
    with ChaosServer(local, style="llamacpp") as server:
        report = examine(server.url, model="any")
    found, said = verdicts(report), details(report)
    assert report.works
    assert report.dialect == {
        "calls_together": False,
        "custom_tools": False,
        "developer_role": True,
        "unknown_items": False,
        "images": False,
        "output_images": False,
        "compact_endpoint": False,
    }
    assert said["custom_tools"] == "dropped without a word: the model never saw it"
    assert "Cannot determine type" in said["unknown_items"]
    assert found["keep_alive"] == "no"
    assert (found["output_index"], found["sequence_number"]) == ("no", "no")
    assert found["parallel_calls"] == "no"
    assert found["encrypted_reasoning"] == "unclear"
    assert said["error_shape"] == "it takes any name for a model"


@pytest.mark.parametrize(
    "style, odd",
    [
        ("openrouter", {"event_lines": "no", "done_marker": "yes"}),
        ("copilot", {"stable_ids": "no"}),
        ("chatgpt", {"event_lines": "yes", "stable_ids": "yes", "keep_alive": "yes"}),
    ],
)
def test_what_a_stream_looks_like(style: str, odd: dict[str, str]) -> None:
    """Event lines, the closing marker, ids that change."""
    with ChaosServer(faithful, style=style) as server:
        found = verdicts(examine(server.url))
    assert {name: found[name] for name in odd} == odd
    assert found["streams"] == "yes"


def test_a_provider_that_wants_calls_together() -> None:
    """DeepSeek refuses a message between the calls of a step (FACTS 8)."""
    with ChaosServer(faithful, strict=True, dialect="deepseek") as server:
        report = examine(server.url)
    assert report.dialect["calls_together"]
    assert verdicts(report)["calls_apart"] == "no"
    assert report.works


@pytest.mark.parametrize(
    "refuses, flag",
    [
        (lambda body: any(i.get("role") == "developer" for i in body["input"]), "developer_role"),
        (lambda body: "include" in body, "encrypted_reasoning"),
        (lambda body: of(body, "web_search_call"), "unknown_items"),
        (lambda body: "'content': [{'type': 'input_image'" in str(body), "images"),
        (lambda body: "'output': [{'type': 'input_image'" in str(body), "output_images"),
        (lambda body: any(t["type"] == "custom" for t in body.get("tools", [])), "custom_tools"),
    ],
)
def test_one_thing_that_is_refused_is_told_apart(
    refuses: Callable[[JSON], bool], flag: str
) -> None:
    """The others are asked for one by one, and found to be taken."""
    with ChaosServer(lambda body: refused("not that") if refuses(body) else faithful(body)) as it:
        report = examine(it.url)
    wrong = [name for name, value in report.dialect.items() if value != getattr(Dialect(), name)]
    assert wrong == [flag]
    assert details(report)[flag] == "HTTP 400: not that"
    assert report.requests <= MOST


def test_encrypted_reasoning_that_is_not_taken_back_is_none() -> None:
    """Asked for and sent, but refused in the next request."""

    def forgetful(body: JSON) -> JSON:
        return refused("invalid_encrypted_content") if of(body, "reasoning") else faithful(body)

    with ChaosServer(forgetful) as server:
        report = examine(server.url)
    assert report.dialect["encrypted_reasoning"] is False


def test_a_wrong_key_ends_it_and_is_not_quoted() -> None:
    """Two requests; the provider's words come without the key."""
    said = {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}
    with ChaosServer([http_error(401, body=said)], repeat=True) as server:
        report = examine(server.url)
    assert verdicts(report)["authorized"] == "no"
    assert "Incorrect API key" in details(report)["authorized"]
    assert KEY not in repr(report)
    assert not report.works
    assert report.requests == 2


def test_a_provider_without_the_responses_api() -> None:
    """One line with what it said; nothing more is asked."""
    with ChaosServer([http_error(404, body={"detail": "Not Found"})], repeat=True) as server:
        report = examine(server.url)
    assert verdicts(report)["streams"] == "no"
    assert details(report)["streams"] == "HTTP 404: Not Found"
    assert report.dialect == {}
    assert report.requests == 2


def test_nobody_there() -> None:
    """It says why, after one request."""
    report = examine("http://127.0.0.1:9/v1")
    assert verdicts(report) == {"reachable": "no"}
    assert "can't connect" in details(report)["reachable"]


def test_silence_ends_at_the_deadline() -> None:
    """A stream that stalls does not hold the checkup up."""
    began = time.monotonic()
    with ChaosServer([response(message("ok"), fault=stall())], repeat=True) as server:
        report = examine(server.url, seconds=0.3)
    assert verdicts(report)["streams"] == "no"
    assert "within 0.3 s" in details(report)["streams"]
    assert time.monotonic() - began < 10


def test_no_usage_and_no_calls_are_told() -> None:
    """A model that only talks is no agent; budgets need usage."""
    with ChaosServer(lambda _: response(message("ok"), usage=None)) as server:
        report = examine(server.url)
    found = verdicts(report)
    assert (found["usage"], found["function_calls"], found["custom_tools"]) == (
        "no",
        "no",
        "unclear",
    )
    assert not report.works
    assert report.tokens == 0

"""What a fault server streams when nothing is broken: items, styles, recordings, JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import (
    ChaosServer,
    call,
    custom_call,
    events,
    http_error,
    message,
    raw,
    reasoning,
    recorded,
    response,
    web_search,
)
from tests.chaos.client import Answer, Client, blocks, fetch

PATCH = "*** Begin Patch\n*** Add File: a\n+b\n*** End Patch\n"
OUTPUT = [
    reasoning("Think about it."),
    message("A few words, then calls."),
    call("exec_command", {"cmd": "ls -l"}, "c1"),
    custom_call("apply_patch", PATCH, "c2"),
    web_search("masts"),
]


def play(*output: dict[str, Any], request: Any = None, **options: Any) -> Answer:
    """The answer of a response with these items."""
    with ChaosServer([response(*output, **options)]) as server:
        return fetch(server.url, request)


def test_a_stream_has_the_events_of_the_real_api_in_their_order() -> None:
    """Each item is added, streamed in deltas and done; the response is created and completed."""
    answer = play(*OUTPUT, piece=10)
    assert answer.status == 200
    assert answer.ending == "complete"
    assert answer.headers["content-type"].startswith("text/event-stream")
    kinds = [kind.removeprefix("response.") for kind in answer.types]
    assert kinds[:2] == ["created", "in_progress"]
    assert kinds[-1] == "completed"
    squeezed = [k for k, before in zip(kinds, ["", *kinds], strict=False) if k != before][2:-1]
    assert squeezed == [
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.done"),
        *("content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done"),
        "output_item.done",
        *("output_item.added", "custom_tool_call_input.delta", "custom_tool_call_input.done"),
        "output_item.done",
        *("output_item.added", "web_search_call.in_progress", "web_search_call.searching"),
        *("web_search_call.completed", "output_item.done"),
    ]
    assert [event["sequence_number"] for event in answer.events] == list(range(len(kinds)))


def test_every_event_has_an_event_line_with_its_type_and_is_one_chunk() -> None:
    """The event line repeats the type of the data; an event is an HTTP chunk."""
    answer = play(*OUTPUT)
    named = [block.split(b"\n")[0].decode() for block in blocks(answer.body)]
    assert named == [f"event: {kind}" for kind in answer.types]
    assert len(answer.chunks) == len(answer.types)


def test_deltas_add_up_to_what_done_says() -> None:
    """The pieces of text, arguments and input are those of the done item."""
    answer = play(*OUTPUT, piece=7)
    done = [e["item"] for e in answer.events if e["type"] == "response.output_item.done"]

    def streamed(kind: str) -> str:
        return "".join(e["delta"] for e in answer.events if e["type"] == f"response.{kind}.delta")

    assert streamed("output_text") == done[1]["content"][0]["text"] == "A few words, then calls."
    assert streamed("function_call_arguments") == done[2]["arguments"] == '{"cmd":"ls -l"}'
    assert streamed("custom_tool_call_input") == done[3]["input"] == PATCH
    assert [item.get("call_id") for item in done] == [None, None, "c1", "c2", None]
    assert {item.get("status", "completed") for item in done} == {"completed"}


def test_ids_are_the_same_within_an_item_and_differ_between_items_and_servers() -> None:
    """Every event of an item names its id and index; no id comes twice, also not from a new server."""
    first, second = play(*OUTPUT), play(*OUTPUT)
    for answer in (first, second):
        for event in answer.events:
            if "item_id" in event:
                item = final_output(answer)[event["output_index"]]
                assert event["item_id"] == item["id"]
    ids = [item["id"] for answer in (first, second) for item in final_output(answer)]
    assert len(set(ids)) == len(ids) == 10
    assert first.events[0]["response"]["id"] != second.events[0]["response"]["id"]


def final_output(answer: Answer) -> list[dict[str, Any]]:
    """The output of the final response."""
    output: list[dict[str, Any]] = answer.events[-1]["response"]["output"]
    return output


def test_a_seed_fixes_the_generated_ids() -> None:
    """Two servers with one seed send the same bytes."""
    bodies = []
    for _ in range(2):
        with ChaosServer([response(*OUTPUT)], seed="abc") as server:
            bodies.append(fetch(server.url))
    assert bodies[0].body == bodies[1].body


def test_encrypted_content_differs_between_added_done_and_final() -> None:
    """As on the real API, only the done item's encrypted content is the one to keep."""
    answer = play(reasoning("x", encrypted_content="SECRET"))
    added = next(e for e in answer.events if e["type"] == "response.output_item.added")
    done = next(e for e in answer.events if e["type"] == "response.output_item.done")
    final = final_output(answer)[0]
    seen = [item["encrypted_content"] for item in (added["item"], done["item"], final)]
    assert seen[1] == "SECRET"
    assert len(set(seen)) == 3
    without = play(reasoning("x", encrypted_content=None))
    assert "encrypted_content" not in without.body.decode()


def test_the_final_response_echoes_the_request_and_has_usage() -> None:
    """Model, tools and instructions come back; the usage is the script's."""
    usage = {"input_tokens": 9, "cached_tokens": 4, "output_tokens": 5, "reasoning_tokens": 1}
    request = {"model": "m1", "instructions": "Be.", "input": [], "tools": [], "stream": True}
    final = play(message("x"), usage=usage, request=request).events[-1]["response"]
    assert (final["model"], final["instructions"], final["status"]) == ("m1", "Be.", "completed")
    assert final["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 14,
    }
    assert play(message("x"), usage=None).events[-1]["response"]["usage"] is None
    assert play(message("x")).events[-1]["response"]["usage"]["output_tokens"] > 0


def test_raw_items_and_raw_events_are_sent_as_they_are() -> None:
    """A raw item is added and done; raw events are JSON, or text as it stands."""
    item = {"type": "mcp_call", "id": "mcp_1", "name": "n", "extra": [1]}
    done = [e for e in play(raw(item)).events if e["type"] == "response.output_item.done"]
    assert done[0]["item"] == item
    with ChaosServer(
        [events({"type": "odd", "n": 1}, ": comment\n\n", "data: [DONE]\n\n")]
    ) as server:
        body = fetch(server.url).body
    assert body == b'event: odd\ndata: {"type":"odd","n":1}\n\n: comment\n\ndata: [DONE]\n\n'


def test_many_deltas_are_as_many_events() -> None:
    """A message of N deltas has N delta events, numbered on, whose text is the done text."""
    answer = play(message(deltas=20000))
    deltas = [e for e in answer.events if e["type"] == "response.output_text.delta"]
    assert len(deltas) == 20000
    assert "".join(e["delta"] for e in deltas) == final_output(answer)[0]["content"][0]["text"]
    assert [e["sequence_number"] for e in answer.events] == list(range(len(answer.events)))


# ----- styles


def test_chatgpt_ends_with_an_empty_output() -> None:
    """The items come only as done events."""
    answer = play(*OUTPUT, style="chatgpt")
    assert answer.events[-1]["type"] == "response.completed"
    assert final_output(answer) == []
    assert answer.types.count("response.output_item.done") == 5


def test_copilot_changes_the_item_id_with_every_event() -> None:
    """No two events agree on an item's id; the output_index holds them together."""
    answer = play(*OUTPUT, style="copilot")
    ids = [e.get("item_id") or e["item"]["id"] for e in answer.events if "output_index" in e]
    assert len(set(ids)) == len(ids) > 20
    assert {e["output_index"] for e in answer.events if "output_index" in e} == set(range(5))


def test_llamacpp_numbers_nothing() -> None:
    """Neither indexes nor sequence numbers, nor a done event for arguments; ids still agree."""
    answer = play(*OUTPUT, style="llamacpp")
    keys = {key for event in answer.events for key in event}
    assert not keys & {"sequence_number", "output_index", "content_index", "summary_index"}
    assert "response.function_call_arguments.done" not in answer.types
    assert answer.types[-1] == "response.completed"
    by_id = {
        e.get("item_id") or e["item"]["id"] for e in answer.events if "item_id" in e or "item" in e
    }
    assert len(by_id) == 5


def test_openrouter_has_comments_and_done_but_no_event_lines() -> None:
    """Data lines alone, a comment first, [DONE] last."""
    answer = play(*OUTPUT, style="openrouter")
    assert b"event:" not in answer.body
    assert answer.body.startswith(b": ")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert answer.types[-1] == "response.completed"


def test_the_last_event_may_lack_its_blank_line() -> None:
    """The body ends with a single newline behind the terminal event."""
    answer = play(*OUTPUT, style="no-trailing-blank")
    assert answer.ending == "complete"
    assert answer.body.endswith(b"}\n")
    assert not answer.body.endswith(b"\n\n")
    assert answer.types[-1] == "response.completed"


def test_a_style_can_be_given_for_the_whole_script_and_for_one_response() -> None:
    """The response's style goes before the script's."""
    script = [response(message("a")), response(message("b"), style="openai")]
    with ChaosServer(script, style="openrouter") as server:
        assert b"[DONE]" in fetch(server.url).body
        assert b"[DONE]" not in fetch(server.url).body


# ----- recordings


def test_every_recorded_stream_is_played_byte_for_byte(data_dir: Path) -> None:
    """The body is the file, whatever odd thing the file holds."""
    files = sorted((data_dir / "sse").rglob("*.sse"))
    assert len(files) > 200
    with ChaosServer([recorded(path) for path in files]) as server, Client(server.url) as client:
        for path in files:
            answer = client.ask()
            assert (path.name, answer.ending) == (path.name, "complete")
            assert answer.body == path.read_bytes(), path.name


def test_a_recording_answers_a_request_without_streaming(data_dir: Path) -> None:
    """The document is the recorded response, its items taken from done events if it has none."""
    path = data_dir / "sse/openai-codex/cli_responses_fixture.sse"
    with ChaosServer([recorded(path)]) as server:
        answer = fetch(server.url, {"model": "m", "input": "x"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["output"][0]["type"] == "message"


# ----- other answers


def test_without_stream_the_whole_response_is_one_json_document() -> None:
    """The document equals the final response of the stream."""
    answer = play(*OUTPUT, request={"model": "m", "input": "x", "stream": False})
    assert answer.headers["content-type"] == "application/json"
    assert [item["type"] for item in answer.json["output"]] == [
        *("reasoning", "message", "function_call", "custom_tool_call", "web_search_call")
    ]
    assert answer.json["status"] == "completed"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
def test_an_http_error_has_a_plausible_body(status: int) -> None:
    """An error without a body says what such an error says."""
    with ChaosServer([http_error(status, headers={"Retry-After": "2"})]) as server:
        answer = fetch(server.url)
    assert answer.status == status
    assert answer.headers["retry-after"] == "2"
    assert answer.json["error"]["message"]


def test_an_http_error_can_have_any_body() -> None:
    """JSON is sent as JSON, text as text."""
    script = [
        http_error(502, body="<html>Bad gateway</html>"),
        http_error(400, body={"error": "x"}),
    ]
    with ChaosServer(script) as server:
        first, second = fetch(server.url), fetch(server.url)
    assert (first.body, first.headers["content-type"][:10]) == (
        b"<html>Bad gateway</html>",
        "text/plain",
    )
    assert (second.json, second.status) == ({"error": "x"}, 400)


def test_trickled_bytes_add_up_to_the_same_stream() -> None:
    """Writes of so many bytes: smaller chunks, same content."""
    quick = play(message("hello"), usage=None, request={"stream": True})
    slow = play(
        message("hello"), usage=None, request={"stream": True}, trickle={"seconds": 0, "bytes": 50}
    )
    assert {len(chunk) for chunk in slow.chunks[:-1]} == {50}
    assert slow.types == quick.types
    events = play(message("hello"), trickle=0.001)
    assert events.types == quick.types


def test_headers_of_a_stream_can_be_set() -> None:
    """The script's headers come with the stream's."""
    answer = play(message("x"), headers={"x-request-id": "r1"})
    assert answer.headers["x-request-id"] == "r1"


def test_the_script_is_json_throughout() -> None:
    """What the builders make can be written to a file and read back."""
    made = [response(*OUTPUT), http_error(429), events("x"), recorded("a.sse")]
    assert json.loads(json.dumps(made)) == made

"""Each fault: what bytes arrive, and how the connection ends."""

from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import (
    ChaosServer,
    at,
    call,
    clean_end,
    custom_call,
    cut,
    error,
    failed,
    garbage,
    half_event,
    hold,
    http_error,
    incomplete,
    keepalive_trap,
    message,
    recorded,
    reorder,
    repeat,
    reset,
    response,
    stall,
    truncated_call,
    unknown,
)
from tests.chaos.client import Answer, Client, blocks, fetch, poll

OUTPUT = [message("Some words."), call("f", {"a": 1}, "c1"), custom_call("p", "text", "c2")]
DONE = "response.output_item.done"
JSON_REQUEST = {"model": "m", "input": "x"}


def play(*faults: dict[str, Any], request: Any = None, **options: Any) -> Answer:
    """The answer of a response with these faults."""
    with ChaosServer([response(*OUTPUT, fault=list(faults), **options)], seed="s") as server:
        return fetch(server.url, request)


@pytest.fixture(scope="module")
def whole() -> Answer:
    """The answer without a fault."""
    return play()


def types_until(whole: Answer, kind: str, nth: int = 1) -> list[str]:
    """The types up to and with the nth event of a type."""
    places = [n for n, found in enumerate(whole.types) if found == kind]
    return whole.types[: places[nth - 1] + 1]


# ----- endings


@pytest.mark.parametrize("fault, ending", [(cut, "fin"), (reset, "rst"), (clean_end, "complete")])
def test_the_stream_ends_after_the_first_call(fault: Any, ending: str, whole: Answer) -> None:
    """Everything up to the call's done event arrives, then FIN, RST or a proper end of the body."""
    answer = play(fault(after="call"))
    assert answer.ending == ending
    assert answer.types == types_until(whole, DONE, 2)
    assert answer.partial == b""


@pytest.mark.parametrize("fault", [cut, reset, clean_end, half_event])
def test_by_default_the_terminal_event_is_what_is_missing(fault: Any, whole: Answer) -> None:
    """Without a position a fault strikes before the terminal event."""
    assert play(fault()).types == whole.types[:-1]


def test_a_reset_loses_no_byte_that_was_sent() -> None:
    """A RST after 20,000 events: all of them arrive, also at a client that reads late."""
    script = [response(message(deltas=20000), fault=reset())]
    with ChaosServer(script) as server, Client(server.url) as client:
        client.send()
        server.wait(1)
        answer = client.answer()
    assert answer.ending == "rst"
    assert answer.types.count("response.output_text.delta") == 20000
    assert answer.types[-1] == DONE


def test_half_an_event(whole: Answer) -> None:
    """The next event is cut in its middle, at a byte on demand, and the end can be chosen."""
    answer = play(half_event(after="call"))
    events = types_until(whole, DONE, 2)
    assert answer.ending == "fin"
    assert answer.types == events
    half, complete = blocks(answer.body)[-1], blocks(whole.body)[len(events)]
    assert complete.startswith(half)
    assert 0 < len(half) < len(complete)
    few = play(half_event(after="call", bytes=9, end="reset"))
    assert (few.ending, blocks(few.body)[-1]) == ("rst", complete[:9])
    proper = play(half_event(after="call", end="clean_end"))
    assert (proper.ending, len(proper.body)) == ("complete", len(answer.body))


def test_a_chunk_that_announces_more_than_comes(whole: Answer) -> None:
    """The last chunk's size is larger than its content when the connection ends."""
    answer = play(cut(after="call", partial_chunk=True))
    size, _, content = answer.partial.partition(b"\r\n")
    last = blocks(whole.body)[len(types_until(whole, DONE, 2)) - 1]
    assert content.rstrip(b"\n") == last
    assert int(size, 16) == len(content) + 16
    assert answer.types == types_until(whole, DONE, 2)[:-1]


def test_before_the_headers_nothing_comes() -> None:
    """The connection ends without a status line."""
    for fault, ending in ((cut, "fin"), (reset, "rst")):
        answer = play(fault(before="headers"))
        assert (answer.status, answer.ending, answer.partial) == (0, ending, b"")


def test_a_body_framed_by_the_connection_ends_like_a_cut_one(whole: Answer) -> None:
    """Without chunks a FIN is all that a client sees, at a cut and at the end."""
    complete, short = play(framing="close"), play(cut(after="call"), framing="close")
    assert complete.headers["connection"] == "close"
    assert "transfer-encoding" not in complete.headers
    assert (complete.ending, complete.types) == ("fin", whole.types)
    assert (short.ending, short.types) == ("fin", types_until(whole, DONE, 2))


# ----- positions


def test_positions_by_number(whole: Answer) -> None:
    """After event 0 one event has come; before it none; negative numbers count from the end."""
    assert play(cut(after=0)).types == whole.types[:1]
    assert play(cut(before=0)).types == []
    assert play(cut(after=3)).types == whole.types[:4]
    assert play(cut(before=-2)).types == whole.types[:-2]
    assert play(cut(after=-1)).types == whole.types


def test_every_event_can_be_the_last(whole: Answer) -> None:
    """A cut after event k leaves k + 1 events, for every k."""
    count = len(whole.types)
    script = [response(*OUTPUT, fault=cut(after=k)) for k in range(count)]
    with ChaosServer(script) as server:
        for k in range(count):
            assert fetch(server.url).types == whole.types[: k + 1]


def test_positions_by_type_occurrence_and_item(whole: Answer) -> None:
    """The nth event of a type, of an item type; before and after."""
    assert play(cut(after=DONE)).types == types_until(whole, DONE)
    assert play(cut(before=DONE)).types == types_until(whole, DONE)[:-1]
    assert play(cut(after=at("call", nth=2))).types == types_until(whole, DONE, 3)
    custom = at(DONE, item="custom_tool_call")
    assert play(cut(after=custom)).types == types_until(whole, DONE, 3)
    assert play(cut(before="terminal")).types == whole.types[:-1]


def test_positions_by_byte(whole: Answer) -> None:
    """After byte N exactly N bytes of the body have come, within an event too."""
    for size in (0, 1, 100, 1000, len(whole.body)):
        answer = play(cut(after=at(byte=size)))
        assert answer.ending == "fin"
        assert answer.body == whole.body[:size]


def test_faults_act_on_recorded_streams(data_dir: Path) -> None:
    """A recording can be cut after each of its events, and the bytes before are its own."""
    path = min((data_dir / "sse/rig").glob("copilot*.sse"))
    content = path.read_bytes()
    number = content.count(b"\n\n")
    script = [recorded(path, fault=cut(after=k)) for k in range(number)]
    with ChaosServer(script) as server:
        for k in range(number):
            body = fetch(server.url).body
            assert content.startswith(body)
            assert body.count(b"\n\n") == k + 1


# ----- events that faults add


def test_an_event_is_repeated_as_it_was(whole: Answer) -> None:
    """The done event of a call comes again, byte for byte; the stream goes on."""
    answer = play(repeat(after="call", times=2))
    place = len(types_until(whole, DONE, 2)) - 1
    again = blocks(answer.body)[place : place + 3]
    assert again == [blocks(whole.body)[place]] * 3
    assert answer.ending == "complete"
    assert answer.types[place + 3 :] == whole.types[place + 1 :]


def test_garbage_and_unknown_events_do_not_end_the_stream(whole: Answer) -> None:
    """An event that is no JSON and one of unknown type come in between."""
    answer = play(garbage(before=0), unknown({"type": "x.y", "n": 1}, after=1))
    assert blocks(answer.body)[0].startswith(b'data: {"type"')
    assert answer.types == [*whole.types[:2], "x.y", *whole.types[2:]]
    assert answer.ending == "complete"
    assert b"data: not json" in play(garbage("not json")).body


def test_events_come_out_of_order(whole: Answer) -> None:
    """The event behind the position comes after the next ones; by default an item's done event."""
    place = whole.types.index(DONE)
    types = [*whole.types[:place], whole.types[place + 1], DONE, *whole.types[place + 2 :]]
    assert play(reorder()).types == types
    moved = play(reorder(3, after=0))
    given = blocks(whole.body)
    assert blocks(moved.body) == [given[0], *given[2:5], given[1], *given[5:]]
    assert moved.ending == "complete"
    last = play(reorder(before="terminal"))
    assert last.types == whole.types
    late = play(reorder(9, before=-2))
    assert late.types == [*whole.types[:-2], *whole.types[:-3:-1]]


def test_a_fault_within_what_is_out_of_order_strikes_behind_it(whole: Answer) -> None:
    """The reordered events stay together, then the fault comes."""
    answer = play(reorder(3, after=0), cut(after=2))
    given = blocks(whole.body)
    assert blocks(answer.body) == [given[0], *given[2:5], given[1]]
    assert answer.ending == "fin"


def test_failed_and_incomplete_end_the_stream(whole: Answer) -> None:
    """The terminal event says so, with code or reason, at its position; the body ends properly."""
    answer = play(failed("rate_limit_exceeded", "slow down", after="call"))
    assert answer.types == [*types_until(whole, DONE, 2), "response.failed"]
    last = answer.events[-1]
    assert last["response"]["error"] == {"code": "rate_limit_exceeded", "message": "slow down"}
    assert (last["response"]["status"], answer.ending) == ("failed", "complete")
    assert last["sequence_number"] == len(answer.types) - 1
    last = play(incomplete("content_filter")).events[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "content_filter"}


def test_error_events_have_three_shapes() -> None:
    """Nested, flat, and bare without an event line or type, as some local servers send it."""
    nested, flat, bare = (play(error("boom", "it broke", s)) for s in ("nested", "flat", "bare"))
    assert nested.events[-1]["error"]["code"] == "boom"
    assert (flat.events[-1]["code"], flat.events[-1]["message"]) == ("boom", "it broke")
    assert [nested.types[-1], flat.types[-1]] == ["error", "error"]
    assert bare.events[-1]["error"]["message"] == "it broke"
    assert blocks(bare.body)[-1].startswith(b'data: {"error":')


def test_the_style_ends_what_a_fault_ends() -> None:
    """[DONE] follows a failure where the style sends it."""
    answer = play(failed(), style="openrouter")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert b'"response.failed"' in blocks(answer.body)[-2]


def test_a_truncated_call_is_done_but_incomplete_and_broken() -> None:
    """Arguments done and item done come, with half the JSON, then the response is incomplete."""
    answer = play(truncated_call(nth=1))
    item = answer.events[-2]["item"]
    assert answer.types[-3:] == [
        "response.function_call_arguments.done",
        DONE,
        "response.incomplete",
    ]
    assert (item["status"], item["arguments"], item["call_id"]) == ("incomplete", '{"a', "c1")
    last = play(truncated_call()).events[-2]["item"]
    assert (last["status"], last["input"], last["call_id"]) == ("incomplete", "te", "c2")
    local = play(truncated_call(nth=1), style="llamacpp")
    assert (local.types[-1], local.events[-2]["item"]["arguments"]) == ("response.completed", "{")


# ----- time


def test_a_stall_lasts_until_the_client_leaves() -> None:
    """Nothing comes behind the stalled event; the server notices that the client has gone."""
    script = [response(message("x"), fault=stall(after=1))]
    with ChaosServer(script) as server:
        with Client(server.url) as client:
            client.send()
            while client.buffer.count(b"\n\n") < 2:
                assert client.more()
            client.sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.more()
            assert server.requests[0].ended is None
        poll(lambda: server.requests[0].ended)
        assert server.requests[0].ended == "client left"


def test_a_stall_with_seconds_goes_on(whole: Answer) -> None:
    """The stream is complete, only later."""
    assert play(stall(0.01, after=3)).types == whole.types
    assert play(stall(0.01, after=3), cut(after=3)).types == whole.types[:4]


def test_a_fault_waits_for_a_file(tmp_path: Path, whole: Answer) -> None:
    """Nothing strikes until the file exists: the connection stays open, then it ends."""
    flag = tmp_path / "flag"
    script = [response(*OUTPUT, fault=cut(after="call", when=flag))]
    with ChaosServer(script) as server, Client(server.url) as client:
        client.send()
        while client.buffer.count(b"\n\n") < len(types_until(whole, DONE, 2)):
            assert client.more()
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.more()
        flag.touch()
        client.sock.settimeout(20)
        assert client.answer().ending == "fin"
        assert server.problems == []


def test_a_hold_keeps_the_stream_open_before_an_event(tmp_path: Path, whole: Answer) -> None:
    """The events before it come at once, the others when the file exists."""
    flag = tmp_path / "flag"
    script = [response(*OUTPUT, hold=hold(flag, event=3))]
    with ChaosServer(script) as server, Client(server.url) as client:
        client.send()
        while client.buffer.count(b"\n\n") < 3:
            assert client.more()
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.more()
        flag.touch()
        client.sock.settimeout(20)
        answer = client.answer()
    assert (answer.ending, answer.types) == ("complete", whole.types)


def test_a_file_that_never_comes_is_noted_and_the_stream_goes_on(tmp_path: Path) -> None:
    """The wait is bounded, and its failure is not silent."""
    script = [response(message("x"), hold=hold(tmp_path / "never", event=1, seconds=0.05))]
    with ChaosServer(script) as server:
        assert fetch(server.url).types[-1] == "response.completed"
        assert [text for text in server.problems if "never did not appear" in text]


def test_the_headers_can_be_held_and_stalled(tmp_path: Path) -> None:
    """Before the headers: silence for a while, or until a file exists, then the whole answer."""
    flag = tmp_path / "flag"
    flag.touch()
    held = hold(flag, before="headers")
    answer = play(stall(0.01, before="headers"), hold=held)
    assert answer.types[-1] == "response.completed"
    assert play(hold=held, request=JSON_REQUEST).json["status"] == "completed"


def test_delay_comes_before_the_first_byte(tmp_path: Path) -> None:
    """While the answer is delayed not even the status line is there."""
    with ChaosServer([response(message("x"), delay=30)]) as server, Client(server.url) as client:
        client.send()
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.more()
        assert client.buffer == b""
    with ChaosServer([response(message("x"), delay=0.01)]) as server:
        assert fetch(server.url).ending == "complete"


# ----- connections and documents


def test_the_keepalive_trap_closes_what_it_promised_to_keep() -> None:
    """The response is whole and says keep-alive; then the connection is closed."""
    script = [response(message("x"), fault=keepalive_trap()), response(message("y"))]
    with ChaosServer(script) as server, Client(server.url) as client:
        answer = client.ask()
        assert (answer.ending, answer.headers["connection"]) == ("complete", "keep-alive")
        assert not client.more()
        assert client.ended == "fin"


def test_faults_in_a_json_document() -> None:
    """Half of the body comes, or so many bytes; a failure is a status or a field."""
    closed, halved = (play(f(), request=JSON_REQUEST) for f in (cut, reset))
    for answer, ending in ((closed, "fin"), (halved, "rst")):
        assert answer.ending == ending
        assert len(answer.body) == int(answer.headers["content-length"]) // 2
    assert len(play(clean_end(after=at(byte=7)), request=JSON_REQUEST).body) == 7
    assert play(failed("a", "b"), request=JSON_REQUEST).json["status"] == "failed"
    assert play(incomplete("r"), request=JSON_REQUEST).json["incomplete_details"] == {"reason": "r"}
    assert play(error("a", "b"), request=JSON_REQUEST).status == 500


def test_an_http_error_can_be_cut_too() -> None:
    """Half of an error's body, then a RST."""
    with ChaosServer([http_error(500, body={"error": "x" * 100}, fault=reset())]) as server:
        answer = fetch(server.url)
    assert (answer.status, answer.ending) == (500, "rst")
    assert len(answer.body) == int(answer.headers["content-length"]) // 2

"""Attempts: from a transport's bytes, or its failure, to events and one outcome."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from backstay import chaos
from backstay.core.events import Outcome
from backstay.core.stream import Delta, Done, Ended, StreamEvent
from backstay.model.http import HttpTransport
from backstay.model.responses import LONGEST_ERROR, attempt
from backstay.model.scripted import Reply, Scripted, events
from backstay.model.transport import FailureKind, Transport, TransportError
from tests.model.exchange import KEY, request
from tests.model.servers import END, HEAD, Connection, RawServer, unanswered_port

ITEM = {"type": "message", "id": "m1", "role": "assistant", "content": []}
DELTA = events({"type": "response.output_text.delta", "output_index": 0, "delta": "hi"})
DONE = events({"type": "response.output_item.done", "output_index": 0, "item": ITEM})
COMPLETED = events(
    {"type": "response.completed", "response": {"id": "r1", "output": [], "usage": {"total": 1}}}
)
BODY = b'{"model":"m","input":"hi","stream":true}'
WHOLE = DELTA + DONE + COMPLETED


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(
        status=status,
        headers={"Content-Type": "application/json; charset=utf-8"},
        pieces=[json.dumps(value).encode()],
    )


def _run(reply: Reply) -> tuple[Outcome, list[StreamEvent]]:
    """The outcome and what was delivered before its `Ended`, which is checked."""
    return asyncio.run(_attempt(Scripted([reply]), "http://x.test"))


async def _attempt(transport: Transport, url: str) -> tuple[Outcome, list[StreamEvent]]:
    found: list[StreamEvent] = []
    outcome = await attempt(transport, request(url), found.append)
    assert [one for one in found if isinstance(one, Ended)] == [found[-1]]
    assert found.pop() == Ended(outcome)
    return outcome, found


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_delivered_in_order_whatever_its_pieces(size: int) -> None:
    """Deltas and items as they come, then the provider's own ending."""
    pieces = [WHOLE[at : at + size] for at in range(0, len(WHOLE), size)]
    outcome, found = _run(Reply(pieces=pieces))
    assert found == [Delta("text", 0, "hi"), Done(0, ITEM)]
    assert (outcome.kind, outcome.response, outcome.usage) == ("completed", "r1", {"total": 1})


def test_what_comes_is_delivered_at_once() -> None:
    """An item is out while the stream is still open."""

    async def main() -> None:
        gate = asyncio.Event()
        transport = Scripted([Reply(pieces=[DONE, gate, COMPLETED])])
        found: list[StreamEvent] = []
        task = asyncio.create_task(attempt(transport, request("http://x.test"), found.append))
        while not found:
            await asyncio.sleep(0)
        assert found == [Done(0, ITEM)]
        gate.set()
        assert (await task).kind == "completed"

    asyncio.run(main())


@pytest.mark.parametrize(
    "failure, kind",
    [
        ("connect", "unreachable"),
        ("before_head", "unreachable"),
        ("stalled_connect", "unreachable"),
        ("stalled_head", "stalled"),
        ("stalled", "stalled"),
        ("broken", "cut"),
    ],
)
def test_a_failure_of_the_transport_becomes_an_outcome(failure: FailureKind, kind: str) -> None:
    """Its reason is kept, and so is what came before it."""
    outcome, found = _run(Reply(pieces=[DONE], ending=TransportError(failure, "so it was")))
    assert (outcome.kind, outcome.reason) == (kind, "so it was")
    assert found == ([Done(0, ITEM)] if failure in ("broken", "stalled") else [])


def test_a_clean_end_without_a_terminal_event_is_a_cut() -> None:
    """The body ended properly, the response did not."""
    outcome, found = _run(Reply(pieces=[DONE]))
    assert (outcome.kind, found) == ("cut", [Done(0, ITEM)])
    assert outcome.reason == "the stream ended before the response was complete"


def test_an_empty_stream_is_a_cut() -> None:
    """Nothing came at all."""
    assert _run(Reply())[0].kind == "cut"


def test_a_break_behind_the_terminal_event_changes_nothing() -> None:
    """The response is complete: what the connection does then does not matter."""
    outcome, _ = _run(Reply(pieces=[WHOLE], ending=TransportError("broken", "late")))
    assert outcome.kind == "completed"


def test_a_last_event_without_its_blank_line_counts() -> None:
    """Some gateways leave it out (FACTS 5)."""
    assert _run(Reply(pieces=[WHOLE.rstrip(b"\n")]))[0].kind == "completed"


def test_the_outcome_does_not_wait_for_the_end_of_the_body() -> None:
    """A server that keeps the body open behind the terminal event holds nothing up."""

    async def main() -> None:
        transport = Scripted([Reply(pieces=[WHOLE, asyncio.Event()])])
        outcome, _ = await _attempt(transport, "http://x.test")
        assert outcome.kind == "completed"
        assert transport.closed == 1

    asyncio.run(main())


def test_a_refusal_is_read_from_its_body() -> None:
    """Status, code, reason and the wait that was asked for."""
    body = {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}
    reply = _json(body, 429)
    reply.headers = {**reply.headers, "Retry-After": "3"}
    outcome, found = _run(reply)
    assert found == []
    assert outcome == Outcome(
        kind="refused", status=429, code="rate_limit_exceeded", reason="Slow down.", retry_after=3.0
    )


@pytest.mark.parametrize(
    "pieces, ending",
    [
        ([b"No."], TransportError("broken", "gone")),
        ([b"N", b"o."], TransportError("stalled", "silent")),
        ([b"No. " + b" " * LONGEST_ERROR, asyncio.Event()], None),
    ],
)
def test_a_refusal_whose_body_does_not_end_is_still_read(
    pieces: Sequence[bytes | asyncio.Event], ending: TransportError | None
) -> None:
    """Broken, stalled, or without an end: what came is enough."""
    outcome, _ = _run(Reply(status=503, pieces=pieces, ending=ending))
    assert (outcome.kind, outcome.status, outcome.reason) == ("refused", 503, "No.")


def test_a_page_in_place_of_a_stream_is_refused() -> None:
    """A captive portal, or a wrong base URL: trying again would not help."""
    page = b"<html><title>Welcome to nginx!</title>"
    outcome, _ = _run(Reply(headers={"content-type": "text/html"}, pieces=[page]))
    assert (outcome.kind, outcome.status) == ("refused", 200)
    assert outcome.reason == "Welcome to nginx!"


def test_a_response_in_one_piece_counts_as_a_stream() -> None:
    """A server that ignores `stream: true`."""
    value = {"id": "r1", "status": "completed", "output": [ITEM]}
    outcome, found = _run(_json(value))
    assert found == [Done(0, ITEM)]
    assert (outcome.kind, outcome.response) == ("completed", "r1")


@pytest.mark.parametrize(
    "value, kind, code, reason",
    [
        ({"error": {"message": "No.", "code": "server_error"}}, "failed", "server_error", "No."),
        ({"hello": 1}, "failed", "", "the answer (HTTP 200) is JSON, but not a response"),
        ([], "failed", "", "the answer (HTTP 200) is JSON, but not a response"),
    ],
)
def test_json_that_is_no_response_is_a_failure(
    value: Any, kind: str, code: str, reason: str
) -> None:
    """The error that it holds, or that it holds none."""
    outcome, _ = _run(_json(value))
    assert (outcome.kind, outcome.code, outcome.reason) == (kind, code, reason)


def test_half_a_json_response_is_a_cut() -> None:
    """Worth another try."""
    reply = Reply(headers={"content-type": "application/json"}, pieces=[b'{"output": [1'])
    assert _run(reply)[0].kind == "cut"


def test_a_provider_that_quotes_the_key_does_not_spread_it() -> None:
    """It is cut out of the reason."""
    outcome, _ = _run(_json({"error": {"message": f"Bad key {KEY}!"}}, 401))
    assert outcome.reason == "Bad key [redacted]!"


def test_cancelling_an_attempt_closes_its_stream() -> None:
    """Nothing is delivered any more."""

    async def main() -> None:
        transport = Scripted([Reply(pieces=[DONE, asyncio.Event(), COMPLETED])])
        found: list[StreamEvent] = []
        task = asyncio.create_task(attempt(transport, request("http://x.test"), found.append))
        while not found:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        assert transport.closed == 1
        assert found == [Done(0, ITEM)]

    asyncio.run(main())


def test_over_a_real_connection_it_is_given_back() -> None:
    """Not each attempt opens a connection, since each reads the end of its body."""

    def play(connection: Connection) -> None:
        while connection.request():
            connection.send(HEAD)
            connection.chunk(WHOLE)
            connection.server.left.wait(0.02)
            connection.send(END)

    async def main() -> None:
        transport = HttpTransport(environ={})
        for _ in range(9):
            assert (await _attempt(transport, server.url))[0].kind == "completed"
        await transport.close()

    with RawServer(play) as server:
        asyncio.run(main())
        assert server.connections < 9


@pytest.mark.parametrize(
    "fault, kind",
    [
        (chaos.cut(), "cut"),
        (chaos.cut(partial_chunk=True), "cut"),
        (chaos.reset(), "cut"),
        (chaos.half_event(), "cut"),
        (chaos.clean_end(), "cut"),
        (chaos.stall(), "stalled"),
        (chaos.cut(before="headers"), "unreachable"),
        (chaos.stall(before="headers"), "stalled"),
        (chaos.failed(code="server_error"), "failed"),
        (chaos.error(code="server_error"), "failed"),
        (chaos.incomplete(), "incomplete"),
        (chaos.garbage(), "completed"),
        (chaos.unknown(), "completed"),
        (chaos.repeat(), "completed"),
        (chaos.keepalive_trap(), "completed"),
    ],
)
@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_each_fault_of_a_server_has_its_outcome(
    fault: dict[str, Any], kind: str, framing: str
) -> None:
    """And the call that was done before it arrives, once, whatever the fault."""
    answer = chaos.response(chaos.call("f", {"n": 1}, call_id="c1"), fault=fault, framing=framing)

    async def main(url: str) -> None:
        transport = HttpTransport(environ={})
        for _ in range(3):
            found: list[StreamEvent] = []
            asked = request(f"{url}/responses", BODY, first_byte=0.5, silence=0.5)
            outcome = await attempt(transport, asked, found.append)
            calls = [one.item["call_id"] for one in found if isinstance(one, Done)]
            assert outcome.kind == kind, outcome
            assert calls == ([] if fault.get("before") == "headers" else ["c1"])
        await transport.close()

    with chaos.ChaosServer({"responses": [answer], "repeat": True}) as server:
        asyncio.run(main(server.url))
        assert len(server.requests) == 3


def test_over_a_real_connection_a_failure_is_readable() -> None:
    """Nobody listens: the outcome names the place and the cause."""

    async def main() -> None:
        with unanswered_port() as port:
            outcome, _ = await _attempt(HttpTransport(environ={}), f"http://127.0.0.1:{port}/v1")
        assert outcome.kind == "unreachable"
        assert outcome.reason == f"can't connect to 127.0.0.1:{port}: Connection refused"

    asyncio.run(main())

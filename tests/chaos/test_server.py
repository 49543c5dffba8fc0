"""The server between requests: order, keep-alive, the log, refusals, other paths."""

import socket
import struct
from pathlib import Path

import pytest

from backstay.chaos import ChaosServer, ScriptError, cut, hold, message, response, stall
from tests.chaos.client import Client, fetch, poll


def text_of(server: ChaosServer) -> str:
    """The text of the next response."""
    answer = fetch(server.url)
    found: str = answer.events[-1]["response"]["output"][0]["content"][0]["text"]
    return found


def test_responses_are_played_in_order_then_the_script_is_exhausted() -> None:
    """One response a request; after the last a 400 that no client retries."""
    with ChaosServer([response(message("a")), response(message("b"))]) as server:
        assert [text_of(server), text_of(server)] == ["a", "b"]
        answer = fetch(server.url)
        assert (answer.status, answer.json["error"]["code"]) == (400, "script_exhausted")
        assert [r.response for r in server.requests] == [0, 1, None]
        assert [r.status for r in server.requests] == [200, 200, 400]


def test_the_last_response_repeats_with_fresh_ids() -> None:
    """With repeat the script never ends, and no response id comes twice."""
    with ChaosServer([response(message("a")), response(message("b"))], repeat=True) as server:
        answers = [fetch(server.url) for _ in range(4)]
    assert len({a.events[0]["response"]["id"] for a in answers}) == 4
    texts = [a.events[-1]["response"]["output"][0]["content"][0]["text"] for a in answers]
    assert texts == ["a", "b", "b", "b"]


def test_an_empty_script_is_exhausted_at_once() -> None:
    """No response: the first request is answered with script_exhausted, repeat or not."""
    for repeat in (False, True):
        with ChaosServer([], repeat=repeat) as server:
            assert fetch(server.url).json["error"]["code"] == "script_exhausted"


def test_several_requests_on_one_connection() -> None:
    """Keep-alive: streams, documents and errors one after the other, pipelined ones too."""
    with ChaosServer([response(message("a"))], repeat=True) as server:
        with Client(server.url) as client:
            assert client.ask().ending == "complete"
            assert client.ask({"input": "x"}).json["status"] == "completed"
            assert client.ask(method="GET", path="/nope").status == 404
            client.send()
            client.send()
            assert client.answer().types[-1] == client.answer().types[-1] == "response.completed"
        with Client(server.url) as client:
            client.ask()
        assert [r.connection for r in server.log] == [1, 1, 1, 1, 1, 2]


def test_connections_are_served_side_by_side() -> None:
    """A client that is slow to read does not hold up another."""
    script = [response(message(deltas=20000)), response(message("b"))]
    with ChaosServer(script) as server, Client(server.url) as slow:
        slow.send()
        server.wait(1)
        assert fetch(server.url).types[-1] == "response.completed"
        assert slow.answer().ending == "complete"


def test_the_log_holds_what_was_sent_without_secrets() -> None:
    """Body, bytes, headers, time and connection; the key is redacted, others' requests are apart."""
    body = {"model": "m", "input": "x", "stream": True}
    with ChaosServer([response(message("a"), fault=cut())]) as server, Client(server.url) as client:
        client.ask(method="GET", path="/models")
        client.ask(body)
        request = server.requests[0]
        assert server.bodies == [request.body] == [body]
        assert request.raw.startswith(b'{"model"')
        assert request.headers["authorization"] == "[redacted]"
        assert b"sesame" not in repr(server.log).encode()
        assert [r.path for r in server.log] == ["/v1/models", "/v1/responses"]
        assert request.time > 1_700_000_000
        assert (request.number, request.connection, request.ended) == (1, 1, "close")


def test_wait_says_how_many_requests_came() -> None:
    """wait returns the requests, or raises TimeoutError after its time."""
    with ChaosServer([response(message("a"))]) as server:
        fetch(server.url)
        assert len(server.wait(1)) == 1
        with pytest.raises(TimeoutError, match="1 of 2 requests"):
            server.wait(2, seconds=0.01)


def test_other_paths_and_methods() -> None:
    """Models are listed; unknown paths are 404, other methods 405, both as JSON."""
    with ChaosServer([]) as server, Client(server.url) as client:
        models = client.ask(method="GET", path="/models").json
        assert [model["object"] for model in models["data"]] == ["model"]
        for method, path, status in (
            ("GET", "/files", 404),
            ("POST", "/chat/completions", 404),
            ("GET", "/responses", 405),
            ("DELETE", "/models", 405),
        ):
            answer = client.ask(method=method, path=path)
            assert (answer.status, bool(answer.json["error"]["message"])) == (status, True)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe", b'"text"'])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    """400 with a reason; no response is used up, and the bytes are in the log."""
    with ChaosServer([response(message("a"))]) as server:
        answer = fetch(server.url, body)
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_json")
        assert server.requests[0].raw == body
        assert text_of(server) == "a"


@pytest.mark.parametrize(
    "garbled",
    [
        b"HELLO\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nbroken header\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/responses HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nX: " + b"y" * 70_000,
        b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n",
        b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000,
    ],
)
def test_a_garbled_request_is_a_400_and_the_server_lives_on(garbled: bytes) -> None:
    """The client is told what is wrong, the connection ends, the next one works."""
    with ChaosServer([response(message("a"))]) as server:
        with Client(server.url) as client:
            client.sock.sendall(garbled)
            answer = client.answer()
            assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request")
            assert answer.headers["connection"] == "close"
        assert text_of(server) == "a"
        first, second = server.log
        assert (first.method, first.status, first.ended) == ("", 400, "close")
        assert first.refusal == answer.json["error"]["message"]
        assert garbled.startswith(first.raw[:1000])
        assert second.status == 200


@pytest.mark.parametrize(
    "start",
    [
        b"POST /v1/resp",
        b"POST /v1/responses HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
        b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
        b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n9",
    ],
)
def test_a_request_that_ends_too_early_is_told_so(start: bytes) -> None:
    """The client stops in the middle of its request and still reads the 400."""
    with ChaosServer([]) as server, Client(server.url) as client:
        client.sock.sendall(start)
        client.sock.shutdown(socket.SHUT_WR)
        assert "the connection ended within" in client.answer().json["error"]["message"]


def test_a_client_that_resets_is_noticed(tmp_path: Path) -> None:
    """In a stall, a delay, a wait for a file and a long write: the answer ends, others work."""
    broken = [
        response(message("x"), fault=stall(after=0)),
        response(message("x"), delay=60),
        response(message("x"), hold=hold(tmp_path / "never", event=1)),
        response(message(deltas=100_000)),
    ]
    with ChaosServer([*broken, response(message("a"))]) as server:
        for count in range(1, len(broken) + 1):
            with Client(server.url) as client:
                client.send()
                server.wait(count)
                linger = struct.pack("ii", 1, 0)
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        poll(lambda: all(request.ended for request in server.requests))
        assert [request.ended for request in server.requests] == ["client left"] * len(broken)
        assert text_of(server) == "a"


def test_a_body_that_is_no_json_is_logged_as_text() -> None:
    """The entry of the log has the bytes as text, damaged ones replaced."""
    with ChaosServer([]) as server:
        fetch(server.url, b"{\xff")
        entry = server.requests[0].entry()
    assert (entry["body"], entry["raw"]) == (None, "{\ufffd")


def test_chunked_requests_and_expect_continue() -> None:
    """A request body may come in chunks, and may wait for 100 Continue."""
    head = (
        b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    )
    with ChaosServer([response(message("a"))]) as server, Client(server.url) as client:
        client.sock.sendall(head)
        while b"\r\n\r\n" not in client.buffer:
            assert client.more()
        assert client.buffer == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.buffer = b""
        client.sock.sendall(b'4\r\n{"in\r\n9;x=y\r\nput":"x"}\r\n0\r\nTrailer: 1\r\n\r\n')
        assert client.answer().json["status"] == "completed"
        assert server.bodies == [{"input": "x"}]


def test_a_client_that_asks_for_close_gets_it() -> None:
    """Connection: close is answered with close and a FIN; so is HTTP/1.0."""
    for head in (
        b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /v1/models HTTP/1.0\r\n\r\n",
    ):
        with ChaosServer([]) as server, Client(server.url) as client:
            client.sock.sendall(head)
            assert client.answer().headers["connection"] == "close"
            assert not client.more()
            assert client.ended == "fin"


def test_stopping_ends_open_connections_and_frees_the_port() -> None:
    """After stop nobody listens, and a client that was being served is let go."""
    with ChaosServer([response(message("a"), delay=60)]) as server:
        client = Client(server.url)
        client.send()
        server.wait(1)
    with client:
        assert not client.more()
    with pytest.raises(ConnectionRefusedError):
        Client(server.url)


def test_a_port_can_be_asked_for_and_be_taken() -> None:
    """A given port is used; one that is taken is an error of one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ScriptError, match=f"cannot listen on 127.0.0.1:{port}"):
            ChaosServer([], port=port).start()
    with ChaosServer([], port=port) as server:
        assert server.url == f"http://127.0.0.1:{port}/v1"


def test_a_function_makes_each_response_from_the_request() -> None:
    """It sees the body; what it raises is HTTP 500 and a noted problem, and the server goes on."""
    with ChaosServer(lambda body: response(message(body["input"].upper()))) as server:
        answer = fetch(server.url, {"input": "loud", "stream": True})
        assert answer.events[-1]["response"]["output"][0]["content"][0]["text"] == "LOUD"
        broken = fetch(server.url, {"input": 7, "stream": True})
        assert (broken.status, broken.json["error"]["code"]) == (500, "script_error")
        assert server.problems == ["AttributeError: 'int' object has no attribute 'upper'"]
        assert text_of(server) == "HELLO"


def test_a_function_can_not_name_places_that_its_stream_has_not() -> None:
    """What a script would be refused for is told by HTTP 500."""
    with ChaosServer(lambda _: response(message("a"), fault=cut(after="call"))) as server:
        assert "no call number 1" in fetch(server.url).json["error"]["message"]

"""The fault proxy between a client and a provider, on real sockets."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import (
    ChaosProxy,
    ChaosServer,
    ScriptError,
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
    judge,
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
from tests.model.servers import (
    CERTIFICATES,
    END,
    HEAD,
    Connection,
    Play,
    RawServer,
    pipe,
    tls,
    unanswered_port,
)

JSON = dict[str, Any]
OUTPUT = [message("Some words."), call("f", {"a": 1}, "c1"), custom_call("p", "text", "c2")]
JSON_REQUEST = {"model": "m", "input": "x"}
DONE = "response.output_item.done"


@pytest.fixture(scope="module")
def provider() -> Iterator[ChaosServer]:
    """A provider that answers always the same, to the byte."""
    with ChaosServer([response(*OUTPUT)], repeat=True, seed="s") as server:
        yield server


def through(*passages: JSON | None, to: str, request: Any = None) -> list[Answer]:
    """The answers to so many requests, through a proxy with this plan."""
    with ChaosProxy(to, list(passages)) as proxy:
        return [fetch(proxy.url, request) for _ in passages]


@contextmanager
def dialled(play: Play, plan: Any = ()) -> Iterator[Client]:
    """A client of a proxy, with this plan, in front of a raw server."""
    with (
        RawServer(play) as server,
        ChaosProxy(raw(server.url), plan) as proxy,
        Client(proxy.url) as client,
    ):
        yield client


def raw(url: str) -> str:
    """The base URL of a raw server."""
    return url.removesuffix("/responses")


# ----- untouched


@pytest.mark.data
def test_recorded_streams_pass_byte_for_byte(data_dir: Path) -> None:
    """Whole recordings, plain and framed by the connection, with and without a plan to watch for."""
    paths = sorted((data_dir / "sse").rglob("*.sse"))[::3]
    script = [recorded(path, framing=how) for path in paths for how in ("chunked", "close")]
    plans: list[Any] = [[], {"requests": [{"fault": cut(after=99999)}], "repeat": True}]
    for plan in plans:
        with ChaosServer(script) as server, ChaosProxy(server.url, plan) as proxy:
            for path in paths:
                for _ in range(2):
                    answer = fetch(proxy.url)
                    assert answer.body == path.read_bytes()
                    assert answer.ending == "complete"


def test_what_the_client_sends_reaches_the_provider() -> None:
    """Method, path below /v1, query, headers and body; Host and what is the connection's replaced."""
    with RawServer(lambda connection: _answering(connection, b"{}")) as server:
        to = f"http://127.0.0.1:{server.port}/api/v2/"
        with ChaosProxy(to) as proxy:
            with Client(proxy.url) as client:
                client.sock.sendall(
                    b"PUT /v1/files/x%20y?a=1&b=%2F HTTP/1.1\r\nHost: me\r\nAuthorization: Bearer k\r\n"
                    b"X-Twice: 1\r\nX-Twice: 2\r\nAccept-Encoding: gzip\r\nConnection: X-Hop\r\n"
                    b"X-Hop: 1\r\nTE: trailers\r\nContent-Encoding: zstd\r\nContent-Length: 3\r\n\r\n"
                    b"\x00\xffz"
                )
                answer = client.answer()
            lines = server.requests[0].decode().split("\r\n")
            assert lines[0] == "PUT /api/v2/files/x%20y?a=1&b=%2F HTTP/1.1"
            assert lines[1:] == [
                f"Host: 127.0.0.1:{server.port}",
                *("Authorization: Bearer k", "X-Twice: 1", "X-Twice: 2", "Content-Encoding: zstd"),
                *("Accept-Encoding: identity", "Connection: close", "Content-Length: 3"),
            ]
            assert server.bodies == [b"\x00\xffz"]
            assert (answer.status, answer.body) == (200, b"{}")
            assert proxy.log[0].headers["authorization"] == "[redacted]"
            fetch(proxy.url.removesuffix("/v1") + "/other", {})
            assert server.requests[1].startswith(b"POST /other/responses HTTP/1.1")


def _answering(connection: Connection, body: bytes, headers: str = "") -> None:
    while connection.request():
        connection.answer(body, headers=headers)


def test_what_the_provider_answers_reaches_the_client() -> None:
    """Status, headers, also the same one twice, and the body; without what is the connection's."""

    def play(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        headers = "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Name: \u00e9\r\nKeep-Alive: 5\r\n"
        headers += "Connection: X-Hop\r\nX-Hop: 1\r\n"
        connection.answer(b'{"error":1}', "429 Too Many", f"{headers}Retry-After: 7\r\n")

    with RawServer(play) as server, ChaosProxy(raw(server.url)) as proxy:
        with Client(proxy.url) as client:
            client.send()
            while b'{"error":1}' not in client.buffer:
                assert client.more()
            head, _, body = client.buffer.partition(b"\r\n\r\n")
        assert head.decode().split("\r\n") == [
            "HTTP/1.1 429 Too Many Requests",
            *("Set-Cookie: a=1", "Set-Cookie: b=2", "X-Name: \u00e9", "Retry-After: 7"),
            *("Content-Length: 11", "Connection: keep-alive"),
        ]
        assert body == b'{"error":1}'
        poll(lambda: proxy.log[0].ended)
        assert (proxy.log[0].status, proxy.log[0].ended) == (429, "clean")


def test_answers_without_a_body() -> None:
    """HEAD and 204 end with their headers; the connection stays usable."""

    def play(connection: Connection) -> None:
        head = connection.request()
        if head.startswith(b"HEAD"):
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        else:
            connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    with dialled(play) as client:
        for method, status in (("HEAD", 200), ("DELETE", 204), ("HEAD", 200)):
            client.send(method=method)
            while not client.buffer.endswith(b"\r\n\r\n"):
                assert client.more()
            assert client.buffer.split()[1] == str(status).encode()
            client.buffer = b""


def test_events_come_as_they_are_sent() -> None:
    """While the provider is silent, what it sent is at the client, with a fault pending too."""
    for plan in ([], [{"fault": cut(after="call")}]):
        more = threading.Event()

        def play(connection: Connection, more: threading.Event = more) -> None:
            connection.request()
            connection.send(HEAD)
            connection.chunk(b'data: {"type":"a"}\n\n')
            more.wait(20)
            connection.chunk(b'data: {"type":"b"}\n\n')
            connection.send(END)

        with dialled(play, plan) as client:
            client.send()
            while b'"a"' not in client.buffer:
                assert client.more()
            assert b'"b"' not in client.buffer
            more.set()
            assert client.answer().types == ["a", "b"]


@pytest.mark.parametrize("plan", [[], [{"fault": cut(after="call")}]])
@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_how_the_provider_breaks_off_is_passed_on(ending: str, plan: Any) -> None:
    """FIN as FIN and RST as RST, with all that came before, half an event too."""
    go = threading.Event()

    def play(connection: Connection) -> None:
        connection.request()
        connection.send(HEAD)
        connection.chunk(b'data: {"type":"a"}\n\ndata: {"ty')
        go.wait(20)
        if ending == "rst":
            connection.reset()

    with RawServer(play) as server, ChaosProxy(raw(server.url), plan) as proxy:
        with Client(proxy.url) as client:
            client.send()
            while b'"a"' not in client.buffer:
                assert client.more()
            go.set()
            answer = client.answer()
        assert answer.body == b'data: {"type":"a"}\n\ndata: {"ty'
        assert answer.ending == ending


# ----- broken

FAULTS = [
    *(cut(), cut(after="call"), reset(after=3), cut(before="headers"), reset(before="headers")),
    *(half_event(after="call"), half_event(after=1, end="reset"), clean_end(after=4)),
    *(repeat(after="call"), garbage(before=0), unknown(after=1), reorder(), reorder(3, after=0)),
    *(failed(after="call"), error(shape="flat"), error(shape="bare"), cut(after=at(byte=321))),
    *(stall(0.01, after=2), stall(0.01, before="headers"), keepalive_trap()),
]


@pytest.mark.parametrize("fault", FAULTS, ids=json.dumps)
def test_a_fault_looks_as_it_does_at_the_server(fault: JSON, provider: ChaosServer) -> None:
    """The same bytes and the same end as from a server whose script has the fault."""
    with ChaosServer([response(*OUTPUT, fault=fault)], seed="s") as server:
        expected = fetch(server.url)
    with ChaosServer([response(*OUTPUT)], seed="s") as server:
        (answer,) = through({"fault": fault}, to=server.url)
    assert (answer.status, answer.ending) == (expected.status, expected.ending)
    assert answer.body == expected.body


def test_incomplete_and_truncated() -> None:
    """The last event says incomplete; the call has half of its arguments."""
    with ChaosServer([response(*OUTPUT)], repeat=True) as server:
        plan = [{"fault": incomplete("content_filter")}, {"fault": truncated_call()}]
        first, second = through(*plan, to=server.url)
    assert first.events[-1]["response"]["incomplete_details"] == {"reason": "content_filter"}
    assert second.types[-1] == "response.incomplete"
    assert second.events[-2]["item"]["arguments"] == '{"a'


def test_a_plan_goes_by_the_number_of_the_request(provider: ChaosServer) -> None:
    """Requests for responses are counted, others not; what the plan does not name passes."""
    plan = [None, {"status": 503}, {}, {"fault": cut(after=0)}]
    with ChaosProxy(provider.url, plan) as proxy:
        found = []
        for _ in range(5):
            with Client(proxy.url) as client:
                client.ask(method="GET", path="/models")
                found.append(client.ask())
        assert [one.status for one in found] == [200, 503, 200, 200, 200]
        assert [len(one.types) > 1 for one in found] == [True, False, True, False, True]
        poll(lambda: len(proxy.struck) == 10)
        assert [proxy.struck[number] for number in range(1, 10, 2)] == [
            *([], ["status"], []),
            *(["close"], []),
        ]
    assert (
        through({"status": 418, "body": "tea", "headers": {"X": "y"}}, to=provider.url)[0].body
        == b"tea"
    )


def test_the_last_of_a_plan_may_repeat(provider: ChaosServer) -> None:
    """With repeat it holds for all later requests."""
    with ChaosProxy(provider.url, {"requests": [None, {"status": 500}], "repeat": True}) as proxy:
        assert [fetch(proxy.url).status for _ in range(4)] == [200, 500, 500, 500]


def test_a_request_that_is_refused_here_never_reaches_the_provider() -> None:
    """A drawn or planned status, and an end before the headers, cost nothing at the provider."""
    with ChaosServer([response(message("a"))]) as server:
        through({"status": 429}, {"fault": cut(before="headers")}, to=server.url)
        assert server.log == []


def test_chance_is_repeated_by_its_seed(provider: ChaosServer) -> None:
    """The same seed breaks the same requests in the same way; the log says how."""

    def run(seed: int) -> list[Any]:
        chaos = {"probability": 0.5, "seed": seed, "seconds": 0.01}
        with ChaosProxy(provider.url, {"chaos": chaos}) as proxy:
            found = [fetch(proxy.url) for _ in range(20)]
            drawn = [request.entry().get("drawn") for request in proxy.requests]
        seen = [(one.status, one.types, one.ending) for one in found]
        assert any(drawn)
        assert not all(drawn)
        assert {one.ending for one, d in zip(found, drawn, strict=True) if not d} == {"complete"}
        return [seen, drawn]

    first = run(1)
    assert run(1) == first
    assert run(2) != first


def test_a_drawn_fault_strikes_at_last(provider: ChaosServer) -> None:
    """Where its position does not come, before the terminal event; a planned one does not strike."""
    chance = {"chaos": {"probability": 1, "kinds": [cut(after=999)]}}
    for plan, last in ((chance, DONE), ([{"fault": cut(after=999)}], "response.completed")):
        with ChaosProxy(provider.url, plan) as proxy:
            assert fetch(proxy.url).types[-1] == last


def test_a_trickle_takes_apart_what_came_together() -> None:
    """Events that the provider sends in one piece leave one by one."""

    def play(connection: Connection) -> None:
        connection.request()
        connection.send(HEAD)
        connection.chunk(b'data: {"type":"a"}\n\n' * 3)
        connection.send(END)

    with dialled(play, [{"trickle": 0.001}]) as client:
        assert len(client.ask().chunks) == 3


def test_delay_trickle_and_hold(provider: ChaosServer, tmp_path: Path) -> None:
    """Nothing comes before the delay is over; a trickle sends each event by itself, whole."""
    with ChaosProxy(provider.url, [{"delay": 30}]) as proxy, Client(proxy.url) as client:
        client.send()
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.more()
        assert client.buffer == b""
    whole, slow, bit = through(
        None, {"trickle": 0.0001}, {"trickle": {"seconds": 0.0001, "bytes": 100}}, to=provider.url
    )
    assert len(slow.chunks) == len(blocks(slow.body))
    assert {len(chunk) for chunk in bit.chunks[:-1]} >= {100}
    assert slow.types == bit.types == whole.types
    flag = tmp_path / "flag"
    plan = [{"hold": hold(flag, before="terminal")}]
    with ChaosProxy(provider.url, plan) as proxy, Client(proxy.url) as client:
        client.send()
        while client.buffer.count(b"\n\n") < len(whole.types) - 1:
            assert client.more()
        assert b"response.completed" not in client.buffer
        flag.touch()
        assert client.answer().types == whole.types


def test_a_file_that_never_comes_is_noted(provider: ChaosServer, tmp_path: Path) -> None:
    """The wait is bounded, and the stream goes on."""
    plan = [{"hold": hold(tmp_path / "never", event=1, seconds=0.01)}]
    with ChaosProxy(provider.url, plan) as proxy:
        assert fetch(proxy.url).types[-1] == "response.completed"
        assert "never did not appear" in proxy.problems[0]


def test_documents_are_broken_as_the_server_breaks_them(provider: ChaosServer) -> None:
    """Half of a JSON body, a status, a field; untouched it is the provider's, byte for byte."""
    for fault in (cut(), reset(), clean_end(after=at(byte=7)), failed("a", "b"), error("a", "b")):
        with ChaosServer([response(*OUTPUT, fault=fault)], seed="s") as server:
            expected = fetch(server.url, JSON_REQUEST)
        with ChaosServer([response(*OUTPUT)], seed="s") as server:
            (answer,) = through({"fault": fault}, to=server.url, request=JSON_REQUEST)
        assert (answer.status, answer.ending, answer.body) == (
            *(expected.status, expected.ending),
            expected.body,
        )
    for passage in (None, {"fault": repeat()}):
        with ChaosServer([response(*OUTPUT)], seed="s") as server:
            (answer,) = through(passage, to=server.url, request=JSON_REQUEST)
        with ChaosServer([response(*OUTPUT)], seed="s") as server:
            assert answer.body == fetch(server.url, JSON_REQUEST).body


def test_errors_of_the_provider_pass_unbroken() -> None:
    """A fault waits for no second chance: what the provider refuses is passed on as it is."""
    with ChaosServer([http_error(401)]) as server:
        (answer,) = through({"fault": cut()}, to=server.url)
    assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
    assert answer.ending == "complete"


# ----- what goes wrong on the way


def test_a_provider_that_is_not_there_is_a_502() -> None:
    """With a JSON error that says what is wrong; the proxy lives on."""
    with unanswered_port() as port, ChaosProxy(f"http://127.0.0.1:{port}/v1") as proxy:
        for _ in range(2):
            answer = fetch(proxy.url)
            assert answer.status == 502
            error = answer.json["error"]
            assert (error["code"], error["type"]) == ("upstream_unreachable", "server_error")
            assert f"127.0.0.1:{port} cannot be reached: " in answer.json["error"]["message"]
        assert proxy.log[0].status == 502
    (answer,) = through(None, to="http://nowhere.invalid/v1")
    assert "nowhere.invalid cannot be reached: " in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "sent, text",
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nX", "closed the connection in the middle of its headers"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "did not answer in HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "content-length that is no number"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10**6, "sent headers without an end"),
    ],
)
def test_an_answer_that_is_none_is_a_502(sent: bytes, text: str) -> None:
    """Whatever the other side says instead of HTTP."""

    def play(connection: Connection) -> None:
        connection.request()
        connection.send(sent)

    with RawServer(play) as server:
        (answer,) = through(None, to=raw(server.url))
    assert answer.status == 502
    assert text in answer.json["error"]["message"]


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"5\r\nabc", b"5\r\nabcdeXX\r\n", b""])
def test_a_broken_chunked_body_ends_the_connection(chunk: bytes) -> None:
    """The client sees a body that does not end, not one that ends properly."""

    def play(connection: Connection) -> None:
        connection.request()
        connection.send(HEAD + b"1\r\n:\r\n" + chunk)

    with RawServer(play) as server:
        (answer,) = through(None, to=raw(server.url))
    assert (answer.status, answer.ending) == (200, "fin")
    assert answer.body.startswith(b":")


def test_who_asks_for_a_websocket_is_told_to_use_http() -> None:
    """426, by the proxy itself and by the server; the connection goes on."""
    ask = b"GET /v1/responses HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with ChaosServer([response(message("a"))], repeat=True) as server:
        with ChaosProxy(server.url) as proxy:
            for url in (server.url, proxy.url):
                with Client(url) as client:
                    client.sock.sendall(ask)
                    assert client.answer().status == 426
                    assert client.ask().types[-1] == "response.completed"
        assert [request.method for request in server.log] == ["GET", "POST", "POST"]


def test_garbled_requests_are_refused_and_logged(provider: ChaosServer) -> None:
    """As by the server; the next client is served."""
    with ChaosProxy(provider.url) as proxy:
        with Client(proxy.url) as client:
            client.sock.sendall(b"HELLO\r\n\r\n")
            assert client.answer().status == 400
        assert fetch(proxy.url).status == 200
        with Client(proxy.url) as client:
            client.sock.sendall(b"Authorization: Bearer sesame\r\n\r\n")
            assert client.answer().status == 400
        *entries, secret = proxy.log
        assert secret.raw == b"[redacted]"
        assert [(one.method, one.raw[:5]) for one in entries] == [
            ("", b"HELLO"),
            ("POST", b'{"mod'),
        ]


@pytest.mark.parametrize(
    "to, text",
    [
        ("api.openai.com/v1", "give a base URL like https://"),
        ("ftp://x/v1", "give a base URL like https://"),
        ("http://", "give a base URL like https://"),
        ("http://x:99999/v1", "--to http://x:99999/v1: Port out of range"),
        ("http://me:secret@x/v1", "must not hold a user"),
        ("http://x/v1?k=v", "must not hold a user, a query"),
    ],
)
def test_a_wrong_url_is_refused_at_once(to: str, text: str) -> None:
    """With one line, that holds no password."""
    with pytest.raises(ScriptError) as caught:
        ChaosProxy(to)
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "plan, text",
    [
        ({"request": []}, "plan: Object contains unknown field `request`"),
        ([{"falt": 1}], "plan: requests[0]: Object contains unknown field `falt`"),
        ([None, {"fault": cut(after=1, before=2)}], "plan: requests[1].fault: has both after and"),
        ([{"fault": cut(before=-1)}], "requests[0]: event -1 counts from the end"),
        ([{"fault": cut(after=at(-2))}], "requests[0]: event -2 counts from the end"),
        ([{"hold": hold("f", event=-1)}], "requests[0]: event -1 counts from the end"),
        ({"chaos": {"probability": 1, "kinds": [cut(after=-1)]}}, "chaos.kinds[0]: event -1"),
        ({"chaos": {"probability": 1, "kinds": ["x"]}}, "plan: chaos.kinds[0]: Invalid enum"),
    ],
)
def test_a_wrong_plan_is_refused_at_once(plan: Any, text: str) -> None:
    """With one line that names the field."""
    with pytest.raises(ScriptError) as caught:
        ChaosProxy("http://127.0.0.1:9/v1", plan)
    assert text in str(caught.value)


# ----- TLS


@pytest.fixture
def secure(provider: ChaosServer) -> Iterator[RawServer]:
    """TLS in front of the provider."""
    port = int(provider.url.split(":")[2].removesuffix("/v1"))

    def play(connection: Connection) -> None:
        head = connection.request()
        with socket.create_connection(("127.0.0.1", port)) as onward:
            onward.sendall(head + b"\r\n\r\n" + connection.server.bodies[-1])
            pipe(connection.sock, onward)

    with RawServer(play, tls()) as server:
        yield server


def test_a_provider_behind_tls(secure: RawServer, provider: ChaosServer) -> None:
    """Its certificate is checked against the given authority; faults act as ever."""
    ca_file = str(CERTIFICATES / "authority.pem")
    with ChaosProxy(
        raw(secure.url), [None, {"fault": cut(after="call")}], ca_file=ca_file
    ) as proxy:
        first, second = fetch(proxy.url), fetch(proxy.url)
    assert (first.ending, first.types) == ("complete", fetch(provider.url).types)
    assert (second.ending, second.types[-1]) == ("fin", DONE)


def test_what_is_wrong_with_tls_is_said(secure: RawServer) -> None:
    """An authority that is not trusted, no TLS at all, a file without certificates."""
    for ca_file in (None, str(CERTIFICATES / "other.pem")):
        with ChaosProxy(raw(secure.url), ca_file=ca_file) as proxy:
            said = fetch(proxy.url).json["error"]["message"]
            assert f"127.0.0.1:{secure.port} has a certificate that is not trusted: " in said

    def plain(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with RawServer(plain) as server, ChaosProxy(f"https://127.0.0.1:{server.port}/v1") as proxy:
        assert "does not speak TLS with us: " in fetch(proxy.url).json["error"]["message"]
    with pytest.raises(ScriptError, match="--ca /no/file: no certificates: No such file"):
        ChaosProxy("https://x/v1", ca_file="/no/file")


# ----- many at once


def test_a_client_that_leaves_ends_the_request_at_the_provider() -> None:
    """In a silent stream, in a stall of the plan, and while a fault is waited for."""
    for passage in (None, {"fault": stall(after=0)}, {"fault": cut(after="call")}):

        def play(connection: Connection) -> None:
            connection.request()
            connection.send(HEAD)
            connection.chunk(b'data: {"type":"a"}\n\n')
            connection.until_left()

        with RawServer(play) as server, ChaosProxy(raw(server.url), [passage]) as proxy:
            with Client(proxy.url) as client:
                client.send()
                while b'"a"' not in client.buffer:
                    assert client.more()
                assert not server.left.is_set()
            assert server.left.wait(20)
            poll(lambda: proxy.log[0].ended)
            assert proxy.log[0].ended == "client left"


def test_a_slow_client_holds_the_provider_back() -> None:
    """Back-pressure: the provider can't send much more than the client takes; nothing is lost."""
    sent = 0
    piece = b'data: {"type":"x","pad":"%b"}\n\n' % (b"y" * 65_000)

    def play(connection: Connection) -> None:
        nonlocal sent
        connection.request()
        connection.send(HEAD)
        connection.sock.settimeout(0.5)
        try:
            while sent < 2000:
                connection.chunk(piece)
                sent += 1
        except TimeoutError:
            stuck.set()
        connection.until_left()

    for plan in ([], [{"fault": cut(after="call")}]):
        sent, stuck = 0, threading.Event()
        with dialled(play, plan) as client:
            client.send()
            assert stuck.wait(30)
            assert 0 < sent < 2000


def test_many_clients_at_once() -> None:
    """Eight clients with twenty requests each, half of them broken: each gets its own answer."""
    chaos = {"probability": 0.5, "seed": 5, "seconds": 0.001}
    script = [response(message("one"), call("f"))]
    problems = []

    def client(url: str, name: str) -> None:
        for number in range(20):
            body = {"model": f"{name}-{number}", "input": name, "stream": True}
            answer = fetch(url, body | {"prompt_cache_key": name})
            models = {e["response"]["model"] for e in answer.events if "response" in e}
            if models - {f"{name}-{number}"}:
                problems.append(models)

    with (
        ChaosServer(script, repeat=True) as server,
        ChaosProxy(server.url, {"chaos": chaos}) as proxy,
    ):
        threads = [threading.Thread(target=client, args=(proxy.url, f"n{n}")) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(proxy.requests) == 160
        drawn = [request.drawn is not None for request in proxy.requests]
    assert problems == []
    assert 50 < sum(drawn) < 110


def test_a_request_that_comes_early_is_no_client_that_leaves(
    provider: ChaosServer, tmp_path: Path
) -> None:
    """While an answer is held the next request arrives: both are answered."""
    flag = tmp_path / "flag"
    plan = [{"hold": hold(flag, before="terminal")}]
    with ChaosProxy(provider.url, plan) as proxy, Client(proxy.url) as client:
        client.send()
        while b"response.created" not in client.buffer:
            assert client.more()
        client.send()
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            while True:
                assert client.more()
        client.sock.settimeout(20)
        flag.touch()
        assert client.answer().types == client.answer().types


def test_several_requests_on_one_connection(provider: ChaosServer) -> None:
    """Keep-alive towards the client, pipelined too, until a fault ends the connection."""
    plan = [None, None, None, {"fault": keepalive_trap()}]
    with ChaosProxy(provider.url, plan) as proxy, Client(proxy.url) as client:
        assert client.ask().ending == "complete"
        client.send()
        client.send()
        assert client.answer().types == client.answer().types
        answer = client.ask()
        assert (answer.ending, answer.headers["connection"]) == ("complete", "keep-alive")
        assert not client.more()
        assert {request.connection for request in proxy.log} == {1}


def test_the_judge_takes_the_proxy_s_requests(provider: ChaosServer) -> None:
    """They are those that the client sent, refused ones too."""
    with ChaosProxy(provider.url, [None, {"status": 500}]) as proxy:
        for text in ("a", "a", "b"):
            fetch(proxy.url, {"input": text})
        assert judge(proxy.requests).codes == ["changed_prefix"]
        assert proxy.bodies[0] == {"input": "a"}
        assert len(proxy.wait(3)) == 3

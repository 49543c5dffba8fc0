"""The transport over real sockets: every byte arrives, every failure has its kind."""

import asyncio
import gc
import threading
from contextlib import aclosing

import pytest

from backstay.errors import UsageError
from backstay.model.http import HttpTransport
from backstay.model.transport import Head, HttpRequest, TransportError
from tests.model.exchange import KEY, exchange, request, run
from tests.model.servers import (
    END,
    HEAD,
    Connection,
    Play,
    RawServer,
    unanswered_port,
    wait_until,
)

EVENTS = [b'data: {"type":"x","n":%d}\n\n' % n for n in range(50)]
BODY = b"".join(EVENTS)


def _sent(connection: Connection) -> None:
    connection.request()
    connection.send(HEAD)
    for event in EVENTS:
        connection.chunk(event)


def _clean(connection: Connection) -> None:
    _sent(connection)
    connection.send(END)


def _close(connection: Connection) -> None:
    _sent(connection)


def _reset(connection: Connection) -> None:
    _sent(connection)
    connection.server.left.wait(0.3)  # a RST takes back what the kernel has not sent yet
    connection.reset()


def _half_chunk(connection: Connection) -> None:
    connection.request()
    connection.send(HEAD + b"%x\r\n%b" % (len(BODY) + 10, BODY))


def _stall(connection: Connection) -> None:
    _sent(connection)
    connection.until_left()


@pytest.mark.parametrize("slow", [0.0, 0.6])
@pytest.mark.parametrize(
    "play, kind",
    [
        (_clean, ""),
        (_close, "broken"),
        (_reset, "broken"),
        (_half_chunk, "broken"),
        (_stall, "stalled"),
    ],
)
def test_every_byte_arrives_before_the_failure(play: Play, kind: str, slow: float) -> None:
    """However a stream ends, and however slow its reader, all bytes come first."""
    with RawServer(play) as server:
        (got,) = run(request(server.url, silence=0.4), slow=slow)
    assert (got.status, got.body, got.kind) == (200, BODY, kind)


def test_a_slow_reader_loses_nothing_of_a_long_stream_that_is_reset() -> None:
    """More than the sockets' buffers hold is read ahead of a reader that does not read at all."""
    size = 8_000_000
    written = threading.Event()

    def play(connection: Connection) -> None:
        connection.request()
        connection.send(HEAD)
        for _ in range(size // 1000):
            connection.chunk(b"x" * 1000)
        written.set()
        connection.server.left.wait(0.5)
        connection.reset()

    async def main() -> tuple[int, str]:
        came, kind = 0, ""
        transport = HttpTransport(environ={})
        async with aclosing(transport.stream(request(server.url))) as stream:
            await anext(stream)
            assert await asyncio.to_thread(written.wait, 20)
            await asyncio.sleep(1)
            try:
                async for piece in stream:
                    assert isinstance(piece, bytes)
                    came += len(piece)
            except TransportError as error:
                kind = error.kind
        await transport.close()
        return came, kind

    with RawServer(play) as server:
        assert asyncio.run(main()) == (size, "broken")


def test_the_head_comes_before_the_body() -> None:
    """The head is yielded while the server still holds the body back, repeated headers joined."""
    seen = threading.Event()

    def play(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nX-One: a\r\nx-one: b\r\nContent-Length: 4\r\n\r\n")
        connection.send(b"late" if seen.wait(20) else b"no..")

    async def main() -> None:
        transport = HttpTransport(environ={})
        async with aclosing(transport.stream(request(server.url))) as stream:
            head = await anext(stream)
            assert isinstance(head, Head)
            assert (head.status, head.headers["x-one"]) == (200, "a, b")
            seen.set()
            assert await anext(stream) == b"late"
        await transport.close()

    with RawServer(play) as server:
        asyncio.run(main())


def _silent(connection: Connection) -> None:
    connection.request()
    connection.until_left()


def _left_before_head(connection: Connection) -> None:
    connection.request()


def _reset_before_head(connection: Connection) -> None:
    connection.request()
    connection.reset()


def _half_a_head(connection: Connection) -> None:
    connection.request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-")


def _not_http(connection: Connection) -> None:
    connection.request()
    connection.send(b"SSH-2.0-OpenSSH_9.6\r\n")


@pytest.mark.parametrize(
    "play, kind, words",
    [
        (_silent, "stalled_head", "within 0.4 s"),
        (_left_before_head, "before_head", "before it answered"),
        (_reset_before_head, "before_head", "reset"),
        (_half_a_head, "before_head", "before it answered"),
        (_not_http, "before_head", "is not HTTP"),
    ],
)
def test_failures_before_the_head_are_told_apart(play: Play, kind: str, words: str) -> None:
    """Each has its kind and a readable reason, and a fresh connection is not tried again."""
    with RawServer(play) as server:
        (got,) = run(request(server.url, first_byte=0.4))
        assert (got.kind, got.status) == (kind, 0)
        assert words in got.reason
        assert str(server.port) in got.reason
        assert len(server.requests) == server.connections == 1


def test_a_refused_connection_is_told() -> None:
    """Nobody listens: a failure to connect."""
    with unanswered_port() as port:
        (got,) = run(request(f"http://127.0.0.1:{port}/v1/responses"))
    assert got.kind == "connect"
    assert got.reason == f"can't connect to 127.0.0.1:{port}: Connection refused"


def test_a_name_that_does_not_resolve_is_told() -> None:
    """The name is in the reason."""
    (got,) = run(request("http://nobody.invalid/v1/responses"))
    assert got.kind == "connect"
    assert got.reason.startswith("can't resolve the name of nobody.invalid: ")


def test_a_connection_that_does_not_come_to_stand_stalls() -> None:
    """TLS counts as a part of connecting: a server that never answers the handshake."""
    with RawServer(Connection.until_left) as server:
        url = server.url.replace("http:", "https:")
        (got,) = run(request(url, connect=0.4))
    assert got.kind == "stalled_connect"
    assert "within 0.4 s" in got.reason


def test_silence_is_counted_from_the_last_byte() -> None:
    """A stream that takes longer than the deadline, but is never silent for so long, is whole."""

    def play(connection: Connection) -> None:
        connection.request()
        connection.send(HEAD)
        for _ in range(10):
            connection.chunk(b"drop")
            connection.server.left.wait(0.1)
        connection.send(END)

    with RawServer(play) as server:
        (got,) = run(request(server.url, silence=0.7))
    assert (got.body, got.kind) == (b"drop" * 10, "")


@pytest.mark.parametrize("play", [_silent, _stall])
def test_cancelling_ends_the_request(play: Play) -> None:
    """The server sees the client leave, both before the head and in the middle of the body."""

    async def main() -> None:
        transport = HttpTransport(environ={})
        task = asyncio.create_task(exchange(transport, request(server.url)))
        await asyncio.to_thread(wait_until, lambda: bool(server.requests))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        assert await asyncio.to_thread(server.left.wait, 20)
        await transport.close()

    with RawServer(play) as server:
        asyncio.run(main())


def test_cancelling_one_request_leaves_the_others() -> None:
    """Of two requests that wait for their heads only the one that was given up is ended."""
    go_on = threading.Event()

    def play(connection: Connection) -> None:
        connection.request()
        if connection.server.bodies[-1] == b"kept":
            go_on.wait(20)
            connection.answer(b"done")
        else:
            connection.until_left()

    async def main() -> None:
        transport = HttpTransport(environ={})
        kept = asyncio.create_task(exchange(transport, request(server.url, b"kept")))
        await asyncio.to_thread(wait_until, lambda: len(server.requests) == 1)
        given_up = asyncio.create_task(exchange(transport, request(server.url, b"given up")))
        await asyncio.to_thread(wait_until, lambda: len(server.requests) == 2)
        given_up.cancel()
        assert await asyncio.to_thread(server.left.wait, 20)
        go_on.set()
        assert (await kept).body == b"done"
        await transport.close()

    with RawServer(play) as server:
        asyncio.run(main())


def test_a_request_that_stalled_before_its_head_is_ended() -> None:
    """Its connection does not stay behind."""
    with RawServer(_silent) as server:
        (got,) = run(request(server.url, first_byte=0.3))
        assert got.kind == "stalled_head"
        assert server.left.wait(20)


def test_a_transport_outlives_an_event_loop() -> None:
    """It can be used from one loop after the other, kept connections included."""
    transport = HttpTransport(environ={})

    async def once(*, last: bool) -> None:
        assert (await exchange(transport, request(server.url))).body == BODY
        if last:
            await transport.close()

    with RawServer(_serving) as server:
        asyncio.run(once(last=False))
        asyncio.run(once(last=True))


def test_a_stream_that_was_closed_early_leaves_the_transport_usable() -> None:
    """Closing behind the head frees the connection; the next exchange gets its own."""

    async def main() -> None:
        transport = HttpTransport(environ={})
        async with aclosing(transport.stream(request(server.url))) as stream:
            await anext(stream)
        assert (await exchange(transport, request(server.url))).body == BODY
        await transport.close()

    with RawServer(_clean) as server:
        asyncio.run(main())


def _serving(connection: Connection) -> None:
    """Keep-alive as it should be."""
    while connection.request():
        connection.send(HEAD)
        connection.chunk(BODY)
        connection.send(END)


def test_connections_are_kept_and_used_again() -> None:
    """Not each exchange opens one. (One that comes too soon behind another may.)"""
    with RawServer(_serving) as server:
        assert [got.body for got in run(*[request(server.url)] * 9)] == [BODY] * 9
        assert server.connections < 9


def test_exchanges_at_a_time_do_not_wait_for_each_other() -> None:
    """Each has its own connection: the second ends while the first is held."""
    go_on = threading.Event()

    def play(connection: Connection) -> None:
        connection.request()
        if connection.server.bodies[-1] == b"first":
            go_on.wait(20)
        connection.answer(b"done")

    async def main() -> None:
        transport = HttpTransport(environ={})
        first = asyncio.create_task(exchange(transport, request(server.url, b"first")))
        await asyncio.to_thread(wait_until, lambda: bool(server.requests))
        assert (await exchange(transport, request(server.url, b"second"))).body == b"done"
        assert not first.done()
        go_on.set()
        assert (await first).body == b"done"
        await transport.close()

    with RawServer(play) as server:
        asyncio.run(main())


def test_redirects_are_not_followed() -> None:
    """A redirect is an answer like another; the host that it names gets no key."""
    with RawServer(_serving) as other:

        def play(connection: Connection) -> None:
            connection.request()
            connection.answer(b"", "307 Temporary Redirect", f"Location: {other.url}\r\n")

        with RawServer(play) as server:
            (got,) = run(request(server.url))
        assert got.status == 307
        assert other.requests == []


def test_the_request_is_sent_as_it_is_and_asks_for_no_compression() -> None:
    """Method, path, headers and body arrive; nothing asks for an encoded body."""
    with RawServer(_clean) as server:
        run(request(server.url + "?api-version=1", b'{"model":"m"}'))
    head = server.requests[0].lower()
    assert head.startswith(b"post /v1/responses?api-version=1 http/1.1\r\n")
    assert f"authorization: bearer {KEY}".encode() in head
    assert b"accept-encoding" not in head
    assert server.bodies == [b'{"model":"m"}']


@pytest.mark.parametrize(
    "url, key, words",
    [
        ("http://127.0.0.1:1/", f"{KEY}\nX: y", "header"),
        ("no url at all", KEY, "URL"),
        ("http://user:pass@[::/x?key=s3cret", KEY, "URL"),
    ],
)
def test_what_can_not_be_sent_is_a_usage_error_without_secrets(
    url: str, key: str, words: str
) -> None:
    """Neither the error nor one it was raised from quotes the key, the password or the query."""
    asked = HttpRequest(method="POST", url=url, headers={"Authorization": key}, body=b"")
    with pytest.raises(UsageError, match=words) as caught:
        run(asked)
    assert caught.value.__context__ is None
    for secret in (KEY, "pass", "s3cret"):
        assert secret not in str(caught.value)


def test_no_failure_tells_a_secret() -> None:
    """Neither URL credentials nor the query nor the key are in a reason or in a request's text."""
    with unanswered_port() as port:
        asked = request(f"http://user:pass@127.0.0.1:{port}/v1/responses?key=s3cret")
        (got,) = run(asked)
    for text in (got.reason, repr(asked), str(asked), f"{asked}"):
        for secret in (KEY, "pass", "s3cret"):
            assert secret not in text


def test_nothing_is_left_open() -> None:
    """A closed transport keeps no connection."""
    with RawServer(_serving) as server:

        async def main() -> None:
            transport = HttpTransport(environ={})
            await exchange(transport, request(server.url))
            await transport.close()
            gc.collect()
            await asyncio.to_thread(server.gone.wait, 20)
            assert server.gone.is_set()

        asyncio.run(main())

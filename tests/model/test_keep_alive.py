"""Kept-alive connections that turn out to be closed: tried again once, and only they."""

import asyncio

import pytest

from backstay.model.http import SOON, HttpTransport
from tests.model.exchange import exchange, request, run
from tests.model.servers import (
    CERTIFICATES,
    END,
    HEAD,
    Connection,
    Play,
    RawServer,
    forwarding,
    tls,
)


def _answer(connection: Connection) -> None:
    connection.send(HEAD)
    connection.chunk(b"data: {}\n\n")
    connection.send(END)


def _closes_at_once(connection: Connection) -> None:
    """As llama.cpp: keep-alive is advertised, the socket is closed (FACTS 15)."""
    connection.request()
    _answer(connection)


def _closes_on_the_next(connection: Connection) -> None:
    """The close crosses the next request, which is read and never answered."""
    connection.request()
    _answer(connection)
    connection.request()


def _resets_on_the_next(connection: Connection) -> None:
    connection.request()
    _answer(connection)
    connection.request()
    connection.reset()


def _does_not_read_the_next(connection: Connection) -> None:
    connection.request()
    _answer(connection)
    connection.sock.recv(1)


def test_a_server_that_closes_after_each_response_sees_each_request_once() -> None:
    """Many exchanges in a row succeed, one request and one connection each."""
    with RawServer(_closes_at_once) as server:
        got = run(*[request(server.url, b"%d" % n) for n in range(30)])
        assert [(one.status, one.kind) for one in got] == [(200, "")] * 30
        assert server.bodies == [b"%d" % n for n in range(30)]


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    "play", [_closes_on_the_next, _resets_on_the_next, _does_not_read_the_next]
)
def test_a_failure_on_a_kept_connection_is_tried_again_on_a_fresh_one(
    play: Play, secure: bool
) -> None:
    """All exchanges succeed, although every second one first meets a dead connection."""
    with RawServer(play, tls() if secure else None) as server:
        asked = [request(server.url)] * 6
        got = run(*asked, ca_file=str(CERTIFICATES / "authority.pem"))
        assert [(one.status, one.kind) for one in got] == [(200, "")] * 6


@pytest.mark.parametrize("secure", [False, True])
def test_the_second_try_is_the_last(secure: bool) -> None:
    """A server that fails from the second request on sees it twice: kept, then fresh."""

    def play(connection: Connection) -> None:
        while connection.request() and len(connection.server.requests) == 1:
            _answer(connection)

    with RawServer(play, tls() if secure else None) as server:
        asked = [request(server.url)] * 3
        got = run(*asked, ca_file=str(CERTIFICATES / "authority.pem"))
        assert [one.kind for one in got] == ["", "before_head", "before_head"]
        # The third goes over a fresh connection, and is not tried again.
        assert len(server.requests) == 1 + 2 + 1


@pytest.mark.parametrize("secure", [False, True])
def test_a_fresh_connection_is_not_tried_again_behind_a_closed_one(secure: bool) -> None:
    """The kept connection was seen to be closed, a new one was made: its failure counts."""

    def play(connection: Connection) -> None:
        connection.request()
        if connection.server.connections == 1:
            _answer(connection)

    async def main() -> None:
        transport = HttpTransport(environ={}, ca_file=str(CERTIFICATES / "authority.pem"))
        assert (await exchange(transport, request(server.url))).kind == ""
        await asyncio.sleep(2 * SOON)  # the close arrives
        assert (await exchange(transport, request(server.url))).kind == "before_head"
        assert len(server.requests) == 2
        await transport.close()

    with RawServer(play, tls() if secure else None) as server:
        asyncio.run(main())


@pytest.mark.parametrize("secure", [False, True])
def test_a_kept_connection_through_a_proxy_is_tried_again_too(secure: bool) -> None:
    """What is kept there is the connection to the proxy, or the tunnel."""
    with RawServer(_closes_on_the_next, tls() if secure else None) as server:
        with RawServer(forwarding) as between:
            url = f"http://127.0.0.1:{between.port}"
            environ = {"HTTP_PROXY": url, "HTTPS_PROXY": url}
            asked = [request(server.url)] * 4
            got = run(*asked, environ=environ, ca_file=str(CERTIFICATES / "authority.pem"))
        assert [(one.status, one.kind) for one in got] == [(200, "")] * 4
        # The first; then three times one that died and one that did not.
        assert len(server.requests) == 7


def test_an_answer_that_began_is_not_tried_again() -> None:
    """A stream that breaks on a kept connection is an attempt that counts."""

    def play(connection: Connection) -> None:
        connection.request()
        _answer(connection)
        connection.request()
        connection.send(HEAD)
        connection.chunk(b"half")

    with RawServer(play) as server:
        got = run(*[request(server.url)] * 2)
        assert [(one.body, one.kind) for one in got] == [
            (b"data: {}\n\n", ""),
            (b"half", "broken"),
        ]
        assert len(server.requests) == 2


def test_silence_before_the_head_is_not_tried_again() -> None:
    """A kept connection on which no answer comes in time is stalled, not dead."""

    def play(connection: Connection) -> None:
        connection.request()
        _answer(connection)
        connection.request()
        connection.until_left()

    with RawServer(play) as server:
        got = run(*[request(server.url, first_byte=0.5)] * 2)
        assert [one.kind for one in got] == ["", "stalled_head"]
        assert len(server.requests) == 2

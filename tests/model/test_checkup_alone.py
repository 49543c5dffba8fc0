"""One exchange on a socket of its own: how the body ends, and what becomes of the connection."""

import asyncio

import pytest

from backstay.model.checkup.alone import Exchange, exchange
from tests.model.exchange import request
from tests.model.servers import CERTIFICATES, END, HEAD, Connection, Play, RawServer, tls


def chunks(connection: Connection) -> None:
    """A chunked answer with an extension and a trailer."""
    connection.request()
    connection.send(HEAD)
    connection.chunk(b"one ")
    connection.send(b"3;x=y\r\ntwo\r\n0\r\nTrailer: t\r\n\r\n")


def kept(connection: Connection) -> None:
    """An answer, and the connection stays."""
    connection.request()
    connection.send(HEAD)
    connection.chunk(b"one two")
    connection.send(END)
    connection.until_left()


def of_a_length(connection: Connection) -> None:
    """An answer with its length that says that it will close."""
    connection.request()
    connection.answer(b"one two", headers="Connection: close\r\n")


def to_the_end(connection: Connection) -> None:
    """A body that ends with its connection."""
    connection.request()
    connection.send(b"HTTP/1.1 200 OK\r\n\r\none two")


def cut(connection: Connection) -> None:
    """Half a chunk."""
    connection.request()
    connection.send(HEAD + b"ff\r\none")


def nonsense(connection: Connection) -> None:
    """No HTTP at all."""
    connection.request()
    connection.send(b"220 mail ready\r\n\r\n\r\n")


def run(play: Play) -> Exchange | None:
    """One exchange with a server that plays this."""
    with RawServer(play) as server:
        return asyncio.run(exchange(request(server.url, b"{}"), {}))


@pytest.mark.parametrize(
    "play, trapped", [(chunks, True), (kept, False), (of_a_length, False), (to_the_end, False)]
)
def test_a_connection_that_was_promised_to_be_kept_is_kept_or_not(
    play: Play, trapped: bool
) -> None:
    """A trap is a close without a word about it; the body is whole however it ends."""
    found = run(play)
    assert found is not None
    assert (found.head.status, found.body, found.trapped) == (200, b"one two", trapped)


@pytest.mark.parametrize("play", [cut, nonsense])
def test_what_is_no_whole_answer_is_none(play: Play) -> None:
    """The checkup asks in its usual way then."""
    assert run(play) is None


def test_behind_a_proxy_and_without_a_server_there_is_none() -> None:
    """Nothing is connected to where a proxy is set."""
    with RawServer(kept) as server:
        asked = request(server.url, b"{}")
        assert asyncio.run(exchange(asked, {"HTTP_PROXY": "http://127.0.0.1:9"})) is None
        assert server.connections == 0
    assert asyncio.run(exchange(asked, {})) is None


def test_tls_is_checked_as_everywhere() -> None:
    """With the authorities of SSL_CERT_FILE; an unknown one is refused."""
    with RawServer(kept, tls=tls()) as server:
        asked = request(server.url, b"{}")
        environ = {"SSL_CERT_FILE": str(CERTIFICATES / "authority.pem")}
        found = asyncio.run(exchange(asked, environ))
        assert found is not None
        assert found.body == b"one two"
        assert asyncio.run(exchange(asked, {})) is None

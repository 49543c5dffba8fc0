"""The transport over real sockets: HTTP/1.1 by pyreqwest, which loads with this module.

Owns connections and the phases of an exchange. A client of the library serves one exchange at a
time: only so can be told whether a failed exchange used a kept-alive connection.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from typing import Final

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from backstay.errors import UsageError
from backstay.model.environment import Surroundings, read
from backstay.model.failure import failure, stalled
from backstay.model.pump import Pump, Silence
from backstay.model.sever import mark, sever
from backstay.model.transport import Deadlines, Head, HttpRequest, TransportError, shown

SOON: Final = 0.25
"""Seconds in which a connection that was used has surely been given back."""


class _Lease:
    """A client for one exchange at a time, and whether that exchange used a kept connection.

    The library asks for the proxy when it opens a connection, and for plain HTTP also for every
    request; so an exchange with fewer questions than the first one had opened none. One that
    follows `SOON` after another may have opened one, and used the kept one nevertheless, which was
    given back meanwhile.
    """

    def __init__(self, client: Client, questions: list[None], marked: int) -> None:
        self.client = client
        self.mark = marked
        self._questions = questions
        self._of_first: int | None = None
        self._ended = -SOON
        self._soon = False

    def begin(self) -> None:
        self._questions.clear()
        self._soon = self.just_ended

    def answered(self) -> None:
        if self._of_first is None:
            self._of_first = len(self._questions)

    def end(self) -> None:
        self._ended = time.monotonic()

    @property
    def just_ended(self) -> bool:
        return time.monotonic() - self._ended < SOON

    @property
    def reused(self) -> bool:
        if self._of_first is None:
            return False
        return self._soon or len(self._questions) < self._of_first


class _Exchange:
    """One request that was answered: the head is in, the body is being read."""

    def __init__(self, request: HttpRequest, lease: _Lease, streamed: StreamRequest) -> None:
        self._request = request
        self._streamed = streamed
        self.lease = lease

    async def open(self) -> None:
        """Send the request and wait for the head."""
        self.lease.begin()
        try:
            async with asyncio.timeout(self._request.deadlines.first_byte):
                self._response = await self._answer()
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the library had its answer, and missed it
                await self.close()
                raise asyncio.CancelledError
        except TimeoutError:
            sever(self.lease.mark)
            raise stalled("stalled_head", self._request) from None
        except asyncio.CancelledError:
            sever(self.lease.mark)
            raise
        self.lease.answered()

    async def _answer(self) -> Response:
        try:
            return await self._streamed.__aenter__()
        except PyreqwestError as error:
            found = failure(error, self._request, headed=False)
        raise found

    def head(self) -> Head:
        headers: dict[str, str] = {}
        for name, value in self._response.headers.items():
            known = headers.get(name)
            headers[name] = value if known is None else f"{known}, {value}"
        return Head(self._response.status, headers)

    async def read(self) -> bytes | None:
        try:
            piece = await self._response.body_reader.read_chunk()
        except PyreqwestError as error:
            found = failure(error, self._request, headed=True)
        else:
            return None if piece is None else bytes(piece)
        raise found

    async def close(self) -> None:
        await self._streamed.__aexit__(None, None, None)


class HttpTransport:
    """Fulfils `Transport`. One per process is enough; `close` it at the end.

    Proxies and SSL_CERT_FILE are taken from `environ`; `ca_file` names further authorities (PEM)
    and goes before SSL_CERT_FILE. Redirects are not followed, so no other host gets the key.
    A failure before any byte of an answer on a kept-alive connection is tried again, once and at
    once, on a fresh one (FACTS 15). Raises `UsageError` for values that can't be used.
    """

    def __init__(self, *, ca_file: str = "", environ: Mapping[str, str] | None = None) -> None:
        self._surroundings = read(os.environ if environ is None else environ, ca_file)
        self._idle: dict[tuple[str, Deadlines], list[_Lease]] = {}

    async def stream(self, request: HttpRequest) -> AsyncGenerator[Head | bytes, None]:
        exchange = await self._exchange(request)
        try:
            async with Pump(exchange.read, request.deadlines.silence) as pump:
                yield exchange.head()
                while (piece := await pump.next()) is not None:
                    yield piece
        except Silence:
            raise stalled("stalled", request) from None
        finally:
            await exchange.close()
            exchange.lease.end()
            self._idle.setdefault(_pool(request), []).append(exchange.lease)

    async def close(self) -> None:
        """Close the connections that are kept alive. The transport can be used again."""
        for leases in self._idle.values():
            while leases:
                await leases.pop().client.close()

    async def _exchange(self, request: HttpRequest) -> _Exchange:
        idle = self._idle.get(_pool(request))
        lease = idle.pop() if idle else self._lease(request)
        if lease.just_ended:
            await asyncio.sleep(0.002)  # less than a new connection takes
        exchange = self._prepared(request, lease)
        try:
            await exchange.open()
        except TransportError as error:
            if error.kind != "before_head" or not exchange.lease.reused:
                raise
            exchange = self._prepared(request, self._lease(request))
            await exchange.open()
        return exchange

    def _prepared(self, request: HttpRequest, lease: _Lease) -> _Exchange:
        wrong = f"the provider's URL can't be used: {shown(request.url)}"
        try:
            builder = lease.client.request(request.method, request.url)
            wrong = "a header of the request holds a character that HTTP does not allow"
            builder = builder.headers(request.headers)
            # Without this limit the library reads ahead, and drops what it read when reading fails.
            builder = builder.body_bytes(request.body).streamed_read_buffer_limit(0)
            return _Exchange(request, lease, builder.build_streamed())
        except (ValueError, TypeError):  # its text may quote the key: nothing of it goes on
            pass
        raise UsageError(wrong)

    def _lease(self, request: HttpRequest) -> _Lease:
        questions: list[None] = []
        marked = mark()
        try:
            client = _client(self._surroundings, request.deadlines, questions, marked)
        except ValueError:  # its text may quote a proxy's password
            client = None
        if client is None:
            raise UsageError("the proxy or the certificate authorities can't be used")
        return _Lease(client, questions, marked)


def _pool(request: HttpRequest) -> tuple[str, Deadlines]:
    """Exchanges that may use each other's clients: same scheme and host, same deadlines."""
    return "/".join(request.url.split("/", 3)[:3]), request.deadlines


def _client(
    surroundings: Surroundings, deadlines: Deadlines, questions: list[None], marked: int
) -> Client:
    def note(_: object) -> None:
        questions.append(None)

    builder = (
        ClientBuilder()
        .connect_timeout(timedelta(seconds=deadlines.connect))
        # The deadlines are ours; this one only ends what was given up and could not be severed.
        .read_timeout(timedelta(seconds=2 * max(deadlines.first_byte, deadlines.silence) + 5))
        .tcp_user_timeout(timedelta(milliseconds=marked))
        .follow_redirects(enable=False)
        .referer(enable=False)
        .gzip(enable=False)
        .brotli(enable=False)
        .zstd(enable=False)
        .deflate(enable=False)
        .proxy(ProxyBuilder.custom(note))
    )
    exempt = surroundings.no_proxy
    if surroundings.http_proxy:
        builder = builder.proxy(ProxyBuilder.http(surroundings.http_proxy).no_proxy(exempt))
    if surroundings.https_proxy:
        builder = builder.proxy(ProxyBuilder.https(surroundings.https_proxy).no_proxy(exempt))
    if surroundings.authorities:
        builder = builder.add_root_certificate_pem(surroundings.authorities)
    return builder.build()

"""One HTTP/1.1 connection on a raw socket: requests in, answers out, and every way to end it.

Owns framing, keep-alive, FIN and RST. Knows nothing of scripts. A library would hide the bytes
and the endings, which are the point here.
"""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Awaitable, Callable, Iterable

from msgspec import Struct

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 256 * 1024 * 1024
BATCH = 256 * 1024
DRAIN_SECONDS = 5.0

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    425: "Too Early",
    426: "Upgrade Required",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Garbled(Exception):
    """The client sent something that is not an HTTP request; the message says what.

    `received`: the beginning of what came, without what may be a secret: the first line.
    """

    received: bytes = b""


class ClientLeft(Exception):
    """The client closed or reset the connection."""


class HttpRequest(Struct):
    """A request as it came; header names in lower case, in `fields` as they were sent.

    `path` is without the query, `target` with it.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    target: str = ""
    fields: list[tuple[str, str]] = []


class Connection:
    """A client's connection; `number` counts them from 1.

    `encoded`: requests may have a content-encoding; their bodies are then left as they are.
    """

    def __init__(self, sock: socket.socket, number: int, *, encoded: bool = False) -> None:
        self.encoded = encoded
        self.sock = sock
        self.number = number
        self.loop = asyncio.get_running_loop()
        self.buffer = bytearray()
        self.first_line = b""

    # ----- requests

    async def request(self) -> HttpRequest | None:
        """The next request; None when the client is done. Raises Garbled, ClientLeft."""
        self.first_line = b""
        try:
            return await self._request()
        except Garbled as error:
            error.received = (self.first_line or bytes(self.buffer)).split(b"\n")[0].strip()[:1000]
            raise

    async def _request(self) -> HttpRequest | None:
        head = await self._head()
        if head is None:
            return None
        self.first_line = head
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise Garbled("the request line is not METHOD PATH HTTP/1.1")
        fields = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise Garbled("a header line is not NAME: VALUE")
            fields.append((name, value.strip()))
        headers = {name.lower(): value for name, value in fields}
        if headers.get("expect", "").lower() == "100-continue":
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._body(headers)
        wish = headers.get("connection", "").lower()
        keep = "keep-alive" in wish if words[2] == "HTTP/1.0" else "close" not in wish
        path = words[1].partition("?")[0]
        return HttpRequest(words[0], path, headers, body, keep, words[1], fields)

    async def _head(self) -> bytes | None:
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            if len(self.buffer) > HEAD_LIMIT:
                raise Garbled(f"the headers are over {HEAD_LIMIT} bytes")
            if not await self._more():
                if self.buffer.strip():
                    raise Garbled("the connection ended within the headers")
                return None
        head = bytes(self.buffer[:end]).lstrip(b"\r\n")
        del self.buffer[: end + 4]
        return head

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "content-encoding" in headers and not self.encoded:
            raise Garbled("content-encoding is not supported here; send plain JSON")
        if "transfer-encoding" in headers:
            return await self._chunks()
        size = headers.get("content-length", "0")
        if not size.isascii() or not size.isdigit():
            raise Garbled("content-length is not a number")
        return await self._exactly(int(size))

    async def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            try:
                size = int((await self._line()).partition(b";")[0], 16)
            except ValueError:
                raise Garbled("a chunk's size is not a hexadecimal number") from None
            if size == 0:
                while await self._line():
                    pass
                return bytes(body)
            body += await self._exactly(size)
            if len(body) > BODY_LIMIT or await self._line():
                raise Garbled("a chunk is longer than it says, or the body is too large")

    async def _line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            if len(self.buffer) > HEAD_LIMIT or not await self._more():
                raise Garbled("the connection ended within a chunked body")
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line

    async def _exactly(self, size: int) -> bytes:
        if not 0 <= size <= BODY_LIMIT:
            raise Garbled(f"the body is over {BODY_LIMIT} bytes")
        while len(self.buffer) < size:
            if not await self._more():
                raise Garbled("the connection ended within the body")
        body = bytes(self.buffer[:size])
        del self.buffer[:size]
        return body

    async def _more(self) -> bool:
        try:
            received = await self.loop.sock_recv(self.sock, BATCH)
        except OSError:
            raise ClientLeft from None
        self.buffer += received
        return bool(received)

    # ----- answers

    async def send(self, content: bytes) -> None:
        """Send these bytes; raises ClientLeft."""
        try:
            await self.loop.sock_sendall(self.sock, content)
        except OSError:
            raise ClientLeft from None

    async def send_head(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send a status line and headers."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.send("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))

    async def send_pieces(
        self, pieces: Iterable[bytes], *, chunked: bool, missing: int = 0
    ) -> None:
        """Send pieces, each as a chunk where chunked; the last announces `missing` bytes more."""
        pieces = list(pieces)
        if chunked:
            framed = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
            if missing:
                last = pieces[-1] if pieces else b""
                framed[-1:] = [b"%x\r\n%b" % (len(last) + missing, last)]
            pieces = framed
        content = memoryview(b"".join(pieces))
        for start in range(0, len(content), BATCH):
            await self.send(bytes(content[start : start + BATCH]))

    async def client_leaves(self, seconds: float | None) -> bool:
        """Wait so long, or without end, for the client to leave; true if it did."""
        deadline = None if seconds is None else self.loop.time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                while await self._more():
                    pass
        except TimeoutError:
            return False
        except ClientLeft:
            pass
        return True

    async def left(self) -> None:
        """Return when the client closes or resets the connection, also while others send on it.

        Reads nothing; once the client has sent more it is no longer watched.
        """
        gone = self.loop.create_future()

        def look() -> None:
            try:
                came = self.sock.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return
            except OSError:
                came = b""
            self.loop.remove_reader(self.sock)
            if not came and not gone.done():
                gone.set_result(None)

        self.loop.add_reader(self.sock, look)
        try:
            await gone
        finally:
            self.loop.remove_reader(self.sock)

    # ----- endings

    def close(self) -> None:
        """End the connection with a FIN."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.setblocking(False)
            while self.sock.recv(BATCH):  # unread bytes would turn the FIN into a RST
                pass
        except OSError:
            pass
        self.sock.close()

    async def reset(self) -> None:
        """End the connection with a RST, once the client's machine has all that was sent."""
        deadline = self.loop.time() + DRAIN_SECONDS
        while self._unsent() and self.loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.sock.close()

    def _unsent(self) -> int:
        """Bytes that the other side has not acknowledged (Linux; elsewhere 0)."""
        try:
            answer = fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        except OSError:
            return 0
        return int(struct.unpack("i", answer)[0])


async def attended(
    connection: Connection, converse: Callable[[Connection], Awaitable[str]]
) -> None:
    """Hold a conversation to its end, then end the connection as it says: "reset", else a FIN."""
    how = "close"
    try:
        how = await converse(connection)
    except ClientLeft:
        pass
    finally:
        if how == "reset":
            await connection.reset()
        else:
            connection.close()

"""The way to the real provider: one connection a request, its answer's head, its body as it comes.

Owns the client's side of HTTP/1.1 and TLS, and the words for what goes wrong there. No library, since
how a body ends must be seen as it is, and passed on.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from backstay.chaos.script import ScriptError

CONNECT_SECONDS = 10.0
HEAD_SECONDS = 600.0
PIECE = 64 * 1024
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_OURS = frozenset(("host", "content-length", "expect", "accept-encoding"))

Fields = list[tuple[str, str]]


class Unreachable(Exception):
    """No answer could be had; the message says why, in one line."""


class Broken(Exception):
    """The answer broke off: `reset` says how the connection ended."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("reset" if reset else "closed")
        self.reset = reset


class Provider(Struct, frozen=True):
    """Where a provider is; `path` is what stands there for the `/v1` of the proxy."""

    host: str
    port: int
    path: str
    authority: str
    tls: ssl.SSLContext | None = None

    def target(self, target: str) -> str:
        """The path and query to ask for; what does not begin with /v1 stays as it is."""
        path, question, query = target.partition("?")
        if path == "/v1" or path.startswith("/v1/"):
            path = self.path + path[3:] or "/"
        return path + question + query


def provider(url: str, ca_file: str | None = None) -> Provider:
    """The provider at this base URL; `ca_file`: whom to trust instead of the system's authorities.

    Raises ScriptError.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ScriptError(f"--to {url}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ScriptError(f"--to {url}: give a base URL like https://api.openai.com/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ScriptError("--to: the URL must not hold a user, a query or a fragment")
    context = None
    if parts.scheme == "https":
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ScriptError(f"--ca {ca_file}: no certificates: {error.strerror}") from None
    port = port or (443 if context else 80)
    return Provider(parts.hostname, port, parts.path.rstrip("/"), parts.netloc, context)


class Answer:
    """An answer whose head is there; `pieces` gives its body. `close` ends it, whatever is left."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.fields: Fields = []
        self.framing: Literal["none", "length", "chunked", "close"] = "close"
        self.length = 0

    @property
    def kind(self) -> str:
        """The media type."""
        return _field(self.fields, "content-type").partition(";")[0].strip().lower()

    @property
    def kept(self) -> Fields:
        """The headers that are the answer's, not the connection's."""
        named = _field(self.fields, "connection").lower().replace(" ", "").split(",")
        dropped = _HOP_BY_HOP | {"content-length", *named}
        return [field for field in self.fields if field[0].lower() not in dropped]

    def close(self) -> None:
        """Drop the connection."""
        self.writer.transport.abort()

    async def head(self, method: str) -> None:
        """Read status and headers; raises Unreachable."""
        while self.status < 200:  # what comes before is "continue" and the like
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                how = "in the middle of its headers" if error.partial else "without an answer"
                raise Unreachable(f"closed the connection {how}") from None
            except asyncio.LimitOverrunError:
                raise Unreachable("sent headers without an end") from None
            first, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
            words = first.split(" ", 2)
            if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
                raise Unreachable("did not answer in HTTP/1.1")
            self.status = int(words[1])
            pairs = (line.partition(":") for line in lines if line)
            self.fields = [(name, value.strip()) for name, _, value in pairs]
        self._frame(method)

    def _frame(self, method: str) -> None:
        length = _field(self.fields, "content-length")
        if method == "HEAD" or self.status in (204, 304):
            self.framing = "none"
        elif _field(self.fields, "transfer-encoding"):
            self.framing = "chunked"
        elif length:
            if not length.isascii() or not length.isdigit():
                raise Unreachable("sent a content-length that is no number")
            self.framing, self.length = "length", int(length)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes; raises Broken where it breaks off."""
        try:
            if self.framing == "chunked":
                while size := await self._chunk_size():
                    async for piece in self._exactly(size):
                        yield piece
                    await self.reader.readuntil(b"\r\n")
                while await self._line():
                    pass
            elif self.framing == "length":
                async for piece in self._exactly(self.length):
                    yield piece
            elif self.framing == "close":
                while piece := await self.reader.read(PIECE):
                    yield piece
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, ssl.SSLError):
            raise Broken(reset=False) from None
        except OSError:
            raise Broken(reset=True) from None

    async def _chunk_size(self) -> int:
        return int((await self._line()).partition(b";")[0], 16)

    async def _line(self) -> bytes:
        return (await self.reader.readuntil(b"\r\n"))[:-2]

    async def _exactly(self, size: int) -> AsyncGenerator[bytes, None]:
        while size:
            piece = await self.reader.read(min(size, PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(piece)
            yield piece


async def ask(to: Provider, method: str, target: str, fields: Fields, body: bytes) -> Answer:
    """Send a request and read the head of its answer, which is then to be closed.

    Raises Unreachable.
    """
    answer = await _connect(to)
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            answer.writer.write(_head(to, method, target, fields, body) + body)
            sending = asyncio.ensure_future(answer.writer.drain())
            try:
                await answer.head(method)
            finally:  # who answers early need not read the rest
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    except TimeoutError:
        answer.close()
        raise Unreachable(f"did not answer within {HEAD_SECONDS:g} s") from None
    except OSError as error:
        answer.close()
        raise Unreachable(f"broke the connection off: {_reason(error)}") from None
    except BaseException:
        answer.close()
        raise
    return answer


async def _connect(to: Provider) -> Answer:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            name = to.host if to.tls else None
            return Answer(
                *await asyncio.open_connection(
                    to.host, to.port, ssl=to.tls, server_hostname=name, limit=4 * PIECE
                )
            )
    except TimeoutError:
        raise Unreachable(f"did not accept a connection within {CONNECT_SECONDS:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(
            f"has a certificate that is not trusted: {error.verify_message}"
        ) from None
    except ssl.SSLError as error:
        raise Unreachable(f"does not speak TLS with us: {error.reason or error}") from None
    except OSError as error:
        raise Unreachable(f"cannot be reached: {_reason(error)}") from None


def _head(to: Provider, method: str, target: str, fields: Fields, body: bytes) -> bytes:
    """The request's line and headers: the client's, but for those of the connection."""
    named = _field(fields, "connection").lower().replace(" ", "").split(",")
    dropped = _HOP_BY_HOP | _OURS | set(named)
    kept = [field for field in fields if field[0].lower() not in dropped]
    kept = [("Host", to.authority), *kept, ("Accept-Encoding", "identity"), ("Connection", "close")]
    if body or method not in ("GET", "HEAD", "DELETE", "OPTIONS"):
        kept.append(("Content-Length", str(len(body))))
    lines = [f"{method} {to.target(target)} HTTP/1.1", *(f"{n}: {v}" for n, v in kept), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")


def _field(fields: Fields, name: str) -> str:
    return ", ".join(value for key, value in fields if key.lower() == name)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()

"""One exchange on a socket of its own, to see what the server does with the socket afterwards.

Plain HTTP/1.1, for a checkup alone; everything else goes through `model.http`.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import msgspec

from backstay.model.environment import read
from backstay.model.transport import Head, HttpRequest

AFTERWARDS: Final = 0.15
"""Seconds in which a server closes that will not keep its promise."""
LONGEST: Final = 1 << 20
"""Bytes of an answer, and of a line."""


class Exchange(msgspec.Struct, frozen=True):
    """An answer, and what became of its connection."""

    head: Head
    body: bytes
    trapped: bool
    """It was closed although it had been promised to be kept."""


async def exchange(
    request: HttpRequest, environ: Mapping[str, str] | None = None
) -> Exchange | None:
    """Send it and read the whole answer; None where that can't be done like this.

    That is: behind a proxy, or where the connection fails or is no HTTP/1.1. `environ` is where
    proxies and certificate authorities are looked up.
    """
    surroundings = read(os.environ if environ is None else environ)
    if surroundings.http_proxy or surroundings.https_proxy:
        return None
    parts = urlsplit(request.url)
    secure = parts.scheme.lower() == "https"
    try:
        reader, writer = await asyncio.open_connection(
            parts.hostname,
            parts.port or (443 if secure else 80),
            ssl=_context(surroundings.authorities) if secure else None,
            limit=LONGEST,
        )
    except (OSError, ValueError):
        return None
    try:
        writer.write(_head(request, parts.netloc.rpartition("@")[2], _target(request.url)))
        await writer.drain()
        return await _read(reader)
    except (OSError, ValueError, EOFError, asyncio.LimitOverrunError):
        return None
    finally:
        writer.transport.abort()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(AFTERWARDS):
                await writer.wait_closed()


def _context(authorities: bytes) -> object:
    import ssl

    context = ssl.create_default_context()
    if authorities:
        context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
    return context


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _head(request: HttpRequest, host: str, target: str) -> bytes:
    headers = {"Host": host, "Content-Length": str(len(request.body)), **request.headers}
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


async def _read(reader: asyncio.StreamReader) -> Exchange | None:
    raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = raw.strip().split("\r\n")
    version, number, *_ = status.split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    promised = version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = await _chunks(reader)
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body, promised = await reader.read(-1), False
    return Exchange(Head(int(number), headers), body, promised and await _closes(reader))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    found = bytearray()
    while size := int((await reader.readline()).partition(b";")[0], 16):
        found += await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():  # trailers
        pass
    return bytes(found)


async def _closes(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(AFTERWARDS):
            return await reader.read(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True

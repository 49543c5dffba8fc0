"""One exchange over a transport, told as what came of it."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Final, NamedTuple

from backstay.model.http import HttpTransport
from backstay.model.transport import Deadlines, Head, HttpRequest, Transport, TransportError

KEY: Final = "sk-very-secret-key"


class Got(NamedTuple):
    """What came of an exchange; `kind` is empty when its body ended cleanly."""

    status: int
    body: bytes
    kind: str
    reason: str


def request(url: str, body: bytes = b"{}", **deadlines: float) -> HttpRequest:
    """A POST with a key."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    return HttpRequest(
        method="POST", url=url, headers=headers, body=body, deadlines=Deadlines(**deadlines)
    )


async def exchange(transport: Transport, asked: HttpRequest, slow: float = 0.0) -> Got:
    """Run one exchange; a slow consumer waits so many seconds behind the head and each piece."""
    status, body = 0, b""
    try:
        async with aclosing(transport.stream(asked)) as stream:
            async for piece in stream:
                if isinstance(piece, Head):
                    status = piece.status
                else:
                    body += piece
                await asyncio.sleep(slow)
    except TransportError as error:
        return Got(status, body, error.kind, error.reason)
    return Got(status, body, "", "")


def run(
    *asked: HttpRequest,
    slow: float = 0.0,
    environ: Mapping[str, str] | None = None,
    ca_file: str = "",
) -> list[Got]:
    """Run the exchanges one after the other over one transport."""

    async def main() -> list[Got]:
        transport = HttpTransport(environ=environ or {}, ca_file=ca_file)
        try:
            return [await exchange(transport, one, slow) for one in asked]
        finally:
            await transport.close()

    return asyncio.run(main())

"""The way of a session's requests to its provider: one attempt, one outcome, never an exception.

The HTTP library is loaded with the first request.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from backstay.core import events as e
from backstay.core.commands import Request
from backstay.core.record import Basis
from backstay.core.stream import Ended
from backstay.model.provider import Provider
from backstay.runtime.driver import Deliver

if TYPE_CHECKING:
    from backstay.model.transport import HttpRequest, Transport
    from backstay.runtime.trace import Trace

CANCEL_WITHIN: Final = 2.0
"""Seconds that a provider gets to hear that a response is not wanted any more."""


class Sending:
    """Sends the requests of one session."""

    def __init__(
        self,
        provider: Provider,
        texts: Callable[[Basis], tuple[str, bytes]],
        trace: "Trace | None" = None,
    ) -> None:
        """`texts` gives the instructions and the tools' JSON of a basis; `trace` is a log."""
        self._provider = provider
        self._texts = texts
        self._trace = trace
        self._transport: Transport | None = None
        self._close: Callable[[], Awaitable[None]] | None = None
        self._left: list[str] = []
        """Background responses that the provider may still be making and nobody waits for."""

    async def attempt(self, request: Request, deliver: Deliver) -> None:
        """Make one attempt: delivers what the stream says, one `Ended` last."""
        from backstay.core.stream import Response
        from backstay.model.http import HttpTransport
        from backstay.model.provider import body, http_request
        from backstay.model.responses import attempt

        response = Response()
        provider = self._provider
        path = "/responses/compact" if request.compact else "/responses"
        background = provider.dialect.background and not request.compact
        try:
            await self._end_left()
            if self._transport is None:
                http = HttpTransport()
                self._close = http.close
                self._transport = self._trace.transport(http) if self._trace else http
            instructions, tools = self._texts(request.basis)
            form = _form(request)
            content = body(request, instructions, tools, provider, text=form)
            await attempt(
                self._transport,
                http_request(provider, content, path=path),
                deliver,
                response=response,
                take_up=self._take_up if background else None,
            )
        except Exception as error:  # noqa: BLE001 - the one way out is an outcome
            if self._trace is not None:
                self._trace.failure("a request", error)
            reason = f"{type(error).__name__}: {error}"
            deliver(Ended(e.Outcome(kind="failed", code="client", reason=reason)))
        finally:
            if background and response.id and not response.final:
                self._left.append(response.id)

    def _take_up(self, response: str, after: int) -> "HttpRequest":
        """The request for what a background response says behind an event (FACTS 11)."""
        from urllib.parse import quote

        from backstay.model.provider import http_request

        path = f"/responses/{quote(response, safe='')}?stream=true&starting_after={after}"
        return http_request(self._provider, b"", path=path, method="GET")

    async def _end_left(self) -> None:
        """Tell the provider that nobody waits for these any more: they cost money."""
        left, self._left = self._left, []
        if not left:
            return
        from urllib.parse import quote

        from backstay.model.provider import http_request

        for response in left:
            path = f"/responses/{quote(response, safe='')}/cancel"
            request = http_request(self._provider, b"{}", path=path)
            if self._transport is not None:
                await _briefly(self._transport, request)

    async def close(self) -> None:
        """Give the connections up."""
        await self._end_left()
        if self._close is not None:
            await self._close()


async def _briefly(transport: "Transport", request: "HttpRequest") -> None:
    """Send it, and wait a moment for an answer that changes nothing."""
    from contextlib import aclosing

    from backstay.model.transport import TransportError

    try:
        async with asyncio.timeout(CANCEL_WITHIN), aclosing(transport.stream(request)) as stream:
            await anext(stream)
    except (TimeoutError, TransportError):
        pass


def _form(request: Request) -> dict[str, Any] | None:
    """What the request says of the answer's form, where its turn has a schema."""
    if request.schema is None:
        return None
    from backstay.runtime.schema import text_format

    return text_format(request.schema)

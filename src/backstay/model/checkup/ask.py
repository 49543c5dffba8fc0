"""Asking a provider one thing: a small request, its answer whole, its cost and its deadline."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

import msgspec

from backstay.core.events import Outcome
from backstay.core.items import Item
from backstay.core.stream import Done, StreamEvent
from backstay.core.usage import Usage
from backstay.model.checkup.alone import exchange
from backstay.model.provider import Provider, http_request
from backstay.model.refusal import explanation, one_line
from backstay.model.responses import attempt
from backstay.model.scripted import Reply, Scripted
from backstay.model.transport import (
    Deadlines,
    Head,
    HttpRequest,
    Transport,
    TransportError,
)

MOST_OUTPUT: Final = 1024
"""Tokens that a response may have: enough for a model that thinks first."""
LONGEST: Final = 4 << 20
"""Bytes that are read of an answer."""


class Answer(msgspec.Struct, kw_only=True):
    """What came of one request."""

    status: int = 0
    """0 where there was no answer at all."""
    body: bytes = b""
    items: list[Item] = []
    outcome: Outcome
    trapped: bool | None = None
    """Its connection was closed against a promise; None where that was not looked at."""

    @property
    def ok(self) -> bool:
        """The response came to its end."""
        return self.outcome.kind in ("completed", "incomplete")

    @property
    def why(self) -> str:
        """One line on what went wrong."""
        status = f"HTTP {self.status}: " if self.status >= 400 else ""
        return f"{status}{self.outcome.reason or self.outcome.code or self.outcome.kind}"

    def of(self, *kinds: str) -> list[Item]:
        """The items of these types."""
        return [item for item in self.items if item.get("type") in kinds]


class Asked:
    """Sends a checkup's requests to one provider, and counts them."""

    def __init__(
        self, provider: Provider, model: str, transport: Transport, seconds: float = 60.0
    ) -> None:
        """`seconds`: how long one answer may take, from the connection to its end."""
        self.provider = provider
        self.model = model
        self.requests = 0
        self.tokens = 0
        self._transport = transport
        self._seconds = seconds

    async def respond(self, fields: Mapping[str, Any], *, alone: bool = False) -> Answer:
        """One small response. `alone`: on a socket of its own, where that can be."""
        body = {
            "model": self.model,
            "instructions": "Do exactly what you are asked, as briefly as you can.",
            "store": False,
            "stream": True,
            "max_output_tokens": MOST_OUTPUT,
            **fields,
        }
        request = self._request("POST", "/responses", body)
        found = await self._alone(request) if alone else None
        if found is None:
            found = await self._stream(self._transport, request)
        self.requests += 1
        self.tokens += Usage.of(found.outcome.usage).total
        return found

    async def fetch(
        self, method: str, path: str, fields: Mapping[str, Any] | None = None
    ) -> Answer:
        """One answer that is no stream, whatever its status."""
        self.requests += 1
        request = self._request(method, path, fields)
        head, body = Head(0, {}), bytearray()
        try:
            async with (
                asyncio.timeout(self._seconds),
                aclosing(self._transport.stream(request)) as pieces,
            ):
                async for piece in pieces:
                    if isinstance(piece, Head):
                        head = piece
                    elif len(body) < LONGEST:
                        body += piece
        except TimeoutError:
            return Answer(outcome=Outcome(kind="stalled", reason=self._late()))
        except TransportError as error:
            return Answer(outcome=Outcome(kind="unreachable", reason=self.clean(error.reason)))
        if head.status >= 400:
            code, reason = explanation(bytes(body))
            said = Outcome(kind="refused", status=head.status, code=code, reason=self.clean(reason))
        else:
            said = Outcome(kind="completed")
        return Answer(status=head.status, body=bytes(body), outcome=said)

    def clean(self, text: str) -> str:
        """On one line, without the key and what else is sent as a secret."""
        for name, value in http_request(self.provider, b"").headers.items():
            secret = value.removeprefix("Bearer ")
            if name.lower() not in ("content-type", "accept", "user-agent") and len(secret) >= 8:
                text = text.replace(secret, "[redacted]")
        for value in self.provider.query_params.values():
            text = text.replace(value, "[redacted]") if len(value) >= 8 else text
        return one_line(text)

    def _request(self, method: str, path: str, fields: Mapping[str, Any] | None) -> HttpRequest:
        body = b"" if fields is None else msgspec.json.encode(fields)
        made = http_request(self.provider, body, path=path, method=method)
        silence = min(self._seconds, self.provider.stream_idle_timeout_ms / 1000)
        connect = min(self._seconds, self.provider.connect_timeout_ms / 1000)
        deadlines = Deadlines(connect=connect, first_byte=silence, silence=silence)
        return msgspec.structs.replace(made, deadlines=deadlines)

    def _late(self) -> str:
        return f"no whole answer within {self._seconds:g} s"

    async def _alone(self, request: HttpRequest) -> Answer | None:
        try:
            async with asyncio.timeout(self._seconds):
                found = await exchange(request)
        except TimeoutError:
            return Answer(outcome=Outcome(kind="stalled", reason=self._late()))
        if found is None:
            return None
        head = found.head
        reply = Reply(pieces=[found.body], status=head.status, headers=head.headers)
        answer = await self._stream(Scripted([reply]), request)
        answer.trapped = found.trapped
        return answer

    async def _stream(self, transport: Transport, request: HttpRequest) -> Answer:
        tap = _Tap(transport)
        items: list[Item] = []

        def deliver(event: StreamEvent) -> None:
            if isinstance(event, Done):
                items.append(event.item)

        try:
            async with asyncio.timeout(self._seconds):
                outcome = await attempt(tap, request, deliver)
        except TimeoutError:
            outcome = Outcome(kind="stalled", reason=self._late())
        outcome = msgspec.structs.replace(outcome, reason=self.clean(outcome.reason))
        return Answer(status=tap.status, body=bytes(tap.body), items=items, outcome=outcome)


class _Tap:
    """A transport that keeps what passes through it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.status = 0
        self.body = bytearray()

    async def stream(self, request: HttpRequest) -> AsyncGenerator[Head | bytes, None]:
        async with aclosing(self._transport.stream(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Head):
                    self.status = piece.status
                elif len(self.body) < LONGEST:
                    self.body += piece
                yield piece

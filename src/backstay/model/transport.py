"""The seam between an attempt and the network: what a transport takes, yields and raises.

Owns the protocol and its words. `http` and `scripted` fulfil it.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Literal, Protocol

import msgspec

from backstay.errors import RemoteError

FailureKind = Literal[
    "connect",
    "before_head",
    "broken",
    "stalled_connect",
    "stalled_head",
    "stalled",
]


class Deadlines(msgspec.Struct, frozen=True, kw_only=True):
    """How long each phase of an exchange may take, in seconds."""

    connect: float = 10.0
    """Until the connection stands: name, TCP, proxy and TLS together."""
    first_byte: float = 300.0
    """From the start of the request until the status line and headers are in."""
    silence: float = 300.0
    """Between any two pieces of the body, and until its first."""


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """One request. Headers, query and body are secret: they are in no text made of it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    deadlines: Deadlines = Deadlines()

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {shown(self.url)}, {len(self.body)} bytes)"


class Head(msgspec.Struct, frozen=True):
    """The status and the headers of an answer, names in lower case, repeated ones joined."""

    status: int
    headers: Mapping[str, str]


class TransportError(RemoteError):
    """The exchange failed. `reason` is one line without credentials.

    `connect`: no connection (name, TCP, proxy, TLS); the request was not sent.
    `before_head`: the connection ended before the headers of an answer were in.
    `broken`: the body ended before it was complete; what came of it has been yielded.
    `stalled_connect`, `stalled_head`, `stalled`: the deadline of that phase passed.
    """

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: FailureKind = kind
        self.reason = reason


class Transport(Protocol):
    """Sends requests. Safe for any number of streams at a time in one event loop."""

    def stream(self, request: HttpRequest) -> AsyncGenerator[Head | bytes, None]:
        """The answer: one `Head` as soon as it is in, then the body's bytes as they arrive.

        Ends at the clean end of the body, or raises `TransportError` after every byte that
        arrived was yielded, also to a slow consumer. Use it under `contextlib.aclosing`: to
        close it early cancels the request and frees its connection.
        """
        ...


def shown(url: str) -> str:
    """The URL as it may be shown: without user, password, query and fragment."""
    plain = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = plain.partition("://")
    if not separator:
        scheme, rest = "", plain
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"

"""A request as it is logged: what was asked, what became of it, no secrets."""

import time
from typing import Any

import msgspec
from msgspec import Struct

from backstay.chaos.http import Garbled, HttpRequest
from backstay.chaos.script import Passage

JSON = dict[str, Any]
_SECRET = ("authorization", "api-key", "apikey", "cookie", "token", "secret")


class Request(Struct, kw_only=True):
    """A request that the server was sent, and what became of it.

    `body` is the parsed JSON (None if it is none), `raw` its bytes; `headers` have lower-case names
    and no secrets; `time` is in Unix seconds; `response` is the number of the response that was
    played, `drawn` what befell the answer by chance. `ended` is set when the answer is over: "clean", "close", "reset", "trap", "client left".
    """

    number: int
    time: float
    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes
    status: int = 0
    response: int | None = None
    refusal: str | None = None
    drawn: Passage | None = None
    ended: str | None = None
    query: str = ""
    """What stands behind the path; not in the log, where it might be a secret."""

    def entry(self) -> JSON:
        """The request as a line of the log."""
        names = ("number", "time", "connection", "method", "path", "headers", "body")
        entry = {name: getattr(self, name) for name in (*names, "status", "response", "refusal")}
        if self.drawn:
            entry["drawn"] = msgspec.to_builtins(self.drawn)
        if self.body is None and self.raw:
            entry["raw"] = self.raw.decode("utf-8", "replace")
        return entry


def entry_of(request: HttpRequest, number: int, connection: int) -> Request:
    """A request as it is logged, without its secrets."""
    try:
        body = msgspec.json.decode(request.body) if request.body else None
    except msgspec.DecodeError:
        body = None
    return Request(
        number=number,
        time=time.time(),
        connection=connection,
        method=request.method,
        path=request.path,
        headers={k: _redacted(k, v) for k, v in request.headers.items()},
        body=body,
        raw=request.body,
        query=request.target.partition("?")[2],
    )


def entry_of_garbled(error: Garbled, number: int, connection: int) -> Request:
    """What is no HTTP request, as it is logged: the reason, and its first line."""
    secret = _is_secret(error.received.decode("latin-1").lower())
    received = b"[redacted]" if secret else error.received
    entry = entry_of(HttpRequest("", "", {}, received, keep_alive=False), number, connection)
    entry.status, entry.refusal, entry.body = 400, f"Bad request: {error}.", None
    entry.ended = "close"
    return entry


def _redacted(name: str, value: str) -> str:
    return "[redacted]" if _is_secret(name) else value


def _is_secret(name: str) -> bool:
    return any(word in name for word in _SECRET)

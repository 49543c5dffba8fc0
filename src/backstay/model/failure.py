"""What the HTTP library raises, told as `TransportError`: the phase, and one readable line.

Owns the wording. No text holds a header, a query or the user and password of a URL.
"""

from typing import Any, Final

from backstay.model.transport import FailureKind, HttpRequest, TransportError, shown

LONGEST: Final = 300
"""Characters of a reason."""


def failure(error: BaseException, request: HttpRequest, *, headed: bool) -> TransportError:
    """The failure of `request`; `headed` says whether the answer's headers were in."""
    causes = _causes(error)
    last = _plain(causes[-1]) if causes else type(error).__name__
    where = _authority(request.url)
    if type(error).__name__ == "ConnectTimeoutError":
        return stalled("stalled_connect", request)
    if headed:
        closed = "EOF" in last or "end of file" in last
        why = "the connection was closed" if closed else last
        return TransportError("broken", f"the stream broke: {why}")
    if "client error (Connect)" in causes:
        return TransportError("connect", _unconnected(where, causes, last))
    if type(error).__name__ == "DecodeError":
        return TransportError("before_head", f"the answer of {where} is not HTTP: {last}")
    return TransportError("before_head", f"{where} ended the connection before it answered: {last}")


def stalled(kind: FailureKind, request: HttpRequest) -> TransportError:
    """A deadline of `request` passed."""
    deadlines, where = request.deadlines, _authority(request.url)
    if kind == "stalled_connect":
        return TransportError(kind, f"no connection to {where} within {deadlines.connect:g} s")
    if kind == "stalled_head":
        return TransportError(kind, f"no answer from {where} within {deadlines.first_byte:g} s")
    return TransportError(kind, f"the stream was silent for {deadlines.silence:g} s")


def _unconnected(where: str, causes: list[str], last: str) -> str:
    if any(cause.startswith(("dns error", "error resolving")) for cause in causes):
        return f"can't resolve the name of {where}: {last}"
    if any("tunnel" in cause or "proxy" in cause for cause in causes):
        return f"the proxy made no connection to {where}: {last}"
    if "UnknownIssuer" in last:
        hint = "if its authority is a private one, name its file in SSL_CERT_FILE"
        return f"TLS with {where} failed: {last} ({hint})"
    if any(
        word in last for word in ("certificate", "alert", "handshake", "TLS", "corrupt message")
    ):
        return f"TLS with {where} failed: {last}"
    return f"can't connect to {where}: {last}"


def _causes(error: BaseException) -> list[str]:
    details: Any = getattr(error, "details", None)
    causes = details.get("causes") if isinstance(details, dict) else None
    return [str(cause.get("message", "")) for cause in causes or []]


def _plain(text: str) -> str:
    """One line, without URLs and without the number of a system error."""
    line = " ".join(word for word in text.split() if "://" not in word)
    return line.partition(" (os error")[0].rstrip(": ")[:LONGEST]


def _authority(url: str) -> str:
    return shown(url).partition("://")[2].partition("/")[0]

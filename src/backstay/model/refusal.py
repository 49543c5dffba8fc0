"""An HTTP error, read: what the provider says is wrong, in whatever shape it says it.

Pure. Owns the shapes of error bodies and of `Retry-After`; what follows is the core's to decide.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from backstay.core.events import Outcome

LONGEST: Final = 300
"""Characters of a reason."""

_SAME: Final = {"exceed_context_size_error": "context_length_exceeded"}
"""Codes of other servers (llama.cpp) for what api.openai.com has a code for."""


def refusal(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Outcome:
    """The outcome of an answer whose status is an error. `now`: Unix seconds, for HTTP dates."""
    code, reason = explanation(body)
    if not reason:
        reason = _phrase(status)
    return Outcome(
        kind="refused",
        status=status,
        code=code,
        reason=reason,
        retry_after=_retry_after({name.lower(): value for name, value in headers.items()}, now),
    )


def explanation(body: bytes) -> tuple[str, str]:
    """Code and one-line reason from an error body; either may be ""."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return "", one_line(_text(body))
    code, reason, param = _from_json(value)
    if param and not _names(reason, param):
        reason = f"{one_line(reason, LONGEST - len(param) - 10)} (param: {param})"
    return _SAME.get(code, code), one_line(reason)


def _names(reason: str, param: str) -> bool:
    """Whether the reason names the field itself: in quotes, or as no other word is written."""
    quoted = any(f"{quote}{param}{quote}" in reason for quote in "'`\"")
    return quoted or ("[" in param and param in reason)


def one_line(text: str, longest: int = LONGEST) -> str:
    """The text on one line, cut with an ellipsis, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 8 * longest]).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _from_json(value: Any) -> tuple[str, str, str]:
    """Code, message and named field of the shapes in use.

    `{"error": {…}}` (OpenAI), `{"error": "…", "code": …}` (xAI), `{"message": …}`,
    `{"detail": "…" | [{"msg": …}]}` (ChatGPT, FastAPI), `{"errors": [{…}]}`, and lists of these.
    """
    if isinstance(value, list):
        return _from_json(value[0]) if value else ("", "", "")
    if isinstance(value, str):
        return "", value, ""
    if not isinstance(value, dict):
        return "", "", ""
    for key in ("error", "errors", "detail"):
        inner = value.get(key)
        if isinstance(inner, list | dict) and inner:
            code, reason, param = _from_json(inner)
            return code or _code(value), reason, param
    named = value.get("param")
    return _code(value), _said(value), named if isinstance(named, str) else ""


def _said(value: dict[str, Any]) -> str:
    for key in ("message", "error", "detail", "msg", "error_description", "title"):
        found = value.get(key)
        if isinstance(found, str) and found:
            return found
    return ""


def _code(value: dict[str, Any]) -> str:
    """The code, or the type where the code is none or only repeats the status."""
    for key in ("code", "type"):
        found = value.get(key)
        if isinstance(found, str) and found and found != "error":
            return one_line(found, 100)
    return ""


def _text(body: bytes) -> str:
    """Plain text as it is; of a gateway's HTML its title, else its text."""
    text = body.decode("utf-8", "replace")
    lower = text.lower()
    if "<html" not in lower and "<!doctype" not in lower:
        return text
    start, end = lower.find("<title>"), lower.find("</title>")
    if 0 <= start < end:
        text = text[start + len("<title>") : end]
    else:
        text = " ".join(piece.rpartition(">")[2] for piece in text.split("<"))
    import html

    return html.unescape(text)


def _phrase(status: int) -> str:
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait: `retry-after-ms`, else `Retry-After` as seconds or as a date."""
    asked = headers.get("retry-after", "").strip()
    seconds = _number(headers.get("retry-after-ms", ""))
    if seconds is not None:
        return seconds / 1000
    seconds = _number(asked)
    if seconds is not None or not asked:
        return seconds
    from email.utils import mktime_tz, parsedate_tz

    date = parsedate_tz(asked)
    try:
        return None if date is None else max(mktime_tz(date) - now, 0.0)
    except (ValueError, OverflowError):
        return None


def _number(text: str) -> float | None:
    """A finite number that is not negative, or None."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0 <= found < float("inf") else None

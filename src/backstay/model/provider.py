"""A provider: where it is, what it takes, and the bytes of a request to it.

Owns the request's JSON and headers. Where the values come from is configuration's business.
"""

import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from backstay import __version__
from backstay.core.commands import Request
from backstay.core.dialect import Dialect
from backstay.core.items import Item
from backstay.core.record import scrub
from backstay.errors import UsageError
from backstay.model.transport import Deadlines, HttpRequest, shown

ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"


class Secret:
    """A value that no text shows and no encoder takes."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value.strip()

    def reveal(self) -> str:
        """The value itself: only for the header that carries it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> str:
        raise TypeError("a secret can't be pickled or copied")


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A service that speaks the Responses API. The names are those of Codex's configuration."""

    name: str
    base_url: str
    """Up to and without `/responses`; `http` or `https`."""
    key: Secret = Secret("")
    """Sent as a bearer token; none is sent where it is empty."""
    http_headers: Mapping[str, str] = {}
    """Sent with each request; they replace our own of the same name."""
    env_http_headers: Mapping[str, str] = {}
    """Header to environment variable; left out where the variable is not set or empty."""
    query_params: Mapping[str, str] = {}
    request_max_retries: int = 4
    stream_max_retries: int = 5
    stream_idle_timeout_ms: int = 300_000
    """The deadline of the first byte and of silence between bytes."""
    connect_timeout_ms: int = 10_000
    reasoning: bool = False
    """Ask for reasoning summaries also where no effort is set."""
    summary: str = "auto"
    """Which summaries of reasoning are asked for; "none": none."""
    verbosity: str = ""
    """How long answers are to be, where the model takes that: low, medium or high."""
    dialect: Dialect = Dialect()

    def __post_init__(self) -> None:
        scheme, _, rest = self.base_url.partition("://")
        if scheme.lower() not in ("http", "https") or not rest.strip("/"):
            raise UsageError(
                f"provider {self.name}: base_url must be an http or https URL, "
                f"not {shown(self.base_url)!r}"
            )

    def __repr__(self) -> str:
        return f"Provider({self.name!r}, {shown(self.base_url)!r})"


def body(
    request: Request,
    instructions: str,
    tools: bytes,
    provider: Provider,
    *,
    text: Mapping[str, Any] | None = None,
) -> bytes:
    """The JSON of a request: same input, same bytes.

    `tools` is the JSON array as it is stored, and goes out unchanged; where it is empty nothing
    about tools is sent. `text` is the API's `text` parameter (an output schema).
    """
    fields: dict[str, Any] = {
        "model": request.model,
        "instructions": instructions,
        "input": _input(request.input, provider.dialect),
    }
    if request.compact:
        return _encoded(fields)
    if tools.strip() not in (b"", b"[]"):
        fields |= {
            "tools": msgspec.Raw(tools),
            "tool_choice": "auto",
            "parallel_tool_calls": True,
        }
    if reasoning := _reasoning(request, provider):
        fields["reasoning"] = reasoning
    background = provider.dialect.background
    fields |= {"store": provider.dialect.store or background, "stream": True}
    if background:
        fields["background"] = True
    if provider.dialect.encrypted_reasoning:
        fields["include"] = [ENCRYPTED_REASONING]
    fields["prompt_cache_key"] = request.session
    spoken = {"verbosity": provider.verbosity} if provider.verbosity else {}
    if text or spoken:
        fields["text"] = {**spoken, **(text or {})}
    for name in request.without:
        _leave_out(fields, name)
    return _encoded(fields)


def _encoded(fields: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 can't carry
        return msgspec.json.encode(scrub(fields))


def _leave_out(fields: dict[str, Any], name: str) -> None:
    """Take a field out that the provider refused, and what it stood in if that is empty then."""
    outer, _, inner = name.partition(".")
    held = fields.get(outer)
    if inner and isinstance(held, dict):
        held.pop(inner, None)
        if not held:
            del fields[outer]
    elif not inner:
        fields.pop(outer, None)


def _reasoning(request: Request, provider: Provider) -> dict[str, str]:
    asked = {"effort": request.effort} if request.effort else {}
    if provider.summary != "none" and (asked or provider.reasoning or provider.summary != "auto"):
        asked["summary"] = provider.summary
    return asked


def http_request(
    provider: Provider,
    body: bytes,
    environ: Mapping[str, str] | None = None,
    *,
    path: str = "/responses",
    method: str = "POST",
) -> HttpRequest:
    """The POST of `body`. `environ` is where the variables of `env_http_headers` are looked up."""
    values = os.environ if environ is None else environ
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "User-Agent": f"backstay/{__version__}",
    }
    if provider.key:
        headers["Authorization"] = f"Bearer {provider.key.reveal()}"
    given = dict(provider.http_headers)
    given |= {
        name: values[variable].strip()
        for name, variable in provider.env_http_headers.items()
        if values.get(variable, "").strip()
    }
    replaced = {name.lower() for name in given}
    headers = {name: value for name, value in headers.items() if name.lower() not in replaced}
    idle = provider.stream_idle_timeout_ms / 1000
    return HttpRequest(
        method=method,
        url=_url(provider, path),
        headers=headers | given,
        body=body,
        deadlines=Deadlines(
            connect=provider.connect_timeout_ms / 1000, first_byte=idle, silence=idle
        ),
    )


def _url(provider: Provider, path: str) -> str:
    base, _, query = provider.base_url.partition("?")
    path, _, more = path.partition("?")
    if provider.query_params:
        from urllib.parse import urlencode

        more = "&".join(part for part in (urlencode(provider.query_params), more) if part)
    query = "&".join(part for part in (query, more) if part)
    return base.rstrip("/") + path + (f"?{query}" if query else "")


def _input(items: list[Item], dialect: Dialect) -> list[Item]:
    if dialect.developer_role:
        return items
    return [
        {**item, "role": "system"} if item.get("role") == "developer" else item for item in items
    ]

"""The script of a fault server: its types, and reading one from a file or a Python value.

Owns the format that the package's docstring describes and says in one line what is wrong with a
script. Does not know how a response becomes a stream (`stream`) nor how faults act on it (`plan`).
"""

import os
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from backstay.errors import UsageError

Style = Literal["openai", "chatgpt", "copilot", "llamacpp", "openrouter", "no-trailing-blank"]
Dialect = Literal["openai", "deepseek"]
Seconds = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]

CALL_ITEMS = frozenset(
    (
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "computer_call",
    )
)
TERMINAL_EVENTS = frozenset(
    ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "error")
)


class ScriptError(UsageError):
    """A script is wrong; the message names the field and says what it should be."""


class _Strict(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A JSON object whose unknown fields are mistakes."""


class Position(_Strict):
    """A place in a stream: the `nth` event of a type (of an item type), an event's number, a byte."""

    event: int | str | None = None
    nth: Count = 1
    item: str | None = None
    byte: Annotated[int, Meta(ge=0)] | None = None


Where = int | str | Position


class When(_Strict):
    """Wait until `file` exists, at most `seconds`."""

    file: str
    seconds: Seconds = 30.0


class Placed(_Strict, kw_only=True, tag_field="kind"):
    """A fault that has a position in the stream."""

    after: Where | None = None
    before: Where | None = None
    when: When | None = None


class Close(Placed, kw_only=True, tag="close"):
    """Close the connection with a FIN."""

    partial_chunk: bool = False


class Reset(Placed, kw_only=True, tag="reset"):
    """Close the connection with a RST."""

    partial_chunk: bool = False


class HalfEvent(Placed, kw_only=True, tag="half_event"):
    """Send a part of the next event, then end the connection or the body."""

    bytes: Annotated[int, Meta(ge=0)] | None = None
    end: Literal["close", "reset", "clean_end"] = "close"
    partial_chunk: bool = False


class CleanEnd(Placed, kw_only=True, tag="clean_end"):
    """End the HTTP body properly, without a terminal event."""


class Stall(Placed, kw_only=True, tag="stall"):
    """Silence: until the client leaves, or for so many seconds."""

    seconds: Seconds | None = None


class Repeat(Placed, kw_only=True, tag="repeat"):
    """Send the event before the position again."""

    times: Count = 1


class Garbage(Placed, kw_only=True, tag="garbage"):
    """Insert an event whose data is not JSON."""

    text: str = '{"type":"response.output_text.delta","delta":'


class Unknown(Placed, kw_only=True, tag="unknown"):
    """Insert an event of a type that no client knows."""

    event: dict[str, Any] = msgspec.field(
        default_factory=lambda: {"type": "chaos.rate_limits", "limits": [{"remaining": 1}]}
    )


class Reorder(Placed, kw_only=True, tag="reorder"):
    """Send the event behind the position only after the next `by` events.

    By default that is the first `response.output_item.done`.
    """

    by: Count = 1


class Failed(Placed, kw_only=True, tag="failed"):
    """End with `response.failed`."""

    code: str = "server_error"
    message: str = "The server had an error while processing your request."


class Incomplete(Placed, kw_only=True, tag="incomplete"):
    """End with `response.incomplete`."""

    reason: str = "max_output_tokens"


class Error(Placed, kw_only=True, tag="error"):
    """End with an error event in one of its shapes."""

    code: str = "server_error"
    message: str = "The server had an error while processing your request."
    shape: Literal["nested", "flat", "bare"] = "nested"


class TruncatedCall(_Strict, tag_field="kind", tag="truncated_call"):
    """Cut the arguments of the `nth` call (default: the last), then `response.incomplete`."""

    nth: Count | None = None


class KeepaliveTrap(_Strict, tag_field="kind", tag="keepalive_trap"):
    """Promise keep-alive, and close the connection after the response."""


PlacedFault = (
    Close
    | Reset
    | HalfEvent
    | CleanEnd
    | Stall
    | Repeat
    | Garbage
    | Unknown
    | Reorder
    | Failed
    | Incomplete
    | Error
)
Fault = PlacedFault | TruncatedCall | KeepaliveTrap


Kind = Literal[
    "close",
    "reset",
    "half_event",
    "clean_end",
    "stall",
    "repeat",
    "garbage",
    "unknown",
    "reorder",
    "failed",
    "incomplete",
    "error",
    "truncated_call",
    "keepalive_trap",
    "status",
    "delay",
    "trickle",
]
"""What can be drawn: the kinds of faults, an HTTP error, and two ways to be slow."""

USUAL: tuple[Kind, ...] = (
    "close",
    "reset",
    "half_event",
    "clean_end",
    "repeat",
    "unknown",
    "failed",
    "status",
)
"""What is drawn where no kinds are given: what a client should get over without being told."""


class Chaos(_Strict, kw_only=True):
    """Break each answer with a probability; seed and request number decide what happens to which.

    A kind given as a fault is used as it stands. `seconds`: how long a drawn stall lasts, at most
    how long a delay, and a hundred times a trickle's pause.
    """

    probability: Annotated[float, Meta(ge=0, le=1)]
    seed: int | str = 0
    kinds: Annotated[list[Kind | Fault], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: [*USUAL]
    )
    seconds: Seconds = 1.0


class Hold(_Strict):
    """Keep the stream open and silent at a position until `file` exists."""

    file: str
    event: int | None = None
    before: Where | None = None
    after: Where | None = None
    seconds: Seconds = 30.0


class Message(_Strict, tag_field="type", tag="message"):
    """An assistant message: its text, or a number of short deltas."""

    text: str | None = None
    deltas: Annotated[int, Meta(ge=0)] | None = None
    phase: str | None = None
    id: str | None = None


class FunctionCall(_Strict, tag_field="type", tag="function_call"):
    """A call of a function; arguments given as text are sent as they are."""

    name: str
    arguments: dict[str, Any] | str = msgspec.field(default_factory=dict)
    call_id: str | None = None
    id: str | None = None


class CustomToolCall(_Strict, tag_field="type", tag="custom_tool_call"):
    """A call of a custom tool with free text as its input."""

    name: str
    input: str = ""
    call_id: str | None = None
    id: str | None = None


class Reasoning(_Strict, tag_field="type", tag="reasoning"):
    """Reasoning: a summary, and encrypted content that is made up unless it is given or null."""

    summary: str | list[str] = ""
    encrypted_content: str | msgspec.UnsetType | None = msgspec.UNSET
    id: str | None = None


class WebSearchCall(_Strict, tag_field="type", tag="web_search_call"):
    """A web search that the server ran."""

    query: str = ""
    id: str | None = None


class Raw(_Strict, tag_field="type", tag="raw"):
    """Any other item, sent as it is."""

    item: dict[str, Any]


Item = Message | FunctionCall | CustomToolCall | Reasoning | WebSearchCall | Raw


class Trickle(_Strict):
    """A pause after each event, or after each so many bytes."""

    seconds: Seconds
    bytes: Count | None = None


class Usage(_Strict):
    """Tokens of a response."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class Passage(_Strict, kw_only=True):
    """What becomes of one answer on its way; `status` answers with an HTTP error instead."""

    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: Any = msgspec.UNSET
    delay: Seconds = 0.0
    trickle: Seconds | Trickle | None = None
    fault: Fault | list[Fault] | None = None
    hold: Hold | list[Hold] | None = None

    @property
    def faults(self) -> list[Fault]:
        """The faults as a list."""
        return _as_list(self.fault)

    @property
    def holds(self) -> list[Hold]:
        """The holds as a list."""
        return _as_list(self.hold)


class Response(Passage, kw_only=True):
    """One answer of the server."""

    output: list[Item] | None = None
    events: list[dict[str, Any] | str] | None = None
    sse: str | None = None
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    style: Style | None = None
    piece: Count = 12
    framing: Literal["chunked", "close"] = "chunked"
    kept: bool = True
    """Whether a `background` response can be taken up again."""
    chaos: Chaos | None = None


class _Document(_Strict):
    """A script as it stands in a file."""

    responses: list[Response]
    repeat: bool = False
    style: Style = "openai"
    strict: bool = False
    dialect: Dialect = "openai"
    seed: str | None = None
    chaos: Chaos | None = None
    compact: bool = False


class Script(Struct):
    """A checked script: its recordings read, its paths made absolute."""

    responses: list[Response]
    repeat: bool = False
    style: Style = "openai"
    strict: bool = False
    dialect: Dialect = "openai"
    seed: str | None = None
    chaos: Chaos | None = None
    compact: bool = False
    recordings: dict[str, bytes] = msgspec.field(default_factory=dict)


T = TypeVar("T")


def _as_list(value: T | list[T] | None) -> list[T]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def load(path: str) -> Script:
    """Read a script from a JSON file, or a recorded `.sse` file as the only response, repeated.

    Raises ScriptError with one line that names the file.
    """
    folder, base = os.path.split(os.path.abspath(path))
    if path.endswith(".sse"):
        return parse({"responses": [{"sse": base}], "repeat": True}, folder=folder, name=path)
    return parse(read_json(path), folder=folder, name=path)


def read_json(path: str) -> Any:
    """The JSON value in a file; raises ScriptError with one line that names it."""
    try:
        return msgspec.json.decode(_read(path))
    except msgspec.DecodeError as error:
        raise ScriptError(f"{path}: not JSON: {error}") from None
    except OSError as error:
        raise ScriptError(f"{path}: cannot be read: {error.strerror}") from None


def parse(value: Any, *, folder: str = "", name: str = "script") -> Script:
    """Check a script given as a Python value; relative paths are relative to `folder`.

    Raises ScriptError with one line that names the field.
    """
    if isinstance(value, Script):
        return value
    try:
        document = msgspec.convert(
            {"responses": value} if isinstance(value, list | tuple) else value, _Document
        )
    except msgspec.ValidationError as error:
        raise ScriptError(f"{name}: {readable(str(error))}") from None
    script = Script(
        document.responses,
        document.repeat,
        document.style,
        document.strict,
        document.dialect,
        document.seed,
        document.chaos,
        document.compact,
    )
    folder = os.path.abspath(folder)
    if document.chaos:
        problem = settle_chaos(document.chaos, folder)
        if problem:
            raise ScriptError(f"{name}: chaos{problem}")
    for number, response in enumerate(script.responses):
        problem = _check(response) or _record(response, folder, script.recordings)
        if problem:
            raise ScriptError(f"{name}: responses[{number}]{problem}")
    return script


def readable(text: str) -> str:
    """A msgspec message with the field's path in front."""
    text, _, path = text.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    if path.endswith((".type", ".kind")) and text.startswith("Invalid value"):
        text = f"unknown {path[-4:]} {text.removeprefix('Invalid value ')}"
        if path.endswith(".type"):
            text += ' (any other item: {"type": "raw", "item": {...}})'
    return f"{path}: {text}" if path else text


def _check(response: Response) -> str:
    """What a type alone can't say; empty if all is well, else the rest of a message."""
    kinds = [k for k in ("output", "events", "sse") if getattr(response, k) is not None]
    if len(kinds) > 1:
        return f": has both {kinds[0]} and {kinds[1]}; give one of them"
    if not kinds and response.status is None:
        return ": needs one of output, events, sse, status"
    if kinds and response.body is not msgspec.UNSET:
        return f".body: not together with {kinds[0]}"
    if kinds and kinds[0] != "sse" and response.status not in (None, 200):
        return f".status: {response.status} not together with {kinds[0]}"
    for number, item in enumerate(response.output or ()):
        if isinstance(item, Message) and item.text is not None and item.deltas is not None:
            return f".output[{number}]: has both text and deltas; give one of them"
    return check_passage(response)


def settle_chaos(chaos: Chaos, folder: str) -> str:
    """Make paths absolute and check the faults that may be drawn; a problem's text, or nothing."""
    for number, kind in enumerate(chaos.kinds):
        if not isinstance(kind, str):
            settle_paths(Passage(fault=kind), folder)
            problem = check_passage(Passage(fault=kind))
            if problem:
                return f".kinds[{number}]{problem.removeprefix('.fault')}"
    return ""


def check_passage(response: Passage) -> str:
    """What is wrong with the faults and holds of a response; empty if nothing is."""
    for number, fault in enumerate(response.faults):
        place = f".fault[{number}]" if isinstance(response.fault, list) else ".fault"
        if isinstance(fault, TruncatedCall):
            count = len(calls_of(response)) if isinstance(response, Response) else None
            if count is not None and count < (fault.nth or 1):
                return f"{place}: the response has {count} calls in its output"
        elif not isinstance(fault, KeepaliveTrap):
            problem = _check_place(fault.after, fault.before) or _check_kind(fault)
            if problem:
                return place + problem
    for number, hold in enumerate(response.holds):
        place = f".hold[{number}]" if isinstance(response.hold, list) else ".hold"
        if (hold.event is None) == (hold.before is None and hold.after is None):
            return f"{place}: needs one of event, before, after"
        problem = _check_place(hold.after, hold.before)
        if problem:
            return place + problem
    return ""


def calls_of(response: Response) -> list[FunctionCall | CustomToolCall]:
    """The calls of a response's output."""
    return [i for i in response.output or () if isinstance(i, FunctionCall | CustomToolCall)]


def _check_place(after: Where | None, before: Where | None) -> str:
    if after is not None and before is not None:
        return ": has both after and before; give one of them"
    if after == "headers":
        return '.after: "headers" can only be given as before'
    where = after if after is not None else before
    if isinstance(where, Position) and (where.event is None) == (where.byte is None):
        return f".{'before' if after is None else 'after'}: needs one of event, byte"
    return ""


def _check_kind(fault: PlacedFault) -> str:
    if fault.before == "headers" and not isinstance(fault, Close | Reset | Stall):
        return '.before: "headers" is for close, reset and stall'
    cutting = isinstance(fault, Close | Reset | HalfEvent | CleanEnd | Stall)
    places = (fault.after, fault.before)
    if not cutting and any(isinstance(p, Position) and p.byte is not None for p in places):
        return ": adds an event, so its position must be an event, not a byte"
    return ""


def settle_paths(passage: Passage, folder: str) -> None:
    """Make the paths of the files that are waited for absolute."""
    for fault in passage.faults:
        if not isinstance(fault, TruncatedCall | KeepaliveTrap) and fault.when:
            fault.when.file = os.path.join(folder, fault.when.file)
    for hold in passage.holds:
        hold.file = os.path.join(folder, hold.file)


def _record(response: Response, folder: str, recordings: dict[str, bytes]) -> str:
    """Make paths absolute and read the recording; a problem's text, or nothing."""
    settle_paths(response, folder)
    problem = settle_chaos(response.chaos, folder) if response.chaos else ""
    if problem:
        return f".chaos{problem}"
    if response.sse is not None:
        response.sse = os.path.join(folder, response.sse)
        try:
            recordings[response.sse] = _read(response.sse)
        except OSError as error:
            return f".sse: {response.sse} cannot be read: {error.strerror}"
    return ""


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()

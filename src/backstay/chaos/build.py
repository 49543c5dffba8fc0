"""Functions that write pieces of a script: each returns a plain JSON value of the script's format.

They check nothing by themselves; `script.parse` does. `write_script` saves a script to a file.
"""

import os
from typing import Any

import msgspec

JSON = dict[str, Any]
Path = str | os.PathLike[str]
Where = int | str | JSON


def response(
    *output: JSON,
    fault: JSON | list[JSON] | None = None,
    hold: JSON | list[JSON] | None = None,
    **options: Any,
) -> JSON:
    """A response that streams these items; options as in the script (`style`, `delay`, `usage` …)."""
    return _some(output=list(output), fault=fault, hold=hold) | options


def events(*stream: JSON | str, **options: Any) -> JSON:
    """A response that sends these events as they are; a string is sent as it stands."""
    return {"events": list(stream), **options}


def recorded(path: Path, **options: Any) -> JSON:
    """A response that plays a recorded `.sse` file byte for byte."""
    return {"sse": os.fspath(path), **options}


def http_error(
    status: int, *, body: Any = None, headers: dict[str, str] | None = None, **options: Any
) -> JSON:
    """An HTTP error; without a body a plausible one for the status is sent."""
    return _some(status=status, body=body, headers=headers) | options


def message(text: str | None = None, *, deltas: int | None = None, **fields: Any) -> JSON:
    """An assistant message: a text, or so many short deltas."""
    return _some(type="message", text=text, deltas=deltas) | fields


def call(
    name: str, arguments: JSON | str | None = None, call_id: str | None = None, **fields: Any
) -> JSON:
    """A function call; arguments given as text are sent as they are."""
    arguments = {} if arguments is None else arguments
    return _some(type="function_call", name=name, arguments=arguments, call_id=call_id) | fields


def custom_call(name: str, input: str, call_id: str | None = None, **fields: Any) -> JSON:
    """A call of a custom tool."""
    return _some(type="custom_tool_call", name=name, input=input, call_id=call_id) | fields


def reasoning(summary: str | list[str] = "", **fields: Any) -> JSON:
    """A reasoning item; `encrypted_content` is made up unless it is given (None: it has none)."""
    return {"type": "reasoning", "summary": summary, **fields}


def web_search(query: str, **fields: Any) -> JSON:
    """A web search that the server ran."""
    return {"type": "web_search_call", "query": query, **fields}


def raw(item: JSON) -> JSON:
    """Any other item, sent as added and done."""
    return {"type": "raw", "item": item}


def at(
    event: int | str | None = None,
    *,
    nth: int | None = None,
    item: str | None = None,
    byte: int | None = None,
) -> JSON:
    """A position: the nth event of a type (of an item type), or a byte of the body."""
    return _some(event=event, nth=nth, item=item, byte=byte)


def fault(
    kind: str,
    *,
    after: Where | None = None,
    before: Where | None = None,
    when: Path | JSON | None = None,
    **options: Any,
) -> JSON:
    """A fault of any kind; `when` is a file that must exist, or `{"file": …, "seconds": …}`."""
    if when is not None and not isinstance(when, dict):
        when = {"file": os.fspath(when)}
    return _some(kind=kind, after=after, before=before, when=when, **options)


def cut(**options: Any) -> JSON:
    """Close the connection (FIN); options: after, before, when, partial_chunk."""
    return fault("close", **options)


def reset(**options: Any) -> JSON:
    """Close the connection with a RST; options: after, before, when, partial_chunk."""
    return fault("reset", **options)


def half_event(**options: Any) -> JSON:
    """Half of the next event, then the end; options: after, before, when, bytes, end, partial_chunk."""
    return fault("half_event", **options)


def clean_end(**options: Any) -> JSON:
    """A proper end of the body without a terminal event; options: after, before, when."""
    return fault("clean_end", **options)


def stall(seconds: float | None = None, **options: Any) -> JSON:
    """Silence for so many seconds, or until the client leaves; options: after, before, when."""
    return fault("stall", seconds=seconds, **options)


def repeat(times: int | None = None, **options: Any) -> JSON:
    """The event before the position once more; options: after, before, when."""
    return fault("repeat", times=times, **options)


def reorder(by: int | None = None, **options: Any) -> JSON:
    """The next event comes only after so many later ones; options: after, before, when."""
    return fault("reorder", by=by, **options)


def garbage(text: str | None = None, **options: Any) -> JSON:
    """An event whose data is not JSON; options: after, before, when."""
    return fault("garbage", text=text, **options)


def unknown(event: JSON | None = None, **options: Any) -> JSON:
    """An event of unknown type; options: after, before, when."""
    return fault("unknown", event=event, **options)


def failed(code: str | None = None, message: str | None = None, **options: Any) -> JSON:
    """`response.failed`; options: after, before, when."""
    return fault("failed", code=code, message=message, **options)


def incomplete(reason: str | None = None, **options: Any) -> JSON:
    """`response.incomplete`; options: after, before, when."""
    return fault("incomplete", reason=reason, **options)


def error(
    code: str | None = None, message: str | None = None, shape: str | None = None, **options: Any
) -> JSON:
    """An error event, shape nested, flat or bare; options: after, before, when."""
    return fault("error", code=code, message=message, shape=shape, **options)


def truncated_call(nth: int | None = None) -> JSON:
    """Half of a call's arguments, then `response.incomplete`."""
    return _some(kind="truncated_call", nth=nth)


def keepalive_trap() -> JSON:
    """Keep-alive promised, and the connection closed after the response."""
    return {"kind": "keepalive_trap"}


def hold(
    file: Path,
    *,
    event: int | None = None,
    before: Where | None = None,
    after: Where | None = None,
    seconds: float | None = None,
) -> JSON:
    """Keep the stream open and silent at a position until the file exists."""
    return _some(file=os.fspath(file), event=event, before=before, after=after, seconds=seconds)


def write_script(path: Path, responses: list[JSON], **options: Any) -> str:
    """Save a script (options: repeat, style, strict, dialect, seed, chaos) as JSON; returns the path."""
    with open(path, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode({"responses": responses, **options})))
    return os.fspath(path)


def _some(**fields: Any) -> JSON:
    return {name: value for name, value in fields.items() if value is not None}

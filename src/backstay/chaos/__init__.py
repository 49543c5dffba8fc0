r"""A Responses API server that plays a script and breaks it as told, and a judge of what it was sent.

In a test::

    from backstay.chaos import ChaosServer, call, cut, judge, message, response

    script = [
        response(call("exec_command", {"cmd": "make"}), fault=cut(after="call", when="built.flag")),
        response(message("It builds.")),
    ]
    with ChaosServer(script, strict=True) as server:
        run_agent(base_url=server.url)          # http://127.0.0.1:PORT/v1
    assert judge(server.requests).ok, judge(server.requests).table()

``ChaosProxy`` does the same to the answers of a real provider. docs/chaos.md describes both for users.

As a process: ``backstay chaos serve SCRIPT [--port N] [--log FILE] [--strict] [--style S] [--judge]``.
Its first line on stdout is the base URL; it ends on SIGTERM. SCRIPT is a JSON file, or a recorded
``.sse`` file, which is then the only response and repeats.

Script (JSON; every builder of this package returns a piece of it as a plain Python value)
------------------------------------------------------------------------------------------
A list of responses, or an object::

    {"responses": [...],      played in the order of POST /v1/responses; then HTTP 400, script_exhausted
     "repeat": false,         the last response repeats instead
     "style": "openai",       default of the responses (see below)
     "strict": false,         refuse (HTTP 400, as the real API words it) an input that is unpaired, has
                              duplicate ids, ...; a refused request uses up no response
     "dialect": "openai",     or "deepseek": strict also demands calls to stand together
     "compact": false,        POST /v1/responses/compact plays the next response too, as JSON
     "seed": "abc",           fixes the generated ids and times (else random per server)
     "chaos": CHAOS}          breaks answers by chance; those with a fault or status of their own are left alone

A response has one of ``output`` (items, from which a faithful stream is made), ``events`` (the stream's
events as they are: an object is sent as JSON, a string as it stands), ``sse`` (path of a recorded stream,
sent byte for byte) or ``status`` (an HTTP error)::

    {"output": [ITEM, ...], "events": [...], "sse": "path",
     "status": 429, "headers": {"Retry-After": "1"}, "body": {...} or "text",   body has a default
     "usage": {"input_tokens": 9, "cached_tokens": 0, "output_tokens": 9, "reasoning_tokens": 0} or null,
     "style": "openai", "delay": 0.0, "trickle": 0.01 or {"seconds": 0.01, "bytes": 7},
     "piece": 12,             characters per delta
     "framing": "chunked",    or "close": the body ends with the connection
     "kept": true,            a stream of a request with "background": true can be taken up again with
                              GET /v1/responses/ID?stream=true&starting_after=N; false: it is gone
     "chaos": CHAOS,          for this response
     "fault": FAULT or [FAULT, ...], "hold": HOLD or [HOLD, ...]}

``delay``: seconds before the first byte of the answer. ``trickle``: seconds between events, or between
writes of that many bytes. Relative paths are relative to the script's folder (a Python value: to the
current folder).

ITEM, by ``type``::

    {"type": "message", "text": "hi"}                       or "deltas": 20000 (that many short deltas);
                                                            "phase" is sent as it is
    {"type": "function_call", "name": "f", "arguments": {...} or "text as it is", "call_id": "c1"}
    {"type": "custom_tool_call", "name": "apply_patch", "input": "...", "call_id": "c2"}
    {"type": "reasoning", "summary": "text", "encrypted_content": "..." or null}
    {"type": "web_search_call", "query": "..."}
    {"type": "raw", "item": {...}}                          any other item, sent as added and done

``call_id`` and ``id`` are made up where they are not given.

FAULT, by ``kind``; all but the last two take ``after`` or ``before`` a POSITION (default: before the
terminal event) and ``when``: {"file": PATH, "seconds": 30}, which waits at the position until that file
exists, and strikes then::

    close        close the connection (FIN)                    reset      the same with a RST
    half_event   half of the next event ("bytes": so many of it), then "end": "close" | "reset" | "clean_end"
    clean_end    the HTTP body ends properly, no terminal event
    stall        silence until the client leaves; with "seconds" the stream goes on after them
    repeat       the event before the position once more ("times": 1)
    garbage      an event whose data is not JSON ("text")       unknown    an event of unknown type ("event": {...})
    failed       response.failed ("code", "message")           incomplete response.incomplete ("reason")
    error        an error event ("code", "message", "shape": "nested" | "flat" | "bare")
    reorder      the event behind the position comes only after the next ones ("by": 1); default: the first
                 response.output_item.done
    truncated_call   the "nth" call (default: the last) has half its arguments; then response.incomplete
    keepalive_trap   keep-alive is promised, but the connection is closed after the response

close, reset and half_event may have ``"partial_chunk": true``: an HTTP chunk that says it is longer.

POSITION: an event's number from 0 (negative: from the end); an event type; ``"call"`` (the
``response.output_item.done`` of a call item); ``"terminal"``; ``{"event": TYPE, "nth": 2, "item": ITEM TYPE}``;
``{"byte": N}`` of the body (not for faults that add an event); ``"headers"`` (only ``before``, and only for
close, reset and stall: not even a status line is sent).

CHAOS breaks answers by chance, in a manner that the seed and the request's number fix::

    {"probability": 0.3, "seed": 7,
     "kinds": ["close", "status", {"kind": "stall", "after": "call"}],
     "seconds": 1.0}          a drawn stall; the longest delay; a hundred pauses of a trickle

``kinds`` are kinds of faults, ``"status"`` (429, 500, 502 or 503), ``"delay"``, ``"trickle"``, or whole
faults; default: close, reset, half_event, clean_end, repeat, unknown, failed, status. What was drawn stands in the
request's log entry as it would in a script. A position that the stream lacks stands before its terminal
event. An answer that drawing spoiled leaves its response to the next request, unless the client got a
whole call, or, without calls, the terminal event.

HOLD: ``{"before" or "after": POSITION, "file": PATH, "seconds": 30}`` keeps the stream open and silent until
that file exists; ``{"event": 3, "file": PATH}`` is the same as before 3. A wait that ends without the file is
noted in ``ChaosServer.problems`` and on stderr of the process, and the stream goes on.

STYLE: ``openai``; ``chatgpt`` (the final output is empty); ``copilot`` (item ids change with every event);
``llamacpp`` (no output_index, sequence_number, content_index); ``openrouter`` (no event lines, comments,
``[DONE]``); ``no-trailing-blank`` (the last event lacks its blank line).

Requests without ``"stream": true`` are answered with the whole response as JSON; close, reset, half_event,
clean_end and stall then act on that body (at half of it, or at their byte); failed and incomplete are its
``status``, error is HTTP 500, other faults and holds do nothing.

Builders: ``response``, ``events``, ``recorded``, ``http_error``; the items ``message``, ``call``, ``custom_call``,
``reasoning``, ``web_search``, ``raw``; the faults by their kind (``cut`` for close, ``fault(kind)`` for any);
``at`` for a position, ``hold``, and ``write_script`` to save them. ``ChaosServer(script, **options)`` takes a list
of responses with the script's options beside it, and has ``url``, ``requests``, ``bodies``, ``log``,
``problems`` and ``wait(count)``.

Log: one JSON object a line and request: ``{"number", "time" (Unix seconds), "connection", "method", "path",
"headers" (secrets redacted), "body" (parsed; null if it is not JSON), "status", "response" (number of the
response played, else null), "refusal"}``, and ``"drawn"`` where an answer was broken by chance. What is no HTTP
request stands there too, with an empty method, its first line as ``"raw"`` and status 400. ``judge`` takes these objects, ``ChaosServer.requests``, or bodies, as one session; ``judge_sessions`` tells sessions
apart by their ``prompt_cache_key``, else by what their inputs begin with.
"""

from backstay.chaos.build import (
    at,
    call,
    clean_end,
    custom_call,
    cut,
    error,
    events,
    failed,
    fault,
    garbage,
    half_event,
    hold,
    http_error,
    incomplete,
    keepalive_trap,
    message,
    raw,
    reasoning,
    recorded,
    reorder,
    repeat,
    reset,
    response,
    stall,
    truncated_call,
    unknown,
    web_search,
    write_script,
)
from backstay.chaos.judge import Finding, Verdict, judge
from backstay.chaos.proxy import ChaosProxy
from backstay.chaos.script import Script, ScriptError, load, parse
from backstay.chaos.server import ChaosServer, Request
from backstay.chaos.sessions import Verdicts, judge_sessions

__all__ = [
    "ChaosProxy",
    "ChaosServer",
    "Finding",
    "Request",
    "Script",
    "ScriptError",
    "Verdict",
    "Verdicts",
    "at",
    "call",
    "clean_end",
    "custom_call",
    "cut",
    "error",
    "events",
    "failed",
    "fault",
    "garbage",
    "half_event",
    "hold",
    "http_error",
    "incomplete",
    "judge",
    "judge_sessions",
    "keepalive_trap",
    "load",
    "message",
    "parse",
    "raw",
    "reasoning",
    "recorded",
    "reorder",
    "repeat",
    "reset",
    "response",
    "stall",
    "truncated_call",
    "unknown",
    "web_search",
    "write_script",
]

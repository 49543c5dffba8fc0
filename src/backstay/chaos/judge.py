"""The judge: what is wrong with the requests that a client sent in one session, in order.

`sessions` tells the sessions of a log apart.

Pure: bodies in, a verdict out. It knows the rules of the Responses API (each call has one output,
after it) and what a durable agent promises between requests: no output is lost or changed, and each
input extends the one before it, so that prompt caches keep hitting.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

JSON = dict[str, Any]
Dialect = Literal["openai", "deepseek"]
Level = Literal["error", "note"]

OUTPUT_OF = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
    "computer_call": "computer_call_output",
    "tool_search_call": "tool_search_output",
}
CALL_OF = {output: call for call, output in OUTPUT_OF.items()}
SERVER_RUN = frozenset(
    (
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "mcp_call",
        "mcp_list_tools",
        "mcp_approval_request",
    )
)
KNOWN = frozenset(
    (
        *OUTPUT_OF,
        *CALL_OF,
        *SERVER_RUN,
        "message",
        "reasoning",
        "item_reference",
        "mcp_approval_response",
        "compaction",
    )
)
REQUIRED = {
    "function_call": ("call_id", "name", "arguments"),
    "custom_tool_call": ("call_id", "name", "input"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call_output": ("call_id", "output"),
    "message": ("role", "content"),
    "reasoning": ("summary",),
}
# With store: false the server keeps nothing, so an id that it made is not found again.
OWN_IDS = ("msg_", "rs_", "fc_", "ctc_", "lsh_", "sh_", "apc_", "tsc_")


class Finding(Struct, frozen=True):
    """One thing that is wrong (or, as a note, worth knowing): in which request, at which item.

    `request` counts from 0; `index` is the item's place in the input, -1 for the request as a whole.
    """

    code: str
    request: int
    index: int
    text: str
    level: Level = "error"
    field: str = ""


class Verdict(Struct):
    """All findings about a session's requests."""

    findings: list[Finding]
    requests: int

    @property
    def ok(self) -> bool:
        """Nothing is wrong; notes do not count."""
        return not any(finding.level == "error" for finding in self.findings)

    @property
    def codes(self) -> list[str]:
        """The codes of what is wrong, in order, without notes."""
        return [finding.code for finding in self.findings if finding.level == "error"]

    def table(self) -> str:
        """The findings as lines of text."""
        wrong = len(self.codes)
        summary = f"{self.requests} requests, {wrong or 'nothing'} wrong"
        if not self.findings:
            return summary
        rows = [("request", "item", "finding", "")]
        for one in self.findings:
            index = "" if one.index < 0 else str(one.index)
            code = f"({one.code})" if one.level == "note" else one.code
            rows.append((str(one.request), index, code, one.text))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join(
                [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]
            )
            for row in rows
        ]
        return "\n".join([summary, *(line.rstrip() for line in lines)])


def judge(
    requests: Iterable[Any],
    *,
    dialect: Dialect = "openai",
    must_contain: Mapping[str, str] | Sequence[str] = (),
    changes: Collection[int] = (),
    ignore: Collection[str] = (),
) -> Verdict:
    """Judge the requests of one session.

    `requests`: bodies, entries of the server's log, or `ChaosServer.requests`; requests for other
    paths are left out, refused ones count.
    `must_contain`: texts that the outputs of the last request must hold, by call_id or anywhere.
    `changes`: numbers of requests whose prefix may differ from the one before (a compaction).
    `ignore`: codes that are not looked for.

    Codes, within a request: call_without_output, output_without_call, output_before_call,
    duplicate_call, duplicate_output, mismatched_output (the output of another kind of call),
    bad_arguments, missing_field, reasoning_without_item, duplicate_item (an id twice), item_id and
    stored_item (ids that store: false does not keep), calls_apart (DeepSeek's order); as notes:
    image, unknown_item. Between requests: lost_output, changed_output, changed_prefix,
    changed_instructions, changed_tools. At the end: missing_output (see `must_contain`).
    """
    bodies = [body for body in map(body_of, requests) if body is not None]
    findings: list[Finding] = []
    for number, body in enumerate(bodies):
        findings += inspect(body, number, dialect=dialect)
        if number and number not in changes:
            findings += _compare(bodies[number - 1], body, number)
            findings += _lost(bodies[number - 1], body, number)
    findings += _missing(bodies, must_contain)
    return Verdict([f for f in findings if f.code not in ignore], len(bodies))


def inspect(request: JSON, number: int = 0, *, dialect: Dialect = "openai") -> list[Finding]:
    """What is wrong with one request by itself, in the order of its items."""
    items = items_of(request)
    stored = request.get("store") is not False
    findings: list[Finding] = []
    ids: set[str] = set()
    if not stored:
        findings += _own_ids(items, number)
    for index, item in enumerate(items):
        for code, text, field in _look(item, items[index + 1 :], stored=stored):
            level: Level = "note" if code in ("image", "unknown_item") else "error"
            findings.append(Finding(code, number, index, text, level, field))
        item_id = item.get("id")
        if isinstance(item_id, str) and item.get("type") != "item_reference":
            if item_id in ids:
                findings.append(Finding("duplicate_item", number, index, f"id {item_id} again"))
            ids.add(item_id)
    findings += _pairing(items, number)
    if dialect == "deepseek":
        findings += _together(items, number)
    return sorted(findings, key=lambda finding: finding.index)


def items_of(request: JSON) -> list[JSON]:
    """The input as items; a plain text is one user message."""
    given = request.get("input", [])
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    items = given if isinstance(given, list) else []
    return [_typed(item) if isinstance(item, dict) else {"type": "not an object"} for item in items]


def _typed(item: JSON) -> JSON:
    return {"type": "message", **item} if "type" not in item and "role" in item else item


def body_of(request: Any) -> JSON | None:
    """A request's body, from whatever form it comes in; None for a request that is no response's."""
    if isinstance(request, bytes | str):
        request = msgspec.json.decode(request)
    path = getattr(request, "path", None)
    body = getattr(request, "body", None)
    if isinstance(request, dict):
        if "answer" in request and "input" not in request:
            return None  # what a proxy logs when an answer is over
        if "connection" not in request or "body" not in request:
            return request
        path, body = request.get("path"), request["body"]
    if path is not None and not path.rstrip("/").endswith("/responses"):
        return None
    return body if isinstance(body, dict) else None


# ----- one item


def _look(item: JSON, rest: list[JSON], *, stored: bool) -> list[tuple[str, str, str]]:
    """(code, text, field) for what is wrong with an item by itself."""
    kind = item.get("type", "")
    found = [
        ("missing_field", f"{kind} without {field}", field)
        for field in REQUIRED.get(kind, ())
        if item.get(field) is None
    ]
    if kind not in KNOWN:
        found.append(("unknown_item", f"type {kind or 'missing'}", ""))
    if _has_image(item):
        found.append(("image", f"{kind} with an image", ""))
    if kind == "function_call" and item.get("arguments") is not None:
        found += _arguments(item["arguments"])
    if kind == "reasoning" and not _is_followed(rest):
        found.append(("reasoning_without_item", "no item of the model follows it", ""))
    if not stored and _is_stored(item):
        found.append(("stored_item", f"{kind} {item.get('id')} with store: false", "id"))
    return found


def _is_stored(item: JSON) -> bool:
    """Whether the server would have to look the item up: a reference, or reasoning by its id."""
    by_id = str(item.get("id") or "").startswith("rs_") and not item.get("encrypted_content")
    return item.get("type") == "item_reference" or by_id


def _own_ids(items: list[JSON], number: int) -> list[Finding]:
    """Ids in the server's manner on items of a request that says store: false, as one finding."""
    sent = [
        (index, str(item["id"]))
        for index, item in enumerate(items)
        if str(item.get("id") or "").startswith(OWN_IDS) and not _is_stored(item)
    ]
    if not sent:
        return []
    more = f" and {len(sent) - 1} more" if len(sent) > 1 else ""
    text = f"the id {sent[0][1]}{more} sent with store: false"
    return [Finding("item_id", number, sent[0][0], text, field="id")]


def _arguments(arguments: Any) -> list[tuple[str, str, str]]:
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, TypeError):
        return [("bad_arguments", f"arguments are not JSON: {str(arguments)[:40]!r}", "arguments")]
    if isinstance(value, dict):
        return []
    return [("bad_arguments", "arguments are no JSON object", "arguments")]


def _has_image(item: JSON) -> bool:
    for field in ("content", "output"):
        parts = item.get(field)
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and part.get("type") == "input_image":
                return True
    return False


def _is_followed(rest: list[JSON]) -> bool:
    """Whether what the model made with some reasoning comes right after it (after more reasoning)."""
    for item in rest:
        kind = item.get("type")
        if kind != "reasoning":
            made = kind in OUTPUT_OF or kind in SERVER_RUN or kind == "item_reference"
            return made or (kind == "message" and item.get("role") == "assistant")
    return False


# ----- calls and outputs


def _pairing(items: list[JSON], number: int) -> list[Finding]:
    """Calls and outputs that are not one to one, output after call."""
    findings: list[Finding] = []
    waiting: dict[str, list[int]] = {}
    called: dict[str, str] = {}
    early: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        kind, call_id = item.get("type", ""), item.get("call_id")
        if not isinstance(call_id, str):
            continue
        if kind in OUTPUT_OF:
            if call_id in called:
                text = f"call_id {call_id} used again"
                findings.append(Finding("duplicate_call", number, index, text))
            called[call_id] = kind
            if early.get(call_id):
                text, place = f"output of {call_id} stands before its call", early[call_id].pop(0)
                findings.append(Finding("output_before_call", number, place, text))
            else:
                waiting.setdefault(call_id, []).append(index)
        elif kind in CALL_OF:
            if waiting.get(call_id):
                waiting[call_id].pop(0)
                if called[call_id] != CALL_OF[kind]:
                    text = f"{kind} answers the {called[call_id]} {call_id}"
                    findings.append(Finding("mismatched_output", number, index, text))
            elif call_id in called:
                text = f"a second output for {call_id}"
                findings.append(Finding("duplicate_output", number, index, text))
            else:
                early.setdefault(call_id, []).append(index)
    for call_id, places in waiting.items():
        text = f"no output for {call_id}"
        findings += [Finding("call_without_output", number, place, text) for place in places]
    for call_id, places in early.items():
        text = f"no call for the output with {call_id}"
        findings += [Finding("output_without_call", number, place, text) for place in places]
    return findings


def _together(items: list[JSON], number: int) -> list[Finding]:
    """Calls of a step that do not stand together, followed by all their outputs."""
    findings: list[Finding] = []
    waiting: dict[str, int] = {}
    answering = False
    for index, item in enumerate(items):
        kind, call_id = item.get("type", ""), str(item.get("call_id"))
        if kind in CALL_OF:
            waiting.pop(call_id, None)
            answering = bool(waiting)
        elif waiting and (kind == "message" or (kind in OUTPUT_OF and answering)):
            first, place = next(iter(waiting.items()))
            text = f"a {kind} (item {index}) stands between {first} and its output"
            findings.append(Finding("calls_apart", number, place, text))
            waiting.clear()
            answering = False
        if kind in OUTPUT_OF:
            waiting[call_id] = index
    return findings


# ----- from request to request


def _compare(before: JSON, after: JSON, number: int) -> list[Finding]:
    """Whether a request extends the one before it."""
    findings = []
    for field in ("instructions", "tools"):
        if msgspec.json.encode(before.get(field)) != msgspec.json.encode(after.get(field)):
            text = f"{field} differ from those of request {number - 1}"
            findings.append(Finding(f"changed_{field}", number, -1, text))
    old, new = items_of(before), items_of(after)
    for index, item in enumerate(old):
        if index >= len(new):
            text = f"ends after {len(new)} of the {len(old)} items of request {number - 1}"
            findings.append(Finding("changed_prefix", number, -1, text))
            break
        if item != new[index]:
            text = f"{_name(item)} became {_name(new[index])}"
            findings.append(Finding("changed_prefix", number, index, text))
            break
    return findings


def _name(item: JSON) -> str:
    return f"{item.get('type')} {item.get('call_id') or item.get('role') or ''}".rstrip()


def _lost(before: JSON, after: JSON, number: int) -> list[Finding]:
    """Outputs of the request before that are missing or different now."""
    findings = []
    now = _outputs(after)
    for key, (_, output) in _outputs(before).items():
        if key not in now:
            text = f"the output of {key[0]} was sent before and is gone"
            findings.append(Finding("lost_output", number, -1, text))
        elif now[key][1] != output:
            text = f"the output of {key[0]} is not what was sent before"
            findings.append(Finding("changed_output", number, now[key][0], text))
    return findings


def _outputs(body: JSON) -> dict[tuple[str, int], tuple[int, Any]]:
    """The outputs by call_id and how often it came: their place and what they hold."""
    found: dict[tuple[str, int], tuple[int, Any]] = {}
    uses: dict[str, int] = {}
    for index, item in enumerate(items_of(body)):
        call_id = item.get("call_id")
        if item.get("type") in CALL_OF and isinstance(call_id, str):
            uses[call_id] = uses.get(call_id, 0) + 1
            found[call_id, uses[call_id]] = (index, item.get("output"))
    return found


def _missing(bodies: list[JSON], must_contain: Mapping[str, str] | Sequence[str]) -> list[Finding]:
    """Declared outputs that the last request lacks."""
    last = len(bodies) - 1
    outputs: dict[str, str] = {}
    for item in items_of(bodies[-1]) if bodies else ():
        if item.get("type") in CALL_OF:
            outputs[str(item.get("call_id"))] = _text(item.get("output"))
    if isinstance(must_contain, Mapping):
        wanted = [(f" of {key}", text, outputs.get(key, "")) for key, text in must_contain.items()]
    else:
        texts = [must_contain] if isinstance(must_contain, str) else must_contain
        wanted = [("", text, "\n".join(outputs.values())) for text in texts]
    return [
        Finding("missing_output", last, -1, f"no output{whose} holds {text[:60]!r}")
        for whose, text, held in wanted
        if text not in held
    ]


def _text(output: Any) -> str:
    if isinstance(output, str):
        return output
    return msgspec.json.encode(output).decode()

"""A Claude Code transcript as a conversation: the branch that ends in its last line, in order.

Each content block of a message is a line; lines name their parent, so that a file holds branches.
Side chains (sub-agents) are left out, and so is thinking: no other provider can read it. Two
passes; memory is bounded by one line and a few words of each.
"""

import os
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from backstay.core.items import Item, message
from backstay.doctor.carry import Carrier
from backstay.doctor.codex import seconds
from backstay.doctor.lines import lines

PROVIDER: Final = "anthropic"
_SPOKEN: Final = ("user", "assistant")
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_BASE64: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n")
_NAME: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_LONGEST_NAME: Final = 64
_BOUNDARY: Final = "compact_boundary"
_NO_IMAGE: Final = "(An image stood here that can't be read.)"

JSON = dict[str, Any]


class About(msgspec.Struct):
    """What a transcript says of itself, and which of its lines count."""

    cwd: str = ""
    title: str = ""
    began: float = 0.0
    ended: float = 0.0
    damaged: int = 0
    branches: int = 0
    """Lines that belong to other branches."""
    side: int = 0
    """Lines of side chains."""
    chosen: set[int] = set()
    """The numbers of the lines that count."""


class _Seen(msgspec.Struct):
    """What is kept of a line until the branch is known."""

    at: int
    parent: str
    response: str
    """The id of the message that it is a block of."""
    calls: list[str]
    answers: list[str]


def transcripts(folder: str) -> list[str]:
    """The transcripts below a folder of Claude Code, oldest names first, sub-agents' left out."""
    found = []
    for top, _, names in os.walk(os.path.join(folder, "projects")):
        for name in names:
            inside = os.path.basename(top) == "subagents"
            if name.endswith(".jsonl") and not name.startswith("agent-") and not inside:
                found.append(os.path.join(top, name))
    return sorted(found)


def about(path: str) -> About:
    """The first pass. Raises `StorageError` if the file can't be read."""
    found = About()
    seen: dict[str, _Seen] = {}
    last = ""
    for at, value in _values(path, found):
        _describe(found, value)
        if value.get("isSidechain") is True:
            found.side += _is_spoken(value)
            continue
        ident = _text(value.get("uuid"))
        if not ident and _is_spoken(value):
            ident = f"line {at}"
        if not ident or ident in seen:
            continue
        parent = _text(value.get("parentUuid")) or _text(value.get("logicalParentUuid"))
        goes_on = value.get("isCompactSummary") is True or value.get("subtype") == _BOUNDARY
        if parent not in seen and (parent or goes_on or "parentUuid" not in value):
            parent = last  # a compaction begins anew; else its own was lost
        seen[ident] = _look(at, parent, value)
        if _is_spoken(value) or value.get("type") == "system":
            last = ident
    found.chosen = _branch(seen, last)
    found.branches = sum(bool(one.at) for one in seen.values()) - len(found.chosen)
    return found


def _look(at: int, parent: str, value: JSON) -> _Seen:
    said = value.get("message")
    response = _text(said.get("id")) if isinstance(said, dict) else ""
    calls = [_text(one.get("id")) for one in _blocks(value) if one.get("type") == "tool_use"]
    answers = [
        _text(one.get("tool_use_id")) for one in _blocks(value) if one.get("type") == "tool_result"
    ]
    return _Seen(at if _is_spoken(value) else 0, parent, response, calls, answers)


def _branch(seen: dict[str, _Seen], leaf: str) -> set[int]:
    """The lines from the first to the leaf, with what calls in parallel left beside them."""
    chain: set[str] = set()
    while leaf in seen and leaf not in chain:
        chain.add(leaf)
        leaf = seen[leaf].parent
    responses = {seen[one].response for one in chain} - {""}
    for ident, one in seen.items():
        if one.response in responses:
            chain.add(ident)
    answered = {ident for one in chain for ident in seen[one].answers}
    owed = {ident for one in chain for ident in seen[one].calls} - answered
    for ident, one in seen.items():
        if ident not in chain and not owed.isdisjoint(one.answers):
            chain.add(ident)
            owed -= set(one.answers)
    return {seen[one].at for one in chain} - {0}


def _describe(found: About, value: JSON) -> None:
    stamp = seconds(_text(value.get("timestamp")))
    found.began = found.began or stamp
    found.ended = stamp or found.ended
    found.cwd = found.cwd or _text(value.get("cwd"))
    for name in ("summary", "aiTitle", "customTitle"):
        if value.get("type") in ("summary", "ai-title", "custom-title"):
            found.title = _text(value.get(name)) or found.title


def carry(path: str, found: About, into: Carrier) -> Iterator[float]:
    """The second pass: gives the carrier what counts, and after each line its time."""
    into.place.provider = PROVIDER
    for at, value in _values(path, About()):
        if at in found.chosen:
            _take(value, into)
            yield seconds(_text(value.get("timestamp")))


def _take(value: JSON, into: Carrier) -> None:
    said = value.get("message")
    said = said if isinstance(said, dict) else {}
    if value.get("type") == "assistant":
        model = _text(said.get("model"))
        if value.get("isApiErrorMessage") is True or model == "<synthetic>":
            return
        into.place.model = model or into.place.model
        for block in _blocks(value):
            item = _spoken(block)
            if item is not None:
                into.item(item)
        into.counted(_text(said.get("id")), _usage(said.get("usage")))
    elif value.get("isCompactSummary") is True:
        text = "\n".join(_text(one.get("text")) for one in _blocks(value))
        into.compacted([message("user", text)], "carried over from Claude Code")
    else:
        _heard(value, into)


def _heard(value: JSON, into: Carrier) -> None:
    """A line of the user's: answers of calls first, then what was said."""
    parts: list[JSON] = []
    for block in _blocks(value):
        if block.get("type") == "tool_result":
            into.item(_answer(block))
        elif (part := _part(block)) is not None:
            parts.append(part)
    if parts:
        into.item({"type": "message", "role": "user", "content": parts})


def _spoken(block: JSON) -> Item | None:
    """What a block of an answer is here; None for what is not portable."""
    match block.get("type"):
        case "text" if _text(block.get("text")).strip():
            return message("assistant", _text(block.get("text")))
        case "tool_use":
            given = block.get("input")
            arguments = given if isinstance(given, str) else _json({} if given is None else given)
            name = "".join(one if one in _NAME else "_" for one in _text(block.get("name")))
            return {
                "type": "function_call",
                "call_id": _text(block.get("id")),
                "name": name[:_LONGEST_NAME] or "tool",
                "arguments": arguments,
            }
    return None


def _answer(block: JSON) -> Item:
    content = block.get("content")
    output: str | list[JSON]
    if isinstance(content, list):
        output = [part for one in content if isinstance(one, dict) and (part := _part(one))]
        if all(part["type"] == "input_text" for part in output):
            output = "\n".join(part["text"] for part in output)
    else:
        output = content if isinstance(content, str) else "" if content is None else _json(content)
    if block.get("is_error") is True and isinstance(output, str):
        output = output if "error" in output[:200].lower() else f"Error: {output}"
    return {
        "type": "function_call_output",
        "call_id": _text(block.get("tool_use_id")),
        "output": output,
    }


def _part(block: JSON) -> JSON | None:
    """A part of a message; what is no text and no image is told in words."""
    match block.get("type"):
        case "text":
            text = _text(block.get("text"))
            return {"type": "input_text", "text": text} if text else None
        case "image":
            url = _image(block.get("source"))
            if not url:
                return {"type": "input_text", "text": _NO_IMAGE}
            return {"type": "input_image", "image_url": url}
        case "thinking" | "redacted_thinking" | "tool_result" | "tool_use":
            return None
        case name:
            return {"type": "input_text", "text": f"(Something of the type {name} stood here.)"}


def _image(source: object) -> str:
    """The address of an image, or "" where it is none that a provider takes."""
    if not isinstance(source, dict):
        return ""
    if source.get("type") == "url":
        url = _text(source.get("url"))
        return url if url.startswith(("https://", "http://", "data:image/")) else ""
    body, kind = _text(source.get("data")), _text(source.get("media_type"))
    whole = body and kind in _IMAGES and body.isascii() and _BASE64.issuperset(body.encode())
    return f"data:{kind};base64,{body}" if whole else ""


def _usage(usage: object) -> JSON | None:
    """Tokens in a response's words: there, what was cached is no part of the input."""
    if not isinstance(usage, dict):
        return None
    fresh, cached, written, made = (
        one if isinstance(one := usage.get(name), int) else 0
        for name in (
            "input_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "output_tokens",
        )
    )
    return {
        "input_tokens": fresh + cached + written,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": made,
    }


def _values(path: str, found: About) -> Iterator[tuple[int, JSON]]:
    """The objects of the file, numbered from 1."""
    at = 0
    for line in lines(path):
        if line.value is not None:
            at += 1
            yield at, line.value
        elif line.problem != "empty":
            found.damaged += 1


def _is_spoken(value: JSON) -> bool:
    return value.get("type") in _SPOKEN and isinstance(value.get("message"), dict)


def _blocks(value: JSON) -> list[JSON]:
    said = value.get("message")
    content = said.get("content") if isinstance(said, dict) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

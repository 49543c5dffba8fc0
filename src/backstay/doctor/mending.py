"""One record of a rollout made sound: written anew, renumbered, an output or a header made up.

Pure; which records need it is `checks`', and where they go is `repair`'s.
"""

import json
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import msgspec

from backstay.core.items import arguments, kind
from backstay.doctor.checks import Examination
from backstay.doctor.images import GONE, images, trouble
from backstay.doctor.lines import decoded
from backstay.doctor.pairs import Call

EPOCH: Final = "1970-01-01T00:00:00.000Z"
_BROKEN: Final = '{"error":"the arguments of this call were not valid JSON"}'
_NEAR: Final = 120
"""Bytes from a line's beginning within which Codex writes the number."""


def encoded(value: Any) -> bytes:
    """A value as a line of JSON, its newline included. Raises `ValueError` if it is none."""
    try:
        return msgspec.json.encode(value) + b"\n"
    except (msgspec.MsgspecError, OverflowError, UnicodeError, TypeError):
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"
    except RecursionError:
        raise ValueError("too deep") from None


def mended(value: dict[str, Any]) -> dict[str, Any]:
    """The record with what no provider takes replaced: arguments, names, images."""
    payload = value.get("payload")
    item = payload if isinstance(payload, dict) else value
    kept = item.get("replacement_history")
    for one in kept if isinstance(kept, list) else [item]:
        if isinstance(one, dict):
            _mend(one)
    return value


def _mend(item: dict[str, Any]) -> None:
    name = item.get("name")
    if isinstance(name, str) and "\0" in name:
        item["name"] = name.replace("\0", "")
    cut = kind(item) == "function_call" and arguments(item) is None
    if cut and isinstance(item.get("arguments"), str):
        item["arguments"] = _BROKEN
    for parts, place, url in list(images(item)):
        why = trouble(url)
        if why:
            parts[place] = {"type": "input_text", "text": GONE.format(why=why)}


def numbered(raw: bytes, value: dict[str, Any], number: int) -> bytes:
    """The line with another number; nothing else of it changes where that can be had."""
    old = value.get("ordinal")
    wanted = {"timestamp": value.get("timestamp", ""), "ordinal": number} | {
        name: one for name, one in value.items() if name not in ("timestamp", "ordinal")
    }
    place = raw.find(b'"ordinal":%d,' % old, 0, _NEAR) if isinstance(old, int) else -1
    if place > 0:
        end = raw.index(b",", place)
        made = raw[:place] + b'"ordinal":%d' % number + raw[end:]
        if decoded(made).value == wanted:
            return made
    return encoded(wanted)


def header(found: Examination) -> dict[str, Any]:
    """A session header made of what the other records and the file's name say."""
    ident = found.id or str(uuid5(NAMESPACE_URL, found.path))
    stamp = found.first_time or EPOCH
    meta: dict[str, Any] = {
        "id": ident,
        "session_id": ident,
        "timestamp": stamp,
        "cwd": found.cwd or "/",
        "originator": "backstay_doctor",
        "cli_version": "0.0.0",
        "source": "cli",
    }
    if found.numbered:
        meta["history_mode"] = "paginated"
    return {"timestamp": stamp, "type": "session_meta", "payload": meta}


def output(call: Call, text: str, timestamp: str, *, bare: bool) -> dict[str, Any]:
    """The record that answers a call, as Codex would have written it; `bare`: without envelope."""
    item: dict[str, Any] = {"type": "function_call_output", "call_id": call.call_id, "output": text}
    if call.kind == "custom_tool_call":
        item["type"] = "custom_tool_call_output"
    elif call.kind == "tool_search_call":
        item = {
            "type": "tool_search_output",
            "call_id": call.call_id,
            "status": "completed",
            "execution": "client",
            "tools": [],
        }
    if bare:
        return item
    return {"timestamp": timestamp or EPOCH, "type": "response_item", "payload": item}

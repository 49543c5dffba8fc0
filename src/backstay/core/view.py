"""The prompt view: history as a request's input, in the provider's dialect.

Computed afresh for every attempt (P5); each view extends the one before it (P6) because nothing
here depends on anything but the records. Within an attempt: the kept items in `output_index`
order, then the outputs in call order.
"""

from typing import Any, Final

import msgspec

from backstay.core.dialect import Dialect
from backstay.core.history import AttemptState, History, Messages, complete
from backstay.core.items import (
    OUTPUTS,
    Item,
    arguments,
    call_id,
    is_call,
    is_hosted,
    kind,
    message,
    message_text,
    tool_name,
)
from backstay.core.record import Call, ItemRecord, Output

Entry = ItemRecord | Call

_FIELDS: Final = {
    "message": ("type", "role", "content", "phase"),
    "reasoning": ("type", "summary", "content", "encrypted_content"),
    "function_call": ("type", "call_id", "name", "arguments", "namespace"),
    "custom_tool_call": ("type", "call_id", "name", "input", "namespace"),
    "function_call_output": ("type", "call_id", "output"),
    "custom_tool_call_output": ("type", "call_id", "output"),
}
"""What is sent of an item type; providers refuse fields that belong to responses only."""

_TAKEN: Final = frozenset({*_FIELDS, *OUTPUTS})
"""Types that every dialect takes, as calls are."""

_IDS_NOT_TAKEN: Final = frozenset({"web_search_call", "local_shell_call"})
"""Types outside of `_FIELDS` whose id means nothing to a provider that stores no responses."""

_PARTS: Final = {
    "output_text": ("type", "text"),
    "input_text": ("type", "text"),
    "refusal": ("type", "refusal"),
}

_NO_TEXT_ANSWER: Final = frozenset({"local_shell_call", "computer_call", "tool_search_call"})
"""Calls whose answer can't be a text: pair and all are told as a message instead."""


def view(history: History, dialect: Dialect) -> list[Item]:
    """The input of a request that is made now."""
    items: list[Item] = []
    used: set[str] = set()
    dropped = _dropped(history)
    for segment in history.segments:
        if isinstance(segment, Messages):
            items += [sent for item in segment.items if (sent := _sent(item, dialect))]
            used.update(call_id(item) for item in segment.items if is_call(item))
        else:
            items += _attempt(history, segment, dialect, dropped, used)
    return _said_once(items)


def _said_once(items: list[Item]) -> list[Item]:
    """The items with each id on the first that has it: providers refuse a second (FACTS 8)."""
    seen: set[str] = set()
    for at, item in enumerate(items):
        ident = item.get("id")
        if not isinstance(ident, str):
            continue
        if ident in seen:
            items[at] = {field: value for field, value in item.items() if field != "id"}
        seen.add(ident)
    return items


def _dropped(history: History) -> set[int]:
    """The records that an attempt of the same step superseded."""
    dropped: set[int] = set()
    for attempt in history.attempts.values():
        dropped.update(attempt.record.superseded)
    return dropped


def _attempt(
    history: History,
    attempt: AttemptState,
    dialect: Dialect,
    dropped: set[int],
    used: set[str],
) -> list[Item]:
    kept = [
        one
        for one in attempt.items
        if one.n not in dropped and complete(one) and _sendable(history, one, dialect)
    ]
    if not kept:
        return []
    kept.sort(key=_index)
    if alone := _unpaired(kept):
        kept = [one for one in kept if one.n not in alone]
    kept = [
        one
        for at, one in enumerate(kept)
        if kind(one.item) != "reasoning" or _stands(history, kept, at, dialect)
    ]
    if dialect.calls_together:
        kept = _together(kept)
    said: list[Item] = []
    answers: list[Item] = []
    for one in kept:
        output = history.calls[one.n].output if isinstance(one, Call) else None
        if isinstance(one, Call) and output is not None:
            call, answer = _pair(one, output, dialect, used)
            said += call
            answers += answer
        else:
            said += [sent] if (sent := _sent(one.item, dialect)) else []
    return said + answers


def _index(one: Entry) -> int:
    return one.index


def _sendable(history: History, one: Entry, dialect: Dialect) -> bool:
    """Whether a call has its output; of other items, whether the dialect takes them."""
    if isinstance(one, Call):
        return history.calls[one.n].output is not None
    return _taken(one.item, dialect)


def _unpaired(kept: list[Entry]) -> set[int]:
    """Hosted calls without the output that the provider owes, and outputs without such a call."""
    calls: dict[str, int] = {}
    alone: set[int] = set()
    for one in kept:
        if is_hosted(one.item):
            name = str(one.item.get("call_id"))
            alone |= {calls[name]} if name in calls else set()
            calls[name] = one.n
        elif kind(one.item) in OUTPUTS and calls.pop(str(one.item.get("call_id")), 0) == 0:
            alone.add(one.n)
    return alone | set(calls.values())


def _stands(history: History, kept: list[Entry], at: int, dialect: Dialect) -> bool:
    """Whether reasoning may be sent: it needs the very item that followed it (FACTS 8)."""
    one = kept[at]
    if not dialect.encrypted_reasoning or not one.item.get("encrypted_content"):
        return False
    if one.n < history.reasoning_from:
        return False
    while kind(kept[at].item) == "reasoning":
        at += 1
        if at == len(kept) or kept[at].index != kept[at - 1].index + 1:
            return False
    follower = kept[at]
    if isinstance(follower, Call):
        return kind(follower.item) not in _NO_TEXT_ANSWER
    return kind(follower.item) not in OUTPUTS


def _together(kept: list[Entry]) -> list[Entry]:
    """Messages that stand behind the first call, moved in front of it with their reasoning."""
    front: list[Entry] = []
    calls: list[Entry] = []
    group: list[Entry] = []
    for one in kept:
        group.append(one)
        if kind(one.item) != "reasoning":
            (calls if isinstance(one, Call) else front).extend(group)
            group = []
    return front + calls + group


def _pair(
    record: Call, output: Output, dialect: Dialect, used: set[str]
) -> tuple[list[Item], list[Item]]:
    """Call and output as they are sent, under an id that no other pair of the view has."""
    call, answer = record.item, output.item
    if kind(call) in _NO_TEXT_ANSWER:
        text = f"{tool_name(call)} was asked for and answered: {message_text(answer)}"
        return [message("developer", text)], []
    ident = call_id(call)
    if not ident or ident in used:
        ident = f"call_r{record.n}"
        while ident in used:
            ident += "x"
    used.add(ident)
    return [_renamed(_call(call, dialect), ident)], [_renamed(_output(answer, dialect), ident)]


def _renamed(item: Item, ident: str) -> Item:
    if kind(item) == "mcp_approval_request":
        return item | {"id": ident}
    key = "approval_request_id" if kind(item) == "mcp_approval_response" else "call_id"
    return item | {key: ident}


def _call(item: Item, dialect: Dialect) -> Item:
    sent = _picked(item, dialect)
    if kind(item) == "custom_tool_call" and not dialect.custom_tools:
        encoded = msgspec.json.encode({"input": str(item.get("input", ""))}).decode()
        return {
            "type": "function_call",
            "call_id": sent.get("call_id"),
            "name": item.get("name"),
            "arguments": encoded,
        }
    if kind(item) == "function_call":
        decoded = arguments(item)
        if decoded is None:
            broken = {"error": "the arguments of this call were not valid JSON"}
            sent["arguments"] = msgspec.json.encode(broken).decode()
        elif not item.get("arguments"):
            sent["arguments"] = "{}"
    return sent


def _output(item: Item, dialect: Dialect) -> Item:
    sent = _picked(item, dialect)
    if kind(item) == "custom_tool_call_output" and not dialect.custom_tools:
        sent["type"] = "function_call_output"
    return sent


def _sent(item: Item, dialect: Dialect) -> Item | None:
    """An item that pairs with nothing, or None where the dialect does not take it."""
    if is_call(item) or kind(item) in OUTPUTS:
        # Only a compaction brings these in outside of an attempt; they are paired there.
        return _call(item, dialect) if is_call(item) else _output(item, dialect)
    return _picked(item, dialect) if _taken(item, dialect) else None


def _taken(item: Item, dialect: Dialect) -> bool:
    """Whether the dialect takes an item of this type."""
    return dialect.unknown_items or kind(item) in _TAKEN or is_call(item)


def _picked(item: Item, dialect: Dialect) -> Item:
    """The item without what only responses carry."""
    name = kind(item)
    fields = _FIELDS.get(name)
    if fields is None:
        return item if dialect.store or name not in _IDS_NOT_TAKEN else _without_id(item)
    sent: dict[str, Any] = {"type": name}
    if dialect.store and item.get("id"):
        sent["id"] = item["id"]
    for field in fields:
        value = item.get(field)
        if value is not None:
            sent[field] = value
    if name == "message":
        content = sent.get("content")
        if isinstance(content, list):
            sent["content"] = [_part(part) for part in content]
    elif name == "reasoning":
        sent.setdefault("summary", [])
    return sent


def _part(part: Any) -> Any:
    fields = _PARTS.get(str(part.get("type"))) if isinstance(part, dict) else None
    return part if fields is None else {f: part[f] for f in fields if f in part}


def _without_id(item: Item) -> Item:
    return {field: value for field, value in item.items() if field not in ("id", "status")}

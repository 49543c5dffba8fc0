"""The prompt view: history as a request's input, in the provider's dialect.

Computed afresh for every attempt (P5); each view extends the one before it (P6) because nothing
here depends on anything but the records. Within an attempt: the kept items in `output_index`
order, then the outputs in call order.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

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
from backstay.core.mend import Mends, told, without_fields, without_images
from backstay.core.record import Call, ItemRecord, Output

Entry = ItemRecord | Call

_FIELDS: Final = {
    "message": ("type", "role", "content", "phase"),
    "reasoning": ("type", "summary", "content", "encrypted_content"),
    "function_call": ("type", "call_id", "name", "arguments", "namespace"),
    "custom_tool_call": ("type", "call_id", "name", "input", "namespace"),
    "function_call_output": ("type", "call_id", "output"),
    "custom_tool_call_output": ("type", "call_id", "output"),
    "compaction": ("type", "encrypted_content"),
    "compaction_summary": ("type", "encrypted_content"),
}
"""What is sent of an item type; providers refuse fields that belong to responses only."""

SEALED: Final = frozenset({"compaction", "compaction_summary"})
"""Items that only the provider which made them can read."""
_SEALED_FOR_ANOTHER: Final = message(
    "user",
    "(The conversation before this point was shortened into a summary that only another provider "
    "can read. It can't be shown here.)",
)

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


class Sent(NamedTuple):
    """An item as it is sent, and where it comes from."""

    item: Item
    n: int
    """The record that holds it; of an output the record of its call."""
    at: int = 0
    """Which item of that record, where it holds several."""


def view(history: History, dialect: Dialect, without: Iterable[int] = ()) -> list[Item]:
    """The input of a request that is made now; the records `without` are left out."""
    return [one.item for one in sent(history, dialect, history.mends, without)]


def sent(
    history: History, dialect: Dialect, mends: Mends, without: Iterable[int] = ()
) -> list[Sent]:
    """The same under these mends, with where each item comes from."""
    making = _Making(history, dialect, mends, without)
    for segment in history.segments:
        if isinstance(segment, Messages):
            making.messages(segment)
        else:
            making.attempt(segment)
    made = _said_once([_mended(one, mends) for one in making.items])
    if dialect.images and dialect.output_images:
        return made
    from backstay.core.images import adapted

    shown = adapted([one.item for one in made], dialect)
    return [made[at]._replace(item=item) for at, item in shown]


def _mended(one: Sent, mends: Mends) -> Sent:
    item = one.item
    if one.n < mends.images_from:
        item = without_images(item)
    if mends.fields:
        item = without_fields(item, mends.fields)
    return one if item is one.item else one._replace(item=item)


def _said_once(items: list[Sent]) -> list[Sent]:
    """The items with each id on the first that has it: providers refuse a second (FACTS 8)."""
    seen: set[str] = set()
    for at, one in enumerate(items):
        ident = one.item.get("id")
        if not isinstance(ident, str):
            continue
        if ident in seen:
            bare = {field: value for field, value in one.item.items() if field != "id"}
            items[at] = one._replace(item=bare)
        seen.add(ident)
    return items


def _dropped(history: History) -> set[int]:
    """The records that an attempt of the same step superseded."""
    dropped: set[int] = set()
    for attempt in history.attempts.values():
        dropped.update(attempt.record.superseded)
    return dropped


class _Making:
    """A view in the making: the items so far, and the call ids that they use."""

    def __init__(
        self, history: History, dialect: Dialect, mends: Mends, without: Iterable[int]
    ) -> None:
        self.items: list[Sent] = []
        self._history = history
        self._dialect = dialect
        self._mends = mends
        self._used: set[str] = set()
        self._dropped = _dropped(history).union(without)

    def messages(self, segment: Messages) -> None:
        """What no response made; only a compaction brings calls in here, paired already."""
        for at, item in enumerate(segment.items):
            if kind(item) in SEALED and not self._opens(segment, at):
                self.items.append(Sent(segment.plain or _SEALED_FOR_ANOTHER, segment.n, at))
            elif self._tells(segment.n, item, at):
                self.items += [Sent(one, segment.n, at) for one in told(item)]
            elif item_sent := _sent(item, self._dialect):
                self.items.append(Sent(item_sent, segment.n, at))
        self._used.update(call_id(item) for item in segment.items if is_call(item))

    def attempt(self, attempt: AttemptState) -> None:
        """What a response left: its items in their order, then the outputs in call order."""
        kept = self._kept(attempt)
        answers: list[Sent] = []
        for one in kept:
            output = self._history.calls[one.n].output if isinstance(one, Call) else None
            if self._tells(one.n, one.item):
                answer = output.item if output is not None else None
                self.items += [Sent(item, one.n) for item in told(one.item, answer)]
            elif isinstance(one, Call) and output is not None:
                call, answer_items = _pair(one, output, self._dialect, self._used)
                self.items += [Sent(item, one.n) for item in call]
                answers += [Sent(item, one.n) for item in answer_items]
            elif item := _sent(one.item, self._dialect):
                self.items.append(Sent(item, one.n))
        self.items += answers

    def _opens(self, segment: Messages, at: int) -> bool:
        """Whether the provider that is asked can read what is encrypted in a compaction."""
        refused = segment.n < self._mends.reasoning_from or self._mends.tells(segment.n, at)
        return segment.provider == self._history.provider and not refused

    def _kept(self, attempt: AttemptState) -> list[Entry]:
        kept = [
            one
            for one in attempt.items
            if one.n not in self._dropped
            and complete(one)
            and _sendable(self._history, one, self._dialect)
        ]
        kept.sort(key=_index)
        if alone := _unpaired(kept):
            kept = [one for one in kept if one.n not in alone]
        kept = [
            one
            for at, one in enumerate(kept)
            if kind(one.item) != "reasoning" or self._stands(kept, at)
        ]
        if self._dialect.calls_together:
            calls = [isinstance(one, Call) and not self._tells(one.n, one.item) for one in kept]
            kept = _together(kept, calls)
        return kept

    def _tells(self, n: int, item: Item, at: int = 0) -> bool:
        """Whether an item is told as text, because a provider refused it as it is."""
        mends = self._mends
        return mends.tells(n, at) or (n < mends.images_from and not _is_known(item))

    def _stands(self, kept: list[Entry], at: int) -> bool:
        """Whether reasoning may be sent: it needs the very item that followed it (FACTS 8)."""
        one = kept[at]
        if not self._dialect.encrypted_reasoning or not one.item.get("encrypted_content"):
            return False
        if one.n < self._mends.reasoning_from or self._mends.tells(one.n):
            return False
        while kind(kept[at].item) == "reasoning":
            at += 1
            if at == len(kept) or kept[at].index != kept[at - 1].index + 1:
                return False
        follower = kept[at]
        if self._tells(follower.n, follower.item):
            return False
        if isinstance(follower, Call):
            return kind(follower.item) not in _NO_TEXT_ANSWER
        return kind(follower.item) not in OUTPUTS


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


def _together(kept: list[Entry], calls: list[bool]) -> list[Entry]:
    """What stands behind the first call and is none, moved in front of it with its reasoning."""
    front: list[Entry] = []
    behind: list[Entry] = []
    group: list[Entry] = []
    for one, is_one in zip(kept, calls, strict=True):
        group.append(one)
        if kind(one.item) != "reasoning":
            (behind if is_one else front).extend(group)
            group = []
    return front + behind + group


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
    return dialect.unknown_items or _is_known(item)


def _is_known(item: Item) -> bool:
    return kind(item) in _TAKEN or is_call(item)


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

"""A Codex rollout as a conversation: which of its entries count, in which order, and what they say.

Follows Codex 0.169 in what a resumed session is made of: compactions replace, rolled-back turns are
gone, a fork goes on behind records of its parent's file. Two passes; memory is bounded by one line.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from backstay.core.items import Item, kind, message, message_text
from backstay.doctor.carry import Carrier, End
from backstay.doctor.lines import lines
from backstay.doctor.rollout import Entry, entries, thread_id
from backstay.doctor.tidy import PASSTHROUGH, is_prompt, is_sent

Find = Callable[[str], str]
"""Gives the path of the rollout of a thread, "" where it is not there."""

_DEEPEST: Final = 50
"""Forks of forks that are followed."""
_LONGEST_KEPT: Final = 80_000
"""Characters of the user's messages that an old compaction keeps: 20,000 tokens."""
_ENDS: Final[dict[str, End]] = {
    "task_complete": "completed",
    "turn_complete": "completed",
    "turn.completed": "completed",
    "turn_aborted": "interrupted",
}
_STARTS: Final = ("task_started", "turn_started")
_USAGE: Final = ("input_tokens", "output_tokens", "total_tokens")


class About(msgspec.Struct):
    """What a rollout says of itself, and what is to be left out of it."""

    id: str = ""
    cwd: str = ""
    provider: str = ""
    model: str = ""
    name: str = ""
    """The title that it was given."""
    began: float = 0.0
    ended: float = 0.0
    items: int = 0
    damaged: int = 0
    """Lines that hold nothing that can be read."""
    rolled_back: int = 0
    """Turns that were taken back."""
    missing_parent: str = ""
    """The thread that it was forked from, where its file is not there."""
    dropped: list[tuple[int, int]] = []
    """Entries that were taken back: from, and up to and without."""


def about(path: str, find: Find) -> About:
    """The first pass. Raises `StorageError` if the file can't be read."""
    found = About(id=thread_id(path))
    head = next(_entries(path, About()), None)
    if head is not None:
        _describe(found, head.payload)
        found.began = seconds(head.timestamp)
    turns: list[int] = []
    told = -1
    for at, one in enumerate(_chain(path, find, found)):
        stamp = seconds(one.timestamp)
        found.began = found.began or stamp
        found.ended = stamp or found.ended
        if one.type in ("session_meta", "turn_context"):
            _describe(found, one.payload)
        elif one.type == "response_item":
            found.items += 1
            if _is_context(one.payload):
                told = at if told < 0 else told
                continue
            if is_prompt(one.payload):
                # What Codex told its model goes with the turn that it was told for; what stands
                # before the first turn stays.
                turns.append(told if turns and told >= 0 else at)
            told = -1
        elif one.type == "compacted":
            found.items += 1
        elif one.type == "event_msg":
            _event(found, one.payload, at, turns)
    return found


def _is_context(item: Item) -> bool:
    told = kind(item) == "message" and item.get("role") in ("user", "developer")
    return told and not is_prompt(item)


def _event(found: About, event: dict[str, Any], at: int, turns: list[int]) -> None:
    name = event.get("type")
    if name == "thread_rolled_back":
        count = event.get("num_turns")
        count = count if isinstance(count, int) and count > 0 else 0
        taken = turns[-count:] if count else []
        if taken:
            del turns[-count:]
            found.rolled_back += len(taken)
            found.dropped = [one for one in found.dropped if one[0] < taken[0]]
            found.dropped.append((taken[0], at))
    elif name == "thread_name_updated":
        found.name = _text(event.get("thread_name")) or found.name


def _describe(found: About, payload: dict[str, Any]) -> None:
    found.id = found.id or _text(payload.get("id"))
    found.cwd = found.cwd or _text(payload.get("cwd"))
    found.provider = found.provider or _text(payload.get("model_provider"))
    found.model = _text(payload.get("model")) or found.model


def carry(path: str, find: Find, found: About, into: Carrier) -> Iterator[float]:
    """The second pass: gives the carrier what counts, and after each entry its time.

    The carrier is left open at the end, for what is salvaged. Raises `StorageError`.
    """
    reading = _Reading(into, found)
    dropped = iter([*found.dropped, (1 << 62, 1 << 62)])
    first, behind = next(dropped)
    stamp = found.began
    for at, one in enumerate(_chain(path, find, About())):
        while at >= behind:
            first, behind = next(dropped)
        if at >= first:
            continue
        stamp = seconds(one.timestamp) or stamp
        reading.take(one)
        yield stamp


class _Reading:
    def __init__(self, into: Carrier, found: About) -> None:
        self._into = into
        self._said: list[str] = []
        self._into.place.provider = found.provider or "openai"
        self._into.place.model = found.model

    def take(self, one: Entry) -> None:
        match one.type:
            case "response_item":
                self._item(one.payload)
            case "compacted":
                self._compacted(one.payload)
            case "turn_context":
                self._settings(one.payload)
            case "token_usage_record":
                self._into.counted(_text(one.payload.get("response_id")), _usage(one.payload))
            case "event_msg":
                self._event(one.payload)

    def _item(self, item: Item) -> None:
        if not is_sent(item):
            self._into.keep(item)
            return
        if is_prompt(item):
            self._said.append(message_text(item))
        if kind(item) != "message":
            item = {name: value for name, value in item.items() if name != PASSTHROUGH}
        self._into.item(item)

    def _settings(self, payload: dict[str, Any]) -> None:
        place = self._into.place
        place.model = _text(payload.get("model")) or place.model
        place.effort = _text(payload.get("effort")) or place.effort

    def _event(self, event: dict[str, Any]) -> None:
        name = _text(event.get("type"))
        if name in _STARTS:
            self._into.begun()
        elif name in _ENDS:
            failed = isinstance(event.get("error"), dict)
            self._into.over("failed" if failed else _ENDS[name], _text(event.get("reason")))

    def _compacted(self, payload: dict[str, Any]) -> None:
        history = payload.get("replacement_history")
        if isinstance(history, list):
            items = [one for one in history if isinstance(one, dict)]
        else:
            items = self._shortened(_text(payload.get("message")))
        self._into.compacted(items, "carried over from Codex")
        self._said = [message_text(item) for item in items if is_prompt(item)]

    def _shortened(self, summary: str) -> list[Item]:
        """What old versions went on from: what the user said last, and the summary."""
        kept: list[Item] = []
        room = _LONGEST_KEPT
        for text in reversed(self._said):
            if room <= 0:
                break
            kept.append(message("user", text if len(text) <= room else _middle(text, room)))
            room -= len(text)
        return [*reversed(kept), message("user", summary or "(no summary available)")]


def _middle(text: str, room: int) -> str:
    return f"{text[: room // 2]}\n… {len(text) - room} characters left out …\n{text[-room // 2 :]}"


def _chain(path: str, find: Find, found: About) -> Iterator[Entry]:
    """The entries that make the session up: its ancestors' up to where it was forked, its own."""
    first = next(_entries(path, About()), None)
    base = first.payload.get("history_base") if first is not None else None
    yield from _before(base, find, found, {path})
    yield from _entries(path, found)


def _before(base: Any, find: Find, found: About, seen: set[str]) -> Iterator[Entry]:
    """What the parents of a fork hold of it, the oldest first."""
    links: list[tuple[str, int]] = []
    while isinstance(base, dict) and len(links) < _DEEPEST:
        parent = _text(base.get("thread_id"))
        path = find(parent) if parent else ""
        upto = base.get("end_ordinal_exclusive")
        if not path or path in seen or not isinstance(upto, int):
            found.missing_parent = parent
            break
        seen.add(path)
        links.append((path, upto))
        first = next(_entries(path, About()), None)
        base = first.payload.get("history_base") if first is not None else None
    for path, upto in reversed(links):
        for one in _entries(path, About()):
            if one.ordinal is not None and one.ordinal >= upto:
                break
            yield one


def _entries(path: str, found: About) -> Iterator[Entry]:
    return entries(_counted(path, found))


def _counted(path: str, found: About) -> Iterator[Any]:
    for line in lines(path):
        if line.value is None and line.problem != "empty":
            found.damaged += 1
        yield line


def seconds(stamp: str) -> float:
    """An ISO time as Unix seconds; 0.0 for what is none."""
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _usage(payload: dict[str, Any]) -> dict[str, Any] | None:
    """A record of what was used, in the words of a response."""
    usage = payload.get("usage")
    if not isinstance(usage, dict):
        return None
    counts: dict[str, Any] = {name: usage[name] for name in _USAGE if name in usage}
    counts["input_tokens_details"] = {"cached_tokens": usage.get("cached_input_tokens")}
    counts["output_tokens_details"] = {"reasoning_tokens": usage.get("reasoning_output_tokens")}
    return counts


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

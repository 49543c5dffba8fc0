"""The refusal ladder: what to change about a history that a provider refuses (DESIGN 4.7, FACTS 8).

Each rung is a `repair` that changes the next request; it is tried once. A ladder that did not help
is taken back, so that a refusal which had nothing to do with the history costs nothing but time.
"""

from collections.abc import Iterator
from typing import Final

from backstay.core.dialect import Dialect
from backstay.core.events import Outcome
from backstay.core.history import History
from backstay.core.items import OUTPUTS, Item, is_call, kind
from backstay.core.mend import (
    AS_TEXT,
    DROP_FIELD,
    DROP_REASONING,
    ITEM,
    REPLACE_IMAGES,
    REPLACE_ITEM,
    UNDO,
    add_up,
)
from backstay.core.record import Repair
from backstay.core.retry import FINAL_CODES
from backstay.core.view import Sent, sent

MOST_RUNGS: Final = 12
"""Repairs in a row without an answer between them."""

_HISTORY: Final = (
    "tool output",
    "tool call",
    "tool_call",
    "function call",
    "call_id",
    "reasoning",
    "encrypted",
    "duplicate",
    "input[",
    "input item",
    "item '",
    "'item'",
    "item[",
    "item with id",
    "image",
    "arguments",
    "role",
    "content",
    "schema",
    "parse",
    "message",
)
"""Words of refusals that are about the input."""
_UNKNOWN_FIELD: Final = (
    "unknown parameter",
    "unsupported parameter",
    "unknown field",
    "unrecognized",
    "unexpected",
    "not supported",
    "not permitted",
    "not allowed",
    "extra inputs",
    "extra fields",
    "additional properties",
)
_REQUEST_FIELDS: Final = (
    "include",
    "prompt_cache_key",
    "parallel_tool_calls",
    "reasoning.summary",
    "text.verbosity",
    "store",
)
"""Fields of a request that it can do without."""
_OTHER_FIELDS: Final = frozenset(
    {
        "tool_choice",
        "reasoning.effort",
        "reasoning.mode",
        "temperature",
        "top_p",
        "max_output_tokens",
        "text.format",
        "text.format.schema",
        "service_tier",
        "truncation",
    }
)
"""Fields of a request that say nothing of its history."""
_ITEM_FIELDS: Final = frozenset({"id", "status", "phase", "namespace", "summary", "content_type"})
"""Fields of an item that it can do without."""


def climb(history: History, dialect: Dialect, outcome: Outcome, attempt: int) -> Repair | None:
    """The next rung after a refusal of `attempt`, its undoing at the end, or None.

    None: the refusal is not about the history, or nothing was tried that could be taken back.
    """
    tried = _tried(history)
    if not _is_about_history(outcome, known=bool(tried) or _was_answered(history)):
        return None
    reason = " ".join(outcome.reason.split()) or outcome.code
    if len(tried) < MOST_RUNGS:
        now = sent(history, dialect, history.mends)
        for rung in _rungs(history, outcome, now):
            rung.n, rung.attempt, rung.reason = history.next, attempt, reason
            if rung.action == AS_TEXT:
                rung.target = rung.target or rung.n
            if not _is_among(rung, tried) and _changes(history, dialect, rung, now):
                return rung
    if not tried:
        return None
    return Repair(
        n=history.next, action=UNDO, reason="it did not help", attempt=attempt, target=tried[0].n
    )


def _tried(history: History) -> list[Repair]:
    """The repairs since the last attempt that was answered."""
    answered = history.compacted
    for attempt in history.attempts.values():
        if attempt.end is not None and attempt.end.outcome in ("completed", "incomplete"):
            answered = attempt.end.n
    found = [one for one in history.repairs if one.n > answered]
    undone = max((at for at, one in enumerate(found, 1) if one.action == UNDO), default=0)
    return found[undone:]


def _is_among(rung: Repair, tried: list[Repair]) -> bool:
    return any(
        (one.action, one.field) == (rung.action, rung.field)
        and (
            rung.action not in (REPLACE_ITEM, AS_TEXT)
            or (one.target, one.at) == (rung.target, rung.at)
        )
        for one in tried
    )


def _changes(history: History, dialect: Dialect, rung: Repair, now: list[Sent]) -> bool:
    """Whether the next request would be another one."""
    if rung.action == DROP_FIELD and not rung.field.startswith(ITEM):
        return rung.field not in history.mends.request
    after = sent(history, dialect, add_up([*history.repairs, rung]))
    return [one.item for one in after] != [one.item for one in now]


def _is_about_history(outcome: Outcome, *, known: bool) -> bool:
    """Whether the refusal may be about what was said before, and not about key, model or length.

    `known`: the session was answered before, or something was changed because of a refusal.
    """
    said = outcome.reason.lower()
    if outcome.code in FINAL_CODES or any(code in said for code in FINAL_CODES):
        return False
    if outcome.kind == "failed":
        return outcome.code.startswith("invalid") or "input[" in said
    if outcome.kind != "refused" or outcome.status in (401, 403, 407, 429):
        return False
    name = _parameter(outcome)
    if "model" in outcome.code or (name and not _is_of_history(name)):
        return False
    named = any(word in said for word in _HISTORY) or "encrypted" in outcome.code
    if outcome.status in (400, 413, 422):
        return named or name != "" or known
    return named and known and (outcome.status == 404 or (outcome.status or 0) >= 500)


def _is_of_history(name: str) -> bool:
    return name.startswith("input") or name in _REQUEST_FIELDS


def _was_answered(history: History) -> bool:
    return any(one.end and one.end.outcome == "completed" for one in history.attempts.values())


def _rungs(history: History, outcome: Outcome, now: list[Sent]) -> Iterator[Repair]:
    """What could help, the smallest change first."""
    yield from _fields(outcome, now)
    named = _named(history, outcome, now)
    said = f"{outcome.code} {outcome.reason}".lower()
    if named is not None and kind(named.item) == "reasoning":
        yield _rung(REPLACE_ITEM, target=named.n, at=named.at)
    if "reasoning" in said or "encrypted" in said:
        yield _rung(DROP_REASONING)
        yield _rung(DROP_FIELD, field="include")
    if named is not None and not _is_half(history, named):
        yield _rung(REPLACE_ITEM, target=named.n, at=named.at)
    yield _rung(REPLACE_IMAGES)
    yield _rung(DROP_REASONING)
    if history.turn is not None:
        yield _rung(AS_TEXT, target=history.turn.n)
    yield _rung(AS_TEXT)


def _rung(action: str, *, target: int = 0, at: int = 0, field: str = "") -> Repair:
    return Repair(n=0, action=action, reason="", target=target, at=at, field=field)


def _is_half(history: History, one: Sent) -> bool:
    """Whether it is half a pair that a compaction holds: the other half would stand alone."""
    return one.n not in history.calls and (is_call(one.item) or kind(one.item) in OUTPUTS)


# What a refusal names


def _parameter(outcome: Outcome) -> str:
    """The field that is named: behind `param:`, else the first word in quotes that may be one."""
    _, _, rest = outcome.reason.rpartition("(param: ")
    if rest != outcome.reason and rest.endswith(")"):
        return rest[:-1]
    for quote in ("'", '"', "`"):
        parts = outcome.reason.split(quote)
        for word in parts[1::2]:
            if word.startswith("input[") or word in _REQUEST_FIELDS or word in _OTHER_FIELDS:
                return word
    return ""


def _fields(outcome: Outcome, now: list[Sent]) -> Iterator[Repair]:
    """A field that the provider does not know."""
    name = _parameter(outcome)
    said = outcome.reason.lower()
    if "missing" in said or "required" in said:
        return
    if name in _REQUEST_FIELDS:
        yield _rung(DROP_FIELD, field=name)
    elif any(word in said for word in _UNKNOWN_FIELD):
        place, _, field = name.partition("].")
        at = _index(place + "]")
        if at is not None and at < len(now) and field in _ITEM_FIELDS:
            yield _rung(DROP_FIELD, field=f"{ITEM}{kind(now[at].item)}.{field}")


def _named(history: History, outcome: Outcome, now: list[Sent]) -> Sent | None:
    """The item that the refusal names: by its place in the input, or by an id of it."""
    at = _index(outcome.reason)
    if at is not None and at < len(now):
        return now[at]
    words = _words(outcome.reason)
    for one in now:
        if any(ident in words for ident in _ids(one.item)):
            return one
    for attempt in history.attempts.values():
        for record in attempt.items:
            if any(ident in words for ident in _ids(record.item)):
                return Sent(record.item, record.n)
    return None


def _index(text: str) -> int | None:
    """N of the first `input[N]`."""
    _, found, rest = text.partition("input[")
    number = rest.partition("]")[0]
    return int(number) if found and number.isdecimal() and len(number) < 9 else None


def _ids(item: Item) -> list[str]:
    named = (item.get("call_id"), item.get("id"))
    return [name for name in named if isinstance(name, str) and name]


def _words(text: str) -> set[str]:
    """The words of a text, as ids are written."""
    spaced = "".join(c if c.isalnum() or c in "_-|:+/=" else " " for c in text)
    return set(spaced.split())

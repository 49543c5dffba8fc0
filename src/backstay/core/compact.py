"""When a conversation is to be replaced by a shorter one: how much it holds, and how much may be.

Tokens are estimated, never counted: by what the provider counted last, and four bytes a token of
what came since. How the shorter one is made is `summary`'s business.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from backstay.core.history import AttemptState, History, Messages
from backstay.core.items import Item
from backstay.core.mend import is_image
from backstay.core.record import Call, Compaction, Prompt
from backstay.core.usage import Usage

IMAGE_TOKENS: Final = 1500
"""What an image is reckoned as, whatever its size."""
ANSWER_ROOM: Final = 16_000
"""Tokens that are left for an answer; of a small window an eighth."""
_WINDOWS: Final = {
    "gpt-5": 272_000,
    "gpt-4.1": 1_047_576,
    "gpt-4o": 128_000,
    "o3": 200_000,
    "o4-mini": 200_000,
    "codex-mini": 200_000,
}
"""Tokens that models take as input, by how their name begins."""


def window(model: str) -> int | None:
    """The window of a model that is known, also where a gateway puts a name before it."""
    name = model.rpartition("/")[2]
    return next((size for start, size in _WINDOWS.items() if name.startswith(start)), None)


def limit(model: str, configured_window: int | None, configured: int | None) -> int | None:
    """Tokens from which a session on this model is compacted; None where that is not known.

    `configured` goes before everything else; 0 there turns it off.
    """
    if configured is not None:
        return configured or None
    size = configured_window or window(model)
    if size is None:
        return None
    return max(size * 9 // 10 - min(ANSWER_ROOM, size // 8), 1)


def tokens(items: Iterable[Item]) -> int:
    """A rough count of what these items use."""
    return sum(map(_tokens, items))


def _tokens(item: Item) -> int:
    images = 0
    for field in ("content", "output"):
        parts = item.get(field)
        if isinstance(parts, list) and any(map(is_image, parts)):
            rest: list[Any] = [part for part in parts if not is_image(part)]
            images += len(parts) - len(rest)
            item = item | {field: rest}
    try:
        size = len(msgspec.json.encode(item))
    except UnicodeEncodeError:  # a lone surrogate
        size = len(str(item))
    return size // 4 + images * IMAGE_TOKENS


def estimate(history: History, waiting: Prompt | None = None) -> int:
    """Tokens of the next request; `waiting` is a prompt whose turn is about to begin."""
    found = tokens(waiting.items) if waiting is not None else 0
    for segment in reversed(history.segments):
        if isinstance(segment, Messages):
            found += tokens(segment.items)
            continue
        counted = _counted(segment)
        found += _outputs(history, segment)
        if counted:
            return found + counted
        found += tokens(one.item for one in segment.items)
    return found


def _counted(attempt: AttemptState) -> int:
    """What the provider counted of an attempt, 0 where it did not."""
    usage = Usage.of(attempt.end.usage if attempt.end is not None else None)
    return usage.total if usage.input_tokens else 0


def accepted(history: History) -> int:
    """Tokens of the newest request that the provider took and counted; 0 without one."""
    for attempt in reversed(history.attempts.values()):
        if counted := _counted(attempt):
            return counted
    return 0


def _outputs(history: History, attempt: AttemptState) -> int:
    calls = [history.calls[one.n] for one in attempt.items if isinstance(one, Call)]
    return tokens(call.output.item for call in calls if call.output is not None)


def is_full(history: History, turn: int, most: int | None) -> bool:
    """Whether the view is to be replaced before the next request of this turn.

    Not if that was just done for it, nor if hardly anything came since it was: what is left is
    what can't be left out.
    """
    if most is None or history.is_fresh(turn):
        return False
    waiting = None
    if turn not in history.turns and history.queued:
        waiting = history.queued[0]
    found = estimate(history, waiting)
    return found >= most and found - history.floor >= most // 8


def compacted(record: Compaction) -> str:
    """A line about a compaction."""
    return f"compacted: {record.before:,} -> {record.after:,} tokens ({record.reason})"

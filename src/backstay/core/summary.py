"""Making a conversation shorter: what is kept of it, what is asked of whom, and what if that fails.

Pure; loaded when the first compaction is made. The rungs, in order: the provider's own endpoint, a
summary of the view as it is, of its text ever shorter, and at last a list made without a model.
When this happens is `compact`'s to say, and the machine's.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from backstay.core import events as e
from backstay.core.commands import Request
from backstay.core.compact import accepted, estimate, tokens
from backstay.core.history import History, Messages, TurnState
from backstay.core.items import OUTPUTS, Item, is_call, kind, message, message_text, tool_name
from backstay.core.mend import without_images
from backstay.core.record import Basis, Compaction, Repair, Tally
from backstay.core.retry import (
    Again,
    GiveUp,
    explain,
    is_cut,
    is_too_long,
    patience,
    retryable,
    said_window,
)
from backstay.core.rules import Rules
from backstay.core.told import spoken, told, topic_of
from backstay.core.view import SEALED, view

MOST_WORDS: Final = 20_000
"""Tokens of the user's earlier messages that are kept; at most a quarter of the window."""
MOST_SUMMARY: Final = 16_000
"""Tokens of a summary; the same."""
_TEXTS: Final = 5
"""How often the conversation is asked about as a text, each time half as long."""
_SMALLEST: Final = 1000
"""Tokens that every model is taken to hold."""
_OPENING: Final = "<conversation_summary>\n"
_CLOSING: Final = "\n</conversation_summary>"
_FINAL: Final = frozenset({401, 402, 403, 407})
_MISSING: Final = frozenset({404, 405, 501})
"""Statuses that say of an endpoint that there is none."""

_ASKED: Final = """\
The conversation has become too long and is about to be replaced by a summary that you write now. \
Do not call any tool. Answer with the summary alone. Whoever goes on will see the user's messages \
and your summary, and nothing else of what stands above: be exact, and leave out what no longer \
matters. Say, as far as it applies:
- Goal: what the user wants, with every condition, wish and correction that still holds.
- Done: what was changed, made and run, in order; files with their full paths, what is in them now.
- Found out: facts, causes, decisions and the reasons for them, what was tried and did not work.
- State: what works and what does not, which tests passed or failed, commands that still run.
- Left: the next steps, in order, and open questions.
Keep names of files, functions, commands, branches, ids, numbers and error messages word for word."""
_AS_TEXT: Final = (
    "Below is the conversation between a user and a coding agent, as a text; long parts of it are "
    "shortened.\n\n"
)
_BEHIND: Final = (
    "What stood before this point was replaced by a summary, since it was too long. The user's "
    "messages above are kept. The summary:\n\n"
)
_UNDER_WAY: Final = (
    "\n\nThe work on the last message above is under way: go on from where this leaves it, "
    "and do not repeat what is done."
)
_MECHANICAL: Final = (
    "(This summary was made without a model, because none could be made with one. It lists what "
    "was run and changed; look at the files themselves before you go on.)\n"
)
_SEALED: Final = (
    "(The provider that was used until here keeps its own summary, which can't be read by the one "
    "that is used now.)\n"
)

How = Literal["endpoint", "view", "text", "none"]


class Rung(NamedTuple):
    """One way to a summary; `budget`: tokens of a conversation that is told as text."""

    how: How
    budget: int = 0


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What goes on behind a compaction: this step of this turn; turn 0: nothing was under way."""

    turn: int = 0
    step: int = 1
    why: str = ""
    drop: list[int] = []
    resumes: bool = True
    """The step is tried at once; else it was asked for while nothing ran."""


class Choice(NamedTuple):
    """The settings of the request."""

    model: str
    provider: str
    effort: str
    basis: Basis


class Making:
    """One compaction in the making."""

    def __init__(
        self,
        history: History,
        rules: Rules,
        goal: Goal,
        choice: Choice,
        reason: str,
        *,
        most: int,
        endpoint: bool = True,
    ) -> None:
        """`most`: tokens that the model holds, where a refusal for length said or showed it; else 0.

        `endpoint`: the provider's own is not known to be missing.
        """
        self.endpoint = endpoint and rules.dialect.compact_endpoint
        self.goal = goal
        self.reason = reason
        self.choice = choice
        self.under_way = False
        """A request is; else there is a wait before the next."""
        self._history = history
        self._rules = rules
        waiting = history.queued[0] if goal.turn and goal.turn not in history.turns else None
        self._before = estimate(history, waiting)
        self._base = max(most or rules.compact_at or self._before, _SMALLEST)
        self._rungs = _rungs(self._base, endpoint=self.endpoint, too_long=bool(most))
        self._tries = 0
        self._silent = False
        self._usage: dict[str, Any] | None = None
        self._seen = 0
        self._answer: str | list[Item] | None = None

    # Asking

    def request(self) -> Request | None:
        """The request of this rung; None where no model is asked any more."""
        how, budget = self._rungs[0]
        if how == "none":
            return None
        history = self._history
        self._seen = len(history.segments)
        items = view(history, self._rules.dialect, self.goal.drop)
        if how == "text":
            items = [message("user", f"{_AS_TEXT}{transcript(items, budget)}\n\n{_ASKED}")]
        elif how == "view":
            items = [*items, message("user", _ASKED)]
        self.under_way = True
        return Request(
            input=items,
            basis=self.choice.basis,
            model=self.choice.model,
            effort=self.choice.effort,
            session=history.cache_key or history.id,
            without=tuple(sorted(history.mends.request)),
            compact=how == "endpoint",
        )

    def heard(self, event: e.Summarized) -> Again | GiveUp | None:
        """Take an answer in: wait and ask again, give up, or None: ask on, or it is made.

        What was said of it goes into the record's usage, also of requests that came to nothing.
        """
        self.under_way = False
        outcome = event.outcome
        self._usage = summed(self._usage, outcome.usage)
        how = self._rungs[0].how
        if outcome.kind in ("completed", "incomplete"):
            self._take(how, event.items)
            return None
        if is_too_long(outcome):
            self._next("text")
            return None
        if retryable(outcome):
            self._tries += 1
            verdict = patience(outcome, self._tries, self._rules.policy, event.roll)
            if isinstance(verdict, Again) or how != "endpoint":
                return verdict
        elif how != "endpoint" and _is_final(outcome):
            return GiveUp(explain(outcome))
        self.endpoint = self.endpoint and (how != "endpoint" or outcome.status not in _MISSING)
        self._next("none" if how == "text" else "")
        return None

    def _take(self, how: How, items: list[Item]) -> None:
        if how == "endpoint":
            self._answer = items if any(kind(item) in SEALED for item in items) else None
        else:
            said = [message_text(item) for item in items if kind(item) == "message"]
            self._answer = "\n\n".join(text for text in said if text.strip()).strip() or None
        if self._answer is not None:
            self._rungs = [Rung("none")]
        elif how == "endpoint":
            self._next("")
        elif self._silent:
            self._next("text" if how == "view" else "none")
        else:
            self._silent = True

    def _next(self, how: str) -> None:
        """The next rung, or the next of that sort."""
        self._tries = 0
        self._rungs.pop(0)
        while how and len(self._rungs) > 1 and self._rungs[0].how != how:
            self._rungs.pop(0)

    # The record

    def record(self) -> Compaction:
        """What replaces the view."""
        history, goal, choice = self._history, self.goal, self.choice
        turn = history.turns.get(goal.turn)
        prompt = spoken(turn.prompt.items) if turn is not None and turn.prompt is not None else []
        plain = None
        if isinstance(self._answer, list):
            items = self._from_provider(self._answer, prompt)
            plain = self._summary(_SEALED + self._mechanical(), behind=bool(prompt))
        else:
            text = self._answer or _MECHANICAL + self._mechanical()
            items = self._kept(prompt)
            if prompt and not _has_begun(turn):
                items += [self._summary(text, behind=False), *prompt]
            else:
                items += [*prompt, self._summary(text, behind=bool(prompt))]
        items += self._late()
        return Compaction(
            n=history.next,
            id=history.id,
            cwd=history.cwd,
            basis=choice.basis,
            items=items,
            turn=turn.n if turn is not None else 0,
            model=choice.model,
            provider=choice.provider,
            effort=choice.effort,
            tally=self._tally(turn),
            prompt=turn.prompt if turn is not None else None,
            end=turn.end if turn is not None else None,
            carried=[*history.queued, *_standing(history)],
            shown=dict(history.shown),
            running=dict(history.running),
            schema=turn.schema if turn is not None else None,
            letters=list(history.letters),
            plain=plain,
            reason=self.reason,
            usage=self._usage,
            before=self._before,
            after=tokens(items),
        )

    def _kept(self, prompt: list[Item]) -> list[Item]:
        """What is kept word for word beside the prompt: what was told, the user's own words."""
        words = own_words(self._history, prompt)
        return [
            *told(_messages(self._history)).values(),
            *newest(words, min(MOST_WORDS, self._base // 4)),
        ]

    def _from_provider(self, output: list[Item], prompt: list[Item]) -> list[Item]:
        """The provider's own items, with what it leaves to us: what was told, and the prompt."""
        found = [
            item
            for item in output
            if item.get("role") not in ("developer", "system") and not topic_of(item)
        ]
        there = {message_text(item) for item in found}
        missing = [item for item in prompt if message_text(item) not in there]
        at = next(at for at, item in enumerate(found) if kind(item) in SEALED)
        return [*told(_messages(self._history)).values(), *found[:at], *missing, *found[at:]]

    def _summary(self, text: str, *, behind: bool) -> Item:
        """The summary as a message; `behind`: it stands behind a prompt that is being worked on."""
        text = shortened(text, min(MOST_SUMMARY, self._base // 4) * 4)
        under_way = _UNDER_WAY if behind else ""
        return message("user", f"{_OPENING}{_BEHIND}{text}{under_way}{_CLOSING}")

    def _mechanical(self) -> str:
        items = view(self._history, self._rules.dialect, self.goal.drop)
        return mechanical(items, min(MOST_SUMMARY, self._base // 4) * 3)

    def _late(self) -> list[Item]:
        """What came while the summary was being made: it can't know of it."""
        segments = self._history.segments[self._seen :] if self._seen else []
        items = [item for one in segments if isinstance(one, Messages) for item in one.items]
        return [item for item in items if not topic_of(item)]

    def _tally(self, turn: TurnState | None) -> Tally:
        if turn is None:
            return Tally()
        attempts = [one for one in turn.attempts if one.record.n > turn.reopened_at]
        usage = summed(turn.carried.usage, self._usage)
        ends = [one.end for one in attempts if one.end is not None]
        for end in ends:
            usage = summed(usage, end.usage)
        answered = {
            one.record.step
            for one in attempts
            if one.end is not None and one.end.outcome in ("completed", "incomplete")
        }
        return Tally(
            steps=self.goal.step - 1,
            counted=turn.carried.counted + len(answered),
            cut=turn.carried.cut + sum(map(is_cut, attempts)),
            usage=usage,
        )


def _has_begun(turn: TurnState | None) -> bool:
    """Whether something was done in a turn that a summary can tell of."""
    if turn is None:
        return False
    return turn.carried.steps > 0 or any(attempt.items for attempt in turn.attempts)


def _rungs(base: int, *, endpoint: bool, too_long: bool) -> list[Rung]:
    """What is tried; a view that was refused for its length is not sent again."""
    found: list[Rung] = []
    if not too_long:
        found += [Rung("endpoint")] if endpoint else []
        found.append(Rung("view"))
    found += [Rung("text", base * 3 // 4 // 2**half) for half in range(_TEXTS)]
    return [*found, Rung("none")]


def _is_final(outcome: e.Outcome) -> bool:
    """Whether no other request would fare better: a key, a quota, a model that is not there."""
    if outcome.kind == "refused" and outcome.status in _FINAL:
        return True
    quota = ("insufficient_quota", "usage_limit_reached", "model_not_found")
    return outcome.code in quota or (outcome.status == 404) or outcome.code == "client"


def known_limit(history: History, outcome: e.Outcome) -> int:
    """Tokens that surely fit, after a refusal for length: as it says, else what was taken last."""
    now = estimate(history)
    return max(min(said_window(outcome) or accepted(history) or now // 2, now), _SMALLEST)


def idle_goal(history: History) -> Goal | None:
    """Where a session in which nothing runs goes on; None if there is nothing to replace."""
    turn = history.turn
    if not history.attempts:
        return None
    if turn is None or (turn.end and turn.end.outcome not in ("failed", "interrupted")):
        return Goal(resumes=False)
    last = turn.attempts[-1] if turn.attempts else None
    again = (
        turn.end is None
        and last is not None
        and (last.end is None or last.end.outcome not in ("completed", "incomplete"))
    )
    return Goal(turn=turn.n, step=turn.step if again else turn.step + 1, resumes=False)


def _standing(history: History) -> list[Repair]:
    """Repairs of the request itself, that were not taken back."""
    mends = history.mends
    fields = {f"item:{kind_of}.{field}" for kind_of, field in mends.fields} | mends.request
    return [one for one in history.repairs if one.field in fields and one.field]


# The user's own words


def _messages(history: History) -> list[Item]:
    return [item for one in history.segments if isinstance(one, Messages) for item in one.items]


def is_summary(item: Item) -> bool:
    """Whether it is a summary that an earlier compaction left."""
    return kind(item) == "message" and message_text(item).startswith(_OPENING)


def own_words(history: History, prompt: Sequence[Item]) -> list[Item]:
    """The user's messages, oldest first, but for those of the prompt that goes on."""
    return [
        item
        for item in _messages(history)
        if kind(item) == "message"
        and item.get("role") == "user"
        and not topic_of(item)
        and not is_summary(item)
        and item not in prompt
    ]


def newest(words: Sequence[Item], budget: int) -> list[Item]:
    """The newest of these messages, oldest first, within so many tokens; the last is shortened."""
    kept: list[Item] = []
    for item in map(without_images, reversed(words)):
        size = tokens([item])
        if size > budget:
            if budget > 100:
                kept.append(message("user", shortened(message_text(item), budget * 4 - 200)))
            break
        kept.append(item)
        budget -= size
    return kept[::-1]


def shortened(text: str, most: int) -> str:
    """The text with its middle left out, so that it is about `most` bytes of UTF-8 long."""
    content = text.encode("utf-8", "replace")
    if len(content) <= most:
        return text
    half = max(most // 2 - 20, 10)
    head = content[:half].decode("utf-8", "ignore")
    tail = content[-half:].decode("utf-8", "ignore")
    return f"{head}\n… {len(content) - 2 * half} bytes left out …\n{tail}"


# A conversation as a text


class _Entry(msgspec.Struct):
    head: str
    text: str
    output: bool = False

    @property
    def size(self) -> int:
        return len(self.head) + len(self.text.encode("utf-8", "replace")) + 3


def transcript(items: Sequence[Item], budget: int) -> str:
    """The conversation as a text of about so many tokens.

    The oldest outputs are shortened first, more and more, then everything else, and at last the
    oldest entries are left out.
    """
    entries = [entry for item in items if (entry := _entry(item))]
    left = sum(entry.size for entry in entries) - budget * 4
    for outputs in (True, False):
        for most in (8000, 4000, 2000, 1000, 500, 250):
            for entry in entries:
                if left <= 0:
                    break
                if entry.output or not outputs:
                    before = entry.size
                    entry.text = shortened(entry.text, most)
                    left -= before - entry.size
    gone = 0
    while left > 0 and gone < len(entries) - 1:
        left -= entries[gone].size
        gone += 1
    lines = [f"({gone} older entries are left out)"] if gone else []
    return "\n\n".join([*lines, *(f"{one.head}: {one.text}" for one in entries[gone:])])


def _entry(item: Item) -> _Entry | None:
    name = kind(item)
    if name == "reasoning":
        return None
    if name == "message":
        text = message_text(without_images(item))
        return _Entry(f"[{item.get('role', 'user')}]", text) if text else None
    if is_call(item):
        return _Entry(f"[call of {tool_name(item)}]", _given(item))
    if name in OUTPUTS:
        return _Entry("[its output]", message_text(without_images(item)), output=True)
    return _Entry(f"[{name}]", shortened(msgspec.json.encode(item).decode(), 1000), output=True)


def _given(item: Item) -> str:
    for field in ("arguments", "input"):
        if isinstance(item.get(field), str):
            return str(item[field])
    return msgspec.json.encode(item.get("action")).decode()


def mechanical(items: Sequence[Item], most: int) -> str:
    """What can be said without a model, in at most about so many bytes: the newest parts of it."""
    earlier = [message_text(item) for item in items if is_summary(item)]
    calls = [_line(item) for item in items if is_call(item)]
    said = [
        message_text(item)
        for item in items
        if kind(item) == "message" and item.get("role") == "assistant"
    ]
    parts = []
    if earlier:
        text = earlier[-1].removeprefix(_OPENING).removesuffix(_CLOSING)
        parts.append(f"The summary before this one:\n{shortened(text, most // 2)}")
        most //= 2
    if calls:
        parts.append("Calls that were made, the oldest first:\n" + _last(calls, most // 2))
    if said:
        parts.append("What was answered last:\n" + shortened(said[-1], most // 4))
    return "\n\n".join(parts)


def _line(item: Item) -> str:
    given = _given(item)
    if tool_name(item) == "apply_patch":
        files = [line[4:] for line in given.replace("\\n", "\n").splitlines() if line[:4] == "*** "]
        given = "; ".join(one for one in files if " File: " in one) or given
    return f"- {tool_name(item)}: {shortened(' '.join(given.split()), 300)}"


def _last(lines: Sequence[str], most: int) -> str:
    kept: list[str] = []
    for line in reversed(lines):
        most -= len(line.encode("utf-8", "replace")) + 1
        if most < 0:
            kept.append(f"({len(lines) - len(kept)} older ones are left out)")
            break
        kept.append(line)
    return "\n".join(reversed(kept))


def summed(one: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    """Two usages added up, number by number; what is no number is the first one's."""
    if one is None or other is None:
        return one or other
    total = dict(other)
    for name, value in one.items():
        more = other.get(name)
        if isinstance(value, dict) and isinstance(more, dict):
            total[name] = summed(value, more)
        elif _is_number(value) and _is_number(more):
            total[name] = value + more
        else:
            total[name] = value
    return total


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

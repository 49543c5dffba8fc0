"""A session as a story for people: turns, and in them what was said, thought, called and answered.

Decides what is told and in which words; how it looks is the pages' business.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from backstay.core.compact import compacted
from backstay.core.items import Item, arguments, kind, message_text, tool_name
from backstay.core.record import (
    AnyRecord,
    Attempt,
    AttemptEnd,
    Call,
    Compaction,
    Fork,
    ItemRecord,
    Late,
    Note,
    Output,
    Prompt,
    Repair,
    TurnEnd,
    Unknown,
)
from backstay.core.summary import is_summary
from backstay.core.told import spoken, told
from backstay.core.usage import Usage
from backstay.doctor.export.source import Source, cost_of

LONGEST_OUTPUT: Final = 16_000
"""Characters of an output that a page shows: its beginning and its end."""
LONGEST_LINE: Final = 2_000

ENDINGS: Final = {
    "done": "",
    "failed": "failed",
    "yielded": "still running when it answered",
    "never_started": "never started",
    "interrupted": "interrupted by the user",
    "deadline": "stopped at its time limit",
    "unknown": "outcome unknown: it may have taken effect",
    "rejected": "rejected: no such tool, or arguments that are no JSON",
}
"""How a call came to its output, where that is worth a word."""


class Part(msgspec.Struct):
    """One thing that is told."""

    sort: str
    """`prompt`, `told`, `message`, `thought`, `call`, `event`."""
    text: str = ""
    title: str = ""
    language: str = ""
    """Of a call's text: `sh`, `diff`, `json` or none."""
    images: list[str] = []
    """Data URLs or addresses, as they stand in the session."""
    number: int = 0
    at: float = 0.0
    answer: "Answer | None" = None
    superseded: bool = False
    """It was said before a cut and is said again behind it."""


class Answer(msgspec.Struct):
    """A call's output."""

    status: str
    text: str
    left_out: int = 0
    """Characters that are not shown."""
    exit: int | None = None
    changes: list[str] = []
    images: list[str] = []

    @property
    def ending(self) -> str:
        """How the call came to it, in words; "" where it is simply done."""
        words = ENDINGS.get(self.status, self.status)
        code = f"exit {self.exit}" if self.exit else ""
        return "; ".join(word for word in (words, code) if word)


class Turn(msgspec.Struct):
    """A turn as it is told; `number` 0 is what stands outside of all."""

    number: int
    at: float = 0.0
    model: str = ""
    effort: str = ""
    parts: list[Part] = []
    outcome: str = ""
    reason: str = ""
    usage: Usage = Usage()
    cost: float | None = 0.0


def turns(source: Source) -> list[Turn]:
    """The session's turns in the order in which they began."""
    teller = _Teller(source)
    for record in source.records:
        teller.take(record)
    return teller.ended()


class _Teller:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._turns: dict[int, Turn] = {}
        self._turn_of: dict[int, int] = {}
        self._models: dict[int, str] = {}
        self._calls: dict[int, Part] = {}
        self._parts: dict[int, Part] = {}
        self._used: dict[int, dict[str, Usage]] = {}
        self._now = 0

    def take(self, record: AnyRecord) -> None:
        if isinstance(record, Unknown):
            self._event(record.n, 0.0, f"a record of a newer kind: {record.kind}")
            return
        at = record.t
        match record:
            case Prompt():
                self._prompt(record)
            case Attempt():
                self._attempt(record)
            case ItemRecord():
                self._add(_of_item(record), self._turn_of.get(record.attempt, self._now))
            case Call():
                part = _of_call(record)
                self._calls[record.n] = part
                self._add(part, self._turn_of.get(record.attempt, self._now))
            case Output():
                self._output(record)
            case Late():
                text = f"the result of call {record.call} came late"
                self._event(record.n, at, text, message_text(record.item))
            case AttemptEnd():
                self._attempt_end(record)
            case TurnEnd():
                turn = self._turn(record.turn)
                turn.outcome, turn.reason = record.outcome, record.reason
                self._now = 0
            case Compaction():
                self._compaction(record)
            case _:
                self._rest(record)

    def ended(self) -> list[Turn]:
        """All turns that hold something, those that were begun last at the end."""
        for number, turn in self._turns.items():
            used = self._used.get(number, {})
            turn.usage = sum(used.values(), Usage())
            turn.cost = cost_of(used, self._source.prices)
        return [turn for turn in self._turns.values() if turn.parts or turn.outcome]

    def _turn(self, prompt: int) -> Turn:
        number = self._source.order.get(prompt, 0)
        return self._turns.setdefault(number, Turn(number))

    def _add(self, part: Part, prompt: int) -> None:
        self._turn(prompt).parts.append(part)
        self._parts[part.number] = part

    def _event(self, n: int, at: float, title: str, text: str = "") -> None:
        self._add(Part("event", text, title, number=n, at=at), self._now)

    def _prompt(self, record: Prompt) -> None:
        turn = self._turn(record.n)
        turn.at, turn.model, turn.effort = record.t, record.model, record.effort
        for topic, item in told(record.items).items():
            text = message_text(item)
            self._add(Part("told", text, topic, number=record.n, at=record.t), record.n)
        for item in spoken(record.items):
            part = Part("prompt", message_text(item), images=_images(item), number=record.n)
            part.at = record.t
            self._add(part, record.n)

    def _attempt(self, record: Attempt) -> None:
        self._now = self._turn_of[record.n] = record.turn
        self._models[record.n] = record.model
        for number in record.superseded:
            if number in self._parts:
                self._parts[number].superseded = True
        if record.why:
            self._event(record.n, record.t, f"tried again: {record.why}")

    def _output(self, record: Output) -> None:
        answer = _answer(record)
        part = self._calls.get(record.call)
        if part is None:
            title = f"the output of call {record.call}, whose own record is missing"
            part = Part("call", "", title, number=record.n, at=record.t)
            self._add(part, self._now)
        part.answer = answer

    def _attempt_end(self, record: AttemptEnd) -> None:
        turn = self._turn_of.get(record.attempt, self._now)
        self._use(turn, self._models.get(record.attempt, ""), record.usage)
        if record.outcome != "completed":
            why = f": {record.reason}" if record.reason else ""
            self._event(record.n, record.t, f"the answer ended {record.outcome}{why}")

    def _compaction(self, record: Compaction) -> None:
        self._use(record.turn or self._now, record.model, record.usage)
        texts = [message_text(item) for item in record.items if is_summary(item)]
        self._now = record.turn or self._now
        self._event(record.n, record.t, compacted(record), "\n\n".join(texts))

    def _rest(self, record: AnyRecord) -> None:
        match record:
            case Fork():
                text = f"a fork: what stands above is of session {record.origin.parent}"
            case Repair():
                text = f"repair ({record.action}): {record.reason}"
            case Note():
                text = f"note ({record.topic}): {record.text}"
            case _:
                return
        self._event(record.n, record.t, text.rstrip(": "))

    def _use(self, turn: int, model: str, usage: dict[str, Any] | None) -> None:
        if usage:
            used = self._used.setdefault(self._source.order.get(turn, 0), {})
            used[model] = used.get(model, Usage()) + Usage.of(usage)


def _of_item(record: ItemRecord) -> Part:
    item = record.item
    name = kind(item)
    if name == "reasoning":
        text = _summary(item)
        part = Part("thought", text, "" if text else "reasoning without a summary")
    elif name == "message":
        part = Part("message", message_text(item), images=_images(item))
    else:
        asked = {key: value for key, value in item.items() if key not in ("id", "type", "status")}
        part = Part("call", _json(asked), f"{name}, run by the provider", "json")
        part.answer = Answer("done", "")
    part.number, part.at = record.n, record.t
    return part


def _summary(item: Item) -> str:
    texts = []
    for field in ("summary", "content"):
        parts = item.get(field)
        for one in parts if isinstance(parts, list) else ():
            text = one.get("text") if isinstance(one, dict) else None
            texts += [text] if isinstance(text, str) and text else []
        if texts:
            break
    return "\n\n".join(texts)


def _of_call(record: Call) -> Part:
    item = record.item
    name, wish = tool_name(item), arguments(item) or {}
    raw = item.get("input", item.get("arguments", ""))
    text, language, title = _json(wish) if wish else _text(raw), "json", name
    if name == "exec_command" and isinstance(wish.get("cmd"), str):
        text, language = wish["cmd"], "sh"
        if isinstance(wish.get("workdir"), str):
            title = f"{name} in {wish['workdir']}"
    elif name == "apply_patch":
        patch = next((one for one in (raw, *wish.values()) if _is_patch(one)), None)
        text, language = (patch, "diff") if patch is not None else (text, "json")
    elif isinstance(item.get("action"), dict):
        text = _json(item["action"])
    return Part("call", text, title, language, number=record.n, at=record.t)


def _is_patch(text: Any) -> bool:
    return isinstance(text, str) and text.lstrip().startswith("*** Begin Patch")


def _answer(record: Output) -> Answer:
    text, left_out = shortened(message_text(record.item))
    show = record.show or {}
    listed = show.get("changes")
    changes = [
        f"{one.get('kind', '')} {one.get('path', '')}"
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict)
    ]
    code = show.get("exit_code")
    exit_code = code if isinstance(code, int) else None
    return Answer(record.status, text, left_out, exit_code, changes, _images(record.item))


def shortened(text: str) -> tuple[str, int]:
    """The beginning and the end of a long text, and how many characters stand between them."""
    if len(text) <= LONGEST_OUTPUT:
        return text, 0
    head, tail = text[: LONGEST_OUTPUT * 3 // 4], text[-LONGEST_OUTPUT // 4 :]
    left_out = len(text) - len(head) - len(tail)
    return f"{head}\n… {left_out:,} characters left out …\n{tail}", left_out


def _images(item: Item) -> list[str]:
    parts = item.get("content", item.get("output"))
    found = []
    for part in parts if isinstance(parts, list) else ():
        url = part.get("image_url") if isinstance(part, dict) else None
        if isinstance(url, dict):
            url = url.get("url")
        found += [url] if isinstance(url, str) and url else []
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return str(value)


def used(usage: Usage, spent: float | None) -> str:
    """Tokens and what they cost, on one line; "" where nothing was counted."""
    if not usage.total:
        return ""
    cached = f" ({usage.cached_input_tokens:,} cached)" if usage.cached_input_tokens else ""
    price = "cost unknown" if spent is None else f"${spent:.4f}"
    return f"{usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out, {price}"


def name_of(source: Source, told_turns: list[Turn]) -> str:
    """What the session is called: its title, else how its first prompt begins."""
    prompts = (part.text for turn in told_turns for part in turn.parts if part.sort == "prompt")
    name = source.label.title or next(prompts, "") or source.id
    name = " ".join(name.split())
    return name if len(name) <= 100 else f"{name[:99]}…"


def facts(source: Source, told_turns: list[Turn]) -> Iterator[tuple[str, str]]:
    """What stands above the turns: names and values."""
    models = dict.fromkeys(turn.model for turn in told_turns if turn.model)
    times = [record.t for record in source.records if not isinstance(record, Unknown) and record.t]
    yield "session", source.id
    if times:
        yield "when", f"{clock(min(times))} to {clock(max(times))} UTC"
    yield "folder", source.cwd
    yield "model", ", ".join(models)
    yield "used", used(source.usage, source.cost)
    yield "running", str(source.holder or "")
    yield "secrets", "redacted, as far as they were recognised" if source.redacted else "kept"


def clock(at: float) -> str:
    """A moment in UTC, so that a file reads the same everywhere."""
    import time

    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))

"""A session as Markdown. Whatever its texts hold, no fence and no fold is broken by them."""

import re
from collections.abc import Iterator

from backstay.doctor.export.source import Source
from backstay.doctor.export.story import (
    Answer,
    Part,
    Turn,
    clock,
    facts,
    name_of,
    turns,
    used,
)

_RUNS = re.compile(r"`+|~+")
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F) if code not in (9, 10)}


def made(source: Source) -> Iterator[str]:
    """The page, piece by piece."""
    told = turns(source)
    yield f"# {_line(name_of(source, told))}\n\n"
    for name, value in facts(source, told):
        if value:
            yield f"- {name}: {_line(value)}\n"
    for damage in source.damage:
        yield f"- damage: {_line(damage)}\n"
    for turn in told:
        yield from _turn(turn)


def _turn(turn: Turn) -> Iterator[str]:
    if turn.number:
        when = f" ({clock(turn.at)})" if turn.at else ""
        yield f"\n## Turn {turn.number}{when}\n"
    for part in turn.parts:
        yield f"\n{_part(part)}\n"
    end = f"{turn.outcome}: {turn.reason}" if turn.reason else turn.outcome
    if turn.number:
        end = end or "cut: it has no end"
        spent = used(turn.usage, turn.cost)
        yield f"\n*Turn {turn.number}: {_line(end)}{f'; {spent}' if spent else ''}*\n"


def _part(part: Part) -> str:
    match part.sort:
        case "prompt":
            return "**Prompt**\n\n" + _quoted(part.text) + _pictures(part.images)
        case "message" if not part.superseded:
            return "**Answer**\n\n" + _quoted(part.text) + _pictures(part.images)
        case "message":
            return _folded("said before a cut; the retry went on without it", part.text)
        case "told":
            return _folded(f"told beside it: {part.title}", part.text)
        case "thought":
            return _folded("reasoning", part.text) if part.text else f"*{part.title}*"
        case "call":
            return _call(part)
        case _:
            line = f"> {_line(part.title)}"
            return f"{line}\n\n{_folded('its text', part.text)}" if part.text else line


def _call(part: Part) -> str:
    pieces = [f"**Call {part.number}**: {_line(part.title)}"]
    if part.text:
        pieces.append(fenced(part.text, part.language))
    pieces += _answer(part.answer)
    return "\n\n".join(pieces)


def _answer(answer: Answer | None) -> Iterator[str]:
    if answer is None:
        yield "*no output is recorded*"
        return
    if answer.ending:
        yield f"*{_line(answer.ending)}*"
    for change in answer.changes:
        yield f"- {_line(change)}"
    if answer.text:
        yield fenced(answer.text, "text")
    if answer.images:
        yield _pictures(answer.images).strip()


def fenced(text: str, language: str = "") -> str:
    """The text in a fence that is longer than any in it."""
    longest = max((len(run) for run in _RUNS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{_shown(text)}\n{fence}"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{_line(title)}</summary>\n\n{fenced(text, 'text')}\n\n</details>"


def _quoted(text: str) -> str:
    """A person's or a model's own Markdown, kept as it is but for what would open HTML or a fence.

    It stands in a quote, which ends whatever is left open in it.
    """
    return "\n".join(f"> {line}".rstrip() for line in _escaped(_shown(text)).split("\n"))


def _escaped(text: str) -> str:
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", text)


def _pictures(images: list[str]) -> str:
    count = len(images)
    return f"\n\n*{count} image{'' if count == 1 else 's'} (in the HTML page)*" if images else ""


def _line(text: str) -> str:
    """Text on one line that opens nothing."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(_shown(text).split()))


def _shown(text: str) -> str:
    return text.replace("\r\n", "\n").translate(_CONTROL)

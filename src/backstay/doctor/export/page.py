"""A session as one HTML file: no script, no request to anywhere, readable on paper and on a phone.

Every text is escaped; what is an image by its bytes is shown, nothing else is.
"""

from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Iterator
from html import escape
from typing import Final

from backstay.doctor.export.source import Source
from backstay.doctor.export.story import Answer, Part, Turn, clock, facts, name_of, turns, used

_LONGEST_IMAGE: Final = 32 * 1024 * 1024
"""Characters of a data URL that is decoded."""
_LONG: Final = 40
"""Lines of an output from which it is folded."""
_CONTROL: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (9, 10)
}
_BIDI: Final = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2126; --paper: #fff; --soft: #667079; --line: #d9dee3;
  --box: #f5f7f9; --mine: #eaf2fd; --mark: #2563b8; --bad: #b3261e; --good: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe3e8; --paper: #14171b; --soft: #96a0aa;
  --line: #30363d; --box: #1c2127; --mine: #1a2736; --mark: #7ab0f5; --bad: #f2867d; --good: #57c474; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 54rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.45rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2.5rem 0 .75rem; padding-top: .9rem;
  border-top: 1px solid var(--line); display: flex; gap: .75rem; flex-wrap: wrap; align-items: baseline; }
h2 small, .soft, .end { color: var(--soft); font-weight: normal; font-size: .85rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: .75rem 0; }
.prompt { background: var(--mine); border-left: 3px solid var(--mark); border-radius: 4px; padding: .6rem .9rem; }
.old { opacity: .6; }
pre { margin: 0; padding: .6rem .8rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .82rem/1.5 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; tab-size: 4; }
.call { border: 1px solid var(--line); border-radius: 6px; margin: .75rem 0; overflow: hidden; }
.call > header { display: flex; gap: .6rem; flex-wrap: wrap; align-items: baseline; padding: .3rem .8rem;
  background: var(--box); font-size: .82rem; color: var(--soft); overflow-wrap: anywhere; }
.call > header b { color: var(--ink); }
.call > pre, .call > details { border-top: 1px solid var(--line); }
.call details pre { border-top: 1px solid var(--line); }
.how { color: var(--bad); margin-left: auto; }
.asked { font-weight: 500; }
.add { color: var(--good); } .cut { color: var(--bad); }
ul.files { margin: 0; padding: .4rem .8rem .4rem 2rem; font-size: .85rem; border-top: 1px solid var(--line); }
details > summary { cursor: pointer; padding: .3rem .8rem; color: var(--soft); font-size: .85rem; }
details.aside { border-left: 3px solid var(--line); margin: .75rem 0; }
.event { color: var(--soft); font-size: .88rem; margin: .75rem 0; padding-left: .8rem;
  border-left: 3px solid var(--line); overflow-wrap: anywhere; }
.bad { color: var(--bad); }
img { display: block; max-width: 100%; height: auto; margin: .75rem 0; border: 1px solid var(--line); border-radius: 4px; }
@media (max-width: 30rem) { body { padding: 1rem .7rem 3rem; } dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .35rem; } }
"""


def made(source: Source) -> Iterator[str]:
    """The page, piece by piece."""
    told = turns(source)
    name = _safe(name_of(source, told))
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{name}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n<dl>\n"
    )
    for title, value in facts(source, told):
        if value:
            yield f"<dt>{_safe(title)}</dt><dd>{_safe(value)}</dd>\n"
    for damage in source.damage:
        yield f'<dt class="bad">damage</dt><dd class="bad">{_safe(damage)}</dd>\n'
    yield "</dl>\n"
    for turn in told:
        yield from _turn(turn)
    yield "</body>\n</html>\n"


def _turn(turn: Turn) -> Iterator[str]:
    yield "<section>\n"
    if turn.number:
        said = ", ".join(
            one for one in (clock(turn.at) if turn.at else "", turn.model, turn.effort) if one
        )
        yield f'<h2 id="turn-{turn.number}">Turn {turn.number} <small>{_safe(said)}</small></h2>\n'
    for part in turn.parts:
        yield _part(part)
    if turn.number:
        end = f"{turn.outcome}: {turn.reason}" if turn.reason else turn.outcome
        spent = used(turn.usage, turn.cost)
        said = "; ".join(one for one in (end or "cut: it has no end", spent) if one)
        worse = "" if turn.outcome == "completed" else " bad"
        yield f'<p class="end{worse}">{_safe(said)}</p>\n'
    yield "</section>\n"


def _part(part: Part) -> str:
    old = " old" if part.superseded else ""
    match part.sort:
        case "prompt":
            return f'<div class="text prompt">{_safe(part.text)}</div>\n{_pictures(part.images)}'
        case "message":
            said = (
                '<p class="soft">said before a cut; the retry went on without it</p>\n'
                if old
                else ""
            )
            text = f'<div class="text{old}">{_safe(part.text)}</div>\n' if part.text else ""
            return said + text + _pictures(part.images)
        case "told":
            return _aside(f"told beside it: {part.title}", part.text)
        case "thought":
            return _aside("reasoning", part.text) if part.text else _event(part.title)
        case "call":
            return _call(part, old)
        case _:
            return _event(part.title) + (_aside("its text", part.text) if part.text else "")


def _call(part: Part, old: str) -> str:
    answer = part.answer
    how = answer.ending if answer else "no output is recorded"
    ending = f'<span class="how">{_safe(how)}</span>' if how else ""
    pieces = [f'<div class="call{old}"><header><b>{_safe(part.title)}</b>{ending}</header>']
    if part.text:
        text = _coloured(part.text) if part.language == "diff" else _safe(part.text)
        pieces.append(f'<pre class="asked">{text}</pre>')
    if answer:
        pieces.append(_output(answer))
    return "".join(pieces) + "</div>\n" + (_pictures(answer.images) if answer else "")


def _output(answer: Answer) -> str:
    files = "".join(f"<li>{_safe(change)}</li>" for change in answer.changes)
    listed = f'<ul class="files">{files}</ul>' if files else ""
    text = answer.text.rstrip("\n")
    if not text:
        return listed
    lines = text.count("\n") + 1
    shown = f"<pre>{_safe(text)}</pre>"
    if lines > _LONG or answer.left_out:
        more = f", {answer.left_out:,} characters left out" if answer.left_out else ""
        shown = f"<details><summary>output: {lines:,} lines{more}</summary>{shown}</details>"
    return shown + listed


def _coloured(patch: str) -> str:
    lines = []
    for line in _safe(patch).split("\n"):
        sort = {"+": "add", "-": "cut"}.get(line[:1])
        lines.append(f'<span class="{sort}">{line}</span>' if sort else line)
    return "\n".join(lines)


def _aside(title: str, text: str) -> str:
    return (
        f'<details class="aside"><summary>{_safe(title)}</summary>'
        f'<div class="text" style="padding: 0 .8rem">{_safe(text)}</div></details>\n'
    )


def _event(text: str) -> str:
    return f'<p class="event">{_safe(text)}</p>\n'


def _pictures(images: list[str]) -> str:
    return "".join(map(_picture, images))


def _picture(url: str) -> str:
    """An image that was decoded and made anew; in words what is none."""
    if not url.startswith("data:"):
        return _event(f"an image at {url[:200]}, which this page does not load")
    from backstay.tools.picture import BadImage, made

    if len(url) > _LONGEST_IMAGE:
        return _event("an image that is too large to be shown here")
    try:
        content = a2b_base64(url.partition(";base64,")[2], strict_mode=False)
        found = made(content).part["image_url"]
    except (BadImage, NotBase64, ValueError):
        return _event("an image that can't be decoded")
    return f'<img alt="an image of the session" src="{escape(found, quote=True)}">\n'


def _safe(text: str) -> str:
    shown = text.replace("\r\n", "\n").translate(_CONTROL).translate(_BIDI)
    return escape(shown.encode("utf-8", "replace").decode(), quote=True)

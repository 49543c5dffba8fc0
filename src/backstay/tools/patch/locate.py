"""Finds where the chunks of an update apply in a file, and gives the file's new contents.

Pure: bytes in, bytes out. Bytes that are not UTF-8 pass through untouched, context lines keep the
file's own text, and added lines take the line ending that the file uses.
"""

from collections.abc import Callable, Sequence

import msgspec

from backstay.tools.patch.parse import Chunk, Line, PatchError

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_SINGLE_QUOTES = "\u2018\u2019\u201a\u201b"
_DOUBLE_QUOTES = "\u201c\u201d\u201e\u201f"
_SPACES = "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_PLAIN: dict[int, str | None] = {
    **{ord(c): "-" for c in _DASHES},
    **{ord(c): "'" for c in _SINGLE_QUOTES},
    **{ord(c): '"' for c in _DOUBLE_QUOTES},
    **{ord(c): " " for c in _SPACES},
    0xFEFF: None,
}


class FileLine(msgspec.Struct, frozen=True):
    """One line of a file and its ending: LF, CRLF, or none at the end of the file."""

    text: str
    ending: str


def patched(contents: bytes, chunks: Sequence[Chunk]) -> bytes:
    """The contents after the chunks, applied in file order.

    The result of at least one chunk ends in a newline unless it is empty (scenario 014). Raises
    `PatchError` with a message that is to follow the file's name when a chunk is not found.
    """
    if not chunks:
        return contents
    lines = _split(contents)
    added_ending = _usual_ending(lines)
    result: list[FileLine] = []
    cursor = 0
    for chunk in chunks:
        start, found = _place(lines, chunk, cursor)
        result += lines[cursor:start]
        cursor = start
        for line in found:
            if line.sign == "+":
                result.append(_added(line.text, added_ending))
                continue
            if line.sign == " ":
                result.append(lines[cursor])
            cursor += 1
    result += lines[cursor:]
    return _join(result, added_ending)


def _split(contents: bytes) -> list[FileLine]:
    texts = contents.decode("utf-8", "surrogateescape").split("\n")
    last = texts.pop()
    lines = [
        FileLine(text[:-1], "\r\n") if text.endswith("\r") else FileLine(text, "\n")
        for text in texts
    ]
    return [*lines, FileLine(last, "")] if last else lines


def _join(lines: list[FileLine], ending: str) -> bytes:
    text = "".join(line.text + (line.ending or ending) for line in lines)
    return text.encode("utf-8", "surrogateescape")


def _usual_ending(lines: list[FileLine]) -> str:
    crlf = sum(line.ending == "\r\n" for line in lines)
    return "\r\n" if 2 * crlf > sum(bool(line.ending) for line in lines) else "\n"


def _added(text: str, ending: str) -> FileLine:
    return FileLine(text[:-1], "\r\n") if text.endswith("\r") else FileLine(text, ending)


def _place(lines: list[FileLine], chunk: Chunk, cursor: int) -> tuple[int, tuple[Line, ...]]:
    """Where the chunk starts, at `cursor` or after it, and the lines of it that apply there."""
    texts = [line.text for line in lines]
    start = cursor
    for section in chunk.sections:
        at = _seek(texts, [section], start)
        if at is None:
            raise PatchError(_section_missing(texts, section, start))
        start = at + 1
    found = chunk.lines
    if all(line.sign == "+" for line in found):
        return (start if chunk.sections and not chunk.end_of_file else len(lines)), found
    while True:
        old = [line.text for line in found if line.sign != "+"]
        at = _find(texts, old, start, chunk)
        if at is None and chunk.sections and start > cursor:
            # The section's own line may be repeated as the first line of the chunk.
            at = _find(texts, old, start - 1, chunk)
        if at is not None and (found == chunk.lines or _may_shrink(chunk, found, at, texts)):
            return at, found
        if len(old) < 2 or old[-1]:
            raise PatchError(_lines_missing(texts, chunk, start))
        found = _without_last_old(found)


def _find(texts: list[str], old: list[str], start: int, chunk: Chunk) -> int | None:
    return (_seek_end if chunk.end_of_file else _seek)(texts, old, start)


def _without_last_old(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Without the last line to be found; as context in front of added lines it becomes one of them."""
    last = max(at for at, line in enumerate(lines) if line.sign != "+")
    kept = (Line("+", ""),) if lines[last].sign == " " and last + 1 < len(lines) else ()
    return lines[:last] + kept + lines[last + 1 :]


def _may_shrink(chunk: Chunk, found: tuple[Line, ...], at: int, texts: list[str]) -> bool:
    """May the chunk apply without its last blank lines?

    Blank lines at the end of its text are often no part of the chunk. Others are the empty line that
    some see behind a file's last newline: then the rest has to stand at the end of the file.
    """
    if found == chunk.lines[: len(found)] and all(
        line == Line(" ", "") for line in chunk.lines[len(found) :]
    ):
        return True
    return at + sum(line.sign != "+" for line in found) == len(texts)


def _seek(texts: list[str], old: list[str], start: int) -> int | None:
    """The first place at or after `start`, at the strictest of four comparisons that has one."""
    for alike in _COMPARISONS:
        wanted = [alike(line) for line in old]
        have = [alike(line) for line in texts[start:]]
        for at in range(len(have) - len(wanted) + 1):
            if have[at] == wanted[0] and have[at : at + len(wanted)] == wanted:
                return start + at
    return None


def _seek_end(texts: list[str], old: list[str], start: int) -> int | None:
    """The last place at or after `start`: the end of the file when the lines stand there."""
    last = len(texts) - len(old)
    if last >= start and _seek(texts, old, last) is not None:
        return last
    for alike in _COMPARISONS:
        wanted = [alike(line) for line in old]
        have = [alike(line) for line in texts]
        for at in range(last, start - 1, -1):
            if have[at : at + len(wanted)] == wanted:
                return at
    return None


def _exactly(text: str) -> str:
    return text.removesuffix("\r")


def _plainly(text: str) -> str:
    """Without padding, with typographic punctuation as ASCII and undecodable bytes as U+FFFD.

    The last is how a model sees such bytes in a command's output.
    """
    decoded = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return decoded.translate(_PLAIN).strip()


_COMPARISONS: tuple[Callable[[str], str], ...] = (_exactly, str.rstrip, str.strip, _plainly)


def _section_missing(texts: list[str], section: str, start: int) -> str:
    if _seek(texts, [section], 0) is None:
        return f"no line of the file matches '@@ {section}'"
    return (
        f"the line of '@@ {section}' stands before line {start + 1}, where the previous chunk or "
        "'@@' ends; write chunks in the order of the file"
    )


def _lines_missing(texts: list[str], chunk: Chunk, start: int) -> str:
    old = [line.text for line in chunk.lines if line.sign != "+"]
    wanted = "\n".join(old)
    if _seek(texts, old, 0) is not None:
        return (
            f"these lines stand only before line {start + 1}, where the previous chunk or '@@' "
            f"ends; write chunks in the order of the file:\n{wanted}"
        )
    return f"the file does not hold these lines; read it again and copy them exactly:\n{wanted}"

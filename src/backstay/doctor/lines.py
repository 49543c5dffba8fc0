"""The lines of somebody else's JSONL file, whatever has happened to it: each with where it stands,
what is wrong with it, and its object wherever one can still be read.

Streams; memory is bounded by one line, and a line that is longer than `LONGEST` is not kept.
"""

import json
from collections.abc import Iterator
from typing import IO, Any, Final, Literal

import msgspec

from backstay.errors import StorageError

LONGEST: Final = 256 * 1024 * 1024
"""Bytes. A line that is longer is damage: nothing that an agent writes is as long."""
_CHUNK: Final = 1024 * 1024
_MARKS: Final = (b'{"timestamp":', b'{"ordinal":', b'{"type":', b'{"id":', b'{"record_type":')
"""How a record begins; inside of a JSON string a quote would be escaped."""
_TRIES: Final = 32
_READ_AGAIN: Final = 64 * 1024 * 1024
"""Bytes that the search for records within one damaged line may decode altogether."""

Problem = Literal["", "torn", "zeros", "utf8", "json", "not_object", "empty", "long"]


class Line(msgspec.Struct):
    """One line, or one of several pieces that share a line because a newline was lost."""

    number: int
    """From 1."""
    offset: int
    length: int
    """Bytes, its newline included."""
    value: dict[str, Any] | None = None
    """Set where it could be read all the same; it then encodes as UTF-8."""
    problem: Problem = ""
    """`torn`: cut off, or (with a value) whole but without its newline; `empty`: blank."""


def lines(path: str, *, longest: int = LONGEST) -> Iterator[Line]:
    """The lines of a file, in order. Raises `StorageError` if it can't be read, and nothing else."""
    try:
        with open(path, "rb", buffering=0) as file:
            yield from _Cutter(longest).of(file)
    except OSError as error:
        raise StorageError(f"{path} can't be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL byte in the path
        raise StorageError(f"{path!r} can't be read: {error}") from error


def lines_of(body: bytes, *, longest: int = LONGEST) -> Iterator[Line]:
    """The same for bytes that are at hand."""
    import io

    return _Cutter(longest).of(io.BytesIO(body))


class _Cutter:
    """Cuts a file at its newlines, chunk by chunk."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._number = 1
        self._offset = 0

    def of(self, file: IO[bytes]) -> Iterator[Line]:
        rest = bytearray()
        skipped = 0  # bytes of an overlong line that were let go
        while chunk := file.read(_CHUNK):
            first, *more = chunk.split(b"\n")
            for part in more:
                yield from self._line(bytes(rest) + first if rest else first, skipped, b"\n")
                rest.clear()
                skipped, first = 0, part
            rest += first
            if len(rest) + skipped > self._longest:
                skipped += len(rest)
                rest.clear()
        if rest or skipped:
            yield from self._line(bytes(rest), skipped, b"")

    def _line(self, body: bytes, skipped: int, newline: bytes) -> Iterator[Line]:
        number, offset = self._number, self._offset
        length = skipped + len(body) + len(newline)
        self._number += 1
        self._offset += length
        if skipped or len(body) > self._longest:
            yield Line(number, offset, length, None, "long")
            return
        whole = decoded(body)
        if whole.problem in ("", "not_object", "empty", "utf8") or whole.value is not None:
            if not newline and whole.problem == "":
                whole.problem = "torn"
            yield Line(number, offset, length, whole.value, whole.problem)
            return
        yield from _pieces(body, number, offset, newline, whole)


class Decoded(msgspec.Struct):
    """What a line's bytes say, and what is wrong with them."""

    value: dict[str, Any] | None
    problem: Problem


def decoded(body: bytes) -> Decoded:
    """Read one line's bytes, its newline left out; never raises."""
    try:
        value = _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return _repaired(body)
    if isinstance(value, dict):
        return Decoded(value, "")
    return Decoded(None, "not_object")


_DECODER: Final = msgspec.json.Decoder()


def _repaired(body: bytes) -> Decoded:
    """A line that is not plain JSON: NULs around or inside, bytes that are no text, odd numbers."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")
    if not text:
        return Decoded(None, "empty")
    problem: Problem = "json"
    if b"\0" in text:
        problem = "zeros"
        text = text.strip(b"\0 \t\r\n")
        if not text:
            return Decoded(None, "zeros")
        text = text.replace(b"\0", b"\\u0000") if b"\0" in text else text
    try:
        plain = text.decode()
    except UnicodeDecodeError:
        problem = problem if problem == "zeros" else "utf8"
        plain = text.decode(errors="replace")
    value = _liberal(plain)
    if value is None:
        torn = problem in ("json", "utf8") and text.startswith(b"{") and not text.endswith(b"}")
        return Decoded(None, "torn" if torn else problem)
    if not isinstance(value, dict):
        return Decoded(None, "not_object" if problem == "json" else problem)
    if problem == "json":
        problem = "utf8" if _odd(plain) else problem
    return Decoded(value, problem)


def _odd(text: str) -> bool:
    """Whether the text has surrogate escapes, which no UTF-8 can hold when they stand alone."""
    return "\\ud" in text or "\\uD" in text


def _liberal(text: str) -> Any:
    """The value of JSON that the strict decoder refuses: numbers out of range, lone surrogates."""
    try:
        value = json.loads(text, strict=False, parse_int=_integer, parse_constant=_constant)
        return _clean(value)
    except (ValueError, RecursionError):
        return None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)


def _constant(_: str) -> None:
    return None


def _clean(value: Any) -> Any:
    """Strings without lone surrogates, so that whoever gets them can encode them."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(one) for name, one in value.items()}
    return value


def _pieces(
    body: bytes, number: int, offset: int, newline: bytes, whole: Decoded
) -> Iterator[Line]:
    """A line that can't be read as one: records in it whose newline was lost, and the rest."""
    found: list[Line] = []
    at = 0
    for begin, end, value in _records(body):
        if begin > at:
            rest = decoded(body[at:begin])
            found.append(Line(number, offset + at, begin - at, rest.value, rest.problem or "json"))
        found.append(Line(number, offset + begin, end - begin, value))
        at = end
    rest = decoded(body[at:]) if at else whole
    if at < len(body) and rest.problem != "empty":
        found.append(Line(number, offset + at, len(body) - at, rest.value, rest.problem))
    last = found[-1]
    last.length = offset + len(body) + len(newline) - last.offset
    if not newline and not last.problem:
        last.problem = "torn"
    yield from found


def _records(body: bytes) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Whole records within a damaged line, where they begin and end."""
    marks = _starts(body)
    budget = _READ_AGAIN
    at = 0
    for place, begin in enumerate(marks[:_TRIES]):
        if begin < at:
            continue
        ends = [*marks[place + 1 : place + 1 + _TRIES], len(body)]
        for end in (ends[-1], *ends[:-1]):
            budget -= end - begin
            if budget < 0:
                return
            text = body[begin:end].rstrip(b"\0 \t\r")
            if not text.endswith(b"}"):
                continue
            found = decoded(text)
            if found.value is not None and found.problem == "":
                yield begin, begin + len(text), found.value
                at = end
                break


def _starts(body: bytes) -> list[int]:
    """Where a record may begin: at a mark that does not stand as a value within another one."""
    found: list[int] = []
    for mark in _MARKS:
        at = body.find(mark)
        while at >= 0 and len(found) < 1000:
            found.append(at)
            at = body.find(mark, at + 1)
    return sorted(set(found))

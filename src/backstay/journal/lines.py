"""A journal's bytes as parts: whole records, and the damage between them, in file order.

Pure but for the reads. Memory is bounded by `longest`, however long a line or a block of zeros is.
"""

from binascii import crc32
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from backstay.core.record import FORMAT, LONGEST_LINE, AnyRecord, Codec, Damaged, Unknown
from backstay.journal.disk import File

CHUNK: Final = 256 * 1024
_START: Final = b'{"k":"'
_CLOSE: Final = b',"c":"'
_CLOSE_LENGTH: Final = 16
_BUDGET: Final = 32
"""A damaged line is searched for whole records with at most so many passes over it."""

Code = Literal[
    "torn", "zeros", "garbage", "checksum", "duplicate", "order", "conflict", "missing", "header",
    "shared",
]  # fmt: skip


class Damage(msgspec.Struct):
    """Something wrong in a journal: where (bytes; line from 1, or 0 for not known), and what."""

    code: Code
    offset: int
    length: int
    text: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.text} ({self.length} bytes at byte {self.offset})"


class Found(msgspec.Struct):
    """A whole record, where it stands, and what tells a copy of it from another record."""

    record: AnyRecord
    offset: int
    length: int
    crc: int
    line: int = 0


Part = Found | Damage


class _Piece(msgspec.Struct):
    """Bytes between newlines and NULs, neither of which a record holds."""

    offset: int
    length: int
    line: int
    body: bytes
    """Its last `longest` bytes; empty for zeros."""
    closed: bool
    """A newline follows."""


def parts(file: File, begin: int, end: int, longest: int = LONGEST_LINE) -> Iterator[Part]:
    """What stands between two offsets; `begin` is 0 or follows a newline. Lines count from 1."""
    codec = Codec()
    for piece in _Pieces(begin, longest).of(file, end):
        if not piece.body:
            text = "zeros where records should be"
            yield Damage("zeros", piece.offset, piece.length, text, piece.line)
        elif len(piece.body) < piece.length:
            skipped = piece.length - len(piece.body)
            text = "a line that is longer than any record"
            yield Damage("garbage", piece.offset, skipped, text, piece.line)
            piece.offset += skipped
            piece.length -= skipped
            yield from _examined(codec, piece)
        else:
            yield from _examined(codec, piece)
        if piece.body and not piece.closed and piece.offset + piece.length == end:
            yield Damage("torn", end, 0, "the last line lacks its newline", piece.line)


def line_start(file: File, target: int, end: int) -> int:
    """Where the first line that begins at `target` or later, and before `end`, begins.

    If none does: where the line that holds `target` begins.
    """
    if target <= 0:
        return 0
    at = target - 1
    while at < end - 1:
        chunk = file.read(at, min(CHUNK, end - 1 - at))
        newline = chunk.find(b"\n")
        if newline >= 0:
            return at + newline + 1
        if not chunk:
            break
        at += len(chunk)
    at = target - 1
    while at > 0:
        begin = max(0, at - CHUNK)
        newline = file.read(begin, at - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        at = begin
    return 0


class _Pieces:
    """Cuts a stretch of a file into pieces, chunk by chunk."""

    def __init__(self, begin: int, longest: int) -> None:
        self._at = begin
        self._longest = longest
        self._line = 1
        self._text = bytearray()
        self._length = 0
        self._zeros = 0

    def of(self, file: File, end: int) -> Iterator[_Piece]:
        position = self._at
        while position < end:
            chunk = file.read(position, min(CHUNK, end - position))
            if not chunk:  # cut back meanwhile by its writer
                break
            position += len(chunk)
            first, *rest = chunk.split(b"\n")
            if not self._length and not self._zeros and b"\0" not in chunk:
                yield from self._whole(first, rest)
                continue
            yield from self._take(first)
            for part in rest:
                yield from self._flush(closed=True)
                self._at += 1
                self._line += 1
                yield from self._take(part)
        yield from self._flush(closed=False)

    def _whole(self, first: bytes, rest: list[bytes]) -> Iterator[_Piece]:
        """A chunk at the beginning of a line that holds text alone, which is how most are."""
        line = first
        for after in rest:
            if line:
                length = len(line)
                yield _Piece(self._at, length, self._line, line[-self._longest :], closed=True)
                self._at += length
            self._at += 1
            self._line += 1
            line = after
        yield from self._take(line)

    def _take(self, part: bytes) -> Iterator[_Piece]:
        if b"\0" not in part:
            if part:
                yield from self._take_text(part)
            return
        at = 0
        while at < len(part):
            stop = _end_of_zeros(part, at)
            if stop > at:
                if self._length:
                    yield from self._flush(closed=False)
                self._zeros += stop - at
            else:
                stop = part.find(b"\0", at)
                stop = len(part) if stop < 0 else stop
                yield from self._take_text(part[at:stop])
            at = stop

    def _take_text(self, text: bytes) -> Iterator[_Piece]:
        if self._zeros:
            yield from self._flush(closed=False)
        self._text += text
        self._length += len(text)
        if len(self._text) > 2 * self._longest:
            del self._text[: -self._longest]

    def _flush(self, *, closed: bool) -> Iterator[_Piece]:
        if self._zeros:
            yield _Piece(self._at, self._zeros, self._line, b"", closed)
            self._at += self._zeros
            self._zeros = 0
        elif self._length:
            body = bytes(self._text[-self._longest :])
            yield _Piece(self._at, self._length, self._line, body, closed)
            self._at += self._length
            self._text.clear()
            self._length = 0


_ZEROS: Final = bytes(CHUNK)


def _end_of_zeros(text: bytes, at: int) -> int:
    """The end of the run of NULs that begins here; a search that doubles its step."""
    step = 1
    while step:
        if text.startswith(_ZEROS[:step], at):
            at += step
            step *= 2
        else:
            step //= 2
    return at


def _examined(codec: Codec, piece: _Piece) -> Iterator[Part]:
    """The records of a piece (one, if it is whole) and the damage around them."""
    record: AnyRecord | None
    try:
        record = codec.decode(piece.body)
    except Damaged as error:
        record = _newer(piece.body)
        if record is None:
            yield from _salvaged(codec, piece, str(error))
            return
    yield Found(record, piece.offset, piece.length, crc32(piece.body), piece.line)


def _salvaged(codec: Codec, piece: _Piece, why: str) -> Iterator[Part]:
    at = 0
    for begin, end, record in _search(codec, piece.body):
        if begin > at:
            yield _damage(piece, at, begin, "")
        crc = crc32(piece.body[begin:end])
        yield Found(record, piece.offset + begin, end - begin, crc, piece.line)
        at = end
    if at < len(piece.body):
        yield _damage(piece, at, len(piece.body), "" if at else why)


def _damage(piece: _Piece, begin: int, end: int, why: str) -> Damage:
    offset, length = piece.offset + begin, end - begin
    tail = piece.body[end - _CLOSE_LENGTH : end]
    if tail == b',"c":"%08x"}' % crc32(piece.body[begin : end - _CLOSE_LENGTH]):
        text = f"a line that is no record: {why.replace(';', ',')}"
        return Damage("garbage", offset, length, text, piece.line)
    if tail.startswith(_CLOSE) and tail.endswith(b'"}'):
        return Damage("checksum", offset, length, "a record whose checksum is wrong", piece.line)
    if _START.startswith(piece.body[begin : min(end, begin + len(_START))]):
        return Damage("torn", offset, length, "a record that was cut off", piece.line)
    return Damage("garbage", offset, length, "bytes that are no record", piece.line)


def _search(codec: Codec, body: bytes) -> Iterator[tuple[int, int, AnyRecord]]:
    """Whole records within a damaged line: a crash can cost the newline between two.

    A JSON string can't hold an unescaped start; an object inside a record can, and is told by
    what follows it.
    """
    ends = list(_ends(body))
    budget = _BUDGET * len(body)
    start = body.find(_START)
    while start >= 0 and ends and budget > 0:
        crc, at, hit = 0, start, 0
        for end in ends:
            if end - _CLOSE_LENGTH <= start:
                continue
            crc = crc32(memoryview(body)[at : end - _CLOSE_LENGTH], crc)
            budget -= end - at
            at = end - _CLOSE_LENGTH
            if body[at:end] == b',"c":"%08x"}' % crc and body[end : end + 1] not in _NESTED:
                hit = end
                break
            if budget <= 0:
                break
        record = _whole(codec, body[start:hit]) if hit else None
        if record is not None:
            yield start, hit, record
        start = body.find(_START, hit if record is not None else start + 1)


_NESTED: Final = (b",", b"]", b"}")


def _ends(body: bytes) -> Iterator[int]:
    at = body.find(_CLOSE)
    while at >= 0:
        end = at + _CLOSE_LENGTH
        if body[end - 2 : end] == b'"}':
            yield end
        at = body.find(_CLOSE, at + 1)


def _whole(codec: Codec, line: bytes) -> AnyRecord | None:
    try:
        return codec.decode(line)
    except Damaged:
        return _newer(line)


class _Envelope(msgspec.Struct):
    n: int
    k: str
    must: bool = False
    format: int = 0


def _newer(line: bytes) -> Unknown | None:
    """A whole record of a known kind whose fields a newer version changed and says so."""
    head, tail = line[:-_CLOSE_LENGTH], line[-_CLOSE_LENGTH:]
    if tail != b',"c":"%08x"}' % crc32(head):
        return None
    body = head + b"}"
    try:
        found = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if found.must or found.format > FORMAT:
        return Unknown(found.n, found.k, must=True, raw=body)
    return None

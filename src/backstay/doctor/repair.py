"""Repairs a rollout: a new file, the old one kept; what was sound stays byte for byte.

Streams, so that a file of any size is repaired in bounded memory. Doing it twice adds nothing.
"""

import os
from typing import IO, Any, Final

import msgspec

from backstay.doctor.checks import Edit, Examination, examine
from backstay.doctor.holding import is_written
from backstay.doctor.lines import Line, lines
from backstay.doctor.mending import encoded, header, mended, numbered, output
from backstay.doctor.pairs import Call
from backstay.doctor.rollout import REPAIRED, entry
from backstay.doctor.salvage import Salvaged, salvage
from backstay.doctor.sequence import FURTHEST
from backstay.errors import SessionError, SessionHeld, StorageError

BACKUP: Final = ".before-repair"
_MOST_WORDS: Final = 200
_CHUNK: Final = 1024 * 1024


class Repaired(msgspec.Struct, kw_only=True):
    """What a repair did."""

    path: str
    target: str = ""
    """The repaired file; "" where there was nothing to do."""
    backup: str = ""
    """Where the original is now, if the repaired file took its place."""
    words: list[str] = []
    """The difference, a sentence each."""
    more: int = 0
    """Differences that `words` does not list."""


def repair(path: str, *, in_place: bool = False, found: Examination | None = None) -> Repaired:
    """Write the repaired rollout beside the old one, or in its place.

    Raises `StorageError` if the disk refuses, `SessionHeld` if an agent is writing the file,
    `SessionError` if the file is beyond repair.
    """
    before = _state(path)
    found = found or examine(path)
    if found.too_many:
        raise SessionError(f"{path} is too damaged: more places need a repair than a session has")
    if not found.repairable:
        return Repaired(path=path)
    if in_place and is_written(path, found.id):
        raise SessionHeld(f"{path} is being written by Codex: end it and repair again")
    outputs = salvage(path, found.calls)
    made = Repaired(path=path)
    temporary = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)}.{os.getpid()}.tmp"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            _Writer(found, outputs, file, made).run()
            os.fchmod(file.fileno(), os.stat(path).st_mode & 0o777)
            file.flush()
            os.fsync(file.fileno())
        if in_place and _state(path) != before:
            raise SessionHeld(f"{path} was written to meanwhile: end the agent and repair again")
        _placed(path, temporary, made, in_place=in_place)
    except OSError as error:
        raise StorageError(f"{path} can't be repaired: {error.strerror or error}") from error
    finally:
        try:
            os.unlink(temporary)
        except OSError:
            pass
    return made


def _state(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} can't be read: {error}") from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def _placed(path: str, temporary: str, made: Repaired, *, in_place: bool) -> None:
    if in_place:
        made.backup = _backup_of(path)
        os.link(path, made.backup)
        made.target = path
        os.rename(temporary, path)
    else:
        made.target = repaired_name(path)
        if not _same(temporary, made.target):
            os.rename(temporary, made.target)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def repaired_name(path: str) -> str:
    """Where the repaired file stands; Codex does not take it for a session of its own."""
    return path.removesuffix(".jsonl") + REPAIRED


def _backup_of(path: str) -> str:
    place, number = path + BACKUP, 1
    while os.path.lexists(place):
        number += 1
        place = f"{path}{BACKUP}.{number}"
    return place


def _same(one: str, other: str) -> bool:
    import filecmp

    return os.path.isfile(other) and filecmp.cmp(one, other, shallow=False)


class _Writer:
    """Writes the repaired records of a file, one after the other."""

    def __init__(
        self, found: Examination, outputs: list[Salvaged], file: IO[bytes], made: Repaired
    ) -> None:
        self._found = found
        self._file = file
        self._made = made
        self._number = -1
        self._renumbered = 0
        self._time = ""
        self._behind: dict[int, list[tuple[Call, Salvaged]]] = {}
        for call, text in zip(found.calls, outputs, strict=True):
            self._behind.setdefault(call.before, []).append((call, text))

    def run(self) -> None:
        found = self._found
        if found.needs_header:
            self._add(header(found))
            self._say("a session header is written in front")
        with open(found.path, "rb", buffering=0) as source:
            for line in lines(found.path):
                self._answer(line.offset)
                self._line(line, source)
        self._answer(-1)
        if self._renumbered:
            self._say(f"{self._renumbered} records are numbered anew")

    def _say(self, words: str) -> None:
        if len(self._made.words) < _MOST_WORDS:
            self._made.words.append(words)
        else:
            self._made.more += 1

    def _answer(self, offset: int) -> None:
        for call, salvaged in self._behind.pop(offset, ()):
            bare = call.bare and not self._found.numbered
            self._add(output(call, salvaged.text, self._time or call.timestamp, bare=bare))
            self._say(
                f"the call {call.call_id[:80]} of line {call.line} ({call.name[:60]}) "
                f"gets an output: {salvaged.says}"
            )

    def _add(self, record: dict[str, Any]) -> None:
        if self._found.numbered:
            self._number += 1
            record = {"timestamp": record["timestamp"], "ordinal": self._number} | record
        self._file.write(encoded(record))

    def _line(self, line: Line, source: IO[bytes]) -> None:
        edit = self._found.edits.get(line.offset)
        if edit is not None and edit.drop:
            self._say(f"line {line.number} is left out ({edit.code})")
        elif line.value is None:
            self._without_value(line, source)
        else:
            self._with_value(line, line.value, edit, source)

    def _without_value(self, line: Line, source: IO[bytes]) -> None:
        if line.problem == "long":
            self._copy(line, source)
        elif line.problem == "empty":
            raw = _read(source, line)
            self._file.write(raw if raw.endswith(b"\n") else b"")
        else:
            self._say(
                f"line {line.number}: {line.length} bytes at byte {line.offset} "
                f"are left out ({line.problem})"
            )

    def _with_value(
        self, line: Line, value: dict[str, Any], edit: Edit | None, source: IO[bytes]
    ) -> None:
        one = entry(line, value)
        self._time = one.timestamp or self._time
        raw = _read(source, line)
        if not raw.endswith(b"\n"):
            raw = raw.rstrip() + b"\n"
            self._say(f"line {line.number}: a newline is written behind a record")
        try:
            if edit is not None:
                raw = encoded(mended(value))
                self._say(f"line {line.number} is changed ({edit.code})")
            elif line.problem not in ("", "torn"):
                raw = encoded(value)
                self._say(f"line {line.number} is written anew ({line.problem})")
            raw = self._counted(raw, value, one.ordinal)
        except ValueError:
            pass  # deeper than can be written: it stays as it is
        self._file.write(raw)

    def _counted(self, raw: bytes, value: dict[str, Any], number: int | None) -> bytes:
        if not self._found.numbered:
            return raw
        if number is not None and self._number < number <= self._number + FURTHEST:
            self._number = number
            return raw
        self._number += 1
        self._renumbered += 1
        return numbered(raw, value, self._number)

    def _copy(self, line: Line, source: IO[bytes]) -> None:
        source.seek(line.offset)
        left, last = line.length, b""
        while left > 0 and (chunk := source.read(min(left, _CHUNK))):
            self._file.write(chunk)
            left -= len(chunk)
            last = chunk[-1:]
        if last != b"\n":
            self._file.write(b"\n")


def _read(source: IO[bytes], line: Line) -> bytes:
    source.seek(line.offset)
    parts = []
    left = line.length
    while left > 0 and (chunk := source.read(left)):
        parts.append(chunk)
        left -= len(chunk)
    return b"".join(parts)

"""A session as one file for another machine: its journal, the blobs that it names, its label.

A zip archive with a manifest of digests, the same bytes each time. Of a fork the shared records
are in it. Owns how it is made; opening one is `unbundle`'s.
"""

from binascii import crc32
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from tempfile import TemporaryFile
from typing import IO, Any, Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import msgspec

from backstay import __version__
from backstay.core.record import Fork, Session, scrub
from backstay.doctor.export.redact import Redactor
from backstay.errors import EmptySession
from backstay.journal import (
    Blobs,
    MissingBlob,
    holder,
    journal_path,
    lock_path,
    session_folder,
)
from backstay.journal.disk import Absent, Disk, File
from backstay.journal.folders import home_of
from backstay.journal.ids import is_id
from backstay.journal.label import read_label
from backstay.journal.lineage import LONGEST_CHAIN, locate, origin_of, reaches
from backstay.journal.lines import Damage, Found, Part, parts

VERSION: Final = 1
MANIFEST: Final = "manifest.json"
JOURNAL: Final = "journal.jsonl"
LABEL: Final = "label.json"
BLOBS: Final = "blobs/"
_CHUNK: Final = 1024 * 1024
_CLOSE: Final = 16
"""Bytes of `,"c":"........"}` at the end of a line."""
_BLANK: Final = b"#"


class Entry(msgspec.Struct, frozen=True):
    """One file of a bundle, as its manifest says it."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, kw_only=True):
    """What a bundle says of itself."""

    format: str = "backstay-bundle"
    version: int
    session: str
    cwd: str
    made_by: str
    redacted: bool
    live: bool = False
    """A process wrote the session when the bundle was made."""
    files: dict[str, Entry]
    missing: list[str] = []
    """Digests of blobs that the journal may name and that were not there."""
    notes: list[str] = []


class _Piece(msgspec.Struct):
    """Bytes of some session's journal, all or up to an offset."""

    folder: str
    end: int


@contextmanager
def bundle(disk: Disk, folder: str, redactor: Redactor | None) -> Iterator[Iterator[bytes]]:
    """The bundle's bytes, made beside and given piece by piece.

    Raises `EmptySession`, `StorageError`.
    """
    with TemporaryFile() as journal, TemporaryFile() as archive:
        maker = _Maker(disk, folder, redactor)
        with ZipFile(archive, "w", ZIP_DEFLATED, compresslevel=6) as zipped:
            maker.make(journal, zipped)
        archive.seek(0)
        yield iter(lambda: archive.read(_CHUNK), b"")


class _Maker:
    def __init__(self, disk: Disk, folder: str, redactor: Redactor | None) -> None:
        self._disk = disk
        self._folder = folder
        self._blobs = Blobs(disk, home_of(folder), "export")
        self._redactor = redactor
        self._notes: list[str] = []
        self._renamed: dict[str, tuple[str, int]] = {}
        """By digest: that of the redacted blob, and its size."""
        self._cwd = ""

    def make(self, journal: IO[bytes], zipped: ZipFile) -> None:
        live = holder(lock_path(self._folder)) is not None
        pieces = self._pieces()
        names = self._learn(pieces)
        missing = [name for name in names if self._blob(name) is None]
        files: dict[str, Entry] = {}
        for name in names:
            content = self._blob(name)
            if content is not None:
                changed = self._redacted_blob(name, content)
                new = self._renamed.get(name, (name, 0))[0]
                if BLOBS + new not in files:
                    files[BLOBS + new] = _add(zipped, BLOBS + new, [changed])
        for chunk in self._journal(pieces):
            journal.write(chunk)
        journal.seek(0)
        files[JOURNAL] = _add(zipped, JOURNAL, iter(lambda: journal.read(_CHUNK), b""))
        files |= self._label(zipped)
        manifest = Manifest(
            version=VERSION,
            session=self._folder.rpartition("/")[2],
            cwd=self._cwd,
            made_by=__version__,
            redacted=self._redactor is not None,
            live=live,
            files=files,
            missing=missing,
            notes=self._notes,
        )
        plain = scrub(msgspec.to_builtins(manifest))
        _add(zipped, MANIFEST, [msgspec.json.format(msgspec.json.encode(plain)) + b"\n"])

    def _label(self, zipped: ZipFile) -> dict[str, Entry]:
        label = read_label(self._disk, self._folder)
        if not label.title:
            return {}
        if self._redactor is not None:
            label = msgspec.structs.replace(label, title=self._redactor.text(label.title))
        return {LABEL: _add(zipped, LABEL, [msgspec.json.encode(label) + b"\n"])}

    # Which bytes of which journals

    def _pieces(self) -> list[_Piece]:
        """The session's own journal, and before it what it shares with others, oldest first."""
        found: list[_Piece] = []
        folder, end = self._folder, -1
        while folder:
            try:
                file = self._disk.open(journal_path(folder))
            except Absent:
                if not found:
                    raise EmptySession(f"{journal_path(folder)} is missing") from None
                self._lost(folder)
                break
            with file:
                end = self._end(file, folder) if end < 0 else end
                whole = [part for part in parts(file, 0, end) if isinstance(part, Found)]
            if not found and not whole:
                raise EmptySession(f"{journal_path(folder)} holds no whole record")
            found.insert(0, _Piece(folder, end))
            self._cwd = self._cwd or _cwd(whole)
            folder, end = self._before(whole, {piece.folder for piece in found})
        return found

    def _before(self, whole: list[Found], seen: set[str]) -> tuple[str, int]:
        """The journal that holds what stands before these records, and up to where; "" for none."""
        origin = origin_of(whole)
        if origin is None or reaches(whole, origin):
            return "", -1
        if not is_id(origin.parent) or len(seen) > LONGEST_CHAIN:
            self._lost(origin.parent)
            return "", -1
        folder = session_folder(home_of(self._folder), origin.parent)
        try:
            with self._disk.open(journal_path(folder)) as file:
                place = locate(file, origin)
        except Absent:
            place = None
        if place is None or place.strange or folder in seen:
            self._lost(folder)
            return "", -1
        return folder, place.end

    def _lost(self, folder: str) -> None:
        name = folder.rpartition("/")[2][:80]
        self._notes.append(
            f"records that it shares with session {name} are missing or not the same"
        )

    def _end(self, file: File, folder: str) -> int:
        """Where the file ends; where it is being written, behind its last whole line."""
        size = file.size()
        if holder(lock_path(folder)) is None:
            return size
        at = size
        while at > 0:
            begin = max(0, at - _CHUNK)
            newline = file.read(begin, at - begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            at = begin
        return size

    def _read(self, pieces: list[_Piece]) -> Iterator[tuple[File, Part, int]]:
        """Every part of every piece, and the number of the piece."""
        for number, piece in enumerate(pieces):
            with self._disk.open(journal_path(piece.folder)) as file:
                for part in parts(file, 0, piece.end):
                    yield file, part, number

    # What they name, and what is secret in them

    def _learn(self, pieces: list[_Piece]) -> list[str]:
        """The blobs that whole records name; the redactor has seen all texts afterwards."""
        names: dict[str, None] = {}
        for file, part, _ in self._read(pieces):
            if isinstance(part, Found):
                value = _value(file.read(part.offset, part.length))
                named = dict.fromkeys(_named(value))
                if self._redactor is not None:
                    self._redactor.learn(self._inlined(value))
                    for name in named.keys() - names.keys():
                        self._redactor.learn(self._text(name))
                names |= named
        if self._redactor is not None:
            self._redactor.learn(read_label(self._disk, self._folder).title)
        return sorted(names)

    def _inlined(self, value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() == _MARK:
                return self._text(str(value["$blob"]))
            return {name: self._inlined(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self._inlined(part) for part in value]
        return value

    def _blob(self, name: str) -> bytes | None:
        try:
            return self._blobs.get(name)
        except MissingBlob:
            return None

    def _text(self, name: str) -> str:
        """A blob's text; "" for what is none."""
        try:
            return (self._blob(name) or b"").decode()
        except UnicodeDecodeError:
            return ""

    def _redacted_blob(self, name: str, content: bytes) -> bytes:
        if self._redactor is None:
            return content
        try:
            changed = self._redactor.text(content.decode()).encode()
        except UnicodeDecodeError:  # an image, or another thing that is no text
            return content
        if changed != content:
            self._renamed[name] = (sha256(changed).hexdigest(), len(changed))
        return changed

    # The journal's bytes

    def _journal(self, pieces: list[_Piece]) -> Iterator[bytes]:
        for piece in pieces:
            last = b"\n"
            for chunk in self._raw(piece) if self._redactor is None else self._cleaned(piece):
                last = chunk[-1:] or last
                yield chunk
            if last != b"\n" and piece is not pieces[-1]:
                yield b"\n"

    def _raw(self, piece: _Piece) -> Iterator[bytes]:
        with self._disk.open(journal_path(piece.folder)) as file:
            yield from _copied(file, 0, piece.end)

    def _cleaned(self, piece: _Piece) -> Iterator[bytes]:
        """The same records without secrets; damaged bytes blanked, newlines where they were."""
        with self._disk.open(journal_path(piece.folder)) as file:
            at = 0
            for part in parts(file, 0, piece.end):
                yield file.read(at, part.offset - at)
                if isinstance(part, Found):
                    yield self._record(file.read(part.offset, part.length))
                else:
                    yield from _blanked(part)
                at = part.offset + part.length
            yield file.read(at, piece.end - at)

    def _record(self, line: bytes) -> bytes:
        assert self._redactor is not None  # noqa: S101 - only then it is asked
        value = self._redactor.value(self._with_new_names(_value(line)))
        try:
            body = msgspec.json.encode(value)[:-1]
        except UnicodeEncodeError:
            body = msgspec.json.encode(scrub(value))[:-1]
        return b'%b,"c":"%08x"}' % (body, crc32(body))

    def _with_new_names(self, value: Any) -> Any:
        if isinstance(value, dict):
            new = self._renamed.get(str(value.get("$blob")))
            if new is not None and value.keys() == _MARK:
                return {"$blob": new[0], "bytes": new[1]}
            return {name: self._with_new_names(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self._with_new_names(part) for part in value]
        return (
            self._renamed[value][0] if isinstance(value, str) and value in self._renamed else value
        )


_MARK: Final = {"$blob", "bytes"}
_NAMING: Final = ("whole", "instructions", "tools")
"""Fields whose texts are digests, beside the marks of large texts."""


def _value(line: bytes) -> Any:
    """A whole record's line as JSON, without its checksum."""
    return msgspec.json.decode(line[:-_CLOSE] + b"}")


def _named(value: Any) -> Iterator[str]:
    """The digests that a record names."""
    if isinstance(value, dict):
        if value.keys() == _MARK:
            yield str(value["$blob"])
            return
        basis = value.get("basis")
        for holding in (value, basis if isinstance(basis, dict) else {}):
            for field in _NAMING:
                one = holding.get(field)
                yield from (
                    str(name)
                    for name in (one if isinstance(one, list) else [one])
                    if _is_digest(name)
                )
        for part in value.values():
            yield from _named(part)
    elif isinstance(value, list):
        for part in value:
            yield from _named(part)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def _cwd(whole: list[Found]) -> str:
    """The session's folder: its newest header says it, or a record that repeats the header."""
    records = [part.record for part in reversed(whole)]
    heads = [one for one in records if isinstance(one, Session | Fork)]
    return next((one for record in (*heads, *records) if (one := getattr(record, "cwd", ""))), "")


def _blanked(damage: Damage) -> Iterator[bytes]:
    byte = b"\0" if damage.code == "zeros" else _BLANK
    left = damage.length
    while left > 0:
        yield byte * min(left, _CHUNK)
        left -= _CHUNK


def _copied(file: File, begin: int, end: int) -> Iterator[bytes]:
    while begin < end:
        chunk = file.read(begin, min(_CHUNK, end - begin))
        if not chunk:
            return
        yield chunk
        begin += len(chunk)


def _add(zipped: ZipFile, name: str, chunks: Iterable[bytes]) -> Entry:
    """Write one file of the archive, always with the same date and mode."""
    info = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type = ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    summed, size = sha256(), 0
    with zipped.open(info, "w", force_zip64=True) as file:
        for chunk in chunks:
            file.write(chunk)
            summed.update(chunk)
            size += len(chunk)
    return Entry(size, summed.hexdigest())

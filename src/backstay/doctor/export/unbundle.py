"""Opens a bundle as a session of this home: all of it is verified before anything is written.

A damaged or hostile archive is one error and leaves nothing behind but blobs that `gc` sweeps.
"""

import os
import time
from binascii import crc32
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, Final
from zipfile import BadZipFile, ZipFile, ZipInfo

import msgspec

from backstay.core.record import Call, Codec, Known, Output, Start
from backstay.core.settle import output, unknown
from backstay.doctor.export.bundle import BLOBS, JOURNAL, LABEL, MANIFEST, VERSION, Manifest
from backstay.errors import NewerFormat, SessionError, StorageError, UsageError
from backstay.journal import Blobs, Found, is_id, read, session_folder
from backstay.journal.disk import Absent, Disk, File
from backstay.journal.folders import journal_path, make_day, make_folder, parent
from backstay.journal.label import Label, write_label
from backstay.journal.lines import parts
from backstay.journal.removal import erase, trash

MOST_FILES: Final = 200_000
ALWAYS_TAKEN: Final = 256 * 1024 * 1024
"""Bytes that an archive may unfold to whatever its own size is."""
MOST_TIMES: Final = 300
"""How many times its size a larger archive may unfold to."""
_LARGEST_MANIFEST: Final = 64 * 1024 * 1024
_CHUNK: Final = 1024 * 1024
_LARGEST_BLOB: Final = 1024 * 1024 * 1024
_CLOSE: Final = 16
_MOVED: Final = "the session was carried to another place before its output was recorded"
_IDENTIFYING: Final = ("session", "prompt", "compaction", "fork")

_BROKEN: Final = (
    BadZipFile, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, OverflowError,
    msgspec.MsgspecError,
)  # fmt: skip


class BadBundle(SessionError):
    """A file that is no whole bundle."""


class Opened(msgspec.Struct, frozen=True):
    """A session that came out of a bundle."""

    id: str
    cwd: str
    notes: list[str]
    """One line each on what the bundle lacks."""


class Wish(msgspec.Struct, frozen=True):
    """How a bundle is to be opened."""

    cwd: str = ""
    """The folder to go on in; "" for the one that it was made in."""
    new_id: str = ""
    """The session's id; "" for the one that it had."""


def unbundle(disk: Disk, home: str, path: str, wish: Wish) -> Opened:
    """Make a session of the bundle. Raises `BadBundle`, `NewerFormat`, `UsageError`, `StorageError`."""
    try:
        with open(path, "rb") as raw, ZipFile(raw) as zipped:
            archive = _Archive(zipped, os.fstat(raw.fileno()).st_size)
            archive.verify()
            return _Landing(disk, home, archive, wish).land()
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from None
    except _BROKEN as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise BadBundle(f"{path} is no whole bundle: {why[:200]}") from None
    except BadBundle as error:
        raise BadBundle(f"{path} is no whole bundle: {error}") from None


class _Archive:
    """The archive, read with bounds."""

    def __init__(self, zipped: ZipFile, size: int) -> None:
        self._zipped = zipped
        self._most = max(ALWAYS_TAKEN, MOST_TIMES * size)
        listed = zipped.infolist()
        if len(listed) > MOST_FILES:
            raise BadBundle(f"it has {len(listed)} files")
        self._infos: dict[str, ZipInfo] = {info.filename: info for info in listed}
        if len(self._infos) != len(listed):
            raise BadBundle("a name stands in it twice")
        if MANIFEST not in self._infos:
            raise BadBundle("it has no manifest")
        self.manifest = self._manifest()

    def _manifest(self) -> Manifest:
        content = b"".join(self._pieces(MANIFEST, _LARGEST_MANIFEST))
        told = msgspec.json.decode(content, type=_Told)
        if told.format != "backstay-bundle":
            raise BadBundle("its manifest is another program's")
        if told.version > VERSION:
            raise NewerFormat(f"the bundle's format is {told.version}: upgrade Backstay to open it")
        return msgspec.json.decode(content, type=Manifest)

    def verify(self) -> None:
        """Hold every file against the manifest."""
        manifest = self.manifest
        if set(self._infos) - {MANIFEST} != set(manifest.files) or JOURNAL not in manifest.files:
            raise BadBundle("its files are not those of its manifest")
        if sum(one.bytes for one in manifest.files.values()) > self._most:
            raise BadBundle("it would unfold to far more than a session of its size can hold")
        if not is_id(manifest.session):
            raise BadBundle("its manifest names no session")
        for name, entry in manifest.files.items():
            blob = name.removeprefix(BLOBS)
            if name not in (JOURNAL, LABEL) and (blob == name or blob != entry.sha256):
                raise BadBundle(f"{name[:80]!r} has no place in a bundle")
            if blob != name and entry.bytes > _LARGEST_BLOB:
                raise BadBundle(f"{name} is larger than any blob")
            for _ in self.content(name):
                pass

    def content(self, name: str) -> Iterator[bytes]:
        """A file's bytes; raises `BadBundle` where they are not those of the manifest."""
        entry = self.manifest.files[name]
        summed, size = sha256(), 0
        for chunk in self._pieces(name, entry.bytes):
            summed.update(chunk)
            size += len(chunk)
            yield chunk
        if size != entry.bytes or summed.hexdigest() != entry.sha256:
            raise BadBundle(f"{name} is not what its manifest says")

    def _pieces(self, name: str, most: int) -> Iterator[bytes]:
        size = 0
        try:
            with self._zipped.open(self._infos[name]) as file:
                while chunk := file.read(_CHUNK):
                    size += len(chunk)
                    if size > most:
                        raise BadBundle(f"{name} is longer than it says")
                    yield chunk
        except OSError as error:
            raise BadBundle(f"{name} can't be read: {error.strerror or error}") from None
        except Exception as error:
            if isinstance(error, (BadBundle, *_BROKEN)):
                raise
            raise BadBundle(f"{name} can't be unpacked: {error}") from None  # zlib's own error


class _Told(msgspec.Struct):
    format: str = ""
    version: int = 0


class _Landing:
    """Writes the session beside the others, and gives it its name last."""

    def __init__(self, disk: Disk, home: str, archive: _Archive, wish: Wish) -> None:
        self._disk = disk
        self._home = home
        self._archive = archive
        self._manifest = archive.manifest
        self._wish = wish
        self._id = wish.new_id or self._manifest.session
        self._folder = session_folder(home, self._id)

    def land(self) -> Opened:
        if os.path.lexists(self._folder):
            raise UsageError(
                f"session {self._id} is here already: --as-new makes another one of it"
            )
        blobs = Blobs(self._disk, self._home, f"import-{os.getpid()}")
        for name in self._manifest.files:
            if name.startswith(BLOBS):
                blobs.put(b"".join(self._archive.content(name)))
        make_folder(self._disk, trash(self._home))
        place = f"{trash(self._home)}/{self._id}.{os.getpid()}.{time.monotonic_ns()}"
        self._disk.mkdir(place)
        try:
            self._write(place)
            self._put_in_place(place)
        except BaseException:
            erase(place)
            raise
        return Opened(self._id, self._wish.cwd or self._manifest.cwd, self._notes())

    def _write(self, place: str) -> None:
        with self._disk.create(journal_path(place)) as file:
            for chunk in self._archive.content(JOURNAL):
                file.append(chunk)
        if self._wish.cwd or self._wish.new_id:
            self._changed(place)
        reading = read(self._disk, journal_path(place), everything=True)
        with self._disk.append_to(journal_path(place)) as file:
            if not reading.read_only:
                first = reading.repair()
                start = reading.next_n + (first is not None)
                settled = list(_settled(reading.records, start, every=self._manifest.live))
                written: list[Known] = [*([first] if first and settled else ()), *settled]
                lines = b"".join(map(Codec().encode, written))
                if lines:
                    file.append((b"\n" if reading.unclosed else b"") + lines)
            file.datasync()
        title = self._title()
        if title:
            write_label(self._disk, place, Label(title=title))
        self._disk.sync_directory(place)

    def _put_in_place(self, place: str) -> None:
        day = parent(self._folder)
        make_day(self._disk, self._home, day)
        try:
            self._disk.rename(place, self._folder)
        except StorageError:
            if os.path.lexists(self._folder):
                raise UsageError(
                    f"session {self._id} is here by now: nothing was changed"
                ) from None
            raise
        self._disk.sync_directory(day)

    def _title(self) -> str:
        if LABEL not in self._manifest.files:
            return ""
        return msgspec.json.decode(b"".join(self._archive.content(LABEL)), type=Label).title[:200]

    def _notes(self) -> list[str]:
        notes = list(self._manifest.notes)
        if self._manifest.redacted:
            notes.append("its secrets were redacted when it was made")
        if self._manifest.missing:
            count = len(self._manifest.missing)
            notes.append(f"{count} of its blobs were missing where it was made")
        return notes

    def _changed(self, place: str) -> None:
        """Write the journal anew, with another folder or id in its records."""
        path = journal_path(place)
        with self._disk.open(path) as old, self._disk.create(f"{path}.new") as new:
            at, size = 0, old.size()
            for part in parts(old, 0, size):
                _copy(old, at, part.offset, new)
                at = part.offset + part.length
                line = old.read(part.offset, part.length) if isinstance(part, Found) else b""
                made = self._line(line) if line else None
                if made is not None:
                    new.append(made)
                else:
                    _copy(old, part.offset, at, new)
            _copy(old, at, size, new)
        self._disk.rename(f"{path}.new", path)

    def _line(self, line: bytes) -> bytes | None:
        """The line with what is to change, None where nothing is."""
        value = msgspec.json.decode(line[:-_CLOSE] + b"}")
        changed = _deep(value, self._identity)
        if changed is value:
            return None
        body = msgspec.json.encode(changed)[:-1]
        return b'%b,"c":"%08x"}' % (body, crc32(body))

    def _identity(self, record: dict[str, Any]) -> dict[str, Any]:
        if record.get("k") not in _IDENTIFYING or "cwd" not in record:
            return record
        new = {"cwd": self._wish.cwd} if self._wish.cwd else {}
        if self._wish.new_id and record.get("id") == self._manifest.session:
            new["id"] = self._wish.new_id
        return record | new


def _deep(record: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """A record changed, and those that it carries; itself where nothing was."""
    if not isinstance(record, dict):
        return record
    changed = change(record)
    carried = changed.get("carried")
    if isinstance(carried, list):
        changed = changed | {"carried": [_deep(one, change) for one in carried]}
    if isinstance(changed.get("prompt"), dict):
        changed = changed | {"prompt": _deep(changed["prompt"], change)}
    return record if changed == record else changed


def _settled(records: list[Any], n: int, *, every: bool) -> Iterator[Output]:
    """Outputs for calls that have none here: of what became of them nothing was brought along.

    So no effect is asked for, and no patch goes on, because of what a file from elsewhere says.
    Calls that were not started are left for opening to say so; `every` takes them too, where the
    session was running when the bundle was made.
    """
    calls = {one.n: one for one in records if isinstance(one, Call)}
    started = {one.call for one in records if isinstance(one, Start)}
    done = {one.call for one in records if isinstance(one, Output)}
    for number, call in calls.items():
        if number not in done and (every or number in started):
            yield output(n, call, unknown(_MOVED, ""))
            n += 1


def _copy(source: File, begin: int, end: int, target: File) -> None:
    while begin < end:
        chunk = source.read(begin, min(_CHUNK, end - begin))
        if not chunk:
            return
        target.append(chunk)
        begin += len(chunk)


def exists(disk: Disk, path: str) -> bool:
    """Whether there is a folder of this name here."""
    try:
        return disk.stat(path).folder
    except (Absent, StorageError):
        return False

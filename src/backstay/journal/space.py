"""What sessions take on the disk, and which blobs their journals name. Reads, never writes."""

import os
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from backstay.errors import StorageError
from backstay.journal.disk import Absent, Disk
from backstay.journal.folders import journal_path
from backstay.journal.removal import size_of
from backstay.journal.sessions import folders

_CHUNK: Final = 4 * 1024 * 1024
_NAME: Final = re.compile(rb"[0-9a-f]{64,}")
_LENGTH: Final = 64
_IMAGES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"data:image/")


class Space(msgspec.Struct):
    """Bytes on the disk, by what they are for. Images are blobs that hold one."""

    journal: int = 0
    effects: int = 0
    blobs: int = 0
    images: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.journal + self.effects + self.blobs + self.images + self.other


class Measured(msgspec.Struct):
    """What each session takes, the largest first, and the home as a whole.

    A blob counts for each session that names it, and once for the home; `unused` are the bytes of
    blobs that no journal names.
    """

    sessions: list[tuple[str, Space]]
    home: Space
    unused: int


def named_blobs(disk: Disk, folder: str) -> set[str]:
    """The names of blobs in a session's journal, wherever they stand, in damaged records too;
    and in what else stands beside it, where something may wait to be recorded.

    Raises `StorageError` if it can't be read.
    """
    found = names_in(disk, journal_path(folder))
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if path != journal_path(folder) and os.path.isfile(path):
            found |= names_in(disk, path)
    return found


def names_in(disk: Disk, path: str) -> set[str]:
    """What may be the name of a blob in a file; nothing where there is none. Errors as above."""
    found: set[str] = set()
    try:
        file = disk.open(path)
    except Absent:
        return found
    with file:
        size, at, rest = file.size(), 0, b""
        while at < size:
            chunk = file.read(at, _CHUNK)
            if not chunk:
                break
            at += len(chunk)
            text = rest + chunk
            found.update(name.decode() for name in _NAME.findall(text) if len(name) == _LENGTH)
            rest = text[-_LENGTH:]
    return found


def with_named_by(disk: Disk, home: str, names: set[str]) -> set[str]:
    """These blobs and all that are named in them: a large output may name a larger one."""
    known: set[str] = set()
    left = set(names)
    while left:
        name = left.pop()
        known.add(name)
        left |= names_in(disk, os.path.join(home, "blobs", name)) - known
    return known


def measure(disk: Disk, home: str) -> Measured:
    """Measure everything in a home."""
    sizes = {name: _blob(path) for name, path in _blob_paths(home)}
    whole = Space()
    sessions = []
    used: set[str] = set()
    for folder in folders(disk, home):
        own = Space(
            journal=size_of(journal_path(folder)), effects=size_of(os.path.join(folder, "effects"))
        )
        own.other = size_of(folder) - own.journal - own.effects
        try:
            names = named_blobs(disk, folder) & sizes.keys()
        except StorageError:
            names = set()
        own.blobs = sum(size for size, image in map(sizes.__getitem__, names) if not image)
        own.images = sum(size for size, image in map(sizes.__getitem__, names) if image)
        used |= names
        sessions.append((folder, own))
        whole.journal += own.journal
        whole.effects += own.effects
        whole.other += own.other
    whole.blobs = sum(size for size, image in sizes.values() if not image)
    whole.images = sum(size for size, image in sizes.values() if image)
    unused = sum(size for name, (size, _) in sizes.items() if name not in used)
    sessions.sort(key=lambda one: one[1].total, reverse=True)
    return Measured(sessions, whole, unused)


def _blob_paths(home: str) -> Iterator[tuple[str, str]]:
    folder = os.path.join(home, "blobs")
    try:
        names = os.listdir(folder)
    except OSError:
        return
    yield from ((name, os.path.join(folder, name)) for name in names)


def _blob(path: str) -> tuple[int, bool]:
    """Its size, and whether it is an image."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        head = b""
    return size_of(path), head.startswith(_IMAGES)

"""A session's inbox: what other processes want of it, one durable file each, in order.

Whoever writes needs no lock; the process that holds the session takes letters out once what they
ask for is on record. `inbox/<uuid7>.json` in the session's folder.
"""

from typing import Final, Literal

import msgspec

from backstay.errors import StorageError, UsageError
from backstay.journal.disk import Absent, Disk
from backstay.journal.ids import is_id, uuid7

LONGEST: Final = 8 * 1024 * 1024
"""Bytes of a letter."""
_SUFFIX: Final = ".json"


class Letter(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is asked of a session."""

    kind: Literal["prompt", "interrupt"]
    text: str = ""
    """The prompt, or why it is interrupted."""
    id: str = ""
    """Its file's name; later letters have greater ones."""


def inbox_folder(folder: str) -> str:
    """Where the letters of the session in this folder are."""
    return f"{folder}/inbox"


def send(disk: Disk, folder: str, letter: Letter, now: float, random: bytes) -> str:
    """Put a letter into a session's inbox; it is durable when this returns. Gives its id.

    `now` in Unix seconds, ten random bytes. Raises `UsageError` for one that is too long,
    `StorageError`.
    """
    content = msgspec.json.encode(msgspec.structs.replace(letter, id=""))
    if len(content) > LONGEST:
        raise UsageError(f"{len(content)} bytes are too long: {LONGEST} at most")
    inbox = inbox_folder(folder)
    if disk.mkdir(inbox):
        disk.sync_directory(folder)
    ident = uuid7(now, random)
    part = f"{inbox}/{ident}.part"
    with disk.create(part) as file:
        file.append(content)
        file.datasync()
    disk.rename(part, f"{inbox}/{ident}{_SUFFIX}")
    disk.sync_directory(inbox)
    return ident


def waiting(disk: Disk, folder: str) -> list[Letter]:
    """The letters, oldest first. What is no whole letter is left where it is and out of this."""
    inbox = inbox_folder(folder)
    try:
        names = disk.list(inbox)
    except Absent:
        return []
    found = []
    for name in sorted(names):
        ident = name.removesuffix(_SUFFIX)
        if name != ident and is_id(ident):
            letter = _read(disk, f"{inbox}/{name}")
            if letter is not None:
                letter.id = ident
                found.append(letter)
    return found


def discard(disk: Disk, folder: str, ident: str) -> None:
    """Take a letter out; harmless when repeated. Raises `StorageError`."""
    try:
        disk.unlink(f"{inbox_folder(folder)}/{ident}{_SUFFIX}")
    except Absent:
        pass


def _read(disk: Disk, path: str) -> Letter | None:
    try:
        with disk.open(path) as file:
            return msgspec.json.decode(file.read(0, LONGEST + 1), type=Letter)
    except (StorageError, msgspec.MsgspecError, UnicodeError):
        return None

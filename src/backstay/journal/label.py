"""What a user says of a session: its title, and that it is archived. A small file in its folder.

It is written without the session's lock: it is no part of the conversation. Of two writers at the
same moment the later wins.
"""

from typing import Final

import msgspec

from backstay.errors import StorageError, UsageError
from backstay.journal.disk import Absent, Disk

LONGEST_TITLE: Final = 200
_LARGEST: Final = 64 * 1024
_FILE: Final = "label.json"


class Label(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file's content; a session without the file has none of it."""

    title: str = ""
    archived: bool = False


def label_path(folder: str) -> str:
    """The file in a session's folder."""
    return f"{folder}/{_FILE}"


def read_label(disk: Disk, folder: str) -> Label:
    """What the file says; nothing where it is missing or damaged."""
    try:
        with disk.open(label_path(folder)) as file:
            return msgspec.json.decode(file.read(0, _LARGEST), type=Label)
    except (StorageError, msgspec.MsgspecError, UnicodeError):
        return Label()


def write_label(disk: Disk, folder: str, label: Label) -> None:
    """Replace the file, at once and durably. Raises `StorageError`."""
    path = label_path(folder)
    part = f"{path}.part"
    try:
        disk.unlink(part)
    except Absent:
        pass
    with disk.create(part) as file:
        file.append(msgspec.json.encode(label) + b"\n")
        file.datasync()
    disk.rename(part, path)
    disk.sync_directory(folder)


def title_of(text: str) -> str:
    """A title as it is kept: on one line. Raises `UsageError` if it is too long."""
    title = " ".join(text.encode("utf-8", "replace").decode().split())
    if len(title) > LONGEST_TITLE:
        raise UsageError(f"the title has {len(title)} characters: at most {LONGEST_TITLE}")
    return title

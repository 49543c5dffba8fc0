"""The small files of an effect's folder, written so that a full disk can't keep an exit from it.

Owns room, exit and child record; the claim and all names are in `layout`.
"""

from __future__ import annotations

import json
import os

from .layout import CHILD, EXIT, ROOM, ROOM_BYTES


def reserve(folder: str) -> None:
    """Allocate the room for the exit record; raises OSError when there is none."""
    fd = _create(folder, ROOM)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, ROOM_BYTES)
        else:  # macOS, untested
            os.write(fd, bytes(ROOM_BYTES))
    finally:
        os.close(fd)


def write_exit(folder: str, record: dict[str, object]) -> None:
    """Put the exit record into the reserved room, durably, then under its name, atomically.

    Raises OSError; a failed sync is not retried.
    """
    text = json.dumps(record).encode()
    if len(text) > ROOM_BYTES:
        raise OSError(f"an exit record of {len(text)} bytes does not fit its room")
    room = os.path.join(folder, ROOM)
    fd = os.open(room, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(room, os.path.join(folder, EXIT))
    _sync_folder(folder)


def write_child(folder: str, record: dict[str, object]) -> None:
    """Write and datasync the child record; the child may exec only after this."""
    fd = _create(folder, CHILD)
    try:
        os.write(fd, json.dumps(record).encode())
        os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
    finally:
        os.close(fd)


def read_exit(folder: str) -> dict[str, object] | None:
    """The exit record, None if there is none."""
    try:
        with open(os.path.join(folder, EXIT), "rb") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _create(folder: str, name: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    return os.open(os.path.join(folder, name), flags, 0o600)


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

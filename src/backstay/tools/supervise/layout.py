"""Names, sizes and the claim of an effect's folder, as the supervisor and settlement share them.

Owns no process and no socket. Standard library only, and little of it: the agent imports this.
"""

from __future__ import annotations

import os
import sys

PROTOCOL = 2
EFFECTS = "effects"
SOCKET = "supervisor.sock"
LOCK = "supervisor.lock"
LOG = "supervisor.log"

CLAIM = "claim"
CHILD = "child.json"
EXIT = "exit.json"
ROOM = "exit.room"
SEGMENT = "spool-"

ENDING = "the session is ending"
"""The refusal of a supervisor that is on its way out."""

MARKER = "BACKSTAY_EFFECT"
"""The environment variable that names a process's effect."""

HEAD_BYTES = 1 << 20
TAIL_BYTES = 1 << 20
"""Size of each of the two tail segments that are kept."""
ROOM_BYTES = 4096
KILL_AFTER = 2.0
"""Seconds between TERM and KILL."""

_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def is_effect_id(text: str) -> bool:
    """Whether `text` may name an effect: 1 to 128 of `[A-Za-z0-9._-]`, no dot in front."""
    return 0 < len(text) <= 128 and text[0] != "." and _ID.issuperset(text)


def make_folder(path: str) -> None:
    """Create `path` and its parent with mode 0700 where they are missing."""
    for folder in (os.path.dirname(path), path):
        if folder:
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                pass


def take_claim(folder: str, note: str) -> bool:
    """Claim the effect; False if somebody has claimed it before.

    The file's existence is the claim, `note` (JSON) says whose. Raises OSError when the claim
    could not be made, or was made and the note could not be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(os.path.join(folder, CLAIM), flags, 0o600)
    except FileExistsError:
        return False
    try:
        os.write(fd, note.encode())
    finally:
        os.close(fd)
    return True


def boot_id() -> str:
    """The identity of this boot of this machine; `start` records carry it.

    Linux has one (`/proc/sys/kernel/random/boot_id`). Elsewhere (untested) the time of the boot
    stands in for it.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return _boot_time()


def _boot_time() -> str:
    """macOS and the BSDs, untested: `kern.boottime` as a string, or `unknown`."""
    if sys.platform != "linux" and os.path.exists("/usr/sbin/sysctl"):
        with os.popen("/usr/sbin/sysctl -n kern.boottime") as answer:  # noqa: S605
            return "boot-" + answer.read().partition(",")[0].strip("{ ").replace(" ", "")
    return "unknown"

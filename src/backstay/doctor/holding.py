"""Whether Codex is writing a session now; asked without a lock of our own, which could turn it away."""

import os

from backstay.doctor.rollout import codex_home_of


def is_written(path: str, ident: str) -> bool:
    """Whether a process holds Codex's lock of this thread; only Linux tells that.

    Codex keeps `thread-writer-locks/ID.lock` locked with `flock` while it runs a thread.
    """
    home = codex_home_of(path)
    if not home or not ident:
        return False
    try:
        wanted = os.stat(os.path.join(home, "thread-writer-locks", f"{ident}.lock")).st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            return any(_inode(line) == wanted for line in file)
    except (OSError, ValueError):
        return False


def _inode(line: str) -> int:
    """Of a line like `1: FLOCK  ADVISORY  WRITE 32700 fe:00:2704761 0 EOF`."""
    words = line.split()
    parts = words[5].split(":") if len(words) > 5 else []
    return int(parts[2]) if len(parts) == 3 and parts[2].isdecimal() else -1

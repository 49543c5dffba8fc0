"""Finding and ending the processes that a test's BACKSTAY_HOME was given to (Linux: /proc)."""

import os
import signal
from pathlib import Path


def processes_of(home: Path) -> dict[int, str]:
    """The living processes with this BACKSTAY_HOME in their environment: pid to command line.

    Zombies are left out. Processes of others whose environment can't be read are not seen.
    """
    marker = b"BACKSTAY_HOME=" + os.fsencode(home)
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                found[int(folder.name)] = b" ".join(words).decode(errors="replace")
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    found.pop(os.getpid(), None)
    return found


def end_processes_of(home: Path) -> None:
    """Kill every process of `processes_of`, until none is left."""
    while left := processes_of(home):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

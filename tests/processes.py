"""Finding and ending the processes that belong to a test's BACKSTAY_HOME (Linux: /proc)."""

import os
import signal
from pathlib import Path


def processes_of(home: Path) -> dict[int, str]:
    """The living processes of this BACKSTAY_HOME: pid to command line.

    They have it in their environment, or, as supervisors do, which get none, a path below it as
    an argument. Zombies are left out. Processes of others that can't be read are not seen.
    """
    place = os.fsencode(home)
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            given = b"BACKSTAY_HOME=" + place in (folder / "environ").read_bytes().split(b"\0")
            if given or any(word.startswith(place + b"/") for word in words):
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

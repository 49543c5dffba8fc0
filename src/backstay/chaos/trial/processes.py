"""Which processes a trial has started, found by a mark in their environment or command line.

Reads /proc where there is one; elsewhere `ps`, which shows command lines only. Signals go to no
process that does not bear the mark.
"""

import os
import signal
import subprocess
import time

from msgspec import Struct

MARK = "BACKSTAY_TRIAL"


class Running(Struct, frozen=True):
    """A process that has not ended: its id, its group's, its command line."""

    pid: int
    group: int
    words: str


def marked(mark: str) -> list[Running]:
    """The processes that bear the mark, this one left out."""
    found = _from_proc(mark) if os.path.isdir("/proc/self") else _from_ps(mark)
    return [one for one in found if one.pid != os.getpid()]


def end(mark: str, seconds: float = 5.0) -> None:
    """Kill all that bear the mark, and wait until they are gone."""
    until = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < until:
        for one in left:
            send(one.pid, signal.SIGKILL)
        time.sleep(0.02)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended meanwhile."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _from_proc(mark: str) -> list[Running]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            words = _read(f"/proc/{name}/cmdline")
            if mark.encode() not in words and mark.encode() not in _read(f"/proc/{name}/environ"):
                continue
            state = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()
        except OSError:  # it has ended, or is somebody else's
            continue
        if state[0] not in (b"Z", b"X"):
            text = words.replace(b"\0", b" ").decode(errors="replace").strip()
            found.append(Running(int(name), int(state[2]), text))
    return found


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _from_ps(mark: str) -> list[Running]:
    argv = ["ps", "-A", "-ww", "-o", "pid=,pgid=,state=,command="]
    shown = subprocess.run(argv, capture_output=True, text=True, check=False, errors="replace")
    found = []
    for line in shown.stdout.splitlines():
        words = line.split(None, 3)
        if len(words) == 4 and mark in words[3] and not words[2].startswith("Z"):
            found.append(Running(int(words[0]), int(words[1]), words[3]))
    return found

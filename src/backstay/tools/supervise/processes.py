"""Which processes are there, whose they are, and how to signal exactly those.

Linux reads /proc and signals through pidfds, so that a reused pid is never hit. Other platforms
(untested) know start times from `ps` and have process groups only. Starts nothing.
"""

from __future__ import annotations

import os
import signal
import sys

from .layout import MARKER

HAS_PROC = sys.platform == "linux"
_EXITING = 0x4
"""PF_EXITING (linux/sched.h): its sockets may be closed already while it is not yet a zombie."""


class Process:
    """One process as /proc/<pid>/stat shows it; `start` is field 22, in clock ticks."""

    __slots__ = ("group", "parent", "pid", "session", "start")

    def __init__(self, pid: int, parent: int, group: int, session: int, start: int) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.session = session
        self.start = start

    def is_led_by(self, leader: int) -> bool:
        """Whether it is this process, or in the group or the session that it leads."""
        return leader in (self.pid, self.group, self.session)


def look(pid: int) -> Process | None:
    """The process `pid`, None if it is gone, on its way out or a zombie."""
    if not HAS_PROC:
        return _look_with_ps(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # from field 3 on, see proc_pid_stat(5)
    threads = int(fields[17])
    if threads <= 1 and (fields[0] in (b"Z", b"X") or int(fields[6]) & _EXITING):
        return None
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def start_time(pid: int) -> int:
    """Start time of `pid` in the platform's ticks, 0 if it is gone."""
    process = look(pid)
    return process.start if process else 0


def is_same(pid: int, start: int) -> bool:
    """Whether the process that had this pid and start time is alive."""
    return pid > 0 and start > 0 and start_time(pid) == start


def everything() -> dict[int, Process]:
    """All living processes by pid; empty where there is no /proc."""
    found: dict[int, Process] = {}
    if HAS_PROC:
        for name in os.listdir("/proc"):
            if name.isdigit():
                process = look(int(name))
                if process is not None:
                    found[process.pid] = process
    return found


def descendants(of: int, among: dict[int, Process]) -> list[Process]:
    """The processes below `of`, which is complete for a subreaper."""
    children: dict[int, list[Process]] = {}
    for process in among.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [of]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += [process.pid for process in below]
    return found


def mark_of(pid: int) -> str | None:
    """The effect that the process's environment names, None where it can't be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:
        return None
    name = MARKER.encode() + b"="
    for entry in environment.split(b"\0"):
        if entry.startswith(name):
            return entry[len(name) :].decode("ascii", "replace")
    return None


def of_effect(effect: str, leader: int, below: int, among: dict[int, Process]) -> list[Process]:
    """The processes of one effect: marked as its, or led by `leader` and descending from `below`.

    A leader with a terminal makes a group for each of its jobs; all are in its session.
    """
    own = {p.pid for p in descendants(below, among) if p.is_led_by(leader)} if leader else set()
    return [p for p in among.values() if p.pid in own or mark_of(p.pid) == effect]


def send(process: Process, number: int) -> bool:
    """Signal exactly this process; False if it is gone or not ours to signal.

    TERM is followed by CONT, so that a stopped process can act on it.
    """
    numbers = (number, signal.SIGCONT) if number == signal.SIGTERM else (number,)
    try:
        if not HAS_PROC:
            for each in numbers:
                os.kill(process.pid, each)
            return True
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if start_time(process.pid) != process.start:
            return False
        for each in numbers:
            signal.pidfd_send_signal(handle, each)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def become_subreaper() -> bool:
    """Have orphaned descendants handed to this process (Linux); False where that can't be."""
    if not HAS_PROC:
        return False
    import ctypes  # only the supervisor needs it

    set_child_subreaper = 36  # linux/prctl.h
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(set_child_subreaper, 1, 0, 0, 0) == 0)


def _look_with_ps(pid: int) -> Process | None:
    """macOS and the BSDs, untested: seconds since the epoch stand in for ticks."""
    if pid <= 0:
        return None
    import time  # the start-up path on Linux never comes here

    with os.popen(f"LC_ALL=C ps -o ppid=,pgid=,lstart= -p {pid:d}") as answer:  # noqa: S605
        fields = answer.read().split(None, 2)
    if len(fields) != 3:
        return None
    start = time.mktime(time.strptime(fields[2].strip(), "%a %b %d %H:%M:%S %Y"))
    return Process(pid, int(fields[0]), int(fields[1]), 0, int(start))

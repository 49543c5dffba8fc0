"""Ending processes: TERM, two seconds, KILL; of one effect, or of the whole session.

Owns the order and the timers of an end. Which exits are recorded, and how, is the command's.
"""

from __future__ import annotations

import os
import signal
import time

from . import processes
from .layout import KILL_AFTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .timers import Timers

AGAIN = 0.1
GIVE_UP_AFTER = 5.0
"""Seconds after the first KILL at which what can't be killed is left alone."""


class Sweep:
    """TERM at once, and to those that appear later; KILL from 2 s on.

    `find` finds who is to be ended, `waiting` says whether the end is awaited although nobody is
    found. `done` is called once, when nobody is left or nobody can be killed; never before the
    constructor returned.
    """

    def __init__(
        self,
        timers: Timers,
        find: Callable[[], list[Target]],
        waiting: Callable[[], bool],
        done: Callable[[], None],
    ) -> None:
        self._timers = timers
        self._find = find
        self._waiting = waiting
        self._done: Callable[[], None] | None = done
        self._told: set[tuple[int, int]] = set()
        self._kill_at = time.monotonic() + KILL_AFTER
        self._signal()
        timers.after(0, self._again)

    def look(self) -> None:
        """Find out now whether it is done, because a process has just ended."""
        if self._done is None:
            return
        left = self._signal() or self._waiting()
        if not left or time.monotonic() > self._kill_at + GIVE_UP_AFTER:
            done, self._done = self._done, None
            done()

    def _signal(self) -> bool:
        found = self._find()
        kill = time.monotonic() >= self._kill_at
        for target in found:
            key = (target.pid, target.start)
            if kill:
                target.send(signal.SIGKILL)
            elif key not in self._told:
                self._told.add(key)
                target.send(signal.SIGTERM)
        return bool(found)

    def _again(self) -> None:
        self.look()
        if self._done is not None:
            self._timers.after(AGAIN, self._again)


class Target:
    """A process, or where there is no /proc (untested) a process group, that can be signalled."""

    __slots__ = ("_process", "pid", "start")

    def __init__(self, pid: int, process: processes.Process | None = None) -> None:
        self.pid = pid
        self.start = process.start if process else 0
        self._process = process

    def send(self, number: int) -> None:
        """Signal it; one that is gone or not ours to signal is passed over."""
        if self._process is not None:
            processes.send(self._process, number)
            return
        try:
            os.killpg(self.pid, number)
        except OSError:
            pass


def of_effect(effect: str, group: int) -> list[Target]:
    """Every process of one effect."""
    if not processes.HAS_PROC:
        return living_groups([group])
    among = processes.everything()
    found = processes.of_effect(effect, group, os.getpid(), among)
    return [Target(process.pid, process) for process in found]


def of_all(effects: frozenset[str], groups: list[int], *, complete: bool) -> list[Target]:
    """Every descendant of this process; unless those are `complete`, also all that are marked."""
    if not processes.HAS_PROC:
        return living_groups(groups)
    if complete and not has_children():
        return []
    among = processes.everything()
    found = {process.pid: process for process in processes.descendants(os.getpid(), among)}
    if not complete:
        for process in among.values():
            if process.pid != os.getpid() and processes.mark_of(process.pid) in effects:
                found[process.pid] = process
    return [Target(process.pid, process) for process in found.values()]


def living_groups(groups: list[int]) -> list[Target]:
    """Those of the process groups that have a member (untested)."""
    found = []
    for group in groups:
        try:
            os.killpg(group, 0)
        except OSError:
            continue
        found.append(Target(group))
    return found


def has_children() -> bool:
    """Whether this process has children; for a subreaper: whether anything of its own is left."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True

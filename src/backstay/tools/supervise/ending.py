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
    """Sends TERM at once, KILL from 2 s on, through `send`, which says whether anybody was there.

    `send(0)` only asks. `done` is called once, when nobody is there any more or nobody can be
    killed; never before the constructor returned.
    """

    def __init__(
        self, timers: Timers, send: Callable[[int], bool], done: Callable[[], None]
    ) -> None:
        self._timers = timers
        self._send = send
        self._done: Callable[[], None] | None = done
        self._kill_at = time.monotonic() + KILL_AFTER
        send(signal.SIGTERM)
        timers.after(0, self._again)

    def look(self) -> None:
        """Find out now whether it is done, because a process has just ended."""
        if self._done is None:
            return
        now = time.monotonic()
        left = self._send(0 if now < self._kill_at else signal.SIGKILL)
        if not left or now > self._kill_at + GIVE_UP_AFTER:
            done, self._done = self._done, None
            done()

    def _again(self) -> None:
        self.look()
        if self._done is not None:
            self._timers.after(AGAIN, self._again)


def signal_effect(effect: str, group: int, number: int) -> bool:
    """Signal every process of one effect; whether there was any. `number` 0 only asks."""
    if not processes.HAS_PROC:
        return signal_group(group, number)
    among = processes.everything()
    return _signal(processes.of_effect(effect, group, os.getpid(), among), number)


def signal_all(effects: frozenset[str], number: int) -> bool:
    """Signal every descendant of this process and every process marked as one of `effects`."""
    among = processes.everything()
    found = {process.pid: process for process in processes.descendants(os.getpid(), among)}
    if number or not found:  # a mere question needs no search through environments
        for process in among.values():
            if process.pid != os.getpid() and processes.mark_of(process.pid) in effects:
                found[process.pid] = process
    return _signal(list(found.values()), number)


def signal_group(group: int, number: int) -> bool:
    """Signal a process group; whether there was one. For platforms without /proc (untested)."""
    if group <= 0:
        return False
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


def has_children() -> bool:
    """Whether this process has children; for a subreaper: whether anything of its own is left."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _signal(found: list[processes.Process], number: int) -> bool:
    if number:
        return sum(processes.send(process, number) for process in found) > 0
    return bool(found)

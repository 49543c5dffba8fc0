"""One running command: its process, its pipe or terminal into the spool, its end.

Owns its descriptors and its records. Says what happened through `Watcher`; sends no message and
decides no policy.
"""

from __future__ import annotations

import errno
import os
import time

from . import processes, records
from .child import Order, Pipes, exec_error, fork
from .layout import EFFECTS, MARKER
from .spool import Spool
from .stdin import Stdin

TYPE_CHECKING = False
if TYPE_CHECKING:
    import selectors
    from typing import Protocol

    from .timers import Timer, Timers

    class Watcher(Protocol):
        """Who is told, and what is lent to a command."""

        selector: selectors.BaseSelector
        timers: Timers
        boot: str

        def grew(self, command: Command) -> None: ...
        def drained(self, command: Command) -> None: ...
        def overdue(self, command: Command) -> None: ...
        def log(self, line: str) -> None: ...


READ_BYTES = 1 << 16
DRAIN_BYTES = 1 << 20
"""At most this much is read at the leader's exit: the most that a pipe holds by default."""


class Command:
    """A command from its fork to the end of its pipe."""

    def __init__(self, effect: str, order: Order, watcher: Watcher) -> None:
        """Get everything that can be refused: pipes and a spool. Raises OSError."""
        self.effect = effect
        self.argv = order.argv
        self.pid = 0
        self.start = 0
        self.exit: dict[str, object] | None = None
        self.ended_by = "itself"
        self.piped = True
        self.told = 0
        self.grew_timer: Timer | None = None
        self.stdin: Stdin | None = None
        self.spool = Spool(self.folder)
        self._order = order
        self._watcher = watcher
        self._limit: Timer | None = None
        self._began = 0.0
        if self.spool.error:
            self.spool.close()
            raise OSError(self.spool.error)
        try:
            self.pipes = Pipes(tty=order.tty)
        except OSError:
            self.spool.close()
            raise

    @property
    def folder(self) -> str:
        """The effect's folder, relative to the session's."""
        return os.path.join(EFFECTS, self.effect)

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._began

    def run(self, limit: float | None) -> None:
        """Fork, record, open the gate. Raises OSError if it can't be recorded: then it never ran."""
        self._order.env[MARKER.encode()] = self.effect.encode()
        self._began = time.monotonic()
        try:
            self.pid = fork(self._order, self.pipes)
            self.pipes.close_far()
            self.start = processes.start_time(self.pid)
            records.write_child(self.folder, self._child_record())
            os.write(self.pipes.gate, b"g")
        finally:
            self.pipes.close_one(self.pipes.gate)
        self._order.env.clear()
        os.set_blocking(self.pipes.output, False)
        watcher = self._watcher
        watcher.selector.register(self.pipes.output, 1, self.readable)
        if self.pipes.input >= 0:
            self.stdin = Stdin(self.pipes.input, watcher.selector, watcher.timers)
        if limit is not None:
            self._limit = watcher.timers.after(limit, lambda: watcher.overdue(self))

    def give_up(self) -> None:
        """Close everything of a command that did not come to run."""
        self.pipes.close()
        self.spool.close()

    def readable(self, _mask: int = 0) -> None:
        """Move what the pipe holds into the spool, one read's worth."""
        if self.piped and self._read():
            self._watcher.grew(self)

    def mark_ended(self, why: str) -> None:
        """Remember the first reason for its end, if it has not ended by itself before."""
        if self.exit is None and self.ended_by == "itself":
            self.ended_by = why

    def exited(self, status: int) -> None:
        """Its leader was reaped: take what it wrote, record the exit."""
        left = DRAIN_BYTES
        while self.piped and left > 0:
            got = self._read()
            if not got:
                break
            left -= got
        if self._limit is not None:
            self._limit.cancel()
        failed = exec_error(self.pipes)
        self.pipes.close_one(self.pipes.errors)
        self.close_stdin()
        self.pipes.hang_up()
        self.spool.pin()
        self.exit = self._exit_record(status, failed)
        self._record()

    def close_stdin(self) -> None:
        """End the writes that wait and close the end that they go to."""
        if self.stdin is not None:
            self.stdin.close("the command has ended")
            self.stdin = None
        self.pipes.close_one(self.pipes.input)

    def close(self) -> None:
        """Close all descriptors, at the supervisor's end."""
        self._close_output()
        self.pipes.close()

    def _read(self) -> int:
        try:
            chunk = os.read(self.pipes.output, READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            chunk = b""  # a terminal that nobody holds any more
        if not chunk:
            self._close_output()
            self._watcher.drained(self)
            return 0
        self.spool.append(chunk)
        return len(chunk)

    def _close_output(self) -> None:
        if self.piped:
            self.piped = False
            self._watcher.selector.unregister(self.pipes.output)
            self.pipes.close_one(self.pipes.output)
            if self.exit is not None:
                self.spool.close()

    def _child_record(self) -> dict[str, object]:
        return {
            "pid": self.pid,
            "pgid": self.pid,
            "start": self.start,
            "boot": self._watcher.boot,
            "tty": self.pipes.tty,
            "marker": f"{MARKER}={self.effect}",
        }

    def _exit_record(self, status: int, failed: tuple[int, str] | None) -> dict[str, object]:
        record: dict[str, object] = {"kind": "command"}
        if failed:
            record["code"], record["error"] = failed
        elif os.WIFSIGNALED(status):
            record["signal"] = os.WTERMSIG(status)
        else:
            record["code"] = os.WEXITSTATUS(status)
        record |= {
            "wall": round(self.seconds, 6),
            "total": self.spool.total,
            "ended_by": self.ended_by,
            "at": time.time(),
        }
        if self.spool.error:
            record["spool_error"] = self.spool.error
        return record

    def _record(self) -> None:
        if self.exit is None:
            return
        try:
            records.write_exit(self.folder, self.exit)
        except OSError as error:
            self.exit["recorded"] = False
            self._watcher.log(f"{self.effect}: the exit could not be recorded: {error}")


def never_ran(reason: str) -> dict[str, object]:
    """The exit record of a command that was claimed and could not be brought to run."""
    return {
        "kind": "command",
        "code": 126,
        "error": reason,
        "wall": 0.0,
        "total": 0,
        "ended_by": "itself",
        "at": time.time(),
    }

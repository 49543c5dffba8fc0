"""Writes to a command's terminal: in order, never blocking, each with a limit of its own.

Owns the queue of one command's terminal, not the terminal; each write ends in one call of its `done`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable

    from .timers import Timer, Timers

EVENT_WRITE = 2


class Write:
    """Bytes on their way; `done` is told how many were taken, and the error that stopped them."""

    __slots__ = ("_done", "left", "sent", "timer")

    def __init__(self, text: bytes, done: Callable[[int, str | None], None]) -> None:
        self.left = memoryview(text)
        self.sent = 0
        self.timer: Timer | None = None
        self._done: Callable[[int, str | None], None] | None = done

    def finish(self, error: str | None) -> None:
        """Say so once."""
        done, self._done = self._done, None
        if self.timer is not None:
            self.timer.cancel()
        if done is not None:
            done(self.sent, error)


class Stdin:
    """The queue in front of one terminal."""

    def __init__(self, fd: int, selector: selectors.BaseSelector, timers: Timers) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._selector = selector
        self._timers = timers
        self._queue: list[Write] = []
        self._watched = False

    def add(self, write: Write, limit: float) -> None:
        """Queue `write`; what the terminal has not taken in `limit` seconds is given up."""
        write.timer = self._timers.after(limit, lambda: self._expire(write))
        self._queue.append(write)
        self._pump()

    def close(self, reason: str) -> None:
        """End all that waits; its end is about to be closed."""
        self._watch(on=False)
        self._fd = -1
        queue, self._queue = self._queue, []
        for write in queue:
            write.finish(reason)

    def _pump(self, _mask: int = 0) -> None:
        while self._queue and self._fd >= 0:
            write = self._queue[0]
            try:
                while write.left:
                    taken = os.write(self._fd, write.left)
                    write.sent += taken
                    write.left = write.left[taken:]
            except BlockingIOError:
                break
            except OSError as error:
                self._drop(write, error.strerror or str(error))
                continue
            self._drop(write, None)
        self._watch(on=bool(self._queue) and self._fd >= 0)

    def _expire(self, write: Write) -> None:
        self._drop(write, "the command did not read it in time")
        self._pump()

    def _drop(self, write: Write, error: str | None) -> None:
        if write in self._queue:
            self._queue.remove(write)
        write.finish(error)

    def _watch(self, *, on: bool) -> None:
        if on and not self._watched:
            self._selector.register(self._fd, EVENT_WRITE, self._pump)
        elif not on and self._watched:
            self._selector.unregister(self._fd)
        self._watched = on

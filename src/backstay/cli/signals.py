"""SIGINT, SIGTERM and SIGHUP: the first is an interrupt of the turn, what follows ends the process.

Owns what a signal means and the exit code that it leads to.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

TERM_SECONDS: Final = 5.0
"""What SIGTERM and SIGHUP leave for recording how the turn stands."""
_CODES: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
_NAMES: Final = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class Signals:
    """From `install` on; without a turn to interrupt a signal ends the process at once."""

    def __init__(self) -> None:
        self.code = 130
        """The exit code of an interrupted turn."""
        self.on_exit: Callable[[], None] = _nothing
        """Called before the process ends in the middle of things: what has to be said."""
        self._interrupt: Callable[[str], None] | None = None
        self._seen = 0

    def install(self) -> None:
        """Take over the signals that are not ignored (`nohup`, a background job of a script)."""
        for number in _CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def bind(self, interrupt: Callable[[str], None]) -> None:
        """From now on the first signal calls this, in the running loop."""
        loop = asyncio.get_running_loop()

        def soon(reason: str) -> None:
            try:
                loop.call_soon_threadsafe(interrupt, reason)
            except RuntimeError:  # the loop is closed: the turn is over
                pass

        self._interrupt = soon

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._seen += 1
        sign = signal.Signals(number)
        if self._seen == 1:
            self.code = _CODES[sign]
        if self._interrupt is None or (sign is signal.SIGINT and self._seen > 1):
            self._exit()
        elif sign is not signal.SIGINT:
            signal.signal(signal.SIGALRM, lambda *_: self._exit())
            signal.setitimer(signal.ITIMER_REAL, TERM_SECONDS)
        if self._seen == 1 and self._interrupt is not None:
            self._interrupt(f"interrupted by {_NAMES[sign]}")

    def _exit(self) -> None:
        self.on_exit()
        os._exit(self.code)


def _nothing() -> None: ...

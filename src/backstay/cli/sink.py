"""Where output goes: descriptors that may close at any time.

Writes go to the descriptor at once, so that nothing is left to flush at the end.
"""

import os
import select
from collections.abc import Callable


class Sink:
    """A descriptor that is written to. Once it is closed at the other end, writes are dropped."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.closed = ""
        """Why nothing can be written any more."""
        self.on_closed: Callable[[str], None] = _ignore
        try:
            self.is_terminal = os.isatty(fd)
        except OSError:
            self.is_terminal = False

    def write(self, data: bytes) -> None:
        """Write it all, or find out that the other end is gone."""
        while data and not self.closed:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                select.select([], [self._fd], [], 1.0)
            except OSError as error:
                self._close(error.strerror or str(error))

    def text(self, text: str) -> None:
        """Write text; what UTF-8 can't carry becomes a question mark."""
        self.write(text.encode("utf-8", "replace"))

    def look(self) -> None:
        """Find out whether a pipe's reader is gone, although nothing is written."""
        if self.closed or not hasattr(select, "poll"):
            return
        poll = select.poll()
        poll.register(self._fd, 0)
        if any(found & (select.POLLERR | select.POLLNVAL) for _, found in poll.poll(0)):
            self._close("Broken pipe")

    def _close(self, why: str) -> None:
        self.closed = why
        self.on_closed(why)


def _ignore(_: str) -> None: ...

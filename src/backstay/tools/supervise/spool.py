"""A command's output on disk: head and tail kept, the rest counted.

Segments are named by the offset of their first byte, so that total and gaps can be read from
names and sizes alone. Owns the segments of one effect, not the pipe that fills them.
"""

from __future__ import annotations

import os
import time

from .layout import HEAD_BYTES, SEGMENT, TAIL_BYTES

RETRY_SECONDS = 1.0
"""How long a spool that could not be written is left alone before the next attempt."""


class Spool:
    """Appends to the segments in `folder`; never raises for a full disk, see `error`."""

    def __init__(self, folder: str) -> None:
        self.total = 0
        self.error: str | None = None
        self._folder = folder
        self._fd = -1
        self._limit = 0
        self._tail: list[str] = []
        self._retry_at = 0.0
        self._open(HEAD_BYTES)

    def append(self, chunk: bytes) -> None:
        """Write `chunk`; what can't be written is counted and leaves a gap."""
        view = memoryview(chunk)
        while view:
            if self._fd < 0 or self.total >= self._limit:
                self._next_segment()
            if self._fd < 0:
                self.total += len(view)
                return
            piece = view[: self._limit - self.total]
            written = self._write(piece)
            self.total += written
            view = view[written:]

    def pin(self) -> None:
        """Sync what is kept and keep it for good: later output goes to segments of its own."""
        self.close()
        for path in (self._path(0), *self._tail):
            self._sync(path)
        self._tail = []

    def close(self) -> None:
        """Close without a sync."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, piece: memoryview) -> int:
        try:
            return os.write(self._fd, piece)
        except OSError as error:
            self._fail(error)
            self.close()
            self._forget_empty()
            return 0

    def _next_segment(self) -> None:
        self.close()
        if time.monotonic() < self._retry_at:
            return
        while len(self._tail) > 1:
            self._unlink(self._tail.pop(0))
        self._open(TAIL_BYTES)
        if self._fd >= 0:
            self._tail.append(self._path(self.total))

    def _open(self, size: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path(self.total), flags, 0o600)
        except OSError as error:
            self._fail(error)
        self._limit = self.total + size

    def _forget_empty(self) -> None:
        if self._tail and self._tail[-1] == self._path(self.total):
            self._unlink(self._tail.pop())

    def _unlink(self, path: str) -> None:
        try:
            os.unlink(path)
        except OSError as error:
            self._fail(error)

    def _sync(self, path: str) -> None:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            self._fail(error)

    def _path(self, offset: int) -> str:
        return os.path.join(self._folder, f"{SEGMENT}{offset}")

    def _fail(self, error: OSError) -> None:
        self.error = self.error or (error.strerror or str(error))
        self._retry_at = time.monotonic() + RETRY_SECONDS

"""Reads a body ahead of its consumer, so that a slow consumer loses nothing when the stream breaks.

What is not read yet dies with a connection that is reset. Owns the reading, the silence deadline
and what is waiting; knows nothing of HTTP.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Self

READ_AHEAD: Final = 64 * 1024 * 1024
"""Bytes waiting for the consumer, above which reading pauses."""


class Silence(Exception):
    """Nothing came for too long."""


class Pump:
    """Reads with `read` (None is the end) until the end, an error, or `silence` seconds of nothing.

    An async context manager: leaving it stops the reading.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[bytes | None]],
        silence: float,
        read_ahead: int = READ_AHEAD,
    ) -> None:
        self._read = read
        self._silence = silence
        self._read_ahead = read_ahead
        self._waiting: list[bytes] = []
        self._size = 0
        self._left = False
        self._ended = False
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(self._silence, self._watch)
        self._task = self._loop.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        self._left = True  # a read that has its piece at this moment may miss the cancellation
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def next(self) -> bytes | None:
        """All that is waiting, as one piece; None at the end. Raises what `read` raised."""
        while not self._waiting:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        pieces, self._waiting, self._size = self._waiting, [], 0
        self._room.set()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _run(self) -> None:
        try:
            while (piece := await self._read()) is not None and not self._left:
                self._heard = self._loop.time()
                self._waiting.append(piece)
                self._size += len(piece)
                self._changed.set()
                while self._size > self._read_ahead:
                    self._room.clear()
                    await self._room.wait()
                    self._heard = self._loop.time()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the consumer gets it, whatever it is
            self._end(error)
        else:
            self._end(None)

    def _end(self, failure: BaseException | None) -> None:
        if not self._ended:
            self._ended, self._failure = True, failure
            self._changed.set()

    def _watch(self) -> None:
        """One timer for the whole body: it looks when a piece came last, and sleeps on."""
        due = self._heard + self._silence
        if self._size > self._read_ahead:
            due = self._loop.time() + self._silence
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._watch)
        else:
            self._end(Silence())

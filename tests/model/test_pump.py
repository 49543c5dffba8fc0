"""Reading ahead: bounded, in order, and with silence counted only while reading."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from backstay.model.pump import Pump, Silence


class _Source:
    """Pieces that are read one by one; an event among them is waited for, an error raised."""

    def __init__(self, *pieces: bytes | asyncio.Event | Exception) -> None:
        self._pieces = self._play(pieces)
        self.read_so_far = 0

    async def read(self) -> bytes | None:
        return await anext(self._pieces, None)

    async def _play(
        self, pieces: tuple[bytes | asyncio.Event | Exception, ...]
    ) -> AsyncIterator[bytes]:
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            else:
                self.read_so_far += 1
                yield piece


async def _settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_what_waits_comes_as_one_piece_then_the_error() -> None:
    """All of it is there before the error is."""

    async def main() -> None:
        source = _Source(b"a", b"b", OSError("gone"))
        async with Pump(source.read, 60) as pump:
            await _settled()
            assert await pump.next() == b"ab"
            with pytest.raises(OSError, match="gone"):
                await pump.next()

    asyncio.run(main())


def test_the_end_is_none() -> None:
    """As often as one asks."""

    async def main() -> None:
        async with Pump(_Source(b"a").read, 60) as pump:
            assert [await pump.next() for _ in range(3)] == [b"a", None, None]

    asyncio.run(main())


def test_reading_ahead_is_bounded() -> None:
    """It pauses above the bound, and goes on when the consumer has taken what waited."""

    async def main() -> None:
        source = _Source(*[b"1234"] * 10)
        async with Pump(source.read, 60, read_ahead=10) as pump:
            await _settled()
            assert source.read_so_far == 3
            assert await pump.next() == b"1234" * 3
            await _settled()
            assert source.read_so_far == 6

    asyncio.run(main())


def test_silence_does_not_count_while_reading_is_paused() -> None:
    """The consumer is slow, not the server."""

    async def main() -> None:
        source = _Source(*[b"1234"] * 3)
        async with Pump(source.read, 0.05, read_ahead=5) as pump:
            await asyncio.sleep(0.3)
            assert await pump.next() == b"12341234"
            assert await pump.next() == b"1234"
            assert await pump.next() is None

    asyncio.run(main())


def test_silence_ends_the_reading_behind_what_came() -> None:
    """First the bytes, then `Silence`."""

    async def main() -> None:
        async with Pump(_Source(b"a", asyncio.Event()).read, 0.05) as pump:
            await asyncio.sleep(0.2)
            assert await pump.next() == b"a"
            with pytest.raises(Silence):
                await pump.next()

    asyncio.run(main())


def test_leaving_stops_the_reading() -> None:
    """No task stays behind."""

    async def main() -> None:
        async with Pump(_Source(asyncio.Event()).read, 60):
            await _settled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_leaving_ends_a_reading_that_lost_its_cancellation() -> None:
    """A read that has its piece at the moment of the cancellation is not read on behind."""
    reads = 0

    async def read() -> bytes:
        nonlocal reads
        reads += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass  # what the HTTP library does when the piece is already there
        return b"piece"

    async def main() -> None:
        async with Pump(read, 60):
            await _settled()
        assert reads == 1

    asyncio.run(asyncio.wait_for(main(), 10))

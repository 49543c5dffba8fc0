"""The scripted transport: what tests of agents rely on."""

import asyncio
from contextlib import aclosing

from backstay.model.scripted import Reply, Scripted, events
from backstay.model.transport import Head, TransportError
from tests.model.exchange import exchange, request


def test_replies_come_in_order_and_requests_are_kept() -> None:
    """The n-th request gets the n-th reply."""

    async def main() -> None:
        transport = Scripted([Reply(pieces=[b"a", b"b"]), Reply(status=500, pieces=[b"c"])])
        first = await exchange(transport, request("http://x.test", b'{"n":1}'))
        second = await exchange(transport, request("http://x.test", b'{"n":2}'))
        assert (first.status, first.body, second.status, second.body) == (200, b"ab", 500, b"c")
        assert transport.bodies == [{"n": 1}, {"n": 2}]

    asyncio.run(main())


def test_a_script_that_is_over_says_so() -> None:
    """It refuses in the words of the API, which no agent retries."""

    async def main() -> None:
        got = await exchange(Scripted([]), request("http://x.test"))
        assert got.status == 400
        assert b"script_exhausted" in got.body

    asyncio.run(main())


def test_an_ending_is_raised_where_its_kind_belongs() -> None:
    """A failure to connect comes instead of the head, a break behind the pieces."""

    async def main() -> None:
        refused = Reply(pieces=[b"never"], ending=TransportError("connect", "nobody there"))
        broken = Reply(pieces=[b"half"], ending=TransportError("broken", "gone"))
        transport = Scripted([refused, broken, broken])
        got = [await exchange(transport, request("http://x.test")) for _ in range(2)]
        assert [(one.status, one.body, one.kind, one.reason) for one in got] == [
            (0, b"", "connect", "nobody there"),
            (200, b"half", "broken", "gone"),
        ]

    asyncio.run(main())


def test_an_event_between_the_pieces_holds_them_back() -> None:
    """Until it is set; closing early is counted."""

    async def main() -> None:
        gate = asyncio.Event()
        transport = Scripted([Reply(pieces=[b"a", gate, b"b"])] * 2)
        async with aclosing(transport.stream(request("http://x.test"))) as stream:
            assert isinstance(await anext(stream), Head)
            assert await anext(stream) == b"a"
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            gate.set()
            assert await waiting == b"b"
        assert transport.closed == 1

    asyncio.run(main())


def test_events_are_written_as_server_sent_events() -> None:
    """With an event line where there is a type."""
    assert events({"type": "a", "n": 1}, {"n": 2}) == (
        b'event: a\ndata: {"type":"a","n":1}\n\ndata: {"n":2}\n\n'
    )

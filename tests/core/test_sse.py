"""Server-sent events come out the same, in whatever pieces and with whatever line ends they came."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.core import sse
from backstay.core.sse import EventDecoder, ServerEvent

BODY = (
    b"\xef\xbb\xbfevent: one\r\n: a comment\r\ndata: first\r\ndata:second\r\n\r\n"
    b"id: 7\rretry: 10\rdata: cr\r\r"
    b"event: empty\n\n"
    b"data\n\ndata: line\xe2\x80\xa8separator \xc2\x85\n\n\n"
    b"event: last\ndata:  two spaces"
)
EVENTS = [
    ServerEvent(b"one", b"first\nsecond"),
    ServerEvent(b"", b"cr"),
    ServerEvent(b"", b""),
    ServerEvent(b"", b"line\xe2\x80\xa8separator \xc2\x85"),
    ServerEvent(b"last", b" two spaces"),
]


def decode(*pieces: bytes) -> list[ServerEvent]:
    """All events of a body that came in these pieces."""
    decoder = EventDecoder()
    return [one for piece in pieces for one in decoder.feed(piece)] + decoder.finish()


def test_a_body_is_read_as_the_standard_says() -> None:
    """BOM, comments, ids, all three line ends, joined lines and the first space: as specified."""
    assert decode(BODY) == EVENTS


def test_every_split_in_two_gives_the_same_events() -> None:
    """Where the network cuts the bytes changes nothing, inside of a BOM and of a CRLF too."""
    for at in range(len(BODY) + 1):
        assert decode(BODY[:at], BODY[at:]) == EVENTS, at
    assert decode(*(bytes([byte]) for byte in BODY)) == EVENTS


@given(
    st.lists(
        st.sampled_from(
            [
                b"data: a",
                b"data",
                b"event: e",
                b": c",
                b"\r",
                b"\n",
                b"\r\n",
                b"\xef\xbb\xbf",
                b"",
                b"x",
            ]
        ),
        max_size=12,
    ).map(b"".join),
    st.lists(st.integers(0, 60), max_size=5),
)
def test_any_pieces_of_any_body_give_the_same_events(body: bytes, cuts: list[int]) -> None:
    """Pieces make no difference, whatever the bytes say."""
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in pairwise(edges)]
    assert decode(*pieces) == decode(body)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_all_three_line_ends_are_one(end: bytes) -> None:
    """LF, CRLF and CR end a line alike."""
    body = b"event: e\ndata: 1\n\ndata: 2\n\n".replace(b"\n", end)
    assert decode(body) == [ServerEvent(b"e", b"1"), ServerEvent(b"", b"2")]


def test_an_event_comes_out_with_its_last_byte() -> None:
    """An event is handed over as soon as its blank line is there, also one that ends in CR."""
    decoder = EventDecoder()
    assert decoder.feed(b"data: 1\r\n\r") == [ServerEvent(b"", b"1")]
    assert decoder.feed(b"\ndata: 2\n") == []
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n") == [ServerEvent(b"", b"2")]
    assert decoder.finish() == []


def test_the_last_event_may_lack_its_blank_line() -> None:
    """What is pending at the end of the body comes out with it, once."""
    decoder = EventDecoder()
    assert decoder.feed(b"event: e\ndata: 1\ndata: 2") == []
    assert decoder.finish() == [ServerEvent(b"e", b"1\n2")]
    assert decoder.finish() == []


def test_an_endless_line_does_not_fill_the_memory() -> None:
    """What is longer than the limit is given up, and events behind it are read again."""
    piece = b"x" * (sse.LONGEST_EVENT // 4)
    decoder = EventDecoder()
    assert decoder.feed(b"data: ") == []
    for _ in range(5):
        assert decoder.feed(piece) == []
    assert decoder.feed(b"\n\ndata: next\n\n") == [ServerEvent(b"", b"next")]


def test_an_endless_event_does_not_fill_the_memory() -> None:
    """The lines of one event are bounded together."""
    line = b"data: " + b"x" * (sse.LONGEST_EVENT // 4) + b"\n"
    decoder = EventDecoder()
    for _ in range(6):
        assert decoder.feed(line) == []
    (event,) = decoder.feed(b"\n")
    assert len(event.data) < sse.LONGEST_EVENT + 10
    assert decoder.feed(b"data: next\n\n") == [ServerEvent(b"", b"next")]

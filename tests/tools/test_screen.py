"""What was written to a terminal, read as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.tools.screen import plain, unfinished

CASES = {
    "ends of lines": (b"one\r\ntwo\r\n", "one\ntwo\n"),
    "colours": (b"\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3mtoo\x1b[m", "red too"),
    "titles and modes": (b"\x1b]0;a title\x07\x1b[?2004h$ \x1b]8;;http://x\x1b\\link", "$ link"),
    "character sets and keypads": (b"\x1b(B\x1b=\x1b>\x1b7text\x1b8", "text"),
    "a device control string": (b"\x1bP1$r0m\x1b\\after", "after"),
    "progress": (b" 10%\r 55%\r100%\r\ndone\r\n", "100%\ndone\n"),
    "a shorter line over a longer one": (b"long text\rshort\x1b[K\r\n", "short\n"),
    "erased by the user": (b"$ lss\b \b -l\r\n", "$ ls -l\n"),
    "a line that is edited": (b"$ ac\bbc\b\r\n", "$ abc\n"),
    "columns": (b"a\x1b[4Gd\x1b[2Cg\x1b[6Dx\r\n", "ax d  g\n"),
    "a character that is repeated": (b"-\x1b[9b|\r\n", "----------|\n"),
    "a painted screen": (
        b"\x1b[H\x1b[2Jtop\x1b[3;5Hleft\x1b[3;20Hright\x1b[40;1H:",
        "top\n    left           right\n:",
    ),
    "lines that are painted again": (
        b"a 1%\r\nb 1%\r\n\x1b[2A\ra 9%\x1b[1B\rb 9%",
        "a 1%\nb 1%\na 9%\nb 9%",
    ),
    "a bell and other controls": (b"\x07a\x00b\x0e\x7f\tc", "ab\tc"),
    "what is no text": (b"\xff\xfe\xc3\xa9", "\N{REPLACEMENT CHARACTER}" * 2 + "\u00e9"),
    "C1 controls": ("a\x9b\x85b".encode(), "ab"),
    "half a sequence": (b"text\x1b[3", "text[3"),
}


@pytest.mark.parametrize("what", CASES)
def test_text_of(what: str) -> None:
    """Sequences are gone, and each line reads as it stood at its end."""
    data, expected = CASES[what]
    assert plain(data) == expected


_PIECES = [
    *(b"\x1b", b"[", b"]", b"0;t", b"\x07", b"\\", b"\r", b"\n", b"\b"),
    *(b"7H", b"G", b"b", b"x", b"\xc3"),
]


@given(st.lists(st.sampled_from(_PIECES), max_size=30))
def test_nothing_but_text_is_left(pieces: list[bytes]) -> None:
    """Whatever a program writes: no control characters, and not much more text than it wrote."""
    data = b"".join(pieces)
    text = plain(data)
    assert all(sign == "\n" or sign >= " " for sign in text)
    assert len(text) <= 200 * (len(data) + 1)


@given(st.lists(st.sampled_from(_PIECES), max_size=12), st.integers(0, 40))
def test_a_sequence_is_not_shown_in_halves(pieces: list[bytes], at: int) -> None:
    """What is held back at a cut is the beginning of a sequence, and never a whole one."""
    data = b"".join(pieces)[:at]
    held = unfinished(data)
    assert 0 <= held <= len(data)
    if held:
        assert data[-held:][:1] in (b"\x1b", b"\r")
    for whole in (b"\x1b[31m", b"\x1b]0;title\x07", b"\x1b]0;title\x1b\\", b"\x1b(B", b"\r\n"):
        cut = next((cut for cut in range(1, len(whole)) if unfinished(whole[:cut]) != cut), None)
        assert cut is None
        assert unfinished(whole) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"x\x1b[999Gx\n" * 20_000,
        b"x\x1b[999b" * 20_000,
        b"a" * 100_000 + b"\b" * 100_000,
        b"\x1b" * 200_000,
        b"\x1b]" * 100_000,
        b"\x1b[" + b"1;" * 100_000,
        b"\x1b]" + b"a" * 200_000,
    ],
)
def test_hostile_output_stays_small(data: bytes) -> None:
    """No few bytes make a long text, and none that is long takes for ever."""
    assert len(plain(data)) < 25 * len(data)
    assert unfinished(data) <= 256

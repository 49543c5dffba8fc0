"""Where chunks apply, and what the file's bytes are afterwards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.tools.patch.locate import patched
from backstay.tools.patch.parse import Chunk, Line, PatchError, UpdateFile, parse


def change(contents: bytes, body: str) -> bytes:
    """The contents after an update with this body."""
    update = parse(f"*** Begin Patch\n*** Update File: f\n{body}\n*** End Patch")[0]
    assert isinstance(update, UpdateFile)
    return patched(contents, update.chunks)


@pytest.mark.parametrize(
    "contents,body,expected",
    [
        pytest.param(b"a\nb\nc\n", "@@\n a\n-b\n+B", b"a\nB\nc\n", id="exact"),
        pytest.param(b"a\nb  \nc\n", "@@\n-b\n+B", b"a\nB\nc\n", id="trailing space"),
        pytest.param(b"a\n  b\nc\n", "@@\n-b\n+B", b"a\nB\nc\n", id="indented"),
        pytest.param(b"x  \nx\n", "@@\n-x\n+B", b"x  \nB\n", id="exact before loose"),
        pytest.param("“a” — b\n".encode(), '@@\n-"a" - b\n+B', b"B\n", id="punctuation"),
        pytest.param("a\u00a0b\n".encode(), "@@\n-a b\n+B", b"B\n", id="no-break space"),
        pytest.param(b"\xef\xbb\xbfa\nb\n", "@@\n a\n-b\n+B", b"\xef\xbb\xbfa\nB\n", id="BOM"),
        pytest.param(b"  a\nb\n", "@@\n a\n-b\n+B", b"  a\nB\n", id="context stays the file's"),
        pytest.param(
            b"a\xff\nb\n", "@@\n a\ufffd\n-b\n+B", b"a\xff\nB\n", id="undecodable context"
        ),
        pytest.param(
            b"\xff\nb\n\xfe", "@@\n-b\n+B", b"\xff\nB\n\xfe\n", id="undecodable elsewhere"
        ),
        pytest.param(b"a\r\nb\r\nc\r\n", "@@\n-b\n+B\n+C", b"a\r\nB\r\nC\r\nc\r\n", id="CRLF"),
        pytest.param(b"a\r\nb", "@@\n-b\n+B", b"a\r\nB\r\n", id="CRLF without last newline"),
        pytest.param(b"a\r\nb\nc\n", "@@\n-b\n+B", b"a\r\nB\nc\n", id="mixed, mostly LF"),
        pytest.param(b"a\nb\n", "@@\n-a\n+A\r", b"A\r\nb\n", id="CR written on purpose"),
        pytest.param(b"a\r\nb\r\n", "@@\n-a\r\n+A\r", b"A\r\nb\r\n", id="CR in a CRLF file"),
        pytest.param(b"a\nb", "@@\n-a\n+A", b"A\nb\n", id="last newline is added"),
        pytest.param(b"a\n\n", "@@\n-a\n+A", b"A\n\n", id="blank last line stays"),
        pytest.param(b"a\n", "@@\n-a", b"", id="emptied"),
        pytest.param(b"", "@@\n+a", b"a\n", id="into an empty file"),
        pytest.param(b"a\nb\n", "@@\n+c", b"a\nb\nc\n", id="addition goes to the end"),
        pytest.param(b"a\nb", "@@\n+c", b"a\nb\nc\n", id="addition after an open last line"),
        pytest.param(b"a\nb\n", "@@ a\n+c", b"a\nc\nb\n", id="addition below its section"),
        pytest.param(
            b"a\nb\n", "@@ a\n+c\n*** End of File", b"a\nb\nc\n", id="addition at the end"
        ),
        pytest.param(b"x\nf\nx\n", "@@ f\n-x\n+y", b"x\nf\ny\n", id="section seeks forward"),
        pytest.param(
            b"c\n f\nx\nd\n f\nx\n", "@@ d\n@@ f\n-x\n+y", b"c\n f\nx\nd\n f\ny\n", id="two"
        ),
        pytest.param(b"f\nx\n", "@@ f\n f\n-x\n+y", b"f\ny\n", id="section repeated as context"),
        pytest.param(b"x\nx\n", "@@\n-x\n+y\n*** End of File", b"x\ny\n", id="end preferred"),
        pytest.param(
            b"x\nx\nz\n", "@@\n-x\n+y\n*** End of File", b"x\ny\nz\n", id="nearest the end"
        ),
        pytest.param(b"x\nx \n", "@@\n-x\n+y\n*** End of File", b"x\ny\n", id="end before exact"),
        pytest.param(b"a\nb\n", "@@\n-b\n+B\n\n", b"a\nB\n", id="blank line after the chunk"),
        pytest.param(b"a\nb\n", "@@\n-b\n-\n+B", b"a\nB\n", id="blank line behind the file"),
        pytest.param(b"a\nb\n", "@@\n b\n \n+c", b"a\nb\n\nc\n", id="the same as context"),
        pytest.param(b"a\n\nb\n", "@@\n-a\n\n-b\n+c", b"\nc\n", id="blank line is context"),
        pytest.param(
            b"a\na\n", "@@\n-a\n+b\n@@\n-a\n+c", b"b\nc\n", id="second place behind first"
        ),
    ],
)
def test_a_chunk_changes_what_it_names(contents: bytes, body: str, expected: bytes) -> None:
    """Each case: the contents before, the body of the update, the contents after."""
    assert change(contents, body) == expected


@pytest.mark.parametrize(
    "contents,body,said",
    [
        (b"a\n", "@@\n-b\n+c", "does not hold these lines"),
        (b"a\n", "@@ z\n-a\n+c", "no line of the file matches '@@ z'"),
        (b"a\nb\n", "@@\n-b\n+c\n@@\n-a\n+d", "order of the file"),
        (b"a\nb\n", "@@\n-b\n+c\n@@ a\n+d", "order of the file"),
        (b"", "@@\n-a", "does not hold"),
        (b"a\n", "@@\n-a\n-b", "does not hold"),
        (b"a\nb\n", "@@\n-a\n-\n+c", "does not hold"),
        (b"a\n", "@@\n-", "does not hold"),
    ],
)
def test_what_is_not_found_is_quoted(contents: bytes, body: str, said: str) -> None:
    """A chunk that fits nowhere fails with its own lines in the message."""
    with pytest.raises(PatchError) as caught:
        change(contents, body)
    assert said in str(caught.value)


LINES = st.lists(st.sampled_from(["a", "b", "  c", "", "d\t", "“e”", "\udcff"]), max_size=12)


@st.composite
def edits(draw: st.DrawFn) -> tuple[list[str], list[str], list[Line]]:
    """The lines of a file, those after an edit, and the edit as one chunk over the whole file."""
    before = draw(LINES)
    chunk: list[Line] = []
    after: list[str] = []
    for text in before:
        if draw(st.booleans()):
            chunk.append(Line(" ", text))
            after.append(text)
            continue
        chunk.append(Line("-", text))
        if draw(st.booleans()):
            chunk.append(Line("+", text + "!"))
            after.append(text + "!")
    if not chunk or draw(st.booleans()):
        chunk.append(Line("+", "new"))
        after.append("new")
    return before, after, chunk


def encoded(lines: list[str], ending: str) -> bytes:
    """The lines as a file's bytes."""
    return "".join(line + ending for line in lines).encode("utf-8", "surrogateescape")


@given(edits(), st.sampled_from(["\n", "\r\n"]))
def test_an_edit_over_the_whole_file_gives_the_edited_file(
    edit: tuple[list[str], list[str], list[Line]], ending: str
) -> None:
    """For any file and any edit of it as one chunk the result is the edited file, byte for byte."""
    before, after, chunk = edit
    if not before:
        ending = "\n"
    assert patched(encoded(before, ending), [Chunk((), tuple(chunk))]) == encoded(after, ending)


@given(st.binary(max_size=80), st.lists(st.sampled_from(["a", "b", ""]), max_size=3))
def test_untouched_bytes_stay(contents: bytes, added: list[str]) -> None:
    """Whatever bytes a file holds, an addition at its end keeps them as a prefix."""
    lines = tuple(Line("+", text) for text in ["x", *added])
    assert patched(contents, [Chunk((), lines)]).startswith(contents)

"""The text of a patch, as specified and as models write it."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backstay.tools.patch.parse import (
    AddFile,
    Chunk,
    DeleteFile,
    Line,
    PatchError,
    UpdateFile,
    parse,
)

PLAIN = """*** Begin Patch
*** Add File: dir/a b.txt
+one
+
+two
*** Delete File: gone.txt
*** Update File: x.py
*** Move to: y.py
@@ class A
@@     def f(self):
     pass
-    return 1
+    return 2

*** End of File
@@
+last
*** End Patch
"""
OPERATIONS = (
    AddFile("dir/a b.txt", ("one", "", "two")),
    DeleteFile("gone.txt"),
    UpdateFile(
        "x.py",
        (
            Chunk(
                ("class A", "    def f(self):"),
                (
                    Line(" ", "    pass"),
                    Line("-", "    return 1"),
                    Line("+", "    return 2"),
                    Line(" ", ""),
                ),
                end_of_file=True,
            ),
            Chunk((), (Line("+", "last"),)),
        ),
        "y.py",
    ),
)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "\n \n" + PLAIN + "\n\n",
        PLAIN.rstrip("\n"),
        "apply_patch\n" + PLAIN,
        "<<EOF\n" + PLAIN + "EOF",
        "<<'EOF'\n" + PLAIN + "EOF\n",
        "apply_patch <<'PATCH'\n" + PLAIN + "PATCH\n",
        'apply_patch <<-"PATCH"\n' + PLAIN + "PATCH\n",
        "apply_patch\n<<EOF\n" + PLAIN + "EOF\n",
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("*** Begin Patch", " *** Begin Patch  ").replace("*** End P", "  *** End P"),
        PLAIN.replace("*** Add File: ", "  *** Add File:  ").replace("*** Move", " *** Move"),
        PLAIN.replace("*** Delete", "\n*** Delete"),
        PLAIN.replace("+\n", "\n"),
    ],
)
def test_every_wrapping_reads_as_the_same_operations(text: str) -> None:
    """Padding, here-documents, a command line, CRLF and stray blank lines change nothing."""
    assert parse(text) == OPERATIONS


@pytest.mark.parametrize(
    "text,said",
    [
        ("", "empty"),
        ("apply_patch", "first line"),
        ("hello", "first line of the patch must be '*** Begin Patch'"),
        ("*** Begin Patch\n*** Add File: a\n+x\n", "cut off"),
        ("*** Begin Patch\n*** End Patch\n", "no operation"),
        ("<<EOF\n" + PLAIN, "not closed"),
        ("*** Begin Patch\n*** Frobnicate File: a\n*** End Patch", "line 2: '*** Frobnicate"),
        (
            "*** Begin Patch\n*** Add File:\n+x\n*** End Patch",
            "line 2: '*** Add File:' needs a path",
        ),
        ("*** Begin Patch\n*** Add File: a\0b\n*** End Patch", "needs a path"),
        ("*** Begin Patch\n*** Add File: a\nx\n*** End Patch", "line 3: 'x' in an added file"),
        (
            "*** Begin Patch\n*** Update File: a\n*** End Patch",
            "line 2: the update of 'a' is empty",
        ),
        ("*** Begin Patch\n*** Update File: a\n@@\n*** End Patch", "line 3: no lines follow '@@'"),
        ("*** Begin Patch\n*** Update File: a\n@@\nx\n*** End Patch", "line 4: 'x' in an update"),
        ("*** Begin Patch\n*** Update File: a\n*** Move to:\n*** End Patch", "needs a path"),
        (PLAIN + PLAIN, "in the middle"),
        ("*** Begin Patch\n*** Add File: a\n+\ud800\n*** End Patch", "surrogate"),
        ("```\n" + PLAIN + "```", "first line"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    """Each error is one line that names what to correct."""
    with pytest.raises(PatchError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rename_needs_no_chunk() -> None:
    """A move without changes is complete."""
    text = "*** Begin Patch\n*** Update File: a\n*** Move to: b\n*** End Patch"
    assert parse(text) == (UpdateFile("a", (), "b"),)


def test_the_first_chunk_needs_no_marker() -> None:
    """Lines directly below the header are a chunk."""
    text = "*** Begin Patch\n*** Update File: a\n x\n-y\n*** End Patch"
    assert parse(text) == (UpdateFile("a", (Chunk((), (Line(" ", "x"), Line("-", "y"))),)),)


def test_ranges_of_a_unified_diff_are_no_text_to_seek() -> None:
    """Of `@@ -1,2 +3 @@ def f` only `def f` is sought; other text with `@@` in it stays whole."""
    text = (
        "*** Begin Patch\n*** Update File: a\n@@ -1,2 +3 @@ def f\n-x\n@@ -1 +1,9 @@\n-x\n"
        "@@ a @@ b\n-x\n*** End Patch"
    )
    update = parse(text)[0]
    assert isinstance(update, UpdateFile)
    assert [chunk.sections for chunk in update.chunks] == [("def f",), (), ("a @@ b",)]


def test_carriage_returns_of_content_are_content() -> None:
    """In a patch whose markers end in LF a CR belongs to the file's line."""
    text = "*** Begin Patch\n*** Add File: a.bat\n+dir\r\n*** End Patch"
    assert parse(text) == (AddFile("a.bat", ("dir\r",)),)


def test_a_padded_header_inside_an_update_is_a_context_line() -> None:
    """A file that holds patch markers can be patched: indented markers are context."""
    text = "*** Begin Patch\n*** Update File: a\n@@\n *** Add File: x\n-y\n*** End Patch"
    update = parse(text)[0]
    assert isinstance(update, UpdateFile)
    assert update.chunks[0].lines[0] == Line(" ", "*** Add File: x")


PIECES = [
    "*** Begin Patch",
    "*** End Patch",
    "*** Add File: a",
    "*** Delete File: b",
    "*** Update File: c",
    "*** Move to: d",
    "*** End of File",
    "*** Other",
    "@@",
    "@@ x",
    "@@ -1 +1 @@",
    "+x",
    "-x",
    " x",
    "x",
    "",
    " ",
    "apply_patch",
    "<<EOF",
    "EOF",
    "\r",
    "\ud800",
    "\0",
    "é\u2028",
]


@given(st.lists(st.sampled_from(PIECES)).map("\n".join) | st.text())
@example("apply_patch\n" * 5000)
@example("<<EOF\n" * 5000 + "EOF")
def test_any_text_gives_operations_or_a_patch_error(text: str) -> None:
    """Parsing never raises anything but PatchError."""
    try:
        operations = parse(text)
    except PatchError:
        return
    assert operations


@given(st.lists(st.sampled_from(PIECES[2:18]), min_size=1))
def test_any_framed_text_gives_operations_or_a_patch_error(body: list[str]) -> None:
    """The same inside of the markers, where it gets further."""
    text = "\n".join(["*** Begin Patch", *body, "*** End Patch"])
    with contextlib.suppress(PatchError):
        assert parse(text)

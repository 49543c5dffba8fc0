"""Outputs that are cut: head and tail are shown, and the whole is a file that can be read by range."""

import asyncio
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from backstay.core.events import Result
from backstay.errors import StorageError
from backstay.tools.commands import Commands
from backstay.tools.effects import Piece, Spooled
from backstay.tools.exec_command import ExecCommand, Shell
from backstay.tools.shell import excerpt
from backstay.tools.tool import LARGEST, Invocation, bounded, too_large
from backstay.tools.whole import whole

ENV = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}


class Shelf:
    """Keeps what is cut in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, content: bytes) -> str:
        path = self.folder / hashlib.sha256(content).hexdigest()
        path.write_bytes(content)
        return str(path)

    def one(self) -> bytes:
        """The one file that there is."""
        (path,) = self.folder.iterdir()
        return path.read_bytes()


def run(tmp_path: Path, shelf: Shelf, **arguments: object) -> Result:
    """The result of one command."""

    async def main() -> Result:
        commands = Commands(str(tmp_path))
        tool = ExecCommand(Shell(commands, "s", "/", ENV, shelf.keep))
        item = {"type": "function_call", "name": tool.name, "arguments": json.dumps(arguments)}
        result = await tool.run(Invocation(4, item, "s-4"))
        await commands.end()
        await commands.close()
        return result

    return asyncio.run(main())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty folder of files."""
    (tmp_path / "kept files").mkdir()
    return Shelf(tmp_path / "kept files")


def test_whole_of_a_cut_output_can_be_read(tmp_path: Path, shelf: Shelf) -> None:
    """The line says where, how many lines and bytes, and its example is a command that works."""
    result = run(tmp_path, shelf, cmd="seq 1000", max_output_tokens=100)
    lines = "".join(f"{number}\n" for number in range(1, 1001))
    text = str(result.content)
    head, _, shown = text.partition("Output:\n")
    assert "Original token count: 973\n" in head
    assert f"1000 lines and {len(lines)} bytes, is in {shelf.folder}" in head
    assert shelf.one() == lines.encode()
    assert shown.startswith("1\n2\n3\n")
    assert shown.endswith("999\n1000\n")
    assert f"… {len(lines) - 400} bytes left out …" in shown
    example = head.partition("e.g. ")[2].strip()
    found = subprocess.run(["sh", "-c", example], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [str(number) for number in range(200, 401)]
    assert result.whole == [path.name for path in shelf.folder.iterdir()]


def test_output_that_fits_is_not_kept_twice(tmp_path: Path, shelf: Shelf) -> None:
    """No file, no line."""
    result = run(tmp_path, shelf, cmd="seq 10")
    assert "whole" not in str(result.content)
    assert result.whole == []
    assert list(shelf.folder.iterdir()) == []


def test_terminals_output_is_kept_as_text(tmp_path: Path, shelf: Shelf) -> None:
    """What can be read by range is what is shown: without control sequences."""
    cmd = "for i in $(seq 300); do printf '\\033[1mbold\\033[0m %s\\n' $i; done"
    result = run(tmp_path, shelf, cmd=cmd, max_output_tokens=100, tty=True)
    expected = "".join(f"bold {number}\n" for number in range(1, 301))
    assert shelf.one() == expected.encode()
    assert "\x1b" not in str(result.content)
    assert "bold 300\n" in str(result.content)


def test_what_was_never_kept_is_said(tmp_path: Path, shelf: Shelf) -> None:
    """Beyond the spool's size the middle is lost: text and file say how much, and where."""
    result = run(tmp_path, shelf, cmd="seq 800000", yield_time_ms=30_000)
    kept = shelf.one()
    total = sum(len(str(number)) + 1 for number in range(1, 800_001))
    mark = next(line for line in kept.split(b"\n") if "…".encode() in line)
    missing = int(mark.split()[1])
    assert mark.decode() == f"… {missing} bytes were not kept …"
    assert len(kept) - len(mark) - 2 == total - missing
    assert f"(without {missing} bytes in its middle, which were not kept)" in str(result.content)
    assert f"… {total - 40_000} bytes left out …" in str(result.content)


def test_disk_that_has_no_room_is_not_the_outputs_end(tmp_path: Path) -> None:
    """Head and tail are shown all the same, and the line says why there is no file."""

    def keep(content: bytes) -> str:
        raise StorageError(f"no room for {len(content)} bytes")

    data = b"line\n" * 100
    shown = excerpt(Spooled(0, 500, (Piece(0, data),)), 100, keep=keep)
    assert shown.text.startswith("line\n")
    assert shown.whole.line.endswith("could not be kept: no room for 500 bytes")
    assert shown.whole.digests == []


def test_characters_are_not_cut_in_two() -> None:
    """Head and tail end and begin with whole characters."""
    data = "\N{EURO SIGN}".encode() * 100
    for most in range(20, 32):
        shown = excerpt(Spooled(0, 300, (Piece(0, data),)), most)
        head, between, tail = shown.text.split("\n")
        assert {*head, *tail} == {"\N{EURO SIGN}"}
        assert between == f"… {300 - 3 * len(head + tail)} bytes left out …"
        assert len(head) == len(tail) == most // 2 // 3


def test_long_lines_are_read_by_bytes(shelf: Shelf) -> None:
    """A range of lines is no use where a line is longer than an output may be."""
    line = whole(b"x" * 100_000, shelf.keep).line
    example = line.partition("e.g. ")[2]
    assert "1 line and 100000 bytes" in line
    found = subprocess.run(["sh", "-c", example], capture_output=True, check=True)
    assert len(found.stdout) == 20_000


def test_result_of_a_users_tool_is_kept_whole(shelf: Shelf) -> None:
    """Each text that is too large for a request is kept, and says where; others are left alone."""
    long = "begin" + "é" * LARGEST + "end"
    small = bounded(Result(content="x" * LARGEST), shelf.keep)
    assert not too_large(small)
    assert small.content == "x" * LARGEST
    parts = [{"type": "input_text", "text": "short"}, {"type": "input_text", "text": long}]
    assert too_large(Result(content=parts))
    result = bounded(Result(content=parts), shelf.keep)
    assert isinstance(result.content, list)
    first, second = result.content
    assert first["text"] == "short"
    assert f"is in {shelf.folder}" in second["text"]
    assert len(second["text"]) < LARGEST + 500
    assert shelf.one() == long.encode()
    assert result.whole == [path.name for path in shelf.folder.iterdir()]

"""Journals of real runs, damaged as disks, crashes and editors do it, and resumed."""

import json
import os
import shutil
from collections.abc import Callable, Iterator

import pytest

from backstay.chaos import custom_call, message, response
from tests.process.agent import Bench

pytestmark = pytest.mark.processes

PATCH = "*** Begin Patch\n*** Add File: new.txt\n+made by the patch\n*** End Patch"
Lines = list[bytes]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A session that has run two commands, a patch, and two turns; each test takes a copy."""
    root = tmp_path_factory.mktemp("life")
    home = root / "home"
    home.mkdir(mode=0o700)
    with Bench(root, home) as bench:
        bench.serve(
            response(bench.command("one"), bench.command("two")),
            response(custom_call("apply_patch", PATCH)),
            response(message("first")),
            response(message("second")),
        )
        assert bench.exec("go").end().code == 0
        assert bench.resume("and on").end().code == 0
        yield bench


@pytest.fixture
def lines(life: Bench, bench: Bench) -> Lines:
    """The lines of the journal of that session, which is in the bench's home now."""
    shutil.copytree(life.home, bench.home, dirs_exist_ok=True)
    bench.ledger = life.ledger
    return bench.journal.read_bytes().splitlines(keepends=True)


def place(lines: Lines, kind: str, nth: int = 0) -> int:
    """The index of the nth line of that kind."""
    return [index for index, line in enumerate(lines) if json.loads(line)["k"] == kind][nth]


def go_on(bench: Bench, damaged: bytes) -> str:
    """Put the bytes in the journal's place and resume; what it said on stderr."""
    bench.journal.write_bytes(damaged)
    bench.serve(response(message("done")), response(message("and done")))
    ended = bench.resume("more").end()
    assert (ended.code, ended.out) == (0, "done\n"), ended.err
    assert bench.turns()[-1] == "completed"
    assert bench.journal.read_bytes().startswith(damaged)
    assert bench.runs("one") == bench.runs("two") == 1
    again = bench.resume("once more").end()
    assert again.code == 0
    assert "damaged" not in again.err
    bench.check()
    return ended.err


def doubled_output(lines: Lines) -> Lines:
    """An output stands there twice."""
    at = place(lines, "output")
    return [*lines[: at + 1], *lines[at:]]


def repeated_tail(lines: Lines) -> Lines:
    """The whole second half was written once more."""
    return [*lines, *lines[len(lines) // 2 :]]


def torn_end(lines: Lines) -> Lines:
    """The last line was cut off."""
    return [*lines[:-1], lines[-1][:40]]


def torn_and_written_again(lines: Lines) -> Lines:
    """A line was cut off, and came again on the same line."""
    at = place(lines, "output")
    return [*lines[:at], lines[at][:50], *lines[at:]]


def zeros_at_the_end(lines: Lines) -> Lines:
    """The file ends in a block of zeros."""
    return [*lines, bytes(4096)]


def swapped(lines: Lines) -> Lines:
    """A call and its output changed places."""
    lines = list(lines)
    one, other = place(lines, "call"), place(lines, "output")
    lines[one], lines[other] = lines[other], lines[one]
    return lines


def no_header(lines: Lines) -> Lines:
    """The first line is gone."""
    return lines[1:]


def torn_header(lines: Lines) -> Lines:
    """Half of the first line is gone."""
    return [lines[0][60:], *lines[1:]]


def rotten_note(lines: Lines) -> Lines:
    """A bit of a record that nobody needs has flipped."""
    lines = list(lines)
    at = place(lines, "attempt_end")
    lines[at] = lines[at].replace(b"completed", b"complated", 1)
    return lines


def foreign_lines(lines: Lines) -> Lines:
    """Somebody has written into the file."""
    return [*lines[:3], b"hello\n", b'{"k":"output"}\n', b"\n\n", *lines[3:]]


HARMLESS = [
    doubled_output,
    repeated_tail,
    torn_end,
    torn_and_written_again,
    zeros_at_the_end,
    swapped,
    no_header,
    torn_header,
    rotten_note,
    foreign_lines,
]


@pytest.mark.parametrize("damage", HARMLESS, ids=lambda damage: damage.__name__)
def test_damage_that_costs_no_call_changes_nothing_that_the_model_is_sent(
    bench: Bench, lines: Lines, damage: Callable[[Lines], Lines]
) -> None:
    """Every call has its true output still; the damage is told once, and the session goes on."""
    err = go_on(bench, b"".join(damage(lines)))
    assert "the journal is damaged: " in err
    one, two, patch = bench.sent()
    assert one.endswith("one-output\n")
    assert two.endswith("two-output\n")
    assert patch.startswith("Success.")


def test_output_whose_call_is_lost_is_told_as_a_message(bench: Bench, lines: Lines) -> None:
    """An orphan is no output any more, but what it says is not lost."""
    del lines[place(lines, "call")]
    assert "missing" in go_on(bench, b"".join(lines))
    assert len(bench.sent()) == 2
    told = [item for item in bench.inputs()[-1] if item.get("role") == "developer"]
    assert any("one-output" in str(item) for item in told)


@pytest.mark.parametrize("nth", [0, 1, 2], ids=["one", "two", "patch"])
def test_lost_output_of_a_call_is_found_again(bench: Bench, lines: Lines, nth: int) -> None:
    """The effect itself still says how it ended: the true output is back."""
    del lines[place(lines, "output", nth)]
    assert "missing" in go_on(bench, b"".join(lines))
    assert bench.statuses() == ["done"] * 3
    assert ("one-output", "two-output", "Success.")[nth] in bench.sent()[nth]


@pytest.mark.parametrize("nth", [0, 2], ids=["command", "patch"])
@pytest.mark.parametrize("how", ["removed", "zeroed"])
def test_call_without_start_and_output_is_not_said_to_be_unstarted(
    bench: Bench, lines: Lines, how: str, nth: int
) -> None:
    """Where records are missing, a missing start is no proof: it is found out, or unknown."""
    lost = {place(lines, "start", nth), place(lines, "output", nth)}
    holes = [
        b"" if how == "removed" else bytes(len(line) - 1) + b"\n"
        for index, line in enumerate(lines)
        if index in lost
    ]
    kept = [holes.pop(0) if index in lost else line for index, line in enumerate(lines)]
    go_on(bench, b"".join(kept))
    assert len(bench.sent()) == 3
    if nth == 2:
        assert "verify before repeating" in bench.sent()[2]
    else:
        assert bench.sent()[0].endswith("one-output\n")


def test_zeros_in_the_middle_cost_only_what_they_cover(bench: Bench, lines: Lines) -> None:
    """A block of zeros over the first answer: both commands are settled, what follows is kept."""
    whole = b"".join(lines)
    begin = len(b"".join(lines[: place(lines, "call") + 1]))
    end = len(b"".join(lines[: place(lines, "attempt", 1)]))
    go_on(bench, whole[:begin] + bytes(end - begin) + whole[end:])
    assert bench.sent()[-1].startswith("Success.")
    assert "two-output" in str(bench.inputs()[-1]) or len(bench.sent()) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b" \n\n\t\n", b'{"k":"session","n":1,"t":17', bytes(8192)],
    ids=["empty", "blank", "one torn line", "zeros"],
)
def test_file_without_a_whole_record_is_nothing_to_resume(
    bench: Bench, lines: Lines, content: bytes
) -> None:
    """One clear line, exit 3, and the file stays as it is."""
    session, journal = bench.session, bench.journal
    bench.serve(response(message("done")))
    journal.write_bytes(content)
    ended = bench.exec("resume", session, "more").end()
    assert ended.code == 3
    assert "nothing to resume" in ended.one_line()
    assert journal.read_bytes() == content
    assert bench.server.requests == []


def test_torn_end_of_a_killed_run_is_resumed(bench: Bench) -> None:
    """A kill and half a line together: the turn is finished, the command has run once."""
    bench.serve(bench.held(bench.command("one")), response(message("done")))
    agent = bench.exec("go")
    bench.wait(bench.outputs, "the output is recorded")
    agent.kill()
    lines = bench.journal.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["k"] == "output"
    os.truncate(bench.journal, bench.journal.stat().st_size - 30)
    ended = bench.resume().end()
    assert ended.code == 0, ended.err
    assert "damaged" in ended.err
    assert bench.sent()[0].endswith("one-output\n")
    assert bench.runs("one") == 1
    bench.check()

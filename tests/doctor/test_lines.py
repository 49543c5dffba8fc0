"""Lines of damaged files: each with its place, what is wrong, and its object where there is one."""

import subprocess
import sys
from pathlib import Path

import pytest

from backstay.doctor.lines import lines, lines_of
from backstay.doctor.rollout import entries, find_rollouts, thread_id
from backstay.errors import StorageError
from tests.doctor.rollouts import ID, NAME

ONE = b'{"timestamp":"t","type":"event_msg","payload":{"type":"x","s":"a"}}'
TWO = ONE.replace(b'"a"', b'"b"')


@pytest.mark.parametrize(
    "body, found",
    [
        (b"", []),
        (ONE + b"\n", [("", True)]),
        (ONE + b"\r\n", [("", True)]),
        (ONE, [("torn", True)]),
        (ONE[:40], [("torn", False)]),
        (ONE[:40] + TWO + b"\n", [("torn", False), ("", True)]),
        (ONE + TWO + b"\n", [("", True), ("", True)]),
        (ONE + TWO, [("", True), ("torn", True)]),
        (ONE.replace(b'"a"', b'"%s"' % (b"a" * 3_000_000)) + b"\n" + TWO + b"\n", [("", True)] * 2),
        (b"\0" * 600 + ONE + b"\n", [("zeros", True)]),
        (ONE + b"\n" + b"\0" * 5000, [("", True), ("zeros", False)]),
        (ONE.replace(b'"a"', b'"a\0b"') + b"\n", [("zeros", True)]),
        (ONE.replace(b'"a"', b'"\xff"') + b"\n", [("utf8", True)]),
        (ONE.replace(b'"a"', b'"\\ud800"') + b"\n", [("utf8", True)]),
        (ONE.replace(b'"a"', b"1e999") + b"\n", [("json", True)]),
        (ONE.replace(b'"a"', b"9" * 6000) + b"\n", [("json", True)]),
        (ONE.replace(b'"a"', b"[" * 100_000) + b"\n", [("json", False)]),
        (b"\xef\xbb\xbf" + ONE + b"\n", [("json", True)]),
        (b"[1]\n", [("not_object", False)]),
        (b"nonsense\n", [("json", False)]),
        (b" \n", [("empty", False)]),
    ],
)
def test_what_is_wrong_with_a_line(body: bytes, found: list[tuple[str, bool]]) -> None:
    """Whatever the bytes are, there is an answer, and an object wherever one can be read."""
    assert [(one.problem, one.value is not None) for one in lines_of(body)] == found


@pytest.mark.parametrize("longest", [50, 200])
def test_the_places_cover_the_file(longest: int) -> None:
    """Offsets and lengths stand without gap or overlap, whatever is wrong."""
    body = ONE + TWO[:30] + ONE + b"\n\n" + b"\0" * 100 + b"\n" + b"x" * 300 + b"\n" + TWO
    at = 0
    for one in lines_of(body, longest=longest):
        assert one.offset == at
        at += one.length
    assert at == len(body)


def test_a_value_can_be_encoded() -> None:
    """A lone surrogate, escaped or not, is replaced: whoever writes the value on never fails."""
    (one,) = lines_of(ONE.replace(b'"a"', b'"\\ud800x"') + b"\n")
    assert one.value is not None
    assert one.value["payload"]["s"] == "\ufffdx"


def test_a_line_too_long_costs_no_memory(tmp_path: Path) -> None:
    """A line of 600 MB, and after it one that is read, within 200 MB of address space."""
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.truncate(600 * 1024 * 1024)
        file.seek(0, 2)
        file.write(b"\n" + ONE + b"\n")
    script = (
        "import resource, sys\n"
        "from backstay.doctor.lines import lines\n"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"found = [(one.problem, one.value is not None) for one in lines({str(path)!r}, longest=2**20)]\n"
        "print(found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 50_000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[('long', False), ('', True)] True"


def test_a_file_that_is_not_there() -> None:
    """The error is the storage's, and says which file."""
    with pytest.raises(StorageError, match="nowhere"):
        list(lines("/nowhere.jsonl"))
    with pytest.raises(StorageError):
        list(lines("a\0b"))


def test_old_shapes_become_entries() -> None:
    """Before there were envelopes the header and the items stood bare."""
    body = (
        b'{"id":"x","timestamp":"t","instructions":null}\n'
        b'{"record_type":"state"}\n'
        b'{"type":"message","role":"user","content":[]}\n'
        b'{"created_at":"t","role":"assistant","content":"hi"}\n'
        b'{"type":"response_item","payload":[]}\n'
        b'{"type":"thread.started","thread_id":"x"}\n'
    )
    found = [(one.type, one.payload.get("role")) for one in entries(lines_of(body))]
    assert found == [
        ("session_meta", None),
        ("state", None),
        ("response_item", "user"),
        ("response_item", "assistant"),
        ("response_item", None),
        ("thread.started", None),
    ]


def test_rollouts_of_a_home_are_found(tmp_path: Path) -> None:
    """Those of days and archived ones; neither what a repair wrote beside nor other files."""
    day = tmp_path / "sessions/2026/01/02"
    day.mkdir(parents=True)
    (tmp_path / "archived_sessions").mkdir()
    for path in (day / NAME, day / "notes.jsonl", tmp_path / "archived_sessions" / NAME):
        path.touch()
    (day / NAME.replace(".jsonl", ".repaired.jsonl")).touch()
    assert find_rollouts(str(tmp_path)) == [
        str(day / NAME),
        str(tmp_path / "archived_sessions" / NAME),
    ]
    assert find_rollouts("/nowhere") == []
    assert thread_id(str(day / NAME)) == ID
    assert thread_id("rollout-x.jsonl") == ""

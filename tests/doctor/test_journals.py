"""What the doctor finds in Backstay's own sessions, and that most of it is resume's to deal with."""

from pathlib import Path

import pytest

from backstay.core.record import Prompt
from backstay.doctor.findings import Findings
from backstay.doctor.journals import check
from tests.journal.homes import command, done, head, put
from tests.journal.sample import BASIS


def found_in(folder: Path, **how: bool) -> dict[str, int]:
    """The codes and how often."""
    found = Findings()
    check(str(folder), found, **how)
    return found.counts


@pytest.fixture
def folder(home: Path) -> Path:
    """A session with a turn and a call that is answered."""
    prompt = Prompt(n=2, id="x", cwd="/place", basis=BASIS, items=[], model="m")
    return put(home, [head(), prompt, command(3, 2, "ls"), done(4, 3)])


def test_a_sound_session(folder: Path) -> None:
    """Nothing is found."""
    assert found_in(folder) == {}


def test_an_open_call_is_a_note(home: Path) -> None:
    """Resuming settles it; while somebody runs it, it is not even that."""
    folder = put(home, [head(), command(2, 1, "ls")])
    found = Findings()
    check(str(folder), found)
    assert found.counts == {"call-without-output": 1}
    assert not found.damaged
    assert found_in(folder, running=True) == {}


@pytest.mark.parametrize(
    "damage, code",
    [
        (b'{"k":"output","n"', "torn-line"),
        (b"\0" * 512, "nul-block"),
        (b"junk\n", "invalid-json"),
    ],
)
def test_a_damaged_tail(damage: bytes, code: str, folder: Path) -> None:
    """With its line and byte; the rest of the journal is whole."""
    journal = folder / "journal.jsonl"
    size = journal.stat().st_size
    with journal.open("ab") as file:
        file.write(damage)
    found = Findings()
    check(str(folder), found)
    first = next(one for one in found.kept if one.code == code)
    assert (first.line, first.offset) == (5, size)
    assert found.damaged


def test_a_record_that_was_changed(folder: Path) -> None:
    """Its checksum tells."""
    journal = folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'\\"ls\\"', b'\\"rm\\"'))
    assert "wrong-checksum" in found_in(folder)


def test_lines_that_are_gone(folder: Path) -> None:
    """A record that was taken out is missed, and so is the header."""
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert "lost-record" in found_in(folder)
    journal.write_bytes(b"".join(lines[1:]))
    assert "missing-header" in found_in(folder)


def test_a_blob_that_is_gone(home: Path) -> None:
    """It is named."""
    folder = put(home, [head()])
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"$blob":"' + b"a" * 64 + b'","bytes":1}\n')
    assert "missing-blob" in found_in(folder)
    (home / "blobs").mkdir()
    (home / "blobs" / ("a" * 64)).touch()
    assert "missing-blob" not in found_in(folder)


def test_nothing_to_read(home: Path) -> None:
    """An empty journal, and one that is gone."""
    folder = put(home, [head()])
    (folder / "journal.jsonl").write_bytes(b"")
    assert found_in(folder) == {"empty-file": 1}
    (folder / "journal.jsonl").unlink()
    assert found_in(folder) == {"unreadable-file": 1}

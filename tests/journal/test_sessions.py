"""Finding sessions: by id, by prefix, by folder, and in a listing."""

import os
from pathlib import Path

import pytest

from backstay.core.record import Compaction, Known, Late, Note, Repair, Session, TurnEnd
from backstay.errors import UnknownSession, UsageError
from backstay.journal import PosixDisk, find, last, list_sessions, session_folder, uuid7
from backstay.journal.folders import make_folder
from backstay.journal.sessions import Entry
from tests.journal.sample import BASIS, CountingDisk, header, lines, prompt, turn

DISK = PosixDisk()
DAY = 86_400.0
FIRST = 1_760_000_000.0


def put(home: Path, made: float, content: bytes, active: float, seed: int = 0) -> str:
    """A session made at some time, last active at another; its id."""
    session = uuid7(made, bytes([seed] * 10))
    folder = session_folder(str(home), session)
    make_folder(DISK, folder)
    path = Path(folder, "journal.jsonl")
    path.write_bytes(content)
    os.utime(path, (active, active))
    return session


def content(*records: Known) -> bytes:
    """A journal of these records."""
    return b"".join(lines(records))


def end(n: int, outcome: str) -> TurnEnd:
    """The end of a turn."""
    return TurnEnd(n=n, turn=2, outcome=outcome)  # type: ignore[arg-type]


def entries(home: Path) -> list[Entry]:
    """The listing of a home."""
    return list_sessions(DISK, str(home))


def test_a_home_without_sessions_has_none(home: Path) -> None:
    """Nothing there is an empty list, whether the folder exists or not."""
    assert entries(home) == []
    assert entries(home / "missing") == []
    assert last(DISK, str(home)) is None


def test_the_last_active_comes_first(home: Path) -> None:
    """The order is that of the last change, not that of the start."""
    old = put(home, FIRST, content(header()), FIRST + 9 * DAY)
    new = put(home, FIRST + 40 * DAY, content(header()), FIRST + 2 * DAY)
    assert [entry.id for entry in entries(home)] == [old, new]


def test_an_entry_tells_what_a_person_wants_to_know(home: Path) -> None:
    """Id, folder, times, the first prompt on one line, and how it ended."""
    head = Session(n=1, t=FIRST + 1, id="x", cwd="/place/ü", basis=BASIS)
    asked = prompt(2, "  fix\n\tthe   bug 🙂" + "x" * 1000)
    session = put(home, FIRST, content(head, asked, end(3, "completed")), FIRST + 5)
    (entry,) = entries(home)
    assert (entry.id, entry.cwd, entry.ended) == (session, "/place/ü", "completed")
    assert (entry.started, entry.active) == (FIRST + 1, FIRST + 5)
    assert entry.prompt.startswith("fix the bug 🙂xxx")
    assert len(entry.prompt) == 300
    assert entry.path == session_folder(str(home), session)


def test_the_prompt_is_the_users_own(home: Path) -> None:
    """What was put in front of the user's words (instructions, environment) is not shown."""
    asked = prompt(2, "my words")
    asked.items.insert(0, {"role": "user", "content": "<environment>"})
    asked.items.append({"role": "developer", "content": "context"})
    put(home, FIRST, content(header(), asked), FIRST)
    assert entries(home)[0].prompt == "my words"


ENDINGS: list[tuple[list[Known], str]] = [
    ([header()], "empty"),
    ([header(), *turn(2)], "completed"),
    ([header(), *turn(2)[:-1]], "cut"),
    ([header(), prompt(2)], "cut"),
    ([header(), prompt(2), end(3, "failed")], "failed"),
    ([header(), prompt(2), end(3, "interrupted"), Note(n=4, topic="x")], "interrupted"),
    ([header(), prompt(2), end(3, "failed"), Repair(n=4, action="damage", reason="")], "failed"),
    ([header(), prompt(2), end(3, "completed"), Late(n=4, call=1, item={})], "completed"),
    ([header(), *turn(2), Compaction(n=11, id="", cwd="", basis=BASIS, items=[])], "cut"),
]


@pytest.mark.parametrize("records, ended", ENDINGS)
def test_how_it_ended(home: Path, records: list[Known], ended: str) -> None:
    """The last record that says anything about a turn decides."""
    put(home, FIRST, content(*records), FIRST)
    assert [entry.ended for entry in entries(home)] == [ended]


@pytest.mark.parametrize(
    "journal, ended",
    [
        (b"", "empty"),
        (b"\0" * 5000, "empty"),
        (content(header(), *turn(2)) + b'{"k":"pro', "completed"),
        (content(header(), *turn(2)) + b"\0" * 100_000, "completed"),
        (content(header(), *turn(2)) + b"\0" * 5_000_000, "cut"),
        (content(*turn(2)), "completed"),
    ],
    ids=["nothing", "zeros", "torn", "short zeros", "long zeros", "no header"],
)
def test_damaged_sessions_are_listed(home: Path, journal: bytes, ended: str) -> None:
    """Damage hides no session."""
    put(home, FIRST, journal, FIRST)
    (entry,) = entries(home)
    assert entry.ended == ended
    assert entry.cwd == ("" if ended == "empty" else "/place")


def test_a_session_without_a_journal_is_empty(home: Path) -> None:
    """So is a folder in the place of the journal unreadable; neither stops the listing."""
    session = put(home, FIRST, b"", FIRST)
    other = put(home, FIRST, b"", FIRST, seed=1)
    for one in (session, other):
        Path(session_folder(str(home), one), "journal.jsonl").unlink()
    Path(session_folder(str(home), other), "journal.jsonl").mkdir()
    assert sorted(entry.ended for entry in entries(home)) == ["empty", "unreadable"]
    assert last(DISK, str(home)) is None


@pytest.mark.parametrize("size, shown", [(100_000, "fix the bug"), (3_000_000, "")])
def test_a_prompt_far_behind_the_header(home: Path, size: int, shown: str) -> None:
    """It is looked for in the first two megabytes, and no further."""
    put(home, FIRST, content(header()) + bytes(size) + b"\n" + content(*turn(2)), FIRST)
    (entry,) = entries(home)
    assert (entry.prompt, entry.cwd, entry.ended) == (shown, "/place", "completed")


def test_a_listing_reads_heads_and_tails(home: Path) -> None:
    """Of a session of 20 MB less than 100 KB are read."""
    middle = content(*(prompt(n, "x" * 4000) for n in range(10, 5000)))
    put(home, FIRST, content(header(), *turn(2)) + middle + content(end(9000, "failed")), FIRST)
    disk = CountingDisk()
    (entry,) = list_sessions(disk, str(home))
    assert (entry.prompt, entry.ended) == ("fix the bug", "failed")
    assert disk.file.read_bytes < 100 * 1024


def test_other_files_are_passed_over(home: Path) -> None:
    """What is not named like a session is none."""
    session = put(home, FIRST, content(header(), prompt(2)), FIRST)
    day = Path(session_folder(str(home), session)).parent
    (day / "notes").mkdir()
    (day / "file.txt").touch()
    (day / ("x" * 36)).mkdir()
    (home / "sessions" / "archive").mkdir()
    (home / "sessions" / "2024").touch()
    assert [entry.id for entry in entries(home)] == [session]


def test_a_session_is_found_by_its_id(home: Path) -> None:
    """In full or by its beginning, in any case of letters, also in another day's folder."""
    session = put(home, FIRST, content(header()), FIRST)
    path = session_folder(str(home), session)
    for name in (session, session[:8], session[:9], session[:20], session.upper(), f" {session}\n"):
        assert find(DISK, str(home), name) == path
    moved = home / "sessions" / "2001" / "01" / "01"
    moved.mkdir(parents=True)
    Path(path).rename(moved / session)
    assert find(DISK, str(home), session) == str(moved / session)


def test_a_prefix_of_several_is_ambiguous(home: Path) -> None:
    """Two sessions that begin alike are not chosen between."""
    one = put(home, FIRST, b"", FIRST, seed=1)
    two = put(home, FIRST, b"", FIRST, seed=2)
    assert one[:12] == two[:12]
    with pytest.raises(UsageError, match="2 sessions begin with"):
        find(DISK, str(home), one[:12])
    assert find(DISK, str(home), one) != find(DISK, str(home), two)


@pytest.mark.parametrize(
    "name",
    ["", "0199", "../../../../etc", "0199c82c/../..", "zzzzzzzz", "\n\x1b[31m", "0" * 1000,
     "01990000", uuid7(FIRST, bytes(10)), "0199c82c-"],
)  # fmt: skip
def test_what_is_no_session_is_unknown(home: Path, name: str) -> None:
    """One line says so, whatever was given, and no path is followed."""
    put(home, FIRST + DAY, b"", FIRST)
    with pytest.raises(UnknownSession) as caught:
        find(DISK, str(home), name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_the_last_session_of_a_folder(home: Path) -> None:
    """Of any folder or of one; sessions with nothing to resume are passed over."""
    here = header()
    here.cwd = "/here"
    old = put(home, FIRST, content(here, prompt(2)), FIRST)
    new = put(home, FIRST + 1, content(header(), prompt(2)), FIRST + 1)
    put(home, FIRST + 2, b"", FIRST + 2)
    put(home, FIRST + 3, content(header()), FIRST + 3)
    assert last(DISK, str(home)) == session_folder(str(home), new)
    assert last(DISK, str(home), "/here") == session_folder(str(home), old)
    assert last(DISK, str(home), "/place") == session_folder(str(home), new)
    assert last(DISK, str(home), "/nowhere") is None

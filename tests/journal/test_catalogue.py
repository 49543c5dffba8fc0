"""The catalogue: what it says is what the journals say, whatever became of its own file."""

import fcntl
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from backstay.core.record import Compaction
from backstay.core.usage import Usage
from backstay.journal import PosixDisk, list_sessions
from backstay.journal.catalogue import FILE, LOCK, VERSION, Catalogue, Hit, Spent, forget, use
from backstay.journal.label import Label, write_label
from backstay.journal.place import Place
from backstay.journal.sessions import Entry
from tests.journal.homes import command, head, patch, put, turn
from tests.journal.sample import BASIS

EVERYWHERE = Place()


class Seen:
    """What the catalogue of a home says, and what it said beside that."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.warnings: list[str] = []
        self.patience = 5.0
        self.read: list[int] = []
        """How many sessions each reading was told to be of."""

    def entries(self, place: Place = EVERYWHERE, limit: int = 0) -> list[Entry]:
        """The listing, brought up to date."""

        def work(catalogue: Catalogue) -> list[Entry]:
            catalogue.update(self._told)
            return catalogue.entries(place, limit)[0]

        return use(str(self.home), work, self.warnings.append, patience=self.patience)

    def ids(self, place: Place = EVERYWHERE) -> list[str]:
        """The ids of the listing."""
        return [entry.id for entry in self.entries(place)]

    def hits(self, words: str, place: Place = EVERYWHERE, limit: int = 0) -> list[Hit]:
        """A search, everything read first."""

        def work(catalogue: Catalogue) -> list[Hit]:
            catalogue.update(self._told)
            catalogue.read_whole(self._told)
            return catalogue.search(words, place, limit)

        return use(str(self.home), work, self.warnings.append)

    def spent(self, session: str) -> Spent:
        """What a session has used."""

        def work(catalogue: Catalogue) -> Spent:
            catalogue.update(self._told)
            catalogue.read_whole(self._told, [session])
            return catalogue.spent([session])[session]

        return use(str(self.home), work, self.warnings.append)

    def _told(self, done: int, count: int) -> None:
        if done == 1:
            self.read.append(count)


@pytest.fixture
def seen(home: Path) -> Seen:
    """A home with three sessions in two folders, and its catalogue, not made yet."""
    put(home, [head("/a"), *turn(2, "fix the parser", "The parser is fixed.")], 1)
    put(home, [head("/b"), *turn(2, "look around", cmd="grep -rn parser .")], 2)
    put(home, [head("/a"), *turn(2, "an ünusual wish", "no")[:3]], 3)
    return Seen(home)


def test_it_lists_what_the_files_say(seen: Seen) -> None:
    """The same entries in the same order as reading every session."""
    assert seen.entries() == list_sessions(PosixDisk(), str(seen.home))
    assert seen.entries() == list_sessions(PosixDisk(), str(seen.home))
    assert [entry.ended for entry in seen.entries()] == ["cut", "completed", "completed"]


def test_it_lists_a_place(seen: Seen) -> None:
    """One folder's sessions, the archived ones or the others, at most so many."""
    newest, other, oldest = seen.ids()
    assert seen.ids(Place("/a")) == [newest, oldest]
    assert [entry.id for entry in seen.entries(limit=2)] == [newest, other]
    write_label(PosixDisk(), seen.entries()[2].path, Label("Old one", archived=True))
    assert seen.ids() == [newest, other]
    (archived,) = seen.entries(Place("/a", archived=True))
    assert (archived.id, archived.name, archived.archived) == (oldest, "Old one", True)


def test_only_what_changed_is_read_again(seen: Seen) -> None:
    """Nothing for an unchanged home; one session that grew, was labelled, came or went."""
    seen.entries()
    assert seen.read == [3]
    entries = seen.entries()
    assert seen.read == [3]
    with open(f"{entries[0].path}/journal.jsonl", "ab") as file:
        file.write(b"x\n")
    write_label(PosixDisk(), entries[1].path, Label("new title"))
    assert "new title" in [entry.name for entry in seen.entries()]
    put(seen.home, [head()], 9)
    shutil.rmtree(entries[2].path)
    ids = seen.ids()
    assert seen.read == [3, 2, 1]
    assert entries[2].id not in ids
    assert len(ids) == 3


def test_a_search_finds_prompts_answers_commands_and_files(seen: Seen) -> None:
    """Ranked: what was asked for comes before what was run; the turn and a snippet are told."""
    text = "*** Begin Patch\n*** Update File: src/lexer.py\n+x\n*** End Patch"
    extra = [
        *turn(2, "first"),
        *turn(10, "second")[:2],
        patch(12, 11, text),
        command(13, 11, "make"),
    ]
    third = put(seen.home, [head("/c"), *extra], 4)
    first, second = seen.hits("parser")
    assert (first.entry.cwd, second.entry.cwd) == ("/a", "/b")
    assert "\x02parser\x03" in second.snippet
    (hit,) = seen.hits("lexer.py")
    assert (hit.entry.path, hit.turn, hit.at > 0) == (str(third), 2, True)
    assert [hit.turn for hit in seen.hits("make")] == [2]
    assert [hit.entry.cwd for hit in seen.hits("parser", Place("/b"))] == ["/b"]
    assert len(seen.hits("parser", limit=1)) == 1
    assert seen.hits("nowhere") == []


def test_a_search_goes_on_to_beginnings_and_past_accents(seen: Seen) -> None:
    """`pars` finds the parser where no word is `pars`; `unusual` finds `ünusual`."""
    assert len(seen.hits("pars")) == 2
    assert len(seen.hits("unusual")) == 1


def test_a_title_is_searched_too(seen: Seen) -> None:
    """As turn 0; a title that was taken away is found no more."""
    folder = seen.entries()[0].path
    write_label(PosixDisk(), folder, Label("Quarterly numbers"))
    assert [(hit.turn, hit.entry.path) for hit in seen.hits("quarterly")] == [(0, folder)]
    write_label(PosixDisk(), folder, Label())
    assert seen.hits("quarterly") == []


def test_usage_is_summed_by_model(home: Path) -> None:
    """All attempts and summaries; turns are counted."""
    one = {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 1}
    summary = Compaction(
        n=20, id="x", cwd="/", basis=BASIS, items=[], model="big", usage={"output_tokens": 7}
    )
    records = [head(), *turn(2, "a", usage=one), *turn(10, "b", usage=one, model="big"), summary]
    folder = put(home, records, 1)
    spent = Seen(home).spent(folder.name)
    assert spent.turns == 2
    assert spent.usage == {"m": Usage(10, 4, 0, 1, 0), "big": Usage(10, 4, 0, 8, 0)}


def test_the_file_is_private_and_only_made_where_sessions_are(home: Path, seen: Seen) -> None:
    """Mode 0600, for the lock too; a home without sessions stays as it is."""
    seen.entries()
    for name in (FILE, LOCK):
        assert (home / name).stat().st_mode & 0o777 == 0o600
    empty = home / "empty"
    empty.mkdir()
    assert Seen(empty).entries() == []
    assert list(empty.iterdir()) == []


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])


def _overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:-4096] = os.urandom(len(content) - 8192)
    path.write_bytes(content)


def _of_a_newer_version(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


def _without_a_table(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE turns")
    database.close()


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no database at all" * 1000),
        _truncated,
        _overwritten,
        _of_a_newer_version,
        _without_a_table,
    ],
    ids=["gone", "empty", "garbage", "truncated", "overwritten", "newer", "no table"],
)
def test_a_broken_file_is_made_anew(seen: Seen, damage: object) -> None:
    """Silently: list and search say what they said before, and the file is sound again."""
    entries, hits = seen.entries(), seen.hits("parser")
    assert callable(damage)
    damage(seen.home / FILE)
    assert seen.hits("parser") == hits
    assert seen.entries() == entries
    assert seen.warnings == []
    with sqlite3.connect(seen.home / FILE) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)
    database.close()


def _taken(home: Path) -> None:
    (home / LOCK).unlink(missing_ok=True)
    (home / LOCK).mkdir()


def _file_is_a_folder(home: Path) -> None:
    (home / FILE).unlink(missing_ok=True)
    (home / FILE).mkdir()


@pytest.mark.parametrize("obstacle", [_taken, _file_is_a_folder])
def test_without_a_file_it_is_made_in_memory(seen: Seen, obstacle: object) -> None:
    """What a home that can't be written has: one line of warning, the same answers."""
    entries = seen.entries()
    assert callable(obstacle)
    obstacle(seen.home)
    assert seen.entries() == entries
    assert len(seen.hits("parser")) == 2
    assert len(seen.warnings) == 2
    assert all("read anew" in line and "\n" not in line for line in seen.warnings)


def test_a_full_disk_costs_the_file_alone(small_disk: Path) -> None:
    """Where the catalogue has no room, listing and searching work without."""
    put(small_disk, [head(), *turn(2, "fix the parser")], 1)
    with open(small_disk / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    seen = Seen(small_disk)
    assert [entry.prompt for entry in seen.entries()] == ["fix the parser"]
    assert len(seen.hits("parser")) == 1
    assert len(seen.warnings) == 2


def test_another_process_is_waited_for(seen: Seen) -> None:
    """A catalogue that is in use for long is done without."""
    seen.entries()
    seen.patience = 0.1
    fd = os.open(seen.home / LOCK, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert len(seen.entries()) == 3
    finally:
        os.close(fd)
    assert "another process" in seen.warnings[0]
    seen.entries()
    assert len(seen.warnings) == 1


def test_a_kill_in_the_middle_of_a_build_costs_nothing(seen: Seen) -> None:
    """What was not committed is built the next time; the file is sound."""
    ours = os.fork()
    if not ours:

        def killed(*_: int) -> None:
            os.kill(os.getpid(), 9)

        use(str(seen.home), lambda catalogue: catalogue.update(killed), print)
    assert os.waitpid(ours, 0)[1] == 9
    assert seen.entries() == list_sessions(PosixDisk(), str(seen.home))
    assert (seen.warnings, seen.read) == ([], [3])


def test_what_is_forgotten_leaves_no_text(seen: Seen) -> None:
    """Neither a row nor, in the bytes of the file, a word of a deleted session."""
    put(seen.home, [head(), *turn(2, "xylophonesecret")], 7)
    (hit,) = seen.hits("xylophonesecret")
    assert b"xylophonesecret" in (seen.home / FILE).read_bytes()
    forget(str(seen.home), [hit.entry.id])
    assert b"xylophonesecret" not in (seen.home / FILE).read_bytes()
    shutil.rmtree(hit.entry.path)
    assert seen.hits("xylophonesecret") == []


def test_forgetting_needs_no_catalogue(home: Path) -> None:
    """Nothing is made where there is none, and a broken one is no error."""
    forget(str(home), ["x"])
    assert not (home / FILE).exists()
    (home / FILE).mkdir()
    forget(str(home), ["x"])


def test_what_utf8_can_not_say_is_listed_and_searched(home: Path) -> None:
    """A NUL and control characters in a prompt hide nothing of it."""
    put(home, [head(), *turn(2, "before\0after \x02marked\x03")], 1)
    seen = Seen(home)
    assert len(seen.entries()) == 1
    assert len(seen.hits("after")) == 1

"""SQLite sessions of the Agents SDK become sessions, damaged files too."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backstay.core.pairing import problems
from backstay.doctor.bringing import Brought, Home, from_agents_sdk
from backstay.errors import EmptySession, SessionError, StorageError
from backstay.journal import PosixDisk
from backstay.journal.sessions import list_sessions
from tests.doctor import codexfile as c
from tests.doctor.carried import NOW, files, sent

SCHEMA = """
CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY, created_at TIMESTAMP, updated_at TIMESTAMP);
CREATE TABLE agent_messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,
  message_data TEXT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
"""
HELLO = {"role": "user", "content": "one plus two"}
ITEMS: list[Any] = [HELLO, c.call("c1"), c.out("c1", "3"), c.said("three", id="msg_1")]


def database(path: Path, messages: list[tuple[str, Any]], journal: str = "DELETE") -> Path:
    """A file with these messages, each with its session's name."""
    with closing(sqlite3.connect(path)) as made:
        made.execute(f"PRAGMA journal_mode={journal}")
        made.executescript(SCHEMA)
        for name, item in messages:
            data = item if isinstance(item, str) else json.dumps(item)
            made.execute(
                "INSERT INTO agent_messages (session_id, message_data, created_at)"
                " VALUES (?, ?, '2026-02-01 10:00:00')",
                (name, data),
            )
        made.commit()
    return path


def bring(home: Path, path: Path, *names: str) -> list[Brought]:
    """Carry its sessions over."""
    target = Home(PosixDisk(), str(home), "/here", "0", now=NOW)
    return [target.bring(one) for one in from_agents_sdk(str(path), list(names))]


def test_each_session_of_a_file_is_one(home: Path, tmp_path: Path) -> None:
    """Its items as they stand, its name as the title, its times."""
    messages = [("alpha", one) for one in ITEMS] + [("beta", c.user("other"))]
    path = database(tmp_path / "sessions.db", messages)
    alpha, beta = bring(home, path)
    found = sent(home, alpha.session)
    assert found[0] == {"type": "message"} | HELLO
    assert found[1:3] == ITEMS[1:3]
    assert found[3] == c.said("three")
    assert sent(home, beta.session) == [c.user("other")]
    listed = {one.title: one for one in list_sessions(PosixDisk(), str(home))}
    assert listed["alpha"].active == 1769940000.0
    assert listed["alpha"].prompt == "one plus two"


def test_one_session_can_be_chosen(home: Path, tmp_path: Path) -> None:
    """It is imported once, also when another one of the file has grown; a wrong name is refused."""
    path = database(tmp_path / "sessions.db", [("a", HELLO), ("b", HELLO)])
    first = bring(home, path, "b")
    with closing(sqlite3.connect(path)) as made:
        made.execute("INSERT INTO agent_messages (session_id, message_data) VALUES ('a', '{}')")
        made.commit()
    second = bring(home, path, "b")
    assert [one.new for one in (*first, *second)] == [True, False]
    assert bring(home, path, "a")[0].new
    with closing(sqlite3.connect(path)) as made:
        other = json.dumps(c.user("changed"))
        made.execute("UPDATE agent_messages SET message_data = ? WHERE session_id = 'b'", (other,))
        made.commit()
    assert bring(home, path, "b")[0].new
    with pytest.raises(EmptySession, match="no session c"):
        bring(home, path, "c")


def test_open_file_is_only_read(home: Path, tmp_path: Path) -> None:
    """What a program holds in its write-ahead log is there, and nothing is written beside it."""
    path = tmp_path / "sessions.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.executescript(SCHEMA)
        made.execute(
            "INSERT INTO agent_messages (session_id, message_data) VALUES ('a', ?)",
            (json.dumps(HELLO),),
        )
        made.commit()
        before = files(tmp_path)
        (found,) = bring(home, path)
        after = files(tmp_path)
    assert sent(home, found.session)[0]["content"] == "one plus two"
    assert {name: after[name] for name in before} == before
    assert [name for name in after.keys() - before.keys() if str(home) not in name] == []


def test_messages_that_are_none_are_told(home: Path, tmp_path: Path) -> None:
    """Damaged JSON, encrypted ones; a call that lost its output gets an honest one."""
    messages = [("a", HELLO), ("a", c.call("c1")), ("a", '{"role": "us'), ("a", {"__enc__": 1})]
    (found,) = bring(home, database(tmp_path / "x.db", messages))
    items = sent(home, found.session)
    assert problems(items) == []
    assert "unknown" in items[2]["output"]
    assert any("2 of 4 messages" in note for note in found.notes)


def test_damaged_database_gives_what_can_be_read(home: Path, tmp_path: Path) -> None:
    """From the front and from the end; that something is missing is said."""
    messages = [("a", c.user(f"number {at} " + "x" * 900)) for at in range(60)]
    path = database(tmp_path / "x.db", messages)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(bytes(content))
    (found,) = bring(home, path)
    texts = str(sent(home, found.session))
    assert "number 0 " in texts
    assert "number 59 " in texts
    assert 20 < len(sent(home, found.session)) < 60
    assert any("damaged" in note for note in found.notes)


def test_other_files_are_refused(home: Path, tmp_path: Path) -> None:
    """No database, one without such a table, one that is not there."""
    (tmp_path / "text").write_text("x" * 5000)
    with closing(sqlite3.connect(tmp_path / "other.db")) as made:
        made.execute("CREATE TABLE t (a)")
        made.commit()
    with pytest.raises(SessionError, match="SQLite can't open it"):
        bring(home, tmp_path / "text")
    with pytest.raises(SessionError, match="no table"):
        bring(home, tmp_path / "other.db")
    with pytest.raises(StorageError, match="no file"):
        bring(home, tmp_path / "gone.db")

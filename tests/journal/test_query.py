"""What is typed becomes a query that SQLite takes, whatever it is."""

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.journal.query import broken_up, match, mended


@pytest.fixture(scope="module")
def texts() -> Iterator[sqlite3.Connection]:
    """A full-text table with three texts."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE texts USING fts5(body)")
    for body in ("the retry of a cut stream", "streams are cut", "日本語のテストを直す"):
        database.execute("INSERT INTO texts VALUES (?)", (broken_up(body),))
    yield database
    database.close()


def found(database: sqlite3.Connection, words: str, *, prefixes: bool = False) -> list[str]:
    """The texts that match what was typed."""
    query = match(words, prefixes=prefixes)
    if not query:
        return []
    rows = database.execute("SELECT body FROM texts WHERE texts MATCH ? ORDER BY rowid", (query,))
    return [mended(body) for (body,) in rows]


@pytest.mark.parametrize(
    "words, first, second",
    [
        ("cut", True, True),
        ("stream cut", True, False),
        ('"cut stream"', True, False),
        ('"stream cut"', False, False),
        ("stream*", True, True),
        ("STREAMS", False, True),
        ("retry nothing", False, False),
        ('cut "', True, True),
        ("cut !!! *", True, True),
    ],
)
def test_words_phrases_and_beginnings(
    texts: sqlite3.Connection, words: str, first: bool, second: bool
) -> None:
    """All words are wanted; quotes make a phrase, a star a beginning; signs alone are nothing."""
    expected = ["the retry of a cut stream"] * first + ["streams are cut"] * second
    assert found(texts, words) == expected


def test_words_may_be_beginnings_where_that_is_asked_for(texts: sqlite3.Connection) -> None:
    """But not within a phrase."""
    assert len(found(texts, "ret str", prefixes=True)) == 1
    assert found(texts, '"cut str"', prefixes=True) == []


@pytest.mark.parametrize("words", ["日本", "テスト", "直す", "日 直", "本語の"])
def test_scripts_without_spaces_are_searched_by_their_letters(
    texts: sqlite3.Connection, words: str
) -> None:
    """A part of such a text is found, and comes back as it was."""
    assert found(texts, words) == ["日本語のテストを直す"]
    assert found(texts, "本日") == []


@pytest.mark.parametrize("words", ["", " ", '"', '""', "*", "!?", "\ud800", "\u200b"])
def test_what_holds_no_word_asks_for_nothing(words: str) -> None:
    """No query is made of it."""
    assert match(words, prefixes=False) == match(words, prefixes=True) == ""


@given(st.text(alphabet=st.characters(exclude_characters="\0")))
def test_nothing_that_is_typed_is_an_error(words: str) -> None:
    """Quotes, operators, brackets, half surrogates: SQLite takes every query."""
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE VIRTUAL TABLE texts USING fts5(body)")
        found(database, words)
        found(database, words, prefixes=True)
    database.close()

"""The words of a session's turns, and what it has used."""

import time
from pathlib import Path

from backstay.core.record import AnyRecord, Prompt
from backstay.core.usage import Usage
from backstay.journal import PosixDisk, list_sessions
from backstay.journal.fork import fork
from backstay.journal.ids import uuid7
from backstay.journal.removal import delete
from backstay.journal.texts import read_texts, spent, turn_order
from tests.journal.homes import head, put, turn
from tests.journal.sample import lines

DISK = PosixDisk()


def test_each_turn_has_its_words(home: Path) -> None:
    """Prompt, answer and command of each, counted from 1."""
    folder = put(home, [head(), *turn(2, "one", "first", "ls"), *turn(10, "two", "second", "make")])
    texts = read_texts(DISK, str(folder))
    assert [(t.n, t.prompt, t.answer, t.command) for t in texts.turns] == [
        (1, "one", "first", "ls"),
        (2, "two", "second", "make"),
    ]
    assert texts.count == 2
    assert texts.turns[0].at > 0


def test_a_long_text_is_bounded(home: Path) -> None:
    """Its beginning can be searched; the file does not grow without end."""
    folder = put(home, [head(), *turn(2, "word " * 100_000)])
    (one,) = read_texts(DISK, str(folder)).turns
    assert len(one.prompt) == 64 * 1024


def test_what_can_not_be_read_has_no_words(home: Path) -> None:
    """Neither an empty journal nor damage is an error; what survived is read."""
    empty = put(home, [], 1)
    assert read_texts(DISK, str(empty)).turns == []
    damaged = put(home, [head(), *turn(2, "before"), *turn(10, "after")], 2)
    journal = damaged / "journal.jsonl"
    content = journal.read_bytes()
    at = content.index(b"before")
    journal.write_bytes(content[: at - 100] + bytes(200) + content[at + 100 :])
    texts = read_texts(DISK, str(damaged))
    assert [turn.prompt for turn in texts.turns] == ["", "after"]
    assert [turn.n for turn in texts.turns] == [1, 2]


def test_a_fork_has_its_own_words_and_usage(home: Path) -> None:
    """Not those of its parent, until that is deleted; its turns are counted on."""
    usage = {"input_tokens": 5}
    folder = put(home, [head(), *turn(2, "shared", usage=usage)], 1)
    made = fork(DISK, str(folder), uuid7(time.time(), bytes(10)), time.time)
    assert list_sessions(DISK, str(home))[0].prompt == "shared"
    own = turn(20, "own", usage=usage)

    with open(f"{made.folder}/journal.jsonl", "ab") as file:
        file.write(b"".join(lines(own)))
    texts = read_texts(DISK, made.folder)
    assert [(turn.n, turn.prompt) for turn in texts.turns] == [(2, "own")]
    assert texts.usage == {"m": Usage(input_tokens=5)}
    assert texts.count == 2
    assert list_sessions(DISK, str(home))[0].prompt == "own"
    delete(DISK, str(home), str(folder), time.time)
    texts = read_texts(DISK, made.folder)
    assert [(turn.n, turn.prompt) for turn in texts.turns] == [(1, "shared"), (2, "own")]


def test_turns_are_counted_as_they_began() -> None:
    """A prompt that waits comes last, one that is lost counts all the same."""
    records: list[AnyRecord] = [*turn(2, "a"), *turn(10, "lost")[1:], *turn(18, "c")[:1]]
    assert turn_order(records) == {2: 1, 10: 2, 18: 3}
    assert isinstance(records[-1], Prompt)


def test_usage_counts_by_the_model_that_was_asked() -> None:
    """Of an attempt whose record is lost the model is not known."""
    one = turn(2, "a", model="big", usage={"output_tokens": 3})
    assert spent(one) == {"big": Usage(output_tokens=3)}
    del one[1]
    assert spent(one) == {"": Usage(output_tokens=3)}

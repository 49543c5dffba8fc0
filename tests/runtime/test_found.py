"""What a session's last agent left, as its records tell: one line, or nothing."""

import pytest

from backstay.core.record import AnyRecord
from backstay.runtime.found import cut, letters
from tests.journal.homes import command, done, head, turn

TURN = turn(2, "fix it")


@pytest.mark.parametrize("records", [[], [head()], [head(), *TURN]], ids=["none", "empty", "over"])
def test_what_is_over_needs_no_word(records: list[AnyRecord]) -> None:
    """Nor does a session in which nothing was asked."""
    assert cut(records) == ""


def test_a_cut_turn_says_how_many_calls_were_left() -> None:
    """Those without an output."""
    begun = [head(), *TURN[:2]]
    assert "in the middle of a turn (last heard of 2" in cut(begun)
    one = [*begun, command(4, 3, "make")]
    assert ", 1 call had no output yet (" in cut(one)
    assert ", 2 calls had no output yet (" in cut([*one, command(5, 3, "make")])
    assert "no output" not in cut([*one, done(5, 4)])


def test_prompts_that_wait_are_counted() -> None:
    """In words that fit the number."""
    assert letters(0) == ""
    assert letters(1).startswith("a prompt waits in the inbox")
    assert letters(2).startswith("2 prompts wait in the inbox")

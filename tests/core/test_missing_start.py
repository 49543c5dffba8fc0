"""A call without a start record: not started, unless the record may be among those that are missing."""

from backstay.core.history import DAMAGE
from backstay.core.record import Repair
from tests.core.past import Past
from tests.core.wire import function

CALL = 4


def called() -> Past:
    """A session whose record 4 is a call, with its start, its output and the attempt's end behind."""
    past = Past()
    attempt = past.attempt(past.prompt())
    assert past.call(attempt, 0, function("c")) == CALL
    past.start(CALL)
    past.output(CALL)
    past.ended(attempt)
    return past


def without(past: Past, *numbers: int) -> str | None:
    """The effect that the one open call is settled by, once these records are gone."""
    past.records = [record for record in past.records if record.n not in numbers]
    (call,) = past.history().open_calls()
    return call.start.effect if call.start else None


def test_call_at_the_end_of_a_journal_was_not_started() -> None:
    """What is not on disk behind the last record has had no effect."""
    assert without(called(), 5, 6, 7) is None


def test_start_that_is_there_is_what_a_call_is_settled_by() -> None:
    """A lost output costs the output alone."""
    assert without(called(), 6) == "s-4"


def test_start_that_is_missing_is_stood_in_for() -> None:
    """With records missing behind the call its effect is asked, under the id that it would have."""
    assert without(called(), 5, 6) == "s-4"


def test_records_missing_before_a_call_say_nothing_about_it() -> None:
    """A hole in front of the call can't have held its start."""
    assert without(called(), 2, 5, 6, 7) is None


def test_numbers_that_a_statement_of_damage_leaves_out_are_not_missing() -> None:
    """Behind a torn tail the writer skips what that can have held: nothing was lost there."""
    past = called()
    past.records = past.records[:CALL]
    past.records.append(Repair(n=9, action=DAMAGE, reason="a record that was cut off"))
    assert without(past) is None

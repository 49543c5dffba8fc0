"""History: the fold of records. One damaged or odd record costs nothing beside itself."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.core.history import REOPENED, History, complete, last_done, made_calls, superseded
from backstay.core.items import message
from backstay.core.record import (
    Attempt,
    AttemptEnd,
    Compaction,
    Known,
    Note,
    Output,
    Prompt,
    Start,
    Tally,
    TurnEnd,
    Unknown,
)
from tests.core.past import BASIS, Past, shape
from tests.core.watch import replay
from tests.core.wire import function, said, thought


def whole() -> Past:
    """A journal with a bit of everything."""
    past = Past()
    turn = past.prompt("one")
    attempt = past.attempt(turn)
    past.item(attempt, 0, said("said"))
    call = past.call(attempt, 1, function("a"))
    past.start(call)
    past.output(call)
    past.ended(attempt, "cut")
    attempt = past.attempt(turn, drop=[4])
    past.prompt("two")
    past.ended(attempt)
    past.closed(turn, "failed")
    past.add(Note, topic=REOPENED, turn=turn)
    return past


def test_the_header_a_prompt_and_a_compaction_say_what_the_session_is() -> None:
    """Whichever of them is left, id, folder and basis are known (DESIGN 6)."""
    prompt = Past()
    prompt.prompt()
    compaction = Past()
    compaction.add(Compaction, id="s", cwd="/w", basis=BASIS, items=[], turn=7, model="m")
    for past in (prompt, compaction):
        for records in (past.records, past.records[:1], past.records[1:]):
            history = replay(records)
            assert (history.id, history.cwd, history.basis) == ("s", "/w", BASIS)
    history = compaction.history()
    assert history.model == "m"
    assert history.turn is not None
    assert (history.turn.n, history.turn.prompt, history.turn.end) == (7, None, None)


def test_a_compaction_is_read_the_same_with_and_without_what_was_before_it() -> None:
    """Its turn, the turn's counts, what waits and what is shown stand in the record."""
    past = whole()
    past.add(
        Compaction,
        id="s",
        cwd="/w",
        basis=BASIS,
        items=[message("user", "short")],
        turn=2,
        tally=Tally(steps=3, cut=2),
        carried=[record for record in past.records if isinstance(record, Prompt)][1:],
        shown={"s-5": 12},
        running={"s-5": "boot"},
    )
    for history in (past.history(), replay(past.records[-1:])):
        assert history.turn is not None
        assert (history.turn.n, history.turn.attempts, history.turn.step) == (2, [], 3)
        assert history.turn.carried.cut == 2
        assert len(history.queued) == 1
        assert (history.shown, history.running) == ({"s-5": 12}, {"s-5": "boot"})
    assert shape(past.view()) == ["short"]


def test_prompts_wait_until_their_turn_begins() -> None:
    """An attempt begins the turn; other queued prompts stay."""
    past = Past()
    first, second = past.prompt("one", model="a"), past.prompt("two", model="b")
    assert [one.n for one in past.history().queued] == [first, second]
    past.attempt(first)
    history = past.history()
    assert [one.n for one in history.queued] == [second]
    assert history.turn is not None
    assert history.turn.prompt is not None
    assert history.turn.prompt.n == first


def test_settings_are_those_of_the_attempt_that_began_last() -> None:
    """A queued prompt's model does not count before its turn; an empty one changes nothing."""
    past = Past()
    turn = past.prompt(model="a", effort="low")
    past.prompt(model="b")
    assert past.history().model == ""
    past.add(Attempt, turn=turn, step=1)
    assert (past.history().model, past.history().effort) == ("a", "low")
    past.add(Attempt, turn=turn, step=1, model="c", provider="p")
    history = past.history()
    assert (history.model, history.provider, history.effort) == ("c", "p", "")


def test_the_first_of_what_can_be_only_once_wins() -> None:
    """Output, start and end of an attempt: final, never rewritten (DESIGN 4.3)."""
    past = Past()
    attempt = past.attempt(past.prompt())
    call = past.call(attempt, 0, function("a"))
    past.start(call)
    past.add(Start, call=call, effect="second")
    past.output(call, "first")
    past.output(call, "second")
    past.ended(attempt, "cut")
    past.ended(attempt, "completed")
    past.item(attempt, 0, said("at the same place"))
    history = past.history()
    state = history.calls[call]
    assert state.start is not None
    assert state.start.effect == f"s-{call}"
    assert state.output is not None
    assert state.output.item["output"] == "first"
    end = history.attempts[attempt].end
    assert end is not None
    assert end.outcome == "cut"
    assert shape(past.view()) == ["go", "a", "=a"]


def test_what_is_open_is_known() -> None:
    """Calls without an output in order, and attempts without an end."""
    past = Past()
    attempt = past.attempt(past.prompt())
    calls = [past.call(attempt, at, function(str(at))) for at in range(3)]
    past.output(calls[1])
    history = past.history()
    assert [one.record.n for one in history.open_calls()] == [calls[0], calls[2]]
    assert [one.record.n for one in history.open_attempts()] == [attempt]


def test_records_that_refer_to_nothing_lose_nothing_else() -> None:
    """A start, an end or a note of something unknown is skipped."""
    past = Past()
    past.add(Start, call=77, effect="x")
    past.add(AttemptEnd, attempt=77, outcome="cut")
    past.add(Note, topic=REOPENED, turn=77)
    history = past.history()
    assert history.turn is None
    assert history.segments == []
    assert history.next == 5


def test_unknown_records_are_skipped_and_counted() -> None:
    """Their numbers are taken."""
    history = History()
    history.apply(Unknown(n=41, kind="moon", must=False, raw=b"{}"))
    assert history.next == 42


def test_an_item_whose_attempt_was_lost_belongs_to_the_turn_under_way() -> None:
    """Or to the prompt that waits, or to no turn that is known."""
    lost = Past()
    lost.call(9, 0, function("a"))
    assert lost.history().turns[0].attempts[0].record.n == 9
    running = Past()
    turn = running.prompt()
    running.attempt(turn)
    running.prompt("queued")
    running.call(99, 0, function("a"))
    assert [one.record.n for one in running.history().turns[turn].attempts] == [3, 99]
    waiting = Past()
    turn = waiting.prompt()
    waiting.ended(waiting.attempt(turn))
    waiting.closed(turn, "completed")
    second = waiting.prompt("second")
    waiting.call(99, 0, function("a"))
    assert [one.record.n for one in waiting.history().turns[second].attempts] == [99]


def test_a_turn_whose_prompt_was_lost_is_still_a_turn() -> None:
    """Its attempts and its end count."""
    past = Past()
    past.answered(past.attempt(50), 0, function("a"))
    past.closed(50, "completed")
    history = past.history()
    assert history.turns[50].prompt is None
    assert isinstance(history.turns[50].end, TurnEnd)
    assert shape(past.view()) == ["a", "=a"]


def test_a_reopened_turn_goes_on_with_new_counters() -> None:
    """The note takes its end away and says from where attempts count."""
    past = whole()
    history = past.history()
    assert history.turn is not None
    assert history.turn.end is None
    assert history.turn.reopened_at == len(past.records)


def test_what_the_next_attempt_supersedes_is_all_behind_the_last_call() -> None:
    """By place, not by time; a response without calls leaves nothing."""
    past = Past()
    attempt = past.attempt(past.prompt())
    behind = past.item(attempt, 3, said("behind"))
    past.call(attempt, 2, function("a"))
    past.item(attempt, 0, thought("rs"))
    state = past.history().attempts[attempt]
    assert (last_done(state), superseded(state), made_calls(state)) == (2, [behind], True)
    other = past.attempt(2)
    only = past.item(other, 0, said("x", status="incomplete"))
    state = past.history().attempts[other]
    assert (last_done(state), superseded(state), made_calls(state)) == (-1, [only], False)
    assert not complete(state.items[0])


@pytest.mark.parametrize("lost", range(len(whole().records)))
def test_any_one_record_may_be_missing(lost: int) -> None:
    """The rest is folded all the same, and what can be sent is sent."""
    past = whole()
    last = past.records[-1].n
    del past.records[lost]
    history = past.history()
    past.view()
    assert history.next == (last + 1 if past.records[-1].n == last else last)


@given(st.lists(st.integers(0, len(whole().records) - 1), max_size=40))
def test_any_records_in_any_order_are_taken(order: list[int]) -> None:
    """Damaged, doubled and shuffled journals open (P7), and give the same twice."""
    records: list[Known] = [whole().records[at] for at in order]
    before = msgspec.json.encode(records)
    once, again = Past(), Past()
    once.records, again.records = records, records
    assert once.view() == again.view()
    assert msgspec.json.encode(records) == before


def test_an_output_is_told_apart_from_its_call_by_number() -> None:
    """The same call id in another response is another call."""
    past = Past()
    turn = past.prompt()
    first = past.call(past.attempt(turn), 0, function("a"))
    second = past.call(past.attempt(turn, 2), 0, function("a"))
    past.output(second)
    history = past.history()
    assert history.calls[first].output is None
    assert isinstance(history.calls[second].output, Output)


def test_letters_are_known_as_long_as_they_may_lie_in_the_inbox() -> None:
    """Hundreds may be taken at once, and a kill before the first is removed leaves them all there."""
    history = History()
    names = [f"letter-{n}" for n in range(500)]
    for n, name in enumerate(names, 1):
        history.apply(Prompt(n=n, id="s", cwd="/", basis=BASIS, items=[], model="m", letter=name))
    assert set(names) <= set(history.letters)

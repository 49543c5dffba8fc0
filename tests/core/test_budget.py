"""A turn's budget: counted from its records, whoever wrote them, and checked before each request."""

from collections.abc import Callable
from typing import Any

import pytest

from backstay.core import events as e
from backstay.core.budget import Budget, spent, used_up
from backstay.core.commands import Finish
from backstay.core.history import History
from backstay.core.record import Note
from backstay.core.table import Phase
from backstay.core.usage import Price
from tests.core.past import Past
from tests.core.playbook import SYNCED, Playbook, done, ended, finished, prompt
from tests.core.wire import function

Make = Callable[..., Playbook]
USED = {"input_tokens": 900, "output_tokens": 100}


def one_step(make: Make, budget: Budget, usage: dict[str, int] | None = None) -> Playbook:
    """A new session whose first response, with one call, is complete."""
    return (
        make(budget=budget)
        >> prompt("go")
        << "append prompt 2; attempt 3"
        >> SYNCED
        << "send 3: go"
        >> done(3, 0, function("a"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 a"
        >> finished(4)
        << "append output of 4 done"
        >> ended(3, usage=usage)
    )


@pytest.mark.parametrize(
    "budget, said",
    [
        (Budget(steps=1), "1 of 1 steps"),
        (Budget(tokens=1000), "1,000 of 1,000 tokens"),
        (Budget(dollars=0.001, prices={"m": Price(input=1, output=1)}), "$0.0010 of $0.0010"),
        (Budget(dollars=1.0), 'not known: [prices."m"] is missing'),
    ],
)
def test_the_turn_ends_before_the_request_beyond_its_budget(
    playbook: Make, budget: Budget, said: str
) -> None:
    """As failed, with every output recorded; the reason names what was used, the code is budget."""
    play = one_step(playbook, budget, USED) << "append end of 3 completed; turn 2 failed"
    machine = (play >> SYNCED << "finish 2 failed").check(Phase.IDLE)
    end = machine.turn.history.turns[2].end
    assert end is not None
    assert said in end.reason


@pytest.mark.parametrize(
    "budget",
    [
        Budget(),
        Budget(steps=2),
        Budget(tokens=1001),
        Budget(dollars=0.0011, prices={"m": Price(input=1, output=1)}),
    ],
)
def test_within_its_budget_the_turn_goes_on(playbook: Make, budget: Budget) -> None:
    """The next step is sent."""
    play = one_step(playbook, budget, USED) << "append end of 3 completed; attempt 8"
    (play >> SYNCED << "send 8: go a =a").check(Phase.STREAMING)


def test_the_end_says_its_code(playbook: Make) -> None:
    """Whoever waits for the turn can tell it from other failures."""
    machine = one_step(playbook, Budget(steps=1))
    machine << "append end of 3 completed; turn 2 failed"
    watched = machine.check()
    (finish,) = watched.handle(e.Appended(watched.issued()))
    assert isinstance(finish, Finish)
    assert finish.code == "budget"


def test_a_cut_attempt_is_retried_within_the_steps_and_its_tokens_count(playbook: Make) -> None:
    """A retry is no new step; what the cut attempt used is used."""
    play = playbook(budget=Budget(steps=1, tokens=10)) >> prompt("go")
    play << "append prompt 2; attempt 3" >> SYNCED << "send 3: go"
    play >> ended(3, "failed", usage={"input_tokens": 4, "output_tokens": 1})
    play << "append end of 3 failed" << "wait 3: 0.2 s 1/5"
    play >> e.Woke(3) << "append attempt 5" >> SYNCED << "send 5: go"
    play >> ended(5, "failed", usage={"input_tokens": 4, "output_tokens": 1})
    play << "append end of 5 failed; turn 2 failed" >> SYNCED << "finish 2 failed"
    play.check(Phase.IDLE)


def used_in_an_earlier_process() -> tuple[Past, int]:
    """A session that was killed after a complete step, its turn open."""
    past = Past()
    turn = past.prompt()
    attempt = past.attempt(turn)
    past.answered(attempt, 0, function("a"))
    past.ended(attempt, usage=USED)
    return past, turn


def test_a_kill_and_a_resume_do_not_start_it_anew(playbook: Make) -> None:
    """What an earlier process used is used."""
    past, _ = used_in_an_earlier_process()
    play = playbook(past.records, budget=Budget(tokens=1000))
    play >> e.Continued() << "append turn 2 failed" >> SYNCED << "finish 2 failed"
    play.check(Phase.IDLE)


def test_a_turn_that_is_continued_after_its_end_has_a_budget_anew(playbook: Make) -> None:
    """One more stretch of the same length."""
    past, turn = used_in_an_earlier_process()
    past.closed(turn, "failed")
    play = playbook(past.records, budget=Budget(steps=1))
    play >> e.Continued() << "append note reopened; attempt 9" >> SYNCED << "send 9: go a =a"
    play >> done(9, 0, function("b")) << "append call 10; start of 10" >> SYNCED << "start 10 b"
    play >> finished(10) << "append output of 10 done"
    play >> ended(9) << "append end of 9 completed; turn 2 failed"
    play >> SYNCED << "finish 2 failed"
    play.check(Phase.IDLE)


def test_a_prompt_that_waits_gets_its_turn_when_the_budget_is_used_up(playbook: Make) -> None:
    """Each turn has its own."""
    play = playbook(budget=Budget(steps=1)) >> prompt("go") << "append prompt 2; attempt 3"
    play >> SYNCED << "send 3: go" >> done(3, 0, function("a"))
    play << "append call 4; start of 4" >> SYNCED << "start 4 a"
    play >> prompt("next") << "append prompt 6"
    play >> finished(4) << "append output of 4 done"
    play >> ended(3) << "append end of 3 completed; turn 2 failed; attempt 10"
    play.check(Phase.STREAMING)


def test_what_is_spent_is_counted_by_model_and_from_the_last_reopening() -> None:
    """Each attempt at the model that it asked; a step that took two attempts is one."""
    past, turn = used_in_an_earlier_process()
    second = past.attempt(turn, step=2)
    past.ended(second, "cut", usage={"input_tokens": 5})
    third = past.attempt(turn, step=2)
    past.ended(third, "incomplete", usage={"input_tokens": 1, "output_tokens": 2})
    history = folded(past)
    used = spent(history.turns[turn])
    assert (used.steps, used.tokens) == (2, 1008)
    assert set(used.by_model) == {"m"}
    past.add(Note, topic="reopened", turn=turn)
    assert spent(folded(past).turns[turn]).tokens == 0
    assert used_up(Budget(steps=1, tokens=1), folded(past).turns[turn]) == ""


def folded(past: Past) -> History:
    """The history of these records."""
    history = History()
    for record in past.records:
        history.apply(record)
    return history


def test_usage_that_is_no_number_counts_as_none() -> None:
    """A provider's nonsense raises nothing."""
    past, turn = used_in_an_earlier_process()
    odd: dict[str, Any] = {"input_tokens": "many", "output_tokens": None}
    past.ended(past.attempt(turn, step=2), usage=odd)
    assert spent(folded(past).turns[turn]).tokens == 1000

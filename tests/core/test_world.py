"""The turn machine in a random world: the promises hold after every event, and all turns end."""

import random

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from backstay.core.table import TABLE
from tests.core.play import Play
from tests.core.watch import Row

SEEDS = 400
STEPS = 50


def run(play: Play, steps: int) -> None:
    """So many things happen, then everything ends; a failure tells the whole story."""
    try:
        for _ in range(steps):
            play.step()
        play.come_to_rest()
    except BaseException as error:
        error.add_note("\n".join(play.log[-60:]))
        raise


@given(st.lists(st.integers(0, 2**16), min_size=80, max_size=400))
def test_the_promises_hold_whatever_happens(choices: list[int]) -> None:
    """P1 to P6, P8 and P10, for any legal events in any order, with crashes at any point."""
    tape = iter(choices)
    play = Play(lambda below: next(tape, 1) % below)
    run(play, len(choices) // 3)
    note("\n".join(play.log))


def test_random_worlds_take_every_way_through_the_table() -> None:
    """The promises hold in many worlds, and together these reach each row of the table."""
    reached: set[Row] = set()
    for seed in range(SEEDS):
        play = Play(random.Random(seed).randrange)
        run(play, STEPS)
        reached |= play.world.rows
    rows = {(phase, event) for phase, events in TABLE.items() for event in events}
    assert {(phase, event.__name__) for phase, event in rows - reached} == set()


@pytest.mark.deep
def test_many_more_worlds() -> None:
    """The same, for minutes."""
    for seed in range(SEEDS, 20 * SEEDS):
        run(Play(random.Random(seed).randrange), 3 * STEPS)

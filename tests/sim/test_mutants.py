"""The simulator notices a broken core, journal or driver, each by the promise that it breaks."""

from typing import Final

import pytest

from tests.sim.breaks import BREAKS, WORLDS
from tests.sim.mutants import MUTANTS
from tests.sim.run import run
from tests.sim.world import Plan

SEEDS: Final = 1500
ALL: Final = MUTANTS | BREAKS


@pytest.mark.parametrize("name", ALL)
def test_a_mutant_is_caught(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Within so many seeds, and by the promise that it breaks; others may fall with it."""
    parts, promises = ALL[name]
    for seed in range(SEEDS):
        found = run(Plan(seed, faults=WORLDS.get(name)), parts).violation
        if found is not None and found.promise in promises.split():
            with capsys.disabled():
                print(f"\n{name}: seed {seed}, {found}")
            return
    pytest.fail(f"{name} is not caught by {promises} with any of {SEEDS} seeds")

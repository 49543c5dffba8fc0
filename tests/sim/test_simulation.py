"""The promises hold on every schedule that the seeds give (DESIGN section 10)."""

import os
import time
from collections import Counter
from typing import Final

import pytest

from backstay.core.table import TABLE
from tests.sim.agent import Row
from tests.sim.nature import FAULTS
from tests.sim.run import run, shrink
from tests.sim.world import Plan

BUSY: Final = frozenset({"endings", "refusals", "hangs", "interrupts", "prompts", "lengths"})
"""Faults that one long-lived agent meets: where timers and late results come astray."""
CHUNKS: Final = 16
CHUNK: Final = 500
DEEP: Final = float(os.environ.get("BACKSTAY_DEEP") or 0)
"""Seconds that `make deep` simulates for; a mere 1 stands for five minutes."""
SECONDS: Final = DEEP if DEEP > 1 else 300.0


def check(seed: int) -> Counter[str]:
    """Run one seed; its faults if the schedule counts. A failure shows the end of its trace."""
    done = run(Plan(seed))
    if done.violation is not None:
        pytest.fail(f"{done.report()}\n\nshrunk:\n{shrink(done).report()}", pytrace=False)
    return done.faults if done.counts else Counter()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_promise_holds_on_every_schedule(
    chunk: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """P1 to P10 after every event, over kills, power cuts, full disks and broken streams."""
    begin, counted = time.perf_counter(), 0
    faults: Counter[str] = Counter()
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        found = check(seed)
        counted += bool(found)
        faults += found
    spent = time.perf_counter() - begin
    with capsys.disabled():
        print(f"\n{counted} schedules, {counted / spent:.0f} a second, {_told(faults)}")
    assert counted > CHUNK * 9 // 10


def test_the_seeds_reach_every_row_of_the_table() -> None:
    """No event that a phase takes is one that the simulator never gives it there."""
    rows: set[Row] = {(phase, event) for phase, taken in TABLE.items() for event in taken}
    for seed in range(300):
        rows -= run(Plan(seed)).rows
    seed = 0
    while rows and seed < 600:
        rows -= run(Plan(seed, steps=600, faults=BUSY)).rows
        seed += 1
    assert not rows


def test_a_seed_gives_the_same_run_again() -> None:
    """Step for step, word for word."""
    for seed in range(20):
        assert run(Plan(seed)).trace == run(Plan(seed)).trace


def test_every_kind_of_fault_happens() -> None:
    """A world where one kind alone is allowed has faults of that kind, and holds."""
    for kind in sorted(set(FAULTS) - {"prompts"}):
        runs = [run(Plan(seed, faults=frozenset({kind}))) for seed in range(40)]
        assert [one.violation for one in runs if one.violation] == []
        assert sum(sum(one.faults.values()) for one in runs) > 0, kind


@pytest.mark.deep
@pytest.mark.timeout(2 * SECONDS + 600)
def test_for_as_long_as_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """BACKSTAY_DEEP=SECONDS make deep: seeds that no other test uses, until the time is over."""
    seed, counted, begin = 10_000_000, 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        counted += bool(check(seed))
        seed += 1
    with capsys.disabled():
        print(f"\n{counted} schedules in {SECONDS:.0f} s")


def _told(faults: Counter[str]) -> str:
    return ", ".join(f"{times} x {kind}" for kind, times in faults.most_common())

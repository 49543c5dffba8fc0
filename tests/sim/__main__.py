"""Runs schedules: `python -m tests.sim --seed 7 -v` shows one, `--count 5000` runs many."""

import argparse
import subprocess
import sys
import time
from collections import Counter
from typing import Final

from tests.sim.run import Run, run, shrink
from tests.sim.world import Plan

SEEDS_OF_A_JOB: Final = 10_000_000
"""Far more than one process gets through where it is told how long to run, not how many."""


def main() -> int:
    """1 if a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds")
    parser.add_argument("--seconds", type=float, help="run for so long instead of a count")
    parser.add_argument("--steps", type=int, help="steps before calm (default: drawn)")
    parser.add_argument("--faults", help="kinds of fault, with commas, or none (default: drawn)")
    parser.add_argument("--shrink", action="store_true", help="shorten a run that fails")
    parser.add_argument("--keep-going", action="store_true", help="count failures instead")
    parser.add_argument("-v", "--verbose", action="store_true", help="the whole trace")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
    wish = parser.parse_args()
    if wish.jobs > 1:
        return _shared(wish.seed, wish.count, wish.jobs)
    faults = None
    if wish.faults is not None:
        faults = frozenset(wish.faults.split(",")) - {"none", ""}
    begin, seed, counted = time.perf_counter(), wish.seed, 0
    failures: Counter[str] = Counter()
    while (
        time.perf_counter() - begin < wish.seconds
        if wish.seconds
        else seed < wish.seed + wish.count
    ):
        done = run(Plan(seed, wish.steps, faults))
        counted += done.counts
        seed += 1
        if done.violation is not None:
            failures[f"{done.violation.promise} {str(done.violation)[:60]}"] += 1
            if not wish.keep_going:
                _show(shrink(done) if wish.shrink else done, verbose=wish.verbose)
                break
        elif wish.verbose:
            _show(done, verbose=True)
    spent = time.perf_counter() - begin
    print(f"{seed - wish.seed} runs, {counted} counted, {spent:.1f} s, "
          f"{(seed - wish.seed) / spent:.0f} schedules/s")  # fmt: skip
    for text, times in failures.most_common():
        print(f"{times:6} {text}")
    return 1 if failures else 0


def _shared(seed: int, count: int, jobs: int) -> int:
    """The same command in several processes, each with seeds of its own and its own report."""
    share = -(-count // jobs)
    step = share if share > 1 else SEEDS_OF_A_JOB
    running = []
    for first in range(seed, seed + jobs * step, step):
        own = ["--jobs", "1", "--seed", str(first), "--count", str(share)]
        running.append(subprocess.Popen([sys.executable, "-m", "tests.sim", *sys.argv[1:], *own]))
    return max(one.wait() for one in running)


def _show(done: Run, *, verbose: bool) -> None:
    print(done.report(len(done.trace) if verbose else 40))


if __name__ == "__main__":
    sys.exit(main())

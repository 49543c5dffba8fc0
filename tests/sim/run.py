"""One run of the simulator and what came of it; running many; shrinking one that fails."""

import gc
import traceback
from collections import Counter
from typing import Final

import msgspec

from tests.sim.agent import Row
from tests.sim.nature import FAULTS
from tests.sim.promises import Violation
from tests.sim.world import Parts, Plan, World

LAST: Final = 40
"""Lines of the trace that a report shows."""
FEWEST_EVENTS: Final = 10


class Run(msgspec.Struct):
    """A run and its verdict."""

    plan: Plan
    events: int
    faults: Counter[str]
    rows: set[Row]
    trace: list[tuple[str, str]]
    starts: int
    violation: Violation | None = None

    @property
    def counts(self) -> bool:
        """Whether it is a schedule worth counting: at least one fault and ten events."""
        return self.faults.total() > 0 and self.events >= FEWEST_EVENTS

    def report(self, lines: int = LAST) -> str:
        """The verdict, how to see it again, and the end of the trace."""
        shown = [f"  {name:15} {told}" for name, told in self.trace[-lines:]]
        again = f"python -m tests.sim --seed {self.plan.seed}"
        if self.plan.steps is not None:
            again += f" --steps {self.plan.steps}"
        if self.plan.faults is not None:
            again += f" --faults {','.join(sorted(self.plan.faults)) or 'none'}"
        verdict = str(self.violation or "all promises were kept")
        return "\n".join([f"seed {self.plan.seed}: {verdict}", *shown, f"again: {again} -v"])


def run(plan: Plan, parts: Parts | None = None) -> Run:
    """Run a plan to its end or to the first promise that is not kept."""
    world = World(plan, parts or Parts())
    violation = None
    collects = gc.isenabled()
    gc.disable()  # a world is small and makes no cycles: a quarter of the time
    try:
        world.run()
    except Violation as found:
        violation = found
    except Exception as error:  # noqa: BLE001 - a defect has a seed too
        violation = Violation("defect", f"{error!r}\n{traceback.format_exc()}")
    finally:
        if collects:
            gc.enable()
    faults = world.faults
    faults.update(world.provider.faults)
    if world.effects.hung:
        faults["hanging tool"] = world.effects.hung
    if world.effects.yields:
        faults["yield"] = world.effects.yields
    return Run(
        plan,
        world.events,
        faults,
        world.rows,
        world.trace,
        len(world.effects.started),
        violation,
    )


def shrink(failed: Run, parts: Parts | None = None, tries: int = 200) -> Run:
    """A shorter run that breaks the same promise, with fewer kinds of fault."""
    best = failed
    for faults in _fewer(failed.plan.faults or frozenset(FAULTS)):
        if best.plan.faults is not None and not faults < best.plan.faults:
            continue
        best = _better(best, Plan(failed.plan.seed, best.plan.steps, faults), parts) or best
    steps = best.plan.steps or best.events
    while steps > 1 and tries > 0:
        tries -= 1
        steps -= max(1, steps // 10)
        best = _better(best, Plan(best.plan.seed, steps, best.plan.faults), parts) or best
    return best


def _fewer(faults: frozenset[str]) -> list[frozenset[str]]:
    kinds = sorted(faults)
    return [frozenset(kinds[at:]) for at in range(1, len(kinds) + 1)] + [
        frozenset({kind}) for kind in kinds
    ]


def _better(best: Run, plan: Plan, parts: Parts | None) -> Run | None:
    found = run(plan, parts)
    if found.violation is None or best.violation is None:
        return None
    same = found.violation.promise == best.violation.promise
    return found if same and found.events <= best.events else None

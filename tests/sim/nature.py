"""What a world is like: which kinds of thing go wrong in it, and what its sessions run under."""

from random import Random
from typing import Final

from backstay.core.budget import Budget
from backstay.core.dialect import Dialect
from backstay.core.rules import Rules
from tests.sim.effects import TOOLS

PLAIN: Final = (
    "endings",
    "refusals",
    "repeats",
    "broken",
    "hangs",
    "interrupts",
    "prompts",
    "kills",
    "losses",
    "disk",
    "rivals",
    "supervisor",
)
"""The kinds of thing that can go wrong in any world."""
MORE: Final = ("histories", "lengths", "yields", "letters", "forks", "dialects")
"""What only every other world has: refused histories, conversations that are too long, commands that
answer before they end, letters of other processes, forks, providers that are not api.openai.com."""
FAULTS: Final = PLAIN + MORE

DIALECTS: Final = (
    Dialect(store=True),
    Dialect(calls_together=True),
    Dialect(custom_tools=False, encrypted_reasoning=False, unknown_items=False),
    Dialect(compact_endpoint=True),
    Dialect(compact_endpoint=True, store=True),
    Dialect(images=False),
    Dialect(output_images=False, calls_together=True),
)


def kinds(seed: int, rng: Random) -> frozenset[str]:
    """What goes wrong in the world of this seed; each world draws the plain ones from `rng`."""
    plain = {one for one in PLAIN if rng.random() < 0.6}
    own = Random(seed * 2 + 1)
    more = {one for one in MORE if own.random() < 0.4} if own.random() < 0.5 else set()
    return frozenset(plain | more)


def rules(seed: int, given: frozenset[str]) -> Rules:
    """What the sessions of this world run under."""
    rng = Random(seed * 2 + 2)
    long = "lengths" in given
    return Rules(
        tools={name: one.traits for name, one in TOOLS.items()},
        dialect=rng.choice(DIALECTS) if "dialects" in given else Dialect(),
        compact_at=rng.choice((None, 150, 400, 1500)) if long else None,
        budget=Budget(steps=rng.choice((None, 2, 3, 6)) if long else None),
    )

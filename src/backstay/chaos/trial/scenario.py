"""What a scenario is, and the list of all of them.

A scenario states one property that a user would expect, makes one thing go wrong, and returns what
did not hold: nothing, if the agent kept the property.
"""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from backstay.chaos.trial.stage import Stage

Play = Callable[[Stage], list[str]]
Needs = Literal["", "resume", "streaming"]
SCENARIOS: "list[Scenario]" = []


class Scenario(Struct, frozen=True):
    """`needs`: a way to resume; or that, and an agent that runs commands while a response is open."""

    name: str
    says: str
    play: Play
    needs: Needs = ""


def scenario(name: str, says: str, needs: Needs = "") -> Callable[[Play], Play]:
    """Add a scenario to the list."""

    def add(play: Play) -> Play:
        SCENARIOS.append(Scenario(name, says, play, needs))
        return play

    return add

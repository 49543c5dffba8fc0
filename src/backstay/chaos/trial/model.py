"""The model that an agent is tried with: it asks for commands and answers to what it is told.

As a real model would, it asks again for a command whose output the request does not hold: an agent
that loses a call, or an output, is led to run it twice. Runs in the fault server's thread.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from backstay.chaos import build
from backstay.chaos.judge import CALL_OF, OUTPUT_OF, items_of
from backstay.chaos.trial.commands import Command
from backstay.chaos.trial.shape import Shape, offered

JSON = dict[str, Any]
How = Callable[..., JSON]
PATIENCE = 5
"""Times that a model asks for the same step before it gives up."""


class Step(Struct):
    """Commands that the model asks for at once, and how that is streamed the first time."""

    commands: list[Command]
    how: How = build.response
    call_id: str | None = None
    wait_ms: int | None = None
    again: bool = True
    """Ask again where the request tells nothing of it."""


class Model:
    """What it says next, by what a request holds; `opening` are responses that it begins with."""

    def __init__(
        self,
        shape: Shape,
        steps: Sequence[Step] = (),
        opening: Sequence[JSON] = (),
        asides: Sequence[str] = (),
    ) -> None:
        self.shape = shape
        self.steps = list(steps)
        self.opening = list(opening)
        self.asides = asides
        """A request that holds one of these texts is answered with words alone."""
        self.asked: dict[int, int] = {}
        self.concluded = 0
        """How often it has come to its last word."""

    def __call__(self, body: JSON) -> JSON:
        """The response to a request."""
        if not offered(body):  # a title, a summary: what agents ask for besides
            return build.response(build.message("A trial"))
        if self.opening:
            return self.opening.pop(0)
        items = items_of(body)
        said = msgspec.json.encode(items).decode()
        if not any(aside in said for aside in self.asides):
            for number, step in enumerate(self.steps):
                missing = [one for one in step.commands if not is_answered(items, one)]
                if missing and self.asked.get(number, 0) < (PATIENCE if step.again else 1):
                    return self._ask(number, step, missing)
        self.concluded += 1
        return build.response(build.message("All is done."))

    def _ask(self, number: int, step: Step, missing: list[Command]) -> JSON:
        times = self.asked[number] = self.asked.get(number, 0) + 1
        calls = [
            self.shape.call(one.line, step.call_id or f"call_{one.name}_{times}", step.wait_ms)
            for one in missing
        ]
        return step.how(*calls) if times == 1 else build.response(*calls)


def is_answered(items: list[JSON], command: Command) -> bool:
    """Whether a request tells what became of a command: its token is there, or its call has an output."""
    return holds(items, command) or bool(answers(items, command))


def holds(items: list[JSON], command: Command) -> bool:
    """Whether the command's own output is in a request."""
    return any(command.token in text_of(item) for item in items)


def answers(items: list[JSON], command: Command) -> list[str]:
    """What a request says became of the command's calls, as texts."""
    waiting: set[Any] = set()
    found = []
    for item in items:
        kind, call_id = item.get("type"), item.get("call_id")
        if kind in OUTPUT_OF and command.path in text_of(item):
            waiting.add(call_id)
        elif kind in CALL_OF and call_id in waiting:
            waiting.discard(call_id)
            found.append(_output(item.get("output")))
    return found


def text_of(item: JSON) -> str:
    """An item's texts as they would be read: JSON, its escapes of quotes left in."""
    return msgspec.json.encode(item).decode()


def _output(output: Any) -> str:
    return output if isinstance(output, str) else msgspec.json.encode(output).decode()

"""What a proxy breaks: a plan by request number, faults by chance, or both.

Owns the plan's format, which `docs/chaos.md` describes, and says in one line what is wrong with one.
"""

import os
from typing import Any

import msgspec
from msgspec import Struct

from backstay.chaos.draw import draw
from backstay.chaos.script import (
    Chaos,
    Hold,
    Passage,
    Placed,
    Position,
    ScriptError,
    check_passage,
    read_json,
    readable,
    settle_chaos,
    settle_paths,
)


class Breaks(Struct, forbid_unknown_fields=True):
    """What befalls the answers to requests 0, 1, ... (None: nothing), and the others by chance."""

    requests: list[Passage | None] = []
    repeat: bool = False
    chaos: Chaos | None = None

    def of(self, number: int) -> tuple[Passage | None, bool]:
        """What befalls the answer to this request, and whether that was drawn."""
        last = len(self.requests) - 1
        if number <= last or (self.repeat and last >= 0):
            return self.requests[min(number, last)], False
        return (draw(self.chaos, number), True) if self.chaos else (None, False)


def load(path: str) -> Breaks:
    """Read a plan from a JSON file; raises ScriptError with one line that names the file."""
    return parse(read_json(path), folder=os.path.dirname(os.path.abspath(path)), name=path)


def parse(value: Any, *, folder: str = "", name: str = "plan") -> Breaks:
    """Check a plan given as a Python value; raises ScriptError with one line that names the field."""
    if isinstance(value, Breaks):
        return value
    try:
        breaks = msgspec.convert(
            {"requests": value} if isinstance(value, list | tuple) else value, Breaks
        )
    except msgspec.ValidationError as error:
        raise ScriptError(f"{name}: {readable(str(error))}") from None
    folder = os.path.abspath(folder)
    for number, passage in enumerate(breaks.requests):
        if passage:
            settle_paths(passage, folder)
            problem = check_passage(passage) or _ahead(passage)
            if problem:
                raise ScriptError(f"{name}: requests[{number}]{problem}")
    if breaks.chaos:
        problem = settle_chaos(breaks.chaos, folder)
        for number, kind in enumerate(breaks.chaos.kinds):
            if not isinstance(kind, str) and not problem and _ahead(Passage(fault=kind)):
                problem = f".kinds[{number}]{_ahead(Passage(fault=kind))}"
        if problem:
            raise ScriptError(f"{name}: chaos{problem}")
    return breaks


def _ahead(passage: Passage) -> str:
    """What asks for more of a stream than has come when it is to happen; empty if nothing does."""
    for what in (*passage.faults, *passage.holds):
        if isinstance(what, Placed | Hold):
            numbers = [what.event] if isinstance(what, Hold) else []
            for where in (what.after, what.before, *numbers):
                event = where.event if isinstance(where, Position) else where
                if isinstance(event, int) and event < 0:
                    return f": event {event} counts from the end, which a proxy can't know"
    return ""

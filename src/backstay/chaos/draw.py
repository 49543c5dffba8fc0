"""What befalls which answer where faults come by probability: decided by seed and request number.

Pure. The same seed and number give the same draw on every machine and Python version, since only
`Random.random` is used, whose sequence is guaranteed. A higher probability with the same seed adds
draws and changes none.
"""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

import msgspec

from backstay.chaos.script import (
    Chaos,
    Fault,
    Kind,
    Passage,
    Reorder,
    Response,
    Stall,
    Trickle,
)

T = TypeVar("T")

STATUSES = (429, 500, 502, 503)
EVENTS = 40
"""A fault that is placed at an event's number is placed at one of the first so many."""


def draw(chaos: Chaos, number: int) -> Passage | None:
    """What befalls the answer to request `number` (of those for responses, from 0), or None."""
    source = Random(f"{chaos.seed}/{number}")
    if source.random() >= chaos.probability:
        return None
    kind = _one_of(source, chaos.kinds)
    if not isinstance(kind, str):
        return Passage(fault=kind)
    match kind:
        case "status":
            return Passage(status=_one_of(source, STATUSES))
        case "delay":
            return Passage(delay=round(chaos.seconds * source.random(), 3))
        case "trickle":
            return Passage(trickle=Trickle(chaos.seconds / 100))
        case _:
            return Passage(fault=_fault(source, kind, chaos.seconds))


def befall(response: Response, drawn: Passage) -> Response:
    """The response as the draw leaves it."""
    if drawn.status is not None:
        return Response(status=drawn.status)
    return msgspec.structs.replace(
        response,
        delay=drawn.delay or response.delay,
        trickle=drawn.trickle or response.trickle,
        fault=drawn.fault,
    )


def _fault(source: Random, kind: Kind, seconds: float) -> Fault:
    """A fault of this kind at a place that a stream is likely to have."""
    place = {} if kind in ("truncated_call", "keepalive_trap") else _place(source, kind)
    fault: Fault = msgspec.convert({"kind": kind} | place, Fault)
    if isinstance(fault, Stall):
        fault.seconds = seconds
    if isinstance(fault, Reorder):
        fault.by = 1 + int(source.random() * 3)
    return fault


def _place(source: Random, kind: Kind) -> dict[str, object]:
    """Before the terminal event, after a call, after one of the first events, before all of them."""
    where = int(source.random() * 7)
    event = int(source.random() * source.random() * EVENTS)
    if where < 2:
        return {}
    if where < 4:
        return {"after": "call"}
    if where == 4 and kind in ("close", "reset", "stall"):
        return {"before": "headers"}
    return {"after": event}


def _one_of(source: Random, choices: Sequence[T]) -> T:
    return choices[int(source.random() * len(choices))]

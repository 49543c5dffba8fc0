"""What the calls of a rollout that have no output get: `salvage`'s findings as results."""

from typing import Final

from backstay.core.events import Result
from backstay.core.items import Item, call_id
from backstay.core.record import Status
from backstay.doctor.lines import Line
from backstay.doctor.pairs import call_of
from backstay.doctor.rollout import Entry
from backstay.doctor.salvage import salvage

_STATUS: Final[dict[str, Status]] = {"event": "done", "partial": "unknown", "files": "unknown"}
"""By where an output comes from; where there is none, what the call says for itself counts."""


def endings(path: str, calls: list[Item], cwd: str) -> dict[str, Result]:
    """By call id what the file or the working folder tells of these calls. Raises `StorageError`."""
    wanted = [
        call_of(Entry(Line(0, 0, 0), "", "response_item", call), cwd=cwd, turn=0) for call in calls
    ]
    found = {}
    for call, told in zip(calls, salvage(path, wanted), strict=True):
        if told.source in _STATUS:
            found[call_id(call)] = Result(content=told.text, status=_STATUS[told.source])
    return found

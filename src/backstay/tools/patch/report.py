"""Words what became of a patch, for the model and for whoever shows changes.

Pure. The text of a full success is Codex's, so that models meet what they were trained on.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from backstay.tools.patch.plan import FileChange, Listed, Plan

Status = Literal["applied", "already", "not applied", "conflicting"]
_SIGNS: dict[str, Literal["A", "M", "D"]] = {"add": "A", "update": "M", "move": "M", "delete": "D"}


class PathStatus(msgspec.Struct, frozen=True):
    """What became of one net change.

    `applied` now, `already` before (a recovery found it done), `not applied`, or `conflicting`:
    the file is neither as planned on nor as planned, and was left alone.
    """

    change: FileChange
    status: Status


class Change(msgspec.Struct, frozen=True):
    """A file that the patch changed, for events: path as written, and absolute."""

    path: str
    target: str
    kind: Literal["add", "update", "delete"]


class Outcome(msgspec.Struct, frozen=True):
    """What became of a patch.

    `ok`: every operation took effect. `state`: how much of the *plan* is in effect; a plan cut short
    by a failed operation can be fully applied without being ok. `output` is the text for the model.
    """

    ok: bool
    state: Literal["applied", "partly", "not applied"]
    output: str
    statuses: tuple[PathStatus, ...]
    changes: tuple[Change, ...]


def outcome(plan: Plan, statuses: Sequence[PathStatus], problem: str | None = None) -> Outcome:
    """The outcome of a plan; `problem` says what stopped it, when something did."""
    done = [s.change for s in statuses if s.status in ("applied", "already")]
    if len(done) == len(statuses) and (done or problem is None):
        state: Literal["applied", "partly", "not applied"] = "applied"
        lines = _complete(plan)
        if problem is not None:
            lines.append(f"Warning: {problem}")
    else:
        state = "partly" if done else "not applied"
        lines = _incomplete(plan, statuses, problem)
    return Outcome(
        ok=state == "applied" and plan.failure is None,
        state=state,
        output="\n".join(lines) + "\n",
        statuses=tuple(statuses),
        changes=_changes(done),
    )


def _complete(plan: Plan) -> list[str]:
    if plan.failure is None:
        return ["Success. Updated the following files:", *_listing(plan.listed)]
    if not plan.listed:
        return [*_failure(plan), "No files were changed."]
    return [
        *_failure(plan),
        "These files were changed by the operations before it and stay changed:",
        *_listing(plan.listed),
    ]


def _failure(plan: Plan) -> list[str]:
    failure = plan.failure
    if failure is None:
        return []
    lines = [
        f"Operation {failure.number} of {plan.operations} failed: {failure.header}",
        failure.reason,
    ]
    left = plan.operations - failure.number
    if left:
        lines.append(f"{left} later operation{'s were' if left > 1 else ' was'} not tried.")
    return lines


def _incomplete(plan: Plan, statuses: Sequence[PathStatus], problem: str | None) -> list[str]:
    def paths(*wanted: Status) -> list[Listed]:
        chosen = [s.change for s in statuses if s.status in wanted]
        return [Listed(_SIGNS[change.kind], change.path) for change in chosen]

    done, conflicting = paths("applied", "already"), paths("conflicting")
    lines = ["The patch was applied in part." if done else "The patch was not applied."]
    if problem is not None:
        lines.append(f"Reason: {problem}")
    if done:
        lines += ["Changed:", *_listing(done)]
    else:
        lines.append("No files were changed.")
    if conflicting:
        lines.append("Changed by something else meanwhile and left alone; read before repeating:")
        lines += _listing(conflicting)
    if done and (left := paths("not applied")):
        lines += ["Not changed:", *_listing(left)]
    return lines + _failure(plan)


def _listing(entries: Iterable[Listed]) -> list[str]:
    found = list(entries)
    return [f"{e.sign} {e.path}" for sign in ("A", "M", "D") for e in found if e.sign == sign]


def _changes(done: Sequence[FileChange]) -> tuple[Change, ...]:
    """A move is one update of its new path; the removal of its source is not listed again."""
    moved = {change.source for change in done if change.source is not None}
    return tuple(
        Change(change.path, change.target, "update" if change.kind == "move" else change.kind)
        for change in done
        if not (change.kind == "delete" and change.target in moved)
    )

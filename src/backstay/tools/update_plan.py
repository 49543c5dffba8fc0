"""The tool `update_plan`: the model says what it is about to do, and people get to see it.

Nothing but the call itself holds the plan, so it is as durable as the history.
"""

from typing import Any, Final

from backstay.core.dialect import Dialect
from backstay.core.events import Result
from backstay.core.rules import Traits
from backstay.tools.tool import Invocation, Plain, failed

STATUSES: Final = ("pending", "in_progress", "completed")
_FIELDS: Final = frozenset({"plan", "explanation"})

_PARAMETERS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "explanation": {"type": "string", "description": "Why the plan changes, if it does."},
        "plan": {
            "type": "array",
            "description": "All steps, in order, each time.",
            "items": {
                "type": "object",
                "properties": {
                    "step": {"type": "string", "description": "A step, in a few words."},
                    "status": {"type": "string", "enum": list(STATUSES)},
                },
                "required": ["step", "status"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["plan"],
    "additionalProperties": False,
}


class UpdatePlan(Plain):
    """Takes a plan in. It changes nothing, so it may run again after a crash."""

    name = "update_plan"
    traits = Traits(replay="safe")
    timeout: float | None = None

    def spec(self, dialect: Dialect) -> dict[str, Any]:
        """The tool as a function."""
        del dialect
        return {
            "type": "function",
            "name": self.name,
            "description": (
                "Shows the user your plan: a short list of steps with the state of each. Give the "
                "whole list each time. At most one step is in_progress."
            ),
            "strict": False,
            "parameters": _PARAMETERS,
        }

    async def run(self, invocation: Invocation) -> Result:
        """Say that the plan was taken, or what is wrong with it."""
        wrong = complaint(invocation.arguments)
        return (
            failed(f"The plan was not taken: {wrong}.") if wrong else Result(content="Plan updated")
        )


def complaint(given: dict[str, Any]) -> str:
    """What is wrong with the arguments of a call, or ""."""
    steps = given.get("plan")
    if not isinstance(steps, list):
        return "plan must be a list of objects with step and status"
    if not isinstance(given.get("explanation"), str | None):
        return "explanation must be a text"
    if unknown := sorted(given.keys() - _FIELDS):
        return f"there is no parameter {unknown[0]}"
    for number, step in enumerate(steps, 1):
        if not isinstance(step, dict) or not isinstance(step.get("step"), str):
            return f"item {number} of plan must be an object with the texts step and status"
        if not step["step"].strip():
            return f"item {number} of plan has an empty step"
        if step.get("status") not in STATUSES:
            return f"the status of item {number} must be one of {', '.join(STATUSES)}"
    running = sum(step["status"] == "in_progress" for step in steps)
    return f"{running} steps are in_progress: at most one may be" if running > 1 else ""

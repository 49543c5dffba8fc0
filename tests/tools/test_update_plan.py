"""The tool `update_plan`: what is taken, and what is said of everything else."""

import asyncio
import json
from typing import Any

import pytest

from backstay.core.dialect import Dialect
from backstay.core.events import Result
from backstay.tools.tool import Invocation
from backstay.tools.update_plan import UpdatePlan


def update(**arguments: Any) -> Result:
    """The result of a call with these arguments."""
    item = {"type": "function_call", "name": "update_plan", "arguments": json.dumps(arguments)}
    return asyncio.run(UpdatePlan().run(Invocation(1, item, "e")))


def step(status: Any = "pending", text: Any = "a step") -> dict[str, Any]:
    """One step."""
    return {"step": text, "status": status}


def test_a_plan_is_taken() -> None:
    """With and without an explanation; an empty one clears the list."""
    plan = [step("completed"), step("in_progress"), step()]
    assert update(plan=plan) == Result(content="Plan updated")
    assert update(plan=plan, explanation="found more").status == "done"
    assert update(plan=plan, explanation=None).status == "done"
    assert update(plan=[]).status == "done"


@pytest.mark.parametrize(
    "arguments,said",
    [
        ({}, "plan must be a list"),
        ({"plan": "all"}, "plan must be a list"),
        ({"plan": ["one"]}, "item 1 of plan must be an object"),
        ({"plan": [step(), {"status": "pending"}]}, "item 2 of plan must be an object"),
        ({"plan": [step(text=7)]}, "item 1 of plan must be an object"),
        ({"plan": [step(text=" ")]}, "item 1 of plan has an empty step"),
        ({"plan": [step("done")]}, "pending, in_progress, completed"),
        ({"plan": [step([])]}, "pending, in_progress, completed"),
        ({"plan": [step("in_progress"), step("in_progress")]}, "at most one may be"),
        ({"plan": [], "explanation": 3}, "explanation must be a text"),
        ({"plan": [], "steps": []}, "no parameter steps"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(arguments: dict[str, Any], said: str) -> None:
    """The output names it, and the plan was not taken."""
    result = update(**arguments)
    assert result.status == "failed"
    assert isinstance(result.content, str)
    assert result.content.startswith("The plan was not taken: ")
    assert said in result.content


def test_it_is_offered_under_the_names_that_models_know() -> None:
    """`plan` with `step` and `status`, and `explanation`; it may run again after a crash."""
    parameters = UpdatePlan().spec(Dialect())["parameters"]
    assert parameters["properties"].keys() == {"plan", "explanation"}
    item = parameters["properties"]["plan"]["items"]
    assert item["properties"]["status"]["enum"] == ["pending", "in_progress", "completed"]
    assert UpdatePlan.traits.replay == "safe"

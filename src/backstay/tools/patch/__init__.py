"""The `apply_patch` engine: reads a patch, plans it, applies it, and finishes it after a crash.

Synchronous and free of the agent: a tool adapter journals `Prepared.plan_data` before `execute`, and
hands it to `recover` when it finds a start without an output.
"""

from collections.abc import Mapping, Sequence

import msgspec

from backstay.tools.patch import apply as _apply
from backstay.tools.patch.disk import Workspace
from backstay.tools.patch.grammar import GRAMMAR, custom_tool, function_tool
from backstay.tools.patch.parse import PatchError, parse
from backstay.tools.patch.plan import FileChange, Plan, decode_plan, encode_plan, plan_patch
from backstay.tools.patch.report import Change, Outcome, PathStatus

__all__ = [
    "GRAMMAR",
    "Change",
    "FileChange",
    "Outcome",
    "PatchError",
    "PathStatus",
    "Plan",
    "Prepared",
    "custom_tool",
    "execute",
    "function_tool",
    "parse",
    "prepare",
    "recover",
]


class Prepared(msgspec.Struct, frozen=True):
    """A planned patch: `plan_data` is what to journal (JSON-able, without file contents)."""

    plan: Plan
    contents: dict[str, bytes]
    plan_data: dict[str, object]


def prepare(text: str, cwd: str, roots: Sequence[str]) -> Prepared:
    """Plan a patch on the files as they are; reads only.

    `cwd` is what relative paths start from, `roots` the writable folders. Raises `PatchError`, whose
    one-paragraph message is the output for the model, when the text is no patch or when any of its
    paths leads outside of the roots. An operation that can't be applied is part of the plan instead.
    """
    plan, contents = plan_patch(parse(text), Workspace(cwd, roots))
    return Prepared(plan, contents, encode_plan(plan))


def execute(prepared: Prepared, effect_id: str, step: _apply.Step = _apply.no_step) -> Outcome:
    """Apply a prepared patch. `effect_id` (at most 100 bytes, no slash) names its temporary files."""
    return _apply.execute(prepared.plan, prepared.contents, effect_id, step)


def recover(
    plan_data: Mapping[str, object], effect_id: str, step: _apply.Step = _apply.no_step
) -> Outcome:
    """Finish or drop the patch of `plan_data` after a crash; may be called any number of times.

    Raises `PatchError` when the recorded plan can't be read.
    """
    return _apply.recover(decode_plan(plan_data), effect_id, step)

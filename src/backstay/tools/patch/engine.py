"""The three verbs of a patch, from its text to its outcome: prepare, execute, recover."""

from collections.abc import Mapping, Sequence

import msgspec

from backstay.tools.patch import apply
from backstay.tools.patch.disk import Workspace
from backstay.tools.patch.parse import parse
from backstay.tools.patch.plan import Plan, decode_plan, encode_plan, plan_patch
from backstay.tools.patch.report import Outcome


class Prepared(msgspec.Struct, frozen=True):
    """A planned patch: `plan_data` is what to journal (JSON-able, without file contents)."""

    plan: Plan
    contents: dict[str, bytes]
    plan_data: dict[str, object]


def prepare(text: str, cwd: str, roots: Sequence[str]) -> Prepared:
    """Plan a patch on the files as they are; reads only.

    `cwd` is what relative paths start from, `roots` the writable folders. Raises `PatchError`, whose
    one-line message is the output for the model, when the text is no patch or when any of its paths
    leads outside of the roots. An operation that can't be applied is part of the plan instead.
    """
    plan, contents = plan_patch(parse(text), Workspace(cwd, roots))
    return Prepared(plan, contents, encode_plan(plan))


def execute(prepared: Prepared, effect_id: str, step: apply.Step = apply.no_step) -> Outcome:
    """Apply a prepared patch. `effect_id` (at most 100 bytes, no slash) names its temporary files."""
    return apply.execute(prepared.plan, prepared.contents, effect_id, step)


def recover(
    plan_data: Mapping[str, object], effect_id: str, step: apply.Step = apply.no_step
) -> Outcome:
    """Finish or drop the patch of `plan_data` after a crash; may be called any number of times.

    Raises `PatchError` when the recorded plan can't be read.
    """
    return apply.recover(decode_plan(plan_data), effect_id, step)

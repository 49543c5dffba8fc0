"""The tool `apply_patch`: the patch engine under the Tool protocol."""

from __future__ import annotations  # the engine is loaded by the first patch, not before

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from backstay.core.dialect import Dialect
from backstay.core.events import Evidence, Result
from backstay.core.items import Item, arguments, kind
from backstay.core.record import Start
from backstay.core.rules import Traits
from backstay.tools import patch
from backstay.tools.tool import Invocation, failed


def _no_step(_: str) -> None: ...


class ApplyPatch:
    """Edits files. Exclusive: its plan is made on the files as all calls before it left them."""

    name = "apply_patch"
    traits = Traits(parallel=False, prepares=True)
    timeout: float | None = None

    def __init__(
        self, cwd: str, roots: Sequence[str], step: Callable[[str], None] = _no_step
    ) -> None:
        """`roots`: the folders that may be written, the working folder among them.

        `step` is called with a name before each step that another process could see.
        """
        self._step = step
        self._cwd = cwd
        self._roots = tuple(roots)
        self._prepared: dict[int, patch.Prepared] = {}

    def spec(self, dialect: Dialect) -> dict[str, Any]:
        """A custom tool with its grammar, or a function of one string (FACTS 15)."""
        return patch.custom_tool() if dialect.custom_tools else patch.function_tool()

    async def prepare(self, invocation: Invocation) -> dict[str, Any] | Result:
        """The plan, or the reason why there can be none."""
        text = _patch_text(invocation.item)
        if text is None:
            return failed("apply_patch needs the patch as the string `input`.")
        try:
            prepared = await asyncio.to_thread(patch.prepare, text, self._cwd, self._roots)
        except patch.PatchError as error:
            return failed(str(error))
        self._prepared[invocation.call] = prepared
        return dict(prepared.plan_data)

    async def run(self, invocation: Invocation) -> Result:
        """Apply the plan that is in the start record."""
        prepared = self._prepared.pop(invocation.call)
        return _result(
            await asyncio.to_thread(patch.execute, prepared, invocation.effect, self._step)
        )

    async def stop(self, invocation: Invocation) -> bool:
        """A patch is over in an instant; it is not broken off."""
        del invocation
        return True

    async def adopt(self, invocation: Invocation) -> Result:
        """Never asked for: a patch does not outlive its process."""
        raise NotImplementedError(f"{self.name} can't be adopted ({invocation.effect})")

    async def probe(self, invocation: Invocation, start: Start) -> Evidence:
        """Roll the plan forward where that is safe, and say what became of it."""
        if start.plan is None:
            return Evidence(found="unknown", detail="its plan is missing")
        try:
            found = await asyncio.to_thread(
                patch.recover, start.plan, invocation.effect, self._step
            )
        except patch.PatchError as error:
            return Evidence(found="unknown", detail=str(error))
        return Evidence(found="recovered", result=_result(found))


def _patch_text(item: Item) -> str | None:
    if kind(item) == "custom_tool_call":
        text = item.get("input")
    else:
        text = (arguments(item) or {}).get("input")
    return text if isinstance(text, str) else None


def _result(found: patch.Outcome) -> Result:
    return Result(
        content=found.output,
        status="done" if found.ok else "failed",
        show={"changes": [{"path": one.path, "kind": one.kind} for one in found.changes]},
    )

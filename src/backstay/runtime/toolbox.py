"""Backstay's own tools, put together for a session; a user's own come beside them."""

from typing import TYPE_CHECKING, Final

from backstay.runtime.settings import Settings
from backstay.tools.apply_patch import ApplyPatch
from backstay.tools.exec_command import ExecCommand, Shell, WriteStdin
from backstay.tools.tool import Tool
from backstay.tools.update_plan import UpdatePlan
from backstay.tools.view_image import ViewImage

if TYPE_CHECKING:
    from backstay.runtime.crash import Points

OWN: Final = frozenset({"exec_command", "write_stdin", "apply_patch", "update_plan", "view_image"})
"""Their names."""


def own_tools(settings: Settings, cwd: str, shell: Shell, points: "Points | None") -> list[Tool]:
    """The tools in the order in which requests list them; `points` are for crash tests."""
    roots = (cwd, *settings.writable)
    patches = ApplyPatch(cwd, roots, points.step) if points else ApplyPatch(cwd, roots)
    tools: list[Tool] = [ExecCommand(shell), WriteStdin(shell), patches, UpdatePlan()]
    return [*tools, ViewImage(cwd)] if settings.provider.dialect.images else tools

"""The `apply_patch` engine: reads a patch, plans it, applies it, and finishes it after a crash.

Synchronous and free of the agent: a tool adapter journals `Prepared.plan_data` before `execute`, and
hands it to `recover` when it finds a start without an output. Only the tool's description is loaded
with this package, since the first request needs no more; the engine loads with its first name.
"""

from typing import TYPE_CHECKING

from backstay.tools.patch.grammar import GRAMMAR, custom_tool, function_tool

if TYPE_CHECKING:
    from backstay.tools.patch.engine import Prepared, execute, prepare, recover
    from backstay.tools.patch.parse import PatchError
    from backstay.tools.patch.plan import FileChange, Plan
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
    "prepare",
    "recover",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from backstay.tools.patch import engine, parse, plan, report

    homes = (engine, parse, plan, report)
    value: object = getattr(next(module for module in homes if hasattr(module, name)), name)
    return value

"""Backstay: a coding agent and agent runtime whose sessions survive everything.

Owns the version and the public names. Importing it loads nothing: each name is loaded when it is
first used. `__init__.pyi` tells type checkers of them.
"""

__version__ = "0.1.0"

_WHERE = {
    "backstay.runtime.agent": ("Agent", "Session", "Answer"),
    "backstay.tools.function": ("tool", "Context", "FunctionTool"),
    "backstay.tools.tool": ("Tool",),
    "backstay.core.events": ("Result",),
    "backstay.core.usage": ("Usage",),
    "backstay.runtime.story": (
        "TurnStarted",
        "TextDelta",
        "ReasoningDelta",
        "MessageCompleted",
        "ToolStarted",
        "ToolOutput",
        "ToolFinished",
        "AttemptRetried",
        "Notice",
        "TurnCompleted",
        "TurnFailed",
        "TurnEvent",
        "Event",
    ),
    "backstay.runtime.hooks": ("ToolCall", "ToolResult"),
    "backstay.errors": (
        "BackstayError",
        "UsageError",
        "ConfigError",
        "RemoteError",
        "SessionError",
        "UnknownSession",
        "EmptySession",
        "SessionHeld",
        "NewerFormat",
        "StorageError",
        "Interrupted",
    ),
}
__all__ = [name for names in _WHERE.values() for name in names]


def __getattr__(name: str) -> object:
    for module, names in _WHERE.items():
        if name in names:
            from importlib import import_module

            found: object = getattr(import_module(module), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

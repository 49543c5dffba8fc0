"""Backstay: a coding agent and agent runtime whose sessions survive everything.

Owns the version and the public names. Importing it loads nothing: each name is loaded when it is
first used.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from backstay.core.events import Result as Result
    from backstay.core.usage import Usage as Usage
    from backstay.errors import BackstayError as BackstayError
    from backstay.errors import ConfigError as ConfigError
    from backstay.errors import EmptySession as EmptySession
    from backstay.errors import Interrupted as Interrupted
    from backstay.errors import NewerFormat as NewerFormat
    from backstay.errors import RemoteError as RemoteError
    from backstay.errors import SessionError as SessionError
    from backstay.errors import SessionHeld as SessionHeld
    from backstay.errors import StorageError as StorageError
    from backstay.errors import UnknownSession as UnknownSession
    from backstay.errors import UsageError as UsageError
    from backstay.runtime.agent import Agent as Agent
    from backstay.runtime.agent import Answer as Answer
    from backstay.runtime.agent import Session as Session
    from backstay.runtime.hooks import ToolCall as ToolCall
    from backstay.runtime.hooks import ToolResult as ToolResult
    from backstay.runtime.story import AttemptRetried as AttemptRetried
    from backstay.runtime.story import Event as Event
    from backstay.runtime.story import MessageCompleted as MessageCompleted
    from backstay.runtime.story import Notice as Notice
    from backstay.runtime.story import ReasoningDelta as ReasoningDelta
    from backstay.runtime.story import TextDelta as TextDelta
    from backstay.runtime.story import ToolFinished as ToolFinished
    from backstay.runtime.story import ToolOutput as ToolOutput
    from backstay.runtime.story import ToolStarted as ToolStarted
    from backstay.runtime.story import TurnCompleted as TurnCompleted
    from backstay.runtime.story import TurnEvent as TurnEvent
    from backstay.runtime.story import TurnFailed as TurnFailed
    from backstay.runtime.story import TurnStarted as TurnStarted
    from backstay.tools.function import Context as Context
    from backstay.tools.function import FunctionTool as FunctionTool
    from backstay.tools.function import tool as tool
    from backstay.tools.tool import Tool as Tool

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


if not TYPE_CHECKING:  # a type checker is to know every name that there is, and no other

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

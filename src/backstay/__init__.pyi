# The public names, for type checkers; `__init__.py` loads each when it is first used.

from backstay.core.events import Result
from backstay.core.usage import Usage
from backstay.errors import (
    BackstayError,
    ConfigError,
    EmptySession,
    Interrupted,
    NewerFormat,
    RemoteError,
    SessionError,
    SessionHeld,
    StorageError,
    UnknownSession,
    UsageError,
)
from backstay.runtime.agent import Agent, Answer, Session
from backstay.runtime.hooks import ToolCall, ToolResult
from backstay.runtime.story import (
    AttemptRetried,
    Event,
    MessageCompleted,
    Notice,
    ReasoningDelta,
    TextDelta,
    ToolFinished,
    ToolOutput,
    ToolStarted,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
)
from backstay.tools.function import Context, FunctionTool, tool
from backstay.tools.tool import Tool

__version__: str
__all__ = [
    "Agent",
    "Answer",
    "AttemptRetried",
    "BackstayError",
    "ConfigError",
    "Context",
    "EmptySession",
    "Event",
    "FunctionTool",
    "Interrupted",
    "MessageCompleted",
    "NewerFormat",
    "Notice",
    "ReasoningDelta",
    "RemoteError",
    "Result",
    "Session",
    "SessionError",
    "SessionHeld",
    "StorageError",
    "TextDelta",
    "Tool",
    "ToolCall",
    "ToolFinished",
    "ToolOutput",
    "ToolResult",
    "ToolStarted",
    "TurnCompleted",
    "TurnEvent",
    "TurnFailed",
    "TurnStarted",
    "UnknownSession",
    "Usage",
    "UsageError",
    "tool",
]

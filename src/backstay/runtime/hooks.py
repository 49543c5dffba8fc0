"""What a caller of the library may have a say in: calls before they start, and their ends.

A hook that fails never loses or repeats anything: see `Guarded`.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from backstay.core.dialect import Dialect
from backstay.core.events import Evidence, Result
from backstay.core.items import tool_name
from backstay.core.record import Start
from backstay.runtime.teller import given
from backstay.tools.tool import Invocation, Tool, raised

_REFUSED: Final = "This call was refused; it was not run. {why}"


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call, as hooks see it."""

    session_id: str
    call: int
    """The call's number: that of its record in the journal."""
    name: str
    arguments: dict[str, Any]
    """As the model gave them, not checked; a call that takes a text has it as `input`."""


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a call, as hooks see it."""

    output: str
    """As the model gets it; "" where it is no text."""
    status: str
    """As in `ToolFinished`."""
    error: BaseException | None = None
    """What the tool's function raised, with its traceback."""


BeforeTool = Callable[[ToolCall], str | Awaitable[str | None] | None]
"""Asked before a call starts, in the event loop. None lets it go on; a text refuses it, and is what
the model is told. One that raises refuses it too."""
AfterTool = Callable[[ToolCall, ToolResult], None]
"""Told in the event loop once a call's output is on disk. What it raises becomes a `Notice`."""


class Guarded:
    """A tool whose calls are asked about before they start.

    The answer comes before the call's start is recorded, so that a refused call has never started.
    A call that runs again after a crash was let go on then, and is not asked about again.
    """

    def __init__(
        self,
        tool: Tool,
        session: str,
        before: BeforeTool | None,
        failures: dict[int, BaseException],
    ) -> None:
        """`failures` takes what the calls raise, by call."""
        self._tool = tool
        self._session = session
        self._before = before
        self._failures = failures
        self.name = tool.name
        self.timeout = tool.timeout
        self._prepares = tool.traits.prepares
        prepares = self._prepares or before is not None
        self.traits = msgspec.structs.replace(tool.traits, prepares=prepares)

    def spec(self, dialect: Dialect) -> dict[str, Any]:
        """The tool's own."""
        return self._tool.spec(dialect)

    async def prepare(self, invocation: Invocation) -> dict[str, Any] | Result:
        """Ask, then let the tool plan."""
        if self._before is not None:
            refusal = await _asked(self._before, call_of(invocation, self._session))
            if refusal is not None:
                text = _REFUSED.format(why=refusal).strip()
                return Result(content=text, status="rejected")
        return await self._tool.prepare(invocation) if self._prepares else {}

    async def run(self, invocation: Invocation) -> Result:
        """Run it, and keep what it raises for the hook."""
        try:
            return await self._tool.run(invocation)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._failures[invocation.call] = error
            raise

    async def stop(self, invocation: Invocation) -> bool:
        return await self._tool.stop(invocation)

    async def probe(self, invocation: Invocation, start: Start) -> Evidence:
        return await self._tool.probe(invocation, start)

    async def adopt(self, invocation: Invocation) -> Result:
        return await self._tool.adopt(invocation)


def call_of(invocation: Invocation, session: str) -> ToolCall:
    """The call that an invocation is."""
    item = invocation.item
    return ToolCall(
        session_id=session, call=invocation.call, name=tool_name(item), arguments=given(item)
    )


async def _asked(before: BeforeTool, call: ToolCall) -> str | None:
    """Why the call is refused, or None. A hook that fails can't have agreed."""
    try:
        answer = before(call)
        if inspect.isawaitable(answer):
            answer = await answer
    except Exception as error:  # noqa: BLE001 - a hook's failure is its answer
        return f"The check before it failed: {raised(error)}"
    return None if answer is None else str(answer)

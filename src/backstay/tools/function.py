"""`@tool`: a function as a tool. Its type hints are the schema, its docstring the description.

Owns how a function is called (an async one in the event loop, any other in a thread), what its
value becomes, and how what a crash left is found out (`replay`, `check`).
"""

import asyncio
import contextvars
import copy
import inspect
import re
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar, overload

import msgspec

from backstay.core.dialect import Dialect
from backstay.core.events import Evidence, Result
from backstay.core.record import Start, scrub
from backstay.core.rules import Traits
from backstay.errors import UsageError
from backstay.tools import docstring
from backstay.tools.signature import Signature, WrongArguments, hints
from backstay.tools.tool import Invocation, Plain, failed, raised

P = ParamSpec("P")
R = TypeVar("R")

Replay = Literal["never", "safe"]

TIMEOUT: Final = 600.0
"""Seconds that a call of a function may take unless it is declared otherwise."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PARTS: Final = frozenset({"input_text", "input_image", "input_file"})
_NO_EFFECT: Final = "its own check found no effect of it"


class Context(msgspec.Struct):
    """What a tool's function may know of the call that it serves: a parameter annotated with it.

    The model sees no such parameter. In a test of the function, make one by hand:
    `Context("test-1")`.
    """

    effect_id: str
    """The call's own name, the same after a crash and a resume: an idempotency key for whatever
    the function does elsewhere."""
    session_id: str = ""
    cwd: str = ""
    """The folder that the session works in, absolute."""
    call: int = 0
    """The number of the call's record in the journal."""
    show: Callable[[str], None] | None = None
    """Takes the text of `progress`."""

    def progress(self, text: str) -> None:
        """Show a line to whoever watches, now (`ToolOutput`); from any thread.

        The model does not get it, and it is not kept.
        """
        if self.show is not None:
            self.show(text)


class FunctionTool(Plain, Generic[P, R]):
    """A function as a tool: what `tool` makes. Called, it is the function itself."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str = "",
        description: str = "",
        replay: Replay = "never",
        check: Callable[..., Any] | None = None,
        timeout: float | None = TIMEOUT,
        parallel: bool = True,
    ) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", "")
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"tool {self.name!r}: a name is 1 to 64 letters, digits, _ or -")
        if timeout is not None and timeout <= 0:
            raise UsageError(f"tool {self.name}: timeout must be above 0, or None for no limit")
        self.timeout = timeout
        self.traits = Traits(parallel=parallel, replay=replay)
        said, described = docstring.parse(inspect.getdoc(function))
        self.description = description or said
        self._signature = Signature(function, self.name, described, Context)
        self._check = check
        self._asks = _asks(check, self._signature, self.name) if check is not None else {}
        self.cwd = ""
        self._outliving: set[str] = set()
        """Effects whose thread was asked to stop, which it can't be: it gets a little time."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def at(self, cwd: str) -> "FunctionTool[P, R]":
        """The same tool for a session that works in this folder."""
        tool = copy.copy(self)
        tool.cwd = cwd
        return tool

    def spec(self, dialect: Dialect) -> dict[str, Any]:
        """A function tool in every dialect."""
        del dialect
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "strict": False,
            "parameters": self._signature.schema,
        }

    async def run(self, invocation: Invocation) -> Result:
        """Call the function with what the model gave, converted."""
        try:
            given = self._signature.values(invocation.item)
        except WrongArguments as error:
            return failed(f"{self.name} was not run, its arguments are wrong: {error}")
        if self._signature.context:
            given[self._signature.context] = self._context(invocation)
        if inspect.iscoroutinefunction(self.function):
            value = await self.function(**given)  # type: ignore[call-arg] # P is not known here
        else:
            value = await self._in_thread(self.function, given, invocation.effect)
        if inspect.isawaitable(value):  # a plain function that only makes a coroutine
            value = await value
        return as_result(self.name, value)

    async def stop(self, invocation: Invocation) -> bool:
        """Ask to be cancelled. A thread can't be: it gets the time that follows, then is left."""
        if not inspect.iscoroutinefunction(self.function):
            self._outliving.add(invocation.effect)
        return False

    async def probe(self, invocation: Invocation, start: Start) -> Evidence:
        """What the tool's own check says of a call that a crash left; without one nobody knows."""
        if self._check is None:
            return await super().probe(invocation, start)
        value = await self._ask(self._check, invocation)
        if value is not None:
            return Evidence(found="answered", result=as_result(self.name, value))
        if self.traits.replay == "safe":  # what had no effect and may run again does so
            return Evidence(found="unknown", detail=_NO_EFFECT)
        return Evidence(found="unstarted", detail=_NO_EFFECT)

    async def _ask(self, check: Callable[..., Any], invocation: Invocation) -> Any:
        """What the check returns. Raises whatever it raises: then it is not known."""
        given = self._signature.values(invocation.item)
        given = {name: value for name, value in given.items() if name in self._asks}
        for name, hint in self._asks.items():
            if hint is Context:
                given[name] = self._context(invocation)
        async with asyncio.timeout(self.timeout or TIMEOUT):
            if inspect.iscoroutinefunction(check):
                return await check(**given)
            value = await self._in_thread(check, given, invocation.effect)
            return await value if inspect.isawaitable(value) else value

    def _context(self, invocation: Invocation) -> Context:
        loop = asyncio.get_running_loop()

        def show(text: str) -> None:
            line = f"{text.rstrip()}\n".encode("utf-8", "replace")
            try:
                loop.call_soon_threadsafe(invocation.show, line)
            except RuntimeError:  # the loop has ended: nobody watches any more
                pass

        session = invocation.effect.rpartition("-")[0]
        return Context(invocation.effect, session, self.cwd, invocation.call, show)

    async def _in_thread(
        self, function: Callable[..., Any], given: dict[str, Any], effect: str
    ) -> Any:
        """Call it in a thread of its own, which holds up nothing: neither records nor the exit.

        Stopped, it may still end by itself in the time that a stop has; what it gives later than
        that is told to the model as a late result.
        """
        done = _thread(function, given, self.name)
        try:
            await asyncio.wait({done})
        except asyncio.CancelledError:
            if effect not in self._outliving:
                raise
            self._outliving.discard(effect)
            await asyncio.wait({done})
        value, error = done.result()
        if error is None:
            return value
        if isinstance(error, Exception | SystemExit):
            raise error
        # Raised in a thread, it is nobody's wish to end the task or the program.
        raise RuntimeError(raised(error)) from error


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...
@overload
def tool(
    *,
    name: str = "",
    description: str = "",
    replay: Replay = "never",
    check: Callable[..., Any] | None = None,
    timeout: float | None = TIMEOUT,
    parallel: bool = True,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str = "",
    description: str = "",
    replay: Replay = "never",
    check: Callable[..., Any] | None = None,
    timeout: float | None = TIMEOUT,
    parallel: bool = True,
) -> FunctionTool[P, R] | Callable[[Callable[P, R]], FunctionTool[P, R]]:
    """Make a function a tool: `@tool`, or `@tool(replay="safe")`.

    Its type hints become the JSON schema (msgspec's types: `str`, `int`, `list`, `dict`, `Literal`,
    `Enum`, dataclasses, `TypedDict`, `msgspec.Struct`, `Annotated[..., msgspec.Meta(...)]` …), its
    docstring the description, with a word on each parameter under `Args:` or as `:param x:`. What
    the model gives is checked and converted; where it is wrong the function is not called, and the
    model is told what is wrong. An async function runs in the event loop, any other in a thread.

    It returns a text, content parts (dicts of type `input_text`, `input_image`, `input_file`), or
    anything that msgspec can encode as JSON. What it raises becomes the output, by type and
    message.

    name: what the model calls it; by default the function's name.
    description: instead of the docstring's.
    replay: "never" or "safe". After a crash in the middle of a call nobody knows whether it took
        effect. With "never" the model is told just that; with "safe" the function is called again.
    check: a function, async or not, that settles such a call. It takes those parameters of the
        tool's function that it names, and a `Context` if it wants one. It returns the call's output
        if it had taken effect, None if it had not, and raises where it can't tell.
    timeout: seconds, 600 by default; then an async function is cancelled. A thread can't be: it is
        left behind, and the output says that it may still be running. None for no limit.
    parallel: without it no other call runs beside one of this tool.

    Raises `UsageError` when a model could not call it: a parameter without a type hint or of a type
    that JSON has no schema for.
    """

    def make(function: Callable[P, R]) -> FunctionTool[P, R]:
        return FunctionTool(
            function,
            name=name,
            description=description,
            replay=replay,
            check=check,
            timeout=timeout,
            parallel=parallel,
        )

    return make if function is None else make(function)


def as_result(name: str, value: Any) -> Result:
    """What a function returned, as an output."""
    if isinstance(value, Result):
        return value
    if value is None:
        return Result(content=f"{name} is done; it returned nothing.")
    if isinstance(value, str):
        return Result(content=value)
    if isinstance(value, list) and value and all(map(_is_part, value)):
        return Result(content=value)
    try:
        return Result(content=_json(value))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        kind = type(value).__name__
        return failed(f"{name} is done, but its {kind} can't be shown as JSON: {error}")


def _is_part(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in _PARTS


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 can't carry
        return msgspec.json.encode(scrub(msgspec.to_builtins(value))).decode()


def _asks(check: Callable[..., Any], signature: Signature, name: str) -> dict[str, Any]:
    """The parameters of a check with their types. Raises `UsageError` for one that there isn't."""
    found = {one.name: hint for one, hint in hints(check, f"{name}, check")}
    unknown = [one for one, hint in found.items() if hint is not Context]
    unknown = [one for one in unknown if one not in signature.names]
    if unknown:
        raise UsageError(f"tool {name}: its check asks for {unknown[0]}, which it does not take")
    return found


def _thread(
    function: Callable[..., Any], given: dict[str, Any], name: str
) -> asyncio.Future[tuple[Any, BaseException | None]]:
    """Call a function in a daemon thread: one that never ends does not keep the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    around = contextvars.copy_context()

    def settle(outcome: tuple[Any, BaseException | None]) -> None:
        if not done.done():
            done.set_result(outcome)

    def work() -> None:
        outcome: tuple[Any, BaseException | None]
        try:
            outcome = around.run(function, **given), None
        except BaseException as error:  # noqa: BLE001 - it is the output, whatever it is
            outcome = None, error
        try:
            loop.call_soon_threadsafe(settle, outcome)
        except RuntimeError:  # the loop has ended: nobody waits any more
            pass

    threading.Thread(target=work, name=f"tool {name}", daemon=True).start()
    return done

"""What a tool is: a name, a description for the model, traits for the machine, and how it runs.

The tools of Backstay itself stand beside this file; a user's own tools fulfil the same protocol.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from backstay.core.dialect import Dialect
from backstay.core.events import Evidence, Result
from backstay.core.items import Item, arguments
from backstay.core.record import Start
from backstay.core.rules import Traits
from backstay.tools.whole import Keep, whole

LARGEST: Final = 250_000
"""Characters of an output's text: above what `exec_command` can be asked for."""


def _nothing(_: bytes) -> None: ...


class Invocation(msgspec.Struct):
    """One call as its tool sees it."""

    call: int
    """The number of the call's record."""
    item: Item
    effect: str
    """Stable over crashes and resumes: an idempotency key for whatever the tool does elsewhere."""
    began: float = 0.0
    """When the effect was about to start, in Unix seconds: of use for one that is adopted."""
    show: Callable[[bytes], None] = _nothing
    """Takes output as it comes, for whoever watches; provisional."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The decoded arguments of a function call; {} for a custom tool's."""
        return arguments(self.item) or {}


class Tool(Protocol):
    """A tool. A failure is a `Result`; an exception becomes one that names it."""

    name: str
    traits: Traits
    timeout: float | None
    """Seconds after which a call is stopped; None for a tool that keeps its own time."""

    def spec(self, dialect: Dialect) -> dict[str, Any]:
        """The tool as the request's `tools` lists it."""
        ...

    async def prepare(self, invocation: Invocation) -> dict[str, Any] | Result:
        """The plan that is recorded before the start (JSON-able), or at once a result.

        Without any effect. Asked only of tools whose traits say `prepares`.
        """
        ...

    async def run(self, invocation: Invocation) -> Result:
        """Do it. When it is cancelled or stopped it ends soon, with what is known."""
        ...

    async def stop(self, invocation: Invocation) -> bool:
        """Make `run` (or `adopt`) return soon; False to have it cancelled instead."""
        ...

    async def probe(self, invocation: Invocation, start: Start) -> Evidence:
        """What is known of a call that a crash left open."""
        ...

    async def adopt(self, invocation: Invocation) -> Result:
        """Take over a call whose evidence was `running`."""
        ...


class Plain:
    """The default behaviour of a tool that runs in this process and leaves no traces."""

    name = ""
    traits = Traits()
    timeout: float | None = 600.0

    async def prepare(self, invocation: Invocation) -> dict[str, Any] | Result:
        """Nothing to plan."""
        del invocation
        return {}

    async def stop(self, invocation: Invocation) -> bool:
        """Ask to be cancelled."""
        del invocation
        return False

    async def probe(self, invocation: Invocation, start: Start) -> Evidence:
        """It started, and its process is gone: nobody knows."""
        del invocation, start
        return Evidence(found="unknown", detail="the agent ended while it ran")

    async def adopt(self, invocation: Invocation) -> Result:
        """Nothing outlives the process, so there is nothing to adopt."""
        raise NotImplementedError(f"{self.name} can't be adopted")


def failed(text: str, **show: Any) -> Result:
    """The output of a tool that did not do what it was asked for."""
    return Result(content=text, status="failed", show=show or None)


def raised(error: BaseException) -> str:
    """An exception by type and message; it comes from anybody's code, and may not even have one."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception:  # noqa: BLE001 - its own defect
        return f"{name}: (its message can't be shown)"


def bounded(result: Result, keep: Keep | None = None) -> Result:
    """The result with head and tail of each text that is too large for a request.

    With `keep` the whole of it is kept, and the text says where. Blocks then.
    """
    content = result.content
    digests = list(result.whole)
    if isinstance(content, str):
        changed: str | list[dict[str, Any]] = _bounded(content, keep, digests)
    else:
        changed = [
            part | {"text": _bounded(part["text"], keep, digests)}
            if isinstance(part.get("text"), str)
            else part
            for part in content
        ]
    return msgspec.structs.replace(result, content=changed, whole=digests)


def too_large(result: Result) -> bool:
    """Whether `bounded` would change it."""
    texts = [result.content] if isinstance(result.content, str) else result.content
    return any(
        len(text if isinstance(text, str) else str(text.get("text", ""))) > LARGEST
        for text in texts
    )


def _bounded(text: str, keep: Keep | None, digests: list[str]) -> str:
    left_out = len(text) - LARGEST
    if left_out <= 0:
        return text
    half = LARGEST // 2
    found = whole(text.encode("utf-8", "replace"), keep)
    digests += found.digests
    where = f"({found.line})\n" if found.line else ""
    return f"{text[:half]}\n… {left_out} characters left out …\n{where}{text[-half:]}"

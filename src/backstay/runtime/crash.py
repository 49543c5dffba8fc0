"""Crash points: named moments at which a process of the command line kills itself, for tests.

Loaded only where the environment has BACKSTAY_CRASH. `POINT:K` sends SIGKILL to this process the K-th
time that it passes POINT; `count:FILE` appends to FILE the name of each point that is passed.
CONTRIBUTING.md lists the points.
"""

import os
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from backstay.core.commands import Request
from backstay.core.events import Evidence, Result
from backstay.core.record import Known, Start
from backstay.core.stream import StreamEvent
from backstay.errors import UsageError
from backstay.journal import Disk, Journal
from backstay.journal.inbox import Letter
from backstay.runtime.letters import Letters
from backstay.tools.commands import AlreadyClaimed, Commands, Ended, Refused, Started
from backstay.tools.effects import Written
from backstay.tools.tool import Invocation, Tool

Deliver = Callable[[StreamEvent], None]
Sender = Callable[[Request, Deliver], Awaitable[object]]


class Points:
    """The points that this process passes, and the one at which it ends."""

    def __init__(self, wanted: str) -> None:
        """`wanted`: what the variable says. Raises `UsageError`."""
        point, _, rest = wanted.rpartition(":")
        self._log = ""
        self._left = 0
        if wanted.startswith("count:"):
            point, self._log = "", wanted.removeprefix("count:")
        elif point and rest.isdecimal() and int(rest):
            self._left = int(rest)
        else:
            raise UsageError(f"BACKSTAY_CRASH={wanted}: say POINT:K, with K from 1, or count:FILE")
        self._point = point
        self._lock = threading.Lock()

    def reached(self, point: str) -> None:
        """Count this point, or end here. Called from any thread."""
        if self._log:
            with open(self._log, "a", encoding="utf-8") as log:
                log.write(f"{point}\n")
        if point != self._point:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def step(self, name: str) -> None:
        """A step of a patch, given as a verb and a path."""
        self.reached(f"before-patch:{name.partition(' ')[0]}")

    def journal(self, journal: Journal) -> "WatchedJournal":
        """The same, with points around each record."""
        return WatchedJournal(self, journal)

    def commands(self, folder: str, *, grace: float) -> Commands:
        """The session's commands, with points of their own."""
        return WatchedCommands(self, folder, grace=grace)

    def sender(self, send: Sender) -> Sender:
        """The same, with a point before the request and one at the first event of its answer."""

        async def watched(request: Request, deliver: Deliver) -> object:
            self.reached("before-send")
            silent = True

            def heard(event: StreamEvent) -> None:
                nonlocal silent
                if silent:
                    silent = False
                    self.reached("after-send")
                deliver(event)

            return await send(request, heard)

        return watched

    def letters(
        self, folder: str, take: Callable[[Letter], None], notice: Callable[[str], None]
    ) -> "WatchedLetters":
        """A session's inbox, with points around what is done with a letter."""
        return WatchedLetters(self, folder, take, notice)

    def disk(self, disk: Disk) -> Disk:
        """The same, with a point before each call that may change it."""
        return cast("Disk", WatchedDisk(self, disk))

    def tools(self, tools: Mapping[str, Tool]) -> dict[str, Tool]:
        """The same, with points around all that they do."""
        return {name: WatchedTool(self, tool) for name, tool in tools.items()}


class WatchedJournal:
    """A journal that writes record by record, with a point on each side of each.

    All records of a batch are written before any is synced, as the journal itself does.
    """

    def __init__(self, points: Points, journal: Journal) -> None:
        self._points = points
        self._journal = journal
        self._unsynced: list[str] = []
        points.reached("after-open")

    def commit(self, batch: tuple[Known, ...]) -> int:
        self.write(batch)
        upto = self._journal.commit(())
        kinds, self._unsynced = self._unsynced, []
        for kind in kinds:
            self._points.reached(f"after-sync:{kind}")
        return upto

    def write(self, batch: tuple[Known, ...]) -> None:
        for record in batch:
            kind = str(record.__struct_config__.tag)
            self._points.reached(f"before-write:{kind}")
            self._journal.write((record,))
            self._unsynced.append(kind)
            self._points.reached(f"after-write:{kind}")

    def close(self) -> None:
        self._points.reached("before-release")
        self._journal.close()
        self._points.reached("after-release")


class WatchedCommands(Commands):
    """Commands with a point behind each start and each write, and around the end of all."""

    def __init__(self, points: Points, folder: str, *, grace: float) -> None:
        super().__init__(folder, grace=grace)
        self._points = points

    async def start(self, *given: Any, **more: Any) -> Started | AlreadyClaimed | Refused:
        started = await super().start(*given, **more)
        self._points.reached("after-start:exec_command")
        return started

    async def stdin(self, *given: Any, **more: Any) -> Written | AlreadyClaimed | Refused:
        written = await super().stdin(*given, **more)
        self._points.reached("after-start:write_stdin")
        return written

    async def end(self) -> list[Ended]:
        self._points.reached("before-close")
        ended = await super().end()
        self._points.reached("after-end")
        return ended


class WatchedLetters(Letters):
    """Letters with points around taking one and around removing it."""

    def __init__(
        self,
        points: Points,
        folder: str,
        take: Callable[[Letter], None],
        notice: Callable[[str], None],
    ) -> None:
        self._points = points

        def taken(letter: Letter) -> None:
            points.reached("before-letter")
            take(letter)
            points.reached("after-letter")

        super().__init__(folder, taken, notice)

    def done(self, letter: str) -> None:
        self._points.reached("before-discard")
        super().done(letter)
        self._points.reached("after-discard")


class WatchedDisk:
    """A disk with a point before each call that changes names: of forking and deleting."""

    _CHANGES = ("mkdir", "create", "append_to", "rename", "unlink", "sync_directory", "touch")

    def __init__(self, points: Points, disk: Disk) -> None:
        self._points = points
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        if name in self._CHANGES:
            self._points.reached(f"before-disk:{name}")
        return getattr(self._disk, name)


class WatchedTool:
    """A tool with points around all that it does."""

    def __init__(self, points: Points, tool: Tool) -> None:
        self._reached = points.reached
        self._tool = tool
        self.name = tool.name
        self.traits = tool.traits
        self.timeout = tool.timeout
        self.spec = tool.spec
        self.stop = tool.stop

    async def prepare(self, invocation: Invocation) -> dict[str, Any] | Result:
        self._reached(f"before-prepare:{self.name}")
        plan = await self._tool.prepare(invocation)
        self._reached(f"after-prepare:{self.name}")
        return plan

    async def run(self, invocation: Invocation) -> Result:
        self._reached(f"before-start:{self.name}")
        result = await self._tool.run(invocation)
        self._reached(f"before-finish:{self.name}")
        return result

    async def probe(self, invocation: Invocation, start: Start) -> Evidence:
        self._reached(f"before-settle:{self.name}")
        evidence = await self._tool.probe(invocation, start)
        self._reached(f"after-settle:{self.name}")
        return evidence

    async def adopt(self, invocation: Invocation) -> Result:
        self._reached(f"before-adopt:{self.name}")
        result = await self._tool.adopt(invocation)
        self._reached(f"before-finish:{self.name}")
        return result

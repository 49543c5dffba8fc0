"""A session: a journal, a machine, its tools and a provider, put together.

Opening for writing settles what a crash left; reading never does.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from backstay import __version__
from backstay.core import events as e
from backstay.core.commands import Request
from backstay.core.compact import limit
from backstay.core.history import History
from backstay.core.items import Item, message, message_text
from backstay.core.record import Process, Prompt
from backstay.core.retry import Policy
from backstay.core.rules import Rules
from backstay.core.table import Phase
from backstay.core.told import topic_of
from backstay.core.turn import Turn
from backstay.errors import StorageError, UsageError
from backstay.journal import (
    Journal,
    PosixDisk,
    Reading,
    statement,
    uuid7,
)
from backstay.journal.inbox import Letter
from backstay.journal.sessions import find
from backstay.runtime import leftovers, watch
from backstay.runtime.basis import Bases
from backstay.runtime.context import Context
from backstay.runtime.driver import Deliver, Driver
from backstay.runtime.keys import ShellTable
from backstay.runtime.letters import Letters
from backstay.runtime.outputs import Outputs
from backstay.runtime.sending import Sending
from backstay.runtime.settings import Settings
from backstay.runtime.toolbox import own_tools
from backstay.tools import effects, shell
from backstay.tools.commands import Commands, SupervisorGone
from backstay.tools.exec_command import Shell
from backstay.tools.tool import Tool

if TYPE_CHECKING:
    from backstay.runtime.attached import Attached
    from backstay.runtime.crash import Points

CRASH: Final = "BACKSTAY_CRASH"
"""Where this process is to kill itself: for tests, see `crash`."""
KEYS: Final = frozenset({"OPENAI_API_KEY", "CODEX_API_KEY"})
"""Variables that no command gets to see, so that no output and no journal holds them."""

_AT_REST: Final = (Phase.CLOSED, Phase.SETTLING, Phase.IDLE, Phase.BROKEN)

CLOSE_WITHIN: Final = 15.0
"""Seconds that a turn which is interrupted by a close gets to end: more than any stop takes."""

Ended = watch.Finished
"""How a turn ended, as `prompt` and `resume` answer."""

Arrange = Callable[[list[Tool], str, str], list[Tool]]
"""A session's tools as they are to be used, from what they are, its id and its folder."""


def _as_they_are(tools: list[Tool], session: str, cwd: str) -> list[Tool]:
    del session, cwd
    return tools


class Session:
    """One session, open for writing. `create` and `open` are the ways in, `close` the way out."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        cwd: str,
        *,
        session: str,
        tools: Sequence[Tool],
        watcher: watch.Watcher,
        arrange: Arrange = _as_they_are,
    ) -> None:
        self.id = session
        self.folder = journal.folder
        self.cwd = cwd
        self.settings = settings
        points = _crash_points()
        self._journal = points.journal(journal) if points else journal
        trace = settings.trace
        self._watcher = trace.watcher(watcher) if trace else watcher
        self._asked: list[asyncio.Future[Ended]] = []
        self._turns: dict[int, asyncio.Future[Ended]] = {}
        self._resumed: asyncio.Future[Ended] | None = None
        self._compacted: asyncio.Future[Ended] | None = None
        self._closed = False
        letters = points.letters if points else Letters
        self._letters = letters(self.folder, self._take_letter, self._notice)
        self._others: list[Ended] = []
        """Ends of turns that nobody here asked for, and that nobody was told yet."""
        self._next: asyncio.Future[Ended] | None = None
        commands = points.commands if points else Commands
        self.commands = commands(self.folder, grace=settings.grace)
        keep = Outputs(settings.home, session).keep
        self.shell = Shell(self.commands, session, cwd, _environment(settings), keep)
        self._context = Context(settings, cwd, shell.shell_of(self.shell.environ), self._notice)
        own = own_tools(settings, cwd, self.shell, points) if settings.shell_tools else []
        self.tools = {tool.name: tool for tool in arrange([*own, *tools], session, cwd)}
        self._bases = Bases(settings, journal.blobs, self.tools, tuple(tools), self._notice)
        self._sending = Sending(settings.provider, self._bases.texts, trace)
        machine = Turn(self._rules())
        used = points.tools(self.tools) if points else self.tools
        self._driver = Driver(
            trace.turn(machine) if trace else machine,
            trace.store(self._journal, lambda: journal.size) if trace else self._journal,
            points.sender(self._send) if points else self._send,
            tools=trace.tools(used) if trace else used,
            crew=_Crew(self.commands if settings.shell_tools else None, self._notice),
            watcher=self._seen,
            keep=keep,
        )

    def _rules(self) -> Rules:
        provider = self.settings.provider
        return Rules(
            tools={name: tool.traits for name, tool in self.tools.items()},
            dialect=provider.dialect,
            policy=Policy(
                stream_retries=provider.stream_max_retries,
                request_retries=provider.request_max_retries,
            ),
            budget=self.settings.budget,
            compact_at=limit(
                self.settings.model, self.settings.context_window, self.settings.compact_at
            ),
        )

    @classmethod
    async def create(
        cls,
        settings: Settings,
        watcher: watch.Watcher,
        tools: Sequence[Tool] = (),
        arrange: Arrange = _as_they_are,
    ) -> Self:
        """A new session. Raises `StorageError`; nothing is on disk before the first prompt is."""
        session = uuid7(time.time(), os.urandom(10))
        journal = Journal.create(PosixDisk(), settings.home, session, time.time)
        self = cls(
            settings,
            journal,
            settings.cwd,
            session=session,
            tools=tools,
            watcher=watcher,
            arrange=arrange,
        )
        try:
            basis = self._bases.today()
        except BaseException:
            await self._abandon()
            raise
        self._driver.post(e.Created(session, settings.cwd, basis, __version__))
        await self._driver.handled()
        return self

    @classmethod
    async def open(
        cls,
        settings: Settings,
        name: str,
        watcher: watch.Watcher,
        tools: Sequence[Tool] = (),
        arrange: Arrange = _as_they_are,
    ) -> Self:
        """Open an existing session for writing: what a crash left open is settled from here on.

        `name` is its id or the beginning of it. Raises `UnknownSession`, `SessionHeld`,
        `EmptySession`, `NewerFormat`, `StorageError`.
        """
        folder = find(PosixDisk(), settings.home, name)
        journal, reading = Journal.open(PosixDisk(), folder, time.time)
        session = folder.rpartition("/")[2]
        cwd = settings.cwd
        if reading.identity is not None and not settings.moved:
            cwd = reading.identity.cwd
        self = cls(
            settings,
            journal,
            cwd,
            session=session,
            tools=tools,
            watcher=watcher,
            arrange=arrange,
        )
        try:
            self._open(reading)
            await self._driver.handled()
        except BaseException:
            await self._abandon()
            raise
        return self

    @classmethod
    async def fork(
        cls,
        settings: Settings,
        name: str,
        watcher: watch.Watcher,
        tools: Sequence[Tool] = (),
        arrange: Arrange = _as_they_are,
        *,
        turn: int | None = None,
    ) -> Self:
        """A new session that goes on behind a turn of the one named, which stays as it is.

        It may be running meanwhile. `turn` counts from 1; without it, behind the last turn that
        has ended. Raises `UsageError` for a turn that is not there, else as `open` does.
        """
        from backstay.runtime.forking import make_fork

        made = make_fork(settings.home, name, turn)
        if made.cut:
            text = f"a turn of {name} is not over: the fork begins behind the one before it"
            watcher(watch.Noticed(text, "warning"))
        return await cls.open(settings, made.id, watcher, tools, arrange)

    def _open(self, reading: Reading) -> None:
        if not os.path.isdir(self.cwd):
            text = f"the session's folder {self.cwd} is gone; -C names another one"
            self._watcher(watch.Noticed(text, "warning"))
        self._tell_found(reading)
        for record in reading.records:
            self._context.heard(record)
        self.shell.shown.update(leftovers.shown(reading.records))
        opened = e.Opened(
            reading.records,
            self.id,
            self.cwd,
            self._bases.today(),
            next=reading.next_n,
            damage=statement(reading.news),
        )
        self._driver.post(opened)
        for event in leftovers.ended_since(self.folder, self.id, reading.records):
            self._notice(message_text(event.item or {}))
            self._driver.post(event)

    def _tell_found(self, reading: Reading) -> None:
        """What was found, a line each; what becomes of open calls is told as they are settled."""
        from backstay.runtime.found import cut, letters

        damage = [f"the journal is damaged: {one}" for one in reading.news]
        for line in (cut(reading.records), *damage, letters(self._letters.prompts())):
            if line:
                self._notice(line)

    async def prompt(
        self,
        text: str,
        *,
        images: "Sequence[Attached]" = (),
        schema: dict[str, Any] | None = None,
    ) -> Ended:
        """Run a turn on this prompt; a cut turn before it ends as superseded.

        `images` come from `attached.attach`. With a `schema` (JSON Schema) the answer is to have
        that form; `mismatch` of what comes back says where it has not. Given while a turn runs, the
        prompt is recorded at once and its turn comes next. Raises `UsageError` if the session is
        closed, the schema is none or the provider takes no images, `StorageError` if the session
        can't be written any more.
        """
        self._check_open()
        if schema is not None:
            from backstay.runtime.schema import check

            check(schema)
        said = self._message(text, images)
        asked: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._letters.watch()
        self._give([*self._context.news(text), said], schema=schema)
        return await self._wait(asked)

    def _give(
        self, items: list[Item], *, schema: dict[str, Any] | None = None, letter: str = ""
    ) -> None:
        settings = self.settings
        basis = self._bases.kept(self._driver.machine.history)
        name = settings.provider.name
        given = e.PromptGiven(items, basis, settings.model, name, settings.effort, schema, letter)
        self._driver.post(given)

    # What other processes want

    def _take_letter(self, letter: Letter) -> None:
        if letter.kind == "interrupt":
            self._letters.done(letter.id)
            if self._letters.watched:  # else nothing ran when it was written
                self.interrupt(letter.text or "interrupted from outside")
        elif letter.id in self.history.letters:
            self._letters.done(letter.id)  # on record: an agent ended before it was removed
        else:
            items = [*self._context.news(letter.text), message("user", letter.text)]
            self._give(items, letter=letter.id)

    async def next_turn(self) -> Ended | None:
        """The end of the next turn that nobody here asked for: a letter's, one that was queued.

        None if none runs or waits. Raises as `prompt` does.
        """
        self._check_open()
        self._letters.look()
        await self._driver.handled()
        while not self._others:
            if self._driver.machine.phase in (Phase.IDLE, Phase.BROKEN):
                return None
            self._next = asyncio.get_running_loop().create_future()
            await self._wait(self._next)
        return self._others.pop(0)

    def _message(self, text: str, images: "Sequence[Attached]") -> Item:
        if not images:
            return message("user", text)
        from backstay.runtime.attached import prompt

        provider = self.settings.provider
        if not provider.dialect.images:
            raise UsageError(f"the provider {provider.name} takes no images (dialect.images)")
        return prompt(text, images)

    async def resume(self) -> Ended:
        """Finish the cut turn without a message; `nothing` if none was cut.

        Raises `UsageError` while a turn runs, else as `prompt` does.
        """
        self._check_open()
        if self._pending():
            raise UsageError("a turn is running: there is nothing to resume before it has ended")
        resumed: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._resumed = resumed
        if await self._busy():
            self._resumed = None
            raise UsageError("a turn is running: there is nothing to resume before it has ended")
        if resumed.done():  # it was interrupted while it was being settled
            return resumed.result()
        if self.history.unfinished or not self._letters.waits(self.history.letters):
            settings = self.settings
            for item in self._context.news():
                self._driver.post(e.Noted(topic_of(item), "", item))
            basis = self._bases.kept(self._driver.machine.history)
            name = settings.provider.name
            self._driver.post(e.Continued(settings.model, name, settings.effort, basis))
        self._letters.watch()
        return await self._wait(resumed)

    async def compact(self) -> Ended:
        """Replace the conversation by a shorter one: `compacted`, or `nothing` to be shortened.

        `failed` says why not; then nothing has changed. Raises `UsageError` while a turn runs, else
        as `prompt` does.
        """
        self._check_open()
        if self._pending():
            raise UsageError("a turn is running: the conversation is compacted when it must be")
        compacted = self._compacted = asyncio.get_running_loop().create_future()
        if await self._busy():
            self._compacted = None
            raise UsageError("a turn is running: the conversation is compacted when it must be")
        settings = self.settings
        basis = self._bases.kept(self._driver.machine.history)
        name = settings.provider.name
        self._driver.post(e.CompactionAsked(settings.model, name, settings.effort, basis))
        return await self._wait(compacted)

    @property
    def history(self) -> History:
        """What its records add up to at this moment: to look at, not to change."""
        return self._driver.machine.history

    def interrupt(self, reason: str = "interrupted by the user") -> None:
        """Stop what runs and record what is known; the turn ends as interrupted."""
        if self._driver.machine.phase is not Phase.CLOSED:
            self._driver.post(e.Interrupted(reason))

    async def close(self) -> list[str]:
        """End what still runs, record that, and give the session up.

        A turn that runs is interrupted. Says, a line each, which commands were ended.
        """
        if self._closed:
            return []
        self._closed = True
        self._letters.close()
        lines: list[str] = []
        await self._end_turns()
        try:
            for ended in await self.commands.end():
                number = int(ended.effect.rpartition("-")[2])
                how = shell.outcome_line(ended.exit, number) if ended.exit else "it can't be killed"
                lines.append(f"The command with session ID {number} was ended: {how}")
                self._driver.post(leftovers.told(ended.effect, lines[-1]))
        except SupervisorGone as error:
            self._watcher(watch.Noticed(str(error), "warning"))
        await self._driver.written()
        await self._abandon()
        return lines

    async def _end_turns(self) -> None:
        """Interrupt what runs, also what nobody here asked for, and wait for its end."""
        busy, pending = await self._busy(), self._pending()
        if busy:
            self._next = self._next or asyncio.get_running_loop().create_future()
            pending.add(self._next)
        if not pending or not self._driver.alive:
            return
        self.interrupt("the session was closed")
        loop = asyncio.get_running_loop()
        until = loop.time() + CLOSE_WITHIN
        crashed = self._driver.crashed
        while pending and not crashed.done() and (left := until - loop.time()) > 0:
            both: set[asyncio.Future[Any]] = {*pending, crashed}
            await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            pending = {one for one in pending if not one.done()}

    async def _busy(self) -> bool:
        """Whether a turn or a compaction runs, once everything that came has been handled."""
        await self._driver.handled()
        return self._driver.machine.phase not in _AT_REST

    async def _abandon(self) -> None:
        self._letters.close()
        await self._driver.close()
        await self.commands.close()
        await self._sending.close()
        self._journal.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the session is closed: open it again")

    def _pending(self) -> set[asyncio.Future[Ended]]:
        """What somebody waits for: the ends of turns that have not come."""
        asked = [*self._asked, *self._turns.values()]
        asked += [one for one in (self._resumed, self._compacted) if one is not None]
        return {future for future in asked if not future.done()}

    async def _wait(self, asked: asyncio.Future[Ended]) -> Ended:
        crashed = self._driver.crashed
        if self._driver.machine.phase is Phase.BROKEN:
            raise StorageError(f"{self.folder} could not be written: open the session again")
        both: set[asyncio.Future[Any]] = {asked, crashed}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            crashed.result()
        return asked.result()

    # What the watcher sees, and what that means for whoever waits

    def _notice(self, text: str) -> None:
        self._watcher(watch.Noticed(text, "warning"))

    def _seen(self, event: watch.WatchEvent) -> None:
        if isinstance(event, watch.Recorded) and isinstance(event.record, Prompt):
            self._prompt_recorded(event.record)
        if isinstance(event, watch.Recorded):
            self._context.heard(event.record)
        elif isinstance(event, watch.Finished):
            event = self._judged(event)
        self._watcher(event)
        if isinstance(event, watch.Finished):
            self._finished(event)

    def _prompt_recorded(self, prompt: Prompt) -> None:
        if prompt.letter:
            self._letters.done(prompt.letter)
        elif self._asked:
            self._turns[prompt.n] = self._asked.pop(0)

    def _finished(self, ended: watch.Finished) -> None:
        waiting = []
        if ended.turn in self._turns:
            waiting.append(self._turns.pop(ended.turn))
        elif ended.turn and ended.outcome != "superseded" and self._resumed is None:
            self._others.append(ended)
        over = self._driver.machine.phase in (Phase.IDLE, Phase.BROKEN)
        if over and self._resumed is not None:
            waiting.append(self._resumed)
            self._resumed = None
        if self._compacted is not None and (not ended.turn or ended.outcome == "storage"):
            waiting.append(self._compacted)
            self._compacted = None
        if ended.outcome in ("interrupted", "storage"):
            # Those that are asked for stay, in order: their records are still to be seen.
            waiting += [*self._asked, *self._turns.values()]
            self._turns = {}
        if self._next is not None:
            waiting.append(self._next)
            self._next = None
        for future in waiting:
            if not future.done():
                future.set_result(ended)

    async def _send(self, request: Request, deliver: Deliver) -> None:
        await self._sending.attempt(request, deliver)

    def _judged(self, ended: watch.Finished) -> watch.Finished:
        """The same, with what is wrong with the form of a complete turn's answer."""
        turn = self._driver.machine.history.turns.get(ended.turn)
        if ended.outcome != "completed" or turn is None or turn.schema is None:
            return ended
        from backstay.runtime.schema import answer, mismatch

        return msgspec.structs.replace(ended, mismatch=mismatch(answer(turn), turn.schema))


class _Crew:
    """The commands' supervisor as the driver knows it; there is none without commands."""

    def __init__(self, commands: Commands | None, notice: Callable[[str], None]) -> None:
        self._commands = commands
        self._notice = notice
        self._boot = ""

    @property
    def boot(self) -> str:
        self._boot = self._boot or effects.boot_id()
        return self._boot

    @property
    def supervisor(self) -> Process | None:
        return self._commands.supervisor if self._commands is not None else None

    def spawn(self) -> None:
        if self._commands is None:
            return
        try:
            self._commands.spawn()
        except (SupervisorGone, OSError) as error:
            self._notice(f"the command supervisor did not start: {error}")


def _environment(settings: Settings) -> Mapping[str, str]:
    environ: Mapping[str, str] = os.environ
    policy = settings.inherited
    if policy != ShellTable():
        from backstay.runtime.inherited import inherited

        environ = inherited(policy, os.environ)
    quiet = shell.environment(environ, KEYS | {CRASH} | frozenset(settings.hidden))
    return quiet | {name: value for name, value in policy.set.items() if name in environ}


def _crash_points() -> "Points | None":
    wanted = os.environ.get(CRASH)
    if not wanted:
        return None
    from backstay.runtime.crash import Points

    return Points(wanted)

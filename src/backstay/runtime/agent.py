"""The library: an agent, its sessions, and the events of their turns.

Owns how a caller's wishes become settings, and how a turn becomes an async iterator that may be
left at any time. What a session is, and what is promised of it, is `session`'s.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Self

import msgspec

from backstay.core.usage import Usage
from backstay.errors import RemoteError, UsageError
from backstay.model.provider import Secret
from backstay.runtime import session as engine
from backstay.runtime import watch
from backstay.runtime.config import default_home, given, load
from backstay.runtime.hooks import AfterTool, BeforeTool, Guarded, ToolCall, ToolResult
from backstay.runtime.settings import Settings, settings
from backstay.runtime.story import Notice, ToolFinished, TurnCompleted, TurnEvent, TurnFailed
from backstay.runtime.teller import Teller
from backstay.runtime.toolbox import OWN
from backstay.tools.function import FunctionTool
from backstay.tools.tool import Tool, raised

INSTRUCTIONS: Final = """\
You are an assistant that works through tools. Work until the task is done, then answer briefly.

The output of a call can say how it came about. "Never started" means that nothing happened: make
the call again if it is still wanted. "The outcome is unknown" means that it may have taken effect:
find out first, and repeat it only if it did not.
"""
"""What a model is told where there are no shell tools and no instructions are given."""

_SOON: Final = 5
"""Rounds of the event loop after which an iterator that was left is being closed."""
_closings: "dict[str, asyncio.Task[list[str]]]" = {}
"""Sessions of this process that are being closed, by id."""

Paths = Sequence[str | os.PathLike[str]]
Schema = dict[str, Any]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn that completed came to."""

    text: str
    """The model's last message, "" if there was none."""
    usage: Usage
    """Tokens of the whole turn, cut attempts included."""
    session_id: str
    """Run it again with this id to go on with the conversation, in any process."""


class Agent:
    """A model, its tools and its instructions; any number of sessions run on it, also at once.

    model: the model's name, as the provider knows it.
    tools: what `@tool` makes, or objects of your own that fulfil the `Tool` protocol.
    instructions: the system prompt, in place of the one for coding. A session keeps those that it
        began with.
    provider: `openai`, another provider that is built in (`azure`, `openrouter`, `ollama`,
        `lmstudio`, `llamacpp`, `vllm` …), or one of `config["model_providers"]`.
    base_url: where the provider is, up to and without `/responses`. By default its own address; for
        `openai` the variable OPENAI_BASE_URL goes before that.
    api_key: by default from the provider's variable, for `openai` OPENAI_API_KEY.
    cwd: the folder to work in; by default the process's own. A resumed session keeps its own
        folder unless this is given.
    home: where sessions are kept; by default BACKSTAY_HOME or the platform's data folder.
    shell_tools: False leaves out the shell, patches and everything else that works in the folder:
        then the model has your tools alone, and is told of no folder.
    max_steps, max_tokens, max_cost: the most that one turn may use: responses, tokens (input and
        output together), US dollars. A turn that would go on beyond it ends as failed, with the code
        `budget`.
    config: further keys of `config.toml`, as a dict. No file is read; `from_config` reads them.
    before_tool: asked before each call: None lets it go on, a text refuses it and is what the
        model is told. May be async; one that raises refuses the call too.
    after_tool: told of each call's end, once its output is on disk, with the exception if the tool
        raised one.
    on_event: told of every event of every session, as it comes. It is called in the event loop, so
        it must not block. What it or `after_tool` raises becomes a `Notice`.

    Raises `UsageError` for two tools of one name, `ConfigError` for a wrong key.
    """

    def __init__(
        self,
        model: str,
        *,
        tools: Sequence[Tool] = (),
        instructions: str = "",
        provider: str = "openai",
        base_url: str = "",
        api_key: str = "",
        cwd: str | os.PathLike[str] = "",
        home: str | os.PathLike[str] = "",
        shell_tools: bool = True,
        max_steps: int | None = None,
        max_tokens: int | None = None,
        max_cost: float | None = None,
        config: Mapping[str, Any] | None = None,
        before_tool: BeforeTool | None = None,
        after_tool: AfterTool | None = None,
        on_event: Callable[[TurnEvent], None] | None = None,
    ) -> None:
        self.model = model
        self.tools = tuple(tools)
        self.instructions = instructions
        self.home = os.path.abspath(home) if home else default_home(os.environ)
        self.cwd = os.path.abspath(cwd) if cwd else ""
        self.shell_tools = shell_tools
        self.before_tool = before_tool
        self.after_tool = after_tool
        self.on_event = on_event
        self.key = Secret(api_key)
        limits = {"max_steps": max_steps, "max_tokens": max_tokens, "max_cost": max_cost}
        keys = dict(config or {}) | {name: n for name, n in limits.items() if n is not None}
        if provider != "openai":
            keys["model_provider"] = provider
        self.configured = given(_with_url(keys, provider, base_url))
        names = [tool.name for tool in self.tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"there is more than one tool of the name {twice[0]}")
        taken = sorted(OWN.intersection(names)) if shell_tools else []
        if taken:
            raise UsageError(f"{taken[0]} is a tool of Backstay's own: give yours another name")

    @classmethod
    def from_config(
        cls,
        model: str = "",
        *,
        profile: str = "",
        overrides: Sequence[str] = (),
        home: str | os.PathLike[str] = "",
        cwd: str | os.PathLike[str] = "",
        **options: Any,
    ) -> Self:
        """An agent that runs under the user's `config.toml` and the project's, as `backstay` does.

        model: in place of the configured one.
        profile: as `-p`.
        overrides: `"KEY=VALUE"` each, as `-c`.
        home, cwd: as for `Agent`.
        options: of the rest that `Agent` takes tools, instructions, shell_tools and the hooks.

        Raises `ConfigError` naming the file and the line.
        """
        agent = cls(model, home=home, cwd=cwd, **options)
        place = agent.cwd or os.getcwd()
        agent.configured = load(agent.home, place, overrides, profile=profile)
        return agent

    def session(self, session: str = "") -> "Session":
        """A session to be opened with `async with`: a new one, or an earlier one by its id."""
        return Session(self, session)

    def fork(self, session: str, turn: int | None = None) -> str:
        """Make a session that goes on behind a turn of another one, and give its id.

        session: the id of the other one, which stays as it is and may be running.
        turn: counted from 1; by default the last that has ended.

        Nothing runs and nothing is copied. Raises `UnknownSession`, `EmptySession`, `NewerFormat`,
        `StorageError`, `UsageError` for a turn that is not there or has not ended.
        """
        from backstay.runtime.forking import make_fork

        return make_fork(self.home, session, turn).id

    async def run(
        self,
        session: "Session | str | None" = None,
        prompt: str | None = None,
        *,
        images: Paths = (),
        schema: Schema | None = None,
    ) -> AsyncGenerator[TurnEvent]:
        """Run one turn: `async for event in agent.run(None, "…")`. The last event says how it ended.

        session: None for a new one; the id of an earlier one; or a `Session` that is open, and then
            stays open.
        prompt: None finishes a turn that was cut.
        images: files to be shown to the model with the prompt.
        schema: a JSON Schema that the answer is to fit.

        Left early (`break`, an exception, a cancelled task) the turn is interrupted, which is
        recorded; `async with contextlib.aclosing(...)` around it waits until that is done. Raises
        what `Session.run` does.
        """
        if isinstance(session, Session):
            async with aclosing(session.run(prompt, images=images, schema=schema)) as events:
                async for event in events:
                    yield event
            return
        own = self.session(session or "")
        end: TurnEvent | None = None
        async with own:
            async with aclosing(own.run(prompt, images=images, schema=schema)) as events:
                async for event in events:
                    if isinstance(event, TurnCompleted | TurnFailed):
                        end = event  # told once the session is closed, its commands ended
                    else:
                        yield event
            for line in await own.close():
                yield Notice(text=line)
        if end is not None:
            yield end

    async def ask(
        self,
        prompt: str | None,
        session: "Session | str | None" = None,
        *,
        images: Paths = (),
        schema: Schema | None = None,
    ) -> Answer:
        """Run one turn to its end and give its answer; the parameters are those of `run`.

        Raises `RemoteError` where it failed or where its answer does not fit the schema,
        `Interrupted`, `StorageError`; their `session_id` names the session. Else as `run`.
        """
        last: TurnEvent | None = None
        async with aclosing(self.run(session, prompt, images=images, schema=schema)) as events:
            async for event in events:
                last = event
        return _answer(last)

    def ask_sync(
        self,
        prompt: str | None,
        session: str | None = None,
        *,
        images: Paths = (),
        schema: Schema | None = None,
    ) -> Answer:
        """`ask`, for a program without an event loop."""
        return asyncio.run(self.ask(prompt, session, images=images, schema=schema))


class Session:
    """A conversation that is kept: every turn of it survives this process.

    `async with agent.session() as session:` opens a new one, `agent.session("ID")` an earlier one,
    of which the beginning of the id is enough. One process at a time has a session open.
    """

    def __init__(self, agent: Agent, session: str = "") -> None:
        self._agent = agent
        self._name = session
        self._engine: engine.Session | None = None
        self._teller: Teller | None = None
        self._seen: list[watch.WatchEvent] = []
        self._told: deque[TurnEvent] = deque()
        self._woken = asyncio.Event()
        self._running = False
        self._leaving: asyncio.Future[None] | None = None
        """While a turn that was left is being ended."""
        self._failures: dict[int, BaseException] = {}
        self._closing: asyncio.Task[list[str]] | None = None

    @classmethod
    async def open(cls, agent: Agent, session: str = "") -> Self:
        """Open a session without `async with`; `close` is then the caller's.

        Raises `UnknownSession`, `SessionHeld`, `EmptySession`, `NewerFormat`, `StorageError`,
        `UsageError`.
        """
        self = cls(agent, session)
        return await self.__aenter__()

    async def __aenter__(self) -> Self:
        if self._closing is not None:
            raise UsageError("this session was closed: make another with agent.session(ID)")
        if self._engine is not None:
            return self
        agent = self._agent
        made = _settings(agent)
        if self._name:
            await _closed(self._name)
            opened = await engine.Session.open(
                made, self._name, self._see, agent.tools, self._arrange
            )
        else:
            opened = await engine.Session.create(made, self._see, agent.tools, self._arrange)
        self._engine = opened
        self._teller = Teller(opened.id, lambda: opened.history)
        for text in agent.configured.warnings:
            self._tell(Notice(text=text, level="warning"))
        seen, self._seen = self._seen, []
        for event in seen:
            self._see(event)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def id(self) -> str:
        """Its id, a UUID: how it is found again."""
        return self._opened().id

    @property
    def folder(self) -> str:
        """Where its journal is."""
        return self._opened().folder

    @property
    def cwd(self) -> str:
        """The folder that it works in."""
        return self._opened().cwd

    async def run(
        self, prompt: str | None = None, *, images: Paths = (), schema: Schema | None = None
    ) -> AsyncGenerator[TurnEvent]:
        """Run one turn; the parameters are those of `Agent.run`.

        Ends with `TurnCompleted` or `TurnFailed`. Left early the turn is interrupted, as with
        `Agent.run`; the session stays open. Raises `UsageError` while another turn of it runs, once
        it is closed, and for an image or a schema that is none; `StorageError` once it can't be
        written any more.
        """
        session, teller = self._opened(), self._teller
        if prompt is not None and not prompt.strip():
            raise UsageError("the prompt is empty; None finishes a turn that was cut")
        await self._until_left()
        if self._running or teller is None:
            raise UsageError("a turn of this session is running: wait for its end")
        self._running = True
        turn = asyncio.ensure_future(_turn(session, prompt, images, schema))
        turn.add_done_callback(lambda _: self._woken.set())
        try:
            while True:
                while self._told:
                    yield self._told.popleft()
                if turn.done():
                    break
                self._woken.clear()
                await self._woken.wait()
            end = teller.end(turn.result())
            self._hook(end)
            yield end
        finally:
            try:
                if not turn.done():
                    await self._cut(session, turn)
            finally:
                self._running = False

    async def ask(
        self, prompt: str | None, *, images: Paths = (), schema: Schema | None = None
    ) -> Answer:
        """Run one turn to its end and give its answer; raises as `Agent.ask` does."""
        return await self._agent.ask(prompt, self, images=images, schema=schema)

    async def compact(self) -> bool:
        """Replace the conversation by a shorter one now; False if there is nothing to shorten.

        It is done by itself before the model's window is full. Raises `RemoteError` where no
        summary could be had, and then nothing has changed; `UsageError` while a turn runs.
        """
        session, teller = self._opened(), self._teller
        ended = await session.compact()
        if ended.outcome in ("compacted", "nothing") or teller is None:
            return ended.outcome == "compacted"
        failed = teller.end(ended)
        raise failed.error() if isinstance(failed, TurnFailed) else UsageError(ended.reason)

    def interrupt(self, reason: str = "interrupted by the user") -> None:
        """End the turn that runs: what has not started won't, what runs is stopped, all is recorded.

        The iterator goes on to its last event, a `TurnFailed` whose outcome is `interrupted`.
        """
        self._opened().interrupt(reason)

    async def close(self) -> list[str]:
        """Interrupt what runs, end its commands, and give the session up.

        Says, a line each, which commands were ended.
        """
        engine = self._engine
        if engine is None:
            return []
        if self._closing is None:
            self._closing = asyncio.ensure_future(engine.close())
            _closings[engine.id] = self._closing
            self._closing.add_done_callback(lambda _: _closings.pop(engine.id, None))
        # Whoever closes may be cancelled again and again (anyio does so): it is closed all the same.
        return await asyncio.shield(self._closing)

    async def _until_left(self) -> None:
        """Wait for the end of a turn whose iterator was left: Python closes that one only soon."""
        for _ in range(_SOON):
            if not self._running or self._leaving is not None:
                break
            await asyncio.sleep(0)
        if self._leaving is not None:
            await asyncio.wait({self._leaving})

    async def _cut(self, session: engine.Session, turn: "asyncio.Task[watch.Finished]") -> None:
        """Nobody listens any more: the turn ends as interrupted, and what it says is dropped."""
        session.interrupt("the caller left")
        self._leaving = left = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({turn}, timeout=engine.CLOSE_WITHIN)
        finally:
            turn.cancel()
            self._told.clear()
            self._running, self._leaving = False, None
            left.set_result(None)
        if turn.done() and not turn.cancelled():
            turn.exception()  # seen: whoever left is not told

    def _opened(self) -> engine.Session:
        if self._engine is None:
            raise UsageError("the session is not open: use `async with agent.session() as session`")
        return self._engine

    def _arrange(self, tools: list[Tool], session: str, cwd: str) -> list[Tool]:
        """The tools for this session: they know its folder, and the hooks stand before them."""
        agent = self._agent
        placed = [tool.at(cwd) if isinstance(tool, FunctionTool) else tool for tool in tools]
        if agent.before_tool is None and agent.after_tool is None:
            return placed
        return [Guarded(tool, session, agent.before_tool, self._failures) for tool in placed]

    # What the session says, to whoever iterates and to the hooks

    def _see(self, event: watch.WatchEvent) -> None:
        if self._teller is None:  # it is being opened
            self._seen.append(event)
            return
        for told in self._teller.take(event):
            self._tell(told)

    def _tell(self, event: TurnEvent) -> None:
        self._told.append(event)
        self._woken.set()
        self._hook(event)
        if isinstance(event, ToolFinished):
            error = self._failures.pop(event.call, None)
            if self._agent.after_tool is not None:
                self._after(self._agent.after_tool, event, error)

    def _hook(self, event: TurnEvent) -> None:
        hook = self._agent.on_event
        if hook is not None:
            self._call("on_event", lambda: hook(event))

    def _after(self, hook: AfterTool, event: ToolFinished, error: BaseException | None) -> None:
        call = ToolCall(
            session_id=self._opened().id,
            call=event.call,
            name=event.name,
            arguments=event.arguments,
        )
        result = ToolResult(output=event.output, status=event.status, error=error)
        self._call("after_tool", lambda: hook(call, result))

    def _call(self, name: str, hook: Callable[[], None]) -> None:
        """A hook that fails costs nothing but a line that says so."""
        try:
            hook()
        except Exception as error:  # noqa: BLE001 - a defect of the hook is nobody else's
            text = f"the hook {name} failed: {raised(error)}"
            self._told.append(Notice(text=text, level="warning"))


async def _closed(name: str) -> None:
    """Wait for the closing of sessions of that id, or that begin of one, in this event loop."""
    loop = asyncio.get_running_loop()
    found = [task for session, task in _closings.items() if session.startswith(name)]
    here = {task for task in found if task.get_loop() is loop}
    if here:
        await asyncio.wait(here)


async def _turn(
    session: engine.Session, prompt: str | None, images: Paths, schema: Schema | None
) -> watch.Finished:
    if prompt is None:
        return await session.resume()
    if not images:
        return await session.prompt(prompt, schema=schema)
    from backstay.runtime.attached import attach

    shown = [await asyncio.to_thread(attach, os.fspath(path)) for path in images]
    return await session.prompt(prompt, images=shown, schema=schema)


def _answer(last: TurnEvent | None) -> Answer:
    if isinstance(last, TurnFailed):
        raise last.error()
    assert isinstance(last, TurnCompleted)  # noqa: S101 - always the last event, like TurnFailed
    if last.mismatch:
        error = RemoteError(f"the answer does not fit the schema: {last.mismatch}")
        error.session_id = last.session_id
        raise error
    return Answer(text=last.text, usage=last.usage, session_id=last.session_id)


def _with_url(keys: dict[str, Any], provider: str, base_url: str) -> dict[str, Any]:
    """The keys with the provider's address among them."""
    if not base_url:
        return keys
    if provider == "openai":
        return keys | {"openai_base_url": base_url}
    tables = dict(keys.get("model_providers") or {})
    tables[provider] = dict(tables.get(provider) or {}) | {"base_url": base_url}
    return keys | {"model_providers": tables}


def _settings(agent: Agent) -> Settings:
    """What an agent's sessions run under. Raises `UsageError` where the model or a key is missing."""
    configuration = agent.configured.configuration
    if not (agent.model or configuration.model):
        raise UsageError('no model is set: Agent("MODEL")')
    cwd = agent.cwd or os.getcwd()
    if agent.cwd and not os.path.isdir(cwd):
        raise UsageError(f"cwd {cwd}: there is no such folder")
    table = agent.configured.providers.get(configuration.model_provider)
    environ = dict(os.environ)
    if agent.key:
        name = table.env_key if table is not None and table.env_key else "OPENAI_API_KEY"
        environ |= {name: agent.key.reveal()}
    made = settings(
        agent.configured,
        environ,
        home=agent.home,
        cwd=cwd,
        model=agent.model,
        moved=bool(agent.cwd),
    )
    provider = made.provider
    if agent.key:
        provider = msgspec.structs.replace(provider, key=agent.key)
    return msgspec.structs.replace(
        made,
        provider=provider,
        shell_tools=agent.shell_tools,
        instructions=agent.instructions
        or made.instructions
        or ("" if agent.shell_tools else INSTRUCTIONS),
    )

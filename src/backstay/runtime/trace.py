"""The debug log: what a run did, by names, numbers, sizes and times; loaded only where it is asked for.

Holds no secret, no prompt, no answer and no output: of texts it has the size and a digest. Never
stands in the way: when the log can't be written that is said once, and the run goes on.
"""

import hashlib
import os
import sys
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from backstay.core import events as e
from backstay.core.commands import Append, Command
from backstay.core.items import is_call, kind, tool_name
from backstay.core.record import Known, Start
from backstay.core.turn import Turn
from backstay.model.transport import Head, HttpRequest, Transport, shown
from backstay.runtime import watch
from backstay.runtime.driver import Store
from backstay.tools.link import Link
from backstay.tools.tool import Invocation, Tool

if TYPE_CHECKING:
    from backstay.runtime.settings import Settings

Done = TypeVar("Done")

LONGEST: Final = 200
"""Characters of a reason that somebody else worded."""
_SHORTEST_SECRET: Final = 4
_OPEN: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_HEADERS: Final = frozenset(
    (
        "age",
        "cf-ray",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "openai-processing-ms",
        "openai-version",
        "request-id",
        "retry-after",
        "retry-after-ms",
        "server",
        "transfer-encoding",
        "via",
        "x-request-id",
    )
)
"""Headers of an answer whose values are told; of all others it is the names."""
_TOLD: Final = frozenset(("kind", "code", "why", "outcome", "status", "level", "channel", "found"))
"""Fields whose texts are words of our own."""
_REASONS: Final = frozenset(("reason", "detail"))


class Trace:
    """One log file, mode 0600, a line for each thing that happened."""

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        """Appends to the file. Raises `OSError` where that can't be."""
        self.path = path
        self._fd = os.open(path, _OPEN, 0o600)
        self._warn = warn
        self._secrets: list[str] = []
        self._began = time.monotonic()

    def say(self, topic: str, **facts: Any) -> None:
        """One line: time, seconds since the start, topic, facts."""
        words = [f"{name}={_word(value)}" for name, value in facts.items()]
        self._write(" ".join([topic, *words]))

    def failure(self, where: str, error: BaseException) -> None:
        """An error that nobody expected, with its traceback."""
        lines = "".join(traceback.format_exception(error)).rstrip().replace("\n", "\n    ")
        self._write(f"error in {where}\n    {lines}")

    def close(self) -> None:
        """No more lines."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _write(self, text: str) -> None:
        if self._fd < 0:
            return
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        now = time.time()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        spent = time.monotonic() - self._began
        line = f"{at}.{int(now % 1 * 1000):03}Z +{spent:.3f} {text}\n"
        data = line.encode("utf-8", "replace")
        try:
            if os.write(self._fd, data) != len(data):
                raise OSError(28, os.strerror(28))
        except OSError as error:
            self.close()
            self._warn(f"the log ends here: {self.path}: {error.strerror}")

    # What a run is under

    def hide(self, values: Iterable[str]) -> None:
        """Leave these out, wherever they stand."""
        long = {value for value in values if len(value) >= _SHORTEST_SECRET}
        long |= {repr(value)[1:-1] for value in long}
        self._secrets = sorted({*self._secrets, *long}, key=len, reverse=True)

    def configured(self, settings: "Settings") -> None:
        """What the session runs under: no value that may be a secret."""
        provider = settings.provider
        named = [*settings.hidden, "OPENAI_API_KEY", "CODEX_API_KEY"]
        named += provider.env_http_headers.values()
        self.hide([provider.key.reveal(), *provider.http_headers.values()])
        self.hide([*provider.query_params.values(), *(os.environ.get(one, "") for one in named)])
        self.hide(_credentials(provider.base_url))
        self.say(
            "configuration",
            home=settings.home,
            cwd=settings.cwd,
            model=settings.model,
            effort=settings.effort,
            web_search=settings.web_search,
            context_window=settings.context_window,
            compact_at=settings.compact_at,
            grace=settings.grace,
            writable=len(settings.writable),
            ephemeral=settings.ephemeral,
            instructions=sized(settings.instructions),
        )
        self.say(
            "provider",
            name=provider.name,
            base_url=shown(provider.base_url),
            key="set" if provider.key else "none",
            headers=[*provider.http_headers, *provider.env_http_headers],
            query=list(provider.query_params),
            request_retries=provider.request_max_retries,
            stream_retries=provider.stream_max_retries,
            idle_ms=provider.stream_idle_timeout_ms,
            connect_ms=provider.connect_timeout_ms,
            **msgspec.to_builtins(provider.dialect),
        )

    # What is put around the parts of a session

    def turn(self, turn: Turn) -> Turn:
        """The same machine, its events and commands told."""
        return _Turn(self, turn)

    def store(self, store: Store, size: Callable[[], int]) -> Store:
        """The same journal, its commits told; `size` gives the bytes of its file."""
        return _Store(self, store, size)

    def transport(self, transport: Transport) -> Transport:
        """The same way to the provider, its exchanges told."""
        return _Transport(self, transport)

    def tools(self, tools: Mapping[str, Tool]) -> dict[str, Tool]:
        """The same tools, what they do told."""
        return {name: _Tool(self, tool) for name, tool in tools.items()}

    def supervised(self) -> None:
        """From now on tell what this process and supervisors say to each other."""

        def heard(way: str, message: dict[str, Any]) -> None:
            known = ("id", "do", "event", "effect", "ok", "pid", "protocol", "total", "error")
            facts = {name: message[name] for name in known if name in message}
            self.say(f"supervisor {way}", **facts)

        Link.heard = heard

    def watcher(self, watcher: watch.Watcher) -> watch.Watcher:
        """The same, what it is told told here too, but for texts and records."""

        def told(event: watch.WatchEvent) -> None:
            match event:
                case watch.Noticed(text, level):
                    self.say("notice", level=level, text=text[:LONGEST])
                case watch.Began(attempt, index, item):
                    self.say("item began", attempt=attempt, index=index, item=kind(item))
                case watch.Answered(attempt):
                    self.say("first event", attempt=attempt)
                case watch.Finished():
                    self.say("turn ended", **facts_of(event))
                case watch.Recorded() | watch.Streamed() | watch.Printed() | watch.Waiting():
                    pass
                case _:
                    self.say(type(event).__name__.lower(), **facts_of(event))
            watcher(event)

        return told


class _Turn(Turn):
    def __init__(self, trace: Trace, turn: Turn) -> None:
        super().__init__(turn.rules)
        self._trace = trace

    def handle(self, event: e.Event) -> list[Command]:
        before = self.phase
        try:
            commands = super().handle(event)
        except BaseException as error:
            self._trace.failure(f"the machine, {before} on {type(event).__name__}", error)
            raise
        phase = before if before is self.phase else f"{before}->{self.phase}"
        done = [_command(one) for one in commands]
        name = type(event).__name__
        self._trace.say(f"event {name}", phase=str(phase), **facts_of(event), commands=done)
        return commands


class _Store:
    def __init__(self, trace: Trace, store: Store, size: Callable[[], int]) -> None:
        self._trace = trace
        self._store = store
        self._size = size

    def commit(self, batch: tuple[Known, ...]) -> int:
        return self._timed("commit", batch, lambda: self._store.commit(batch))

    def write(self, batch: tuple[Known, ...]) -> None:
        self._timed("write", batch, lambda: self._store.write(batch))

    def _timed(self, what: str, batch: tuple[Known, ...], work: Callable[[], Done]) -> Done:
        began, size = time.monotonic(), self._size()
        failed = ""
        try:
            return work()
        except BaseException as error:
            failed = f"{type(error).__name__}: {error}"[:LONGEST]
            raise
        finally:
            more = {"failed": failed} if failed else {}
            self._trace.say(
                f"journal {what}",
                records=_records(batch),
                bytes=self._size() - size,
                ms=_ms(began),
                **more,
            )


class _Transport:
    def __init__(self, trace: Trace, transport: Transport) -> None:
        self._trace = trace
        self._transport = transport
        self._number = 0

    async def stream(self, request: HttpRequest) -> AsyncGenerator[Head | bytes, None]:
        self._number += 1
        number, began, size, pieces = self._number, time.monotonic(), 0, 0
        say = self._trace.say
        say(
            "request",
            number=number,
            method=request.method,
            url=shown(request.url),
            headers=list(request.headers),
            body=sized(request.body),
        )
        how = "closed early"
        try:
            async with aclosing(self._transport.stream(request)) as stream:
                async for piece in stream:
                    if isinstance(piece, Head):
                        say("answer", number=number, ms=_ms(began), **_head(piece))
                    else:
                        size, pieces = size + len(piece), pieces + 1
                    yield piece
            how = "whole"
        except GeneratorExit:
            raise
        except BaseException as error:
            how = f"{getattr(error, 'kind', type(error).__name__)}: {error}"[:LONGEST]
            raise
        finally:
            facts = {"bytes": size, "pieces": pieces, "ms": _ms(began)}
            say("answer ended", number=number, how=how, **facts)

    async def close(self) -> None:
        close = getattr(self._transport, "close", None)
        if close is not None:
            await close()


class _Tool:
    def __init__(self, trace: Trace, tool: Tool) -> None:
        self._trace = trace
        self._tool = tool
        self.name = tool.name
        self.traits = tool.traits
        self.timeout = tool.timeout
        self.spec = tool.spec

    async def prepare(self, invocation: Invocation) -> dict[str, Any] | e.Result:
        return await self._timed("prepare", invocation, self._tool.prepare(invocation))

    async def run(self, invocation: Invocation) -> e.Result:
        return await self._timed("run", invocation, self._tool.run(invocation))

    async def stop(self, invocation: Invocation) -> bool:
        return await self._timed("stop", invocation, self._tool.stop(invocation))

    async def probe(self, invocation: Invocation, start: Start) -> e.Evidence:
        return await self._timed("probe", invocation, self._tool.probe(invocation, start))

    async def adopt(self, invocation: Invocation) -> e.Result:
        return await self._timed("adopt", invocation, self._tool.adopt(invocation))

    async def _timed(self, what: str, invocation: Invocation, work: Awaitable[Done]) -> Done:
        began, say = time.monotonic(), self._trace.say
        known = {"tool": self.name, "call": invocation.call}
        given = invocation.item.get("arguments") or invocation.item.get("input") or ""
        say(f"tool {what}", **known, effect=invocation.effect, given=sized(str(given)))
        try:
            done = await work
        except Exception as error:
            self._trace.failure(f"{what} of {self.name}, call {invocation.call}", error)
            raise
        except BaseException as error:
            say(f"tool {what} ended", **known, ms=_ms(began), how=type(error).__name__)
            raise
        more: dict[str, Any] = {}
        if isinstance(done, e.Result):
            more = {"status": done.status, "output": sized(str(done.content))}
        elif isinstance(done, e.Evidence):
            more = {"found": done.found}
        say(f"tool {what} ended", **known, ms=_ms(began), **more)
        return done


def log_path(home: str, now: float) -> str:
    """Where a new log goes: `log/` of the home, made if need be. Raises `OSError`."""
    folder = os.path.join(home, "log")
    os.makedirs(folder, 0o700, exist_ok=True)
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return os.path.join(folder, f"{at}-{os.getpid()}.log")


def sized(text: str | bytes) -> str:
    """A text as the log has it: its bytes and the beginning of their SHA-256."""
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()[:12]}" if data else "0"


def facts_of(struct: Any) -> dict[str, Any]:
    """The fields of an event or a command that the log may hold, each in a word."""
    facts: dict[str, Any] = {}
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if isinstance(value, (e.Outcome, e.Result, e.Evidence)):
            facts |= facts_of(value)
        elif isinstance(value, bool | int | float) or (isinstance(value, str) and name in _TOLD):
            facts[name] = value
        elif isinstance(value, str) and value and name in _REASONS:
            facts[name] = value[:LONGEST]
        elif isinstance(value, str) and value:
            facts[name] = sized(value)
        elif isinstance(value, dict) and isinstance(value.get("type"), str):
            facts[name] = tool_name(value) if is_call(value) else kind(value)
        elif isinstance(value, list | tuple) and value:
            facts[name] = f"{len(value)} of them"
    return facts


def _command(command: Command) -> str:
    name = type(command).__name__
    if isinstance(command, Append):
        return f"{name}({_records(command.records)})"
    known = facts_of(command)
    return f"{name}({', '.join(f'{key}={_word(value)}' for key, value in known.items())})"


def _records(records: Iterable[Known]) -> str:
    return " ".join(f"{one.n}:{one.__struct_config__.tag}" for one in records)


def _head(head: Head) -> dict[str, Any]:
    told = {
        name: value
        for name, value in head.headers.items()
        if name in _HEADERS or name.startswith("x-ratelimit-")
    }
    return {"status": head.status, **told, "others": sorted({*head.headers} - {*told})}


def _credentials(url: str) -> list[str]:
    authority = url.partition("://")[2].partition("/")[0]
    user, at, _ = authority.rpartition("@")
    return [*user.split(":"), *url.partition("?")[2].split("&")] if at or "?" in url else []


def _ms(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)


def _word(value: Any) -> str:
    """A fact on the one line, quoted where it has spaces."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    text = "" if value is None else str(value)
    return repr(text) if not text or " " in text or not text.isprintable() else text


def begin(trace: Trace, version: str, action: str) -> None:
    """The first line: what runs, on what."""
    trace.say(
        "backstay",
        version=version,
        action=action,
        pid=os.getpid(),
        python=sys.version.split()[0],
        platform=sys.platform,
        proxies=[name for name in os.environ if name.upper().endswith("_PROXY")],
    )

"""Commands under the session's supervisor, as the agent's process sees them.

Starts or finds the supervisor, starts commands, waits for them, feeds and stops them. The files
they leave are read by `effects`; what a model is told about them is the tools' concern.
"""

import asyncio
import base64
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from backstay.core.record import Process
from backstay.tools import effects, link
from backstay.tools.effects import Exit, Spooled, Written
from backstay.tools.link import ANSWER_SECONDS, Link, SupervisorGone, SupervisorSilent
from backstay.tools.supervise import layout, processes

__all__ = [
    "AlreadyClaimed",
    "Commands",
    "Ended",
    "Listed",
    "Refused",
    "Started",
    "SupervisorGone",
    "SupervisorSilent",
    "end_one",
    "look",
]

STILLBORN_LIMIT = 5
"""After so many that die without a word no other is started."""
READY_SECONDS = 15.0
"""How long a supervisor that is just leaving is waited for, or one that is starting."""
STOP_SECONDS = 3.0
"""How long the reply to a stop is waited for: whoever stops is not to wait for long."""


class Started(msgspec.Struct, frozen=True):
    """The command runs; `pid` is 0 if it could not be brought to: then its `Exit` says why."""

    pid: int
    start: int


class AlreadyClaimed(msgspec.Struct, frozen=True):
    """Somebody has claimed the effect before: nothing was started or written."""


class Refused(msgspec.Struct, frozen=True):
    """There was no room or no descriptor for it: nothing was claimed, nothing was started."""

    reason: str


class Listed(msgspec.Struct, frozen=True):
    """One line of `ps`; `running` is false for a command that has ended and left children."""

    effect: str
    pid: int
    start: int
    argv: list[str]
    seconds: float
    total: int
    running: bool


class Ended(msgspec.Struct, frozen=True):
    """A command that was ended with its session; `exit` is None if it could not be killed."""

    effect: str
    exit: Exit | None = None


class Commands:
    """The commands of the session whose folder is `folder`.

    `grace`: seconds that commands are left alone after this process has died. `patience`: seconds
    that any reply of the supervisor is waited for. `spawn` or any other method brings the
    supervisor up; `end` or `close` must be called at the end.
    """

    def __init__(
        self, folder: str, *, grace: float = 60.0, patience: float = ANSWER_SECONDS
    ) -> None:
        self._folder = os.path.abspath(folder)
        self._grace = grace
        self._patience = patience
        self._sock: Any = None
        self._pid: int | None = None
        self._identity = Process(0, 0)
        self._stillborn = 0
        self._link: Link | None = None
        self._connecting = asyncio.Lock()
        self._exits: dict[str, asyncio.Future[Exit]] = {}
        self._shown: dict[str, tuple[Callable[[int, bytes], None], int]] = {}

    @property
    def supervisor(self) -> Process | None:
        """The supervisor's identity: known once it was spawned, certain after `ready`."""
        return self._identity if self._identity.pid else None

    def spawn(self) -> None:
        """Find the supervisor or start one, without waiting for it. Raises SupervisorGone."""
        if self._sock is not None or (self._link is not None and self._link.alive):
            return
        self._sock = link.connect(self._folder)
        if self._sock is None:
            self._pid, self._sock = link.spawn(self._folder, self._grace)
            self._identity = Process(self._pid, processes.start_time(self._pid))

    async def ready(self) -> Process:
        """Wait until the supervisor serves this session; its identity."""
        await self._ready()
        return self._identity

    async def start(
        self,
        effect: str,
        argv: Sequence[str | bytes],
        *,
        cwd: str,
        env: Mapping[str, str],
        limit: float | None = None,
        tty: bool = False,
    ) -> Started | AlreadyClaimed | Refused:
        """Start a command at most once for its `effect`.

        `argv[0]` is looked up in the PATH of `env`. `limit`: seconds until it is stopped. `tty`
        gives it a terminal of its own, else stdin is empty. After SupervisorGone whether it started is
        for `effects.evidence` to say.
        """
        supervisor = await self._ready()
        reply = await supervisor.request(
            do="start",
            effect=effect,
            argv=[_text(word) for word in argv],
            cwd=_text(cwd),
            env={_text(name): _text(value) for name, value in env.items()},
            limit=limit,
            tty=tty,
        )
        return _outcome(reply) or Started(reply["pid"], reply["start"])

    async def wait(self, effect: str, timeout: float | None = None) -> Exit | None:
        """The command's exit, None if it still runs after `timeout` seconds.

        Raises SupervisorGone, and LookupError if the supervisor does not know the effect.
        """
        try:
            return self._recorded(effect) or await self._wait(effect, timeout)
        except SupervisorGone:
            found = self._recorded(effect)
            if found is None:
                raise
            return found

    async def _wait(self, effect: str, timeout: float | None) -> Exit | None:
        supervisor = await self._ready()
        waiting = self._exits.get(effect)
        if waiting is None:
            waiting = self._exits[effect] = asyncio.get_running_loop().create_future()
        state = await supervisor.request(do="state", effect=effect)
        if state["state"] == "unknown":
            raise LookupError(f"the command supervisor does not know {effect}")
        if state["state"] == "exited":
            self._exited(effect, state["exit"])
        await asyncio.wait({waiting}, timeout=timeout)
        if not waiting.done():
            return None
        self._exits.pop(effect, None)
        return waiting.result()

    async def stdin(
        self, effect: str, target: str, text: bytes, *, limit: float = 5.0
    ) -> Written | AlreadyClaimed | Refused:
        """Write to the terminal of the command `target`, at most once for `effect`.

        What the terminal has not made room for in `limit` seconds is not delivered.
        """
        supervisor = await self._ready()
        encoded = base64.b64encode(text).decode()
        reply = await supervisor.request(
            within=limit + self._patience,
            do="stdin",
            effect=effect,
            target=target,
            text=encoded,
            limit=limit,
        )
        return _outcome(reply) or msgspec.convert(reply["record"], Written)

    async def stop(self, effect: str) -> bool:
        """TERM to the effect's processes, KILL 2 s later; False if there is no such effect.

        Returns at once; `wait` has the exit.
        """
        supervisor = await self._ready()
        within = min(STOP_SECONDS, self._patience)
        reply = await supervisor.request(within=within, do="stop", effect=effect)
        return bool(reply["found"])

    async def listing(self) -> list[Listed]:
        """The commands that run, and those that have left children with their output."""
        supervisor = await self._ready()
        return msgspec.convert((await supervisor.request(do="list"))["commands"], list[Listed])

    async def end(self) -> list[Ended]:
        """The session ends: end every process, wait for it; the commands that still ran."""
        if self._link is None and self._sock is None:
            self._sock = link.connect(self._folder)
            if self._sock is None:
                return []
        supervisor = await self._ready()
        reply = await supervisor.request(do="end")
        await asyncio.wait({supervisor.closed}, timeout=self._patience)
        supervisor.close()
        self._link = None
        await link.reap_one(self._identity.pid, READY_SECONDS)
        return [_ended(entry) for entry in reply["ended"]]

    async def close(self) -> None:
        """Drop the connection without an end: the supervisor takes this process for dead."""
        if self._link is not None:
            self._link.close()
            await self._link.closed
            self._link = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        link.reap()

    def folder_of(self, effect: str) -> str:
        """The effect's folder; ValueError for a bad id."""
        return effects.effect_folder(self._folder, effect)

    def read(self, effect: str, begin: int = 0, end: int | None = None) -> Spooled:
        """The kept part of a range of the command's output."""
        return effects.read_spool(self.folder_of(effect), begin, end)

    def on_output(
        self, effect: str, callback: Callable[[int, bytes], None], begin: int = 0
    ) -> None:
        """Call `callback(offset, bytes)` with what the command writes from `begin` on, as it comes.

        A jump of the offset is output that was not kept. Ends after the command's exit.
        """
        self._shown[effect] = (callback, begin)
        self._show(effect, effects.spool_total(self.folder_of(effect)))

    async def _ready(self) -> Link:
        async with self._connecting:
            if self._link is not None and self._link.alive:
                return self._link
            loop = asyncio.get_running_loop()
            until = loop.time() + min(READY_SECONDS, self._patience)
            pause = 0.01
            while loop.time() < until and self._stillborn < STILLBORN_LIMIT:
                self.spawn()
                self._link = await self._open(until)
                if self._link is not None:
                    self._stillborn = 0
                    return self._link
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.5)
            self._stillborn = 0
            raise SupervisorGone(
                f"the command supervisor does not start: see {layout.LOG} in {self._folder}"
            )

    async def _open(self, until: float) -> Link | None:
        """Greet whoever the socket leads to; None if it leaves, or leaves the session to another."""
        loop = asyncio.get_running_loop()
        sock, self._sock = self._sock, None
        listener = link.listener(sock)
        _, fresh = await loop.create_unix_connection(
            lambda: Link(self._event, self._patience), sock=sock
        )
        hello: dict[str, Any] = {}
        attached = False
        try:
            async with asyncio.timeout_at(until):
                hello = await fresh.hello
                if hello.get("protocol") == layout.PROTOCOL:
                    await fresh.request(do="attach")
                    self._identity = Process(hello["pid"], hello["start"])
                    fresh.closed.add_done_callback(lambda _: self._lost())
                    attached = True
                    return fresh
        except TimeoutError:
            silent = listener or self._pid or 0
            raise SupervisorSilent(silent, min(READY_SECONDS, self._patience)) from None
        except SupervisorSilent:
            raise
        except SupervisorGone:
            self._stillborn += not hello
        finally:
            if not attached:
                fresh.close()
        await fresh.closed
        if hello.get("event") == "taken":
            await link.reap_one(self._pid, 1.0)
        if "protocol" in hello and hello["protocol"] != layout.PROTOCOL:
            raise SupervisorGone(
                f"the command supervisor {hello['pid']} is of another version of Backstay"
            )
        return None

    def _event(self, message: dict[str, Any]) -> None:
        if message["event"] == "grew":
            self._show(message["effect"], message["total"])
        elif message["event"] == "exited":
            self._exited(message["effect"], message["exit"])

    def _exited(self, effect: str, record: dict[str, Any]) -> None:
        found = msgspec.convert(record, Exit)
        self._show_last(effect, found)
        waiting = self._exits.get(effect)
        if waiting is not None and not waiting.done():
            waiting.set_result(found)

    def _recorded(self, effect: str) -> Exit | None:
        found = effects.read_exit(self.folder_of(effect))
        if isinstance(found, Written):
            raise LookupError(f"{effect} is a write, not a command")
        if found is not None:
            self._show_last(effect, found)
        return found

    def _show_last(self, effect: str, found: Exit) -> None:
        self._show(effect, found.total)
        self._shown.pop(effect, None)

    def _show(self, effect: str, total: int) -> None:
        callback, shown = self._shown.get(effect, (None, 0))
        if callback is None or total <= shown:
            return
        self._shown[effect] = (callback, total)
        for piece in self.read(effect, shown, total).pieces:
            callback(piece.offset, piece.data)

    def _lost(self) -> None:
        link.reap()
        exits, self._exits = self._exits, {}
        for waiting in exits.values():
            if not waiting.done():
                waiting.set_exception(SupervisorGone("the command supervisor is gone"))
                waiting.exception()  # nobody may be waiting for it any more


async def look(folder: str) -> list[Listed]:
    """What the session's supervisor runs, without becoming its client; empty if there is none."""
    reply = await _ask(folder, do="list")
    return msgspec.convert(reply["commands"], list[Listed]) if reply else []


async def end_one(folder: str, effect: str) -> bool:
    """Have the session's supervisor end a command, without becoming its client; the user wants it.

    Returns at once; False if nobody supervises it.
    """
    reply = await _ask(folder, do="end-one", effect=effect)
    return bool(reply and reply["found"])


async def _ask(folder: str, **request: Any) -> dict[str, Any] | None:
    """One request to the session's supervisor, and its reply; None if there is none."""
    sock = link.connect(folder)
    if sock is None:
        return None
    loop = asyncio.get_running_loop()
    _, viewer = await loop.create_unix_connection(lambda: Link(lambda _event: None), sock=sock)
    try:
        await viewer.hello
        return await viewer.request(**request)
    except SupervisorGone:
        return None
    finally:
        viewer.close()
        await viewer.closed


def _text(word: str | bytes) -> str:
    """Bytes written as latin-1, so that no undecodable name or value is lost on the way."""
    return (os.fsencode(word) if isinstance(word, str) else word).decode("latin-1")


def _outcome(reply: dict[str, Any]) -> AlreadyClaimed | Refused | None:
    if reply["state"] == "claimed":
        return AlreadyClaimed()
    if reply["state"] == "refused":
        return Refused(reply["reason"])
    return None


def _ended(entry: dict[str, Any]) -> Ended:
    record = entry.get("exit")
    return Ended(entry["effect"], msgspec.convert(record, Exit) if record else None)

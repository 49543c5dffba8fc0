"""The tools `exec_command` and `write_stdin`: commands under the session's supervisor."""

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any, Final

from backstay.core.dialect import Dialect
from backstay.core.events import Evidence, Result
from backstay.core.record import Start
from backstay.core.settle import UNKNOWN
from backstay.tools import effects, shell
from backstay.tools.commands import (
    AlreadyClaimed,
    Commands,
    Refused,
    SupervisorGone,
    SupervisorSilent,
)
from backstay.tools.effects import Exit, Exited, Gone, NeverStarted, NotClaimed, Running, Written
from backstay.tools.tool import Invocation, Plain, failed

LEAVING_SECONDS: Final = 10.0
"""How long a supervisor that is leaving may take to end its commands: TERM, KILL and some."""

_EXEC_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "cmd": {"type": "string", "description": "The shell command to run."},
        "workdir": {
            "type": "string",
            "description": "The folder to run it in; by default the session's working folder.",
        },
        "shell": {"type": "string", "description": "The shell binary; by default the user's."},
        "login": {
            "type": "boolean",
            "description": "Run the shell as a login shell. Default false.",
        },
        "tty": {
            "type": "boolean",
            "description": "Keep the command's stdin open for write_stdin. Default false.",
        },
        "yield_time_ms": {
            "type": "number",
            "description": "How long to wait before answering with what there is while the "
            "command goes on. Default 10000, from 250 to 30000.",
        },
        "max_output_tokens": {
            "type": "number",
            "description": "How much output to answer with; what is beyond is cut out of the "
            "middle. Default 10000.",
        },
    },
    "required": ["cmd"],
    "additionalProperties": False,
}
_STDIN_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "session_id": {"type": "number", "description": "The number of the running command."},
        "chars": {
            "type": "string",
            "description": "What to write to its stdin; empty to wait for more output.",
        },
        "yield_time_ms": {
            "type": "number",
            "description": "How long to wait for output. Default 10000, from 250 to 30000.",
        },
        "max_output_tokens": {
            "type": "number",
            "description": "How much output to answer with. Default 10000.",
        },
    },
    "required": ["session_id"],
    "additionalProperties": False,
}


class Shell:
    """What both tools share: the supervisor's client and how far each command has been shown."""

    def __init__(
        self, commands: Commands, session: str, cwd: str, environ: Mapping[str, str]
    ) -> None:
        self.commands = commands
        self.cwd = cwd
        self.environ = environ
        self.shown: dict[str, int] = {}
        """Bytes of each effect's output that recorded outputs have shown."""
        self._session = session

    def effect_of(self, session_id: int) -> str:
        """The effect of a running command's number: the number of its call's record."""
        return f"{self._session}-{session_id}"

    async def answer(
        self,
        effect: str,
        invocation: Invocation,
        *,
        session_id: int,
        seconds: float,
        note: str = "",
    ) -> Result:
        """Wait for the command so long, then answer with what it printed since it was last shown."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        begin = self.shown.get(effect, 0)
        self.commands.on_output(effect, lambda _offset, data: invocation.show(data), begin)
        found: Exit | None
        try:
            found = await self.commands.wait(effect, seconds)
        except SupervisorSilent as error:
            return self._silent(effect, session_id, error)
        except (SupervisorGone, LookupError):
            left = await asyncio.to_thread(self._lost, effect)
            if isinstance(left, Result):
                return left
            found = left
        return self.told(
            effect,
            invocation,
            found,
            session_id=session_id,
            seconds=found.wall if found is not None else loop.time() - began,
            begin=begin,
            note=note,
        )

    def told(
        self,
        effect: str,
        invocation: Invocation,
        found: Exit | None,
        *,
        session_id: int,
        seconds: float,
        begin: int,
        note: str = "",
    ) -> Result:
        """The result that shows what the command printed from `begin` on; that counts as shown."""
        answer = shell.result(
            self.commands,
            effect,
            found,
            session=session_id,
            seconds=seconds,
            begin=begin,
            most=shell.tokens(invocation.arguments.get("max_output_tokens")),
            note=note,
        )
        if answer.spool is not None:
            self.shown[effect] = answer.spool.end
        return answer

    def _silent(self, effect: str, session_id: int, error: SupervisorSilent) -> Result:
        """The command may go on or have ended: nobody can tell, and nothing is ended."""
        why = f" ({error}; until then write_stdin can ask again for session ID {session_id})"
        text = f"{UNKNOWN.format(why=why)}\nIts output until then:\n{self.partial(effect)}"
        return Result(content=text, status="unknown")

    def _lost(self, effect: str) -> Result | Exit:
        """The supervisor died under the command: end what it left, say what is known.

        One that is leaving ends the command itself and records the exit, which is waited for.
        """
        folder = self.commands.folder_of(effect)
        until = time.monotonic() + LEAVING_SECONDS
        found = effects.evidence(folder, effects.boot_id())
        while isinstance(found, Running) and found.supervised and time.monotonic() < until:
            time.sleep(0.02)
            found = effects.evidence(folder, effects.boot_id())
        if isinstance(found, Exited) and isinstance(found.result, Exit):
            return found.result
        effects.end_recorded_group(folder)
        partial = self.partial(effect)
        text = UNKNOWN.format(why=" (the process that supervised it is gone)")
        return Result(content=f"{text}\nIts output until then:\n{partial}", status="unknown")

    def partial(self, effect: str) -> str:
        """What was saved of a command's output, bounded."""
        spooled = self.commands.read(effect)
        return shell.text_of(spooled, shell.DEFAULT_TOKENS * shell.BYTES_PER_TOKEN)


class ExecCommand(Plain):
    """Runs a shell command; one that outlasts its `yield_time_ms` goes on under a number."""

    name = "exec_command"
    timeout: float | None = None

    def __init__(self, shared: Shell, limit: float | None = None) -> None:
        """`limit`: seconds after which every command is stopped; None for no limit."""
        self._shell = shared
        self._limit = limit

    def spec(self, dialect: Dialect) -> dict[str, Any]:
        """A function tool in every dialect."""
        del dialect
        return {
            "type": "function",
            "name": self.name,
            "description": "Runs a shell command. Answers with its output, or, when it takes "
            "longer than yield_time_ms, with what there is and a session ID for write_stdin.",
            "strict": False,
            "parameters": _EXEC_PARAMETERS,
        }

    async def run(self, invocation: Invocation) -> Result:
        """Start the command, at most once, and wait for it."""
        wish = invocation.arguments
        cmd = wish.get("cmd")
        if not isinstance(cmd, str) or not cmd.strip():
            return failed("exec_command needs `cmd`, the command to run, as a string.")
        workdir = wish.get("workdir") or self._shell.cwd
        if not isinstance(workdir, str):
            return failed("exec_command takes `workdir` as a string.")
        argv = [shell.shell_of(self._shell.environ, wish.get("shell"))]
        argv += ["-l"] if wish.get("login") is True else []
        try:
            started = await self._shell.commands.start(
                invocation.effect,
                [*argv, "-c", cmd],
                cwd=os.path.join(self._shell.cwd, workdir),
                env=self._shell.environ,
                limit=self._limit,
                stdin=wish.get("tty") is True,
            )
        except SupervisorGone as error:
            return _as_result(await self.probe(invocation, None), str(error))
        if isinstance(started, AlreadyClaimed):
            return _as_result(await self.probe(invocation, None))
        if isinstance(started, Refused):
            return failed(f"The command was not started: {started.reason}")
        return await self._answer(invocation, self._patience(invocation))

    async def stop(self, invocation: Invocation) -> bool:
        """End the command; `run` then answers with how it ended."""
        try:
            return await self._shell.commands.stop(invocation.effect)
        except SupervisorGone:
            return False

    async def adopt(self, invocation: Invocation) -> Result:
        """Wait for the command that runs, for what is left of its call's own patience."""
        gone = max(time.time() - invocation.began, 0.0)
        left = max(self._patience(invocation) - gone, shell.SHORTEST_YIELD / 1000)
        return await self._answer(invocation, left)

    def _patience(self, invocation: Invocation) -> float:
        return shell.milliseconds(invocation.arguments.get("yield_time_ms"))

    async def _answer(self, invocation: Invocation, seconds: float) -> Result:
        note = ""
        if invocation.arguments.get("tty") is True:
            note = "There is no terminal yet: its stdin is a pipe."
        try:
            return await self._shell.answer(
                invocation.effect,
                invocation,
                session_id=invocation.call,
                seconds=seconds,
                note=note,
            )
        except asyncio.CancelledError:  # what comes after a stop that did not work
            text = "The command could not be stopped: it may still be running."
            return Result(content=text, status="interrupted")

    async def probe(self, invocation: Invocation, start: Start | None) -> Evidence:
        """What the effect's folder says; a command without a supervisor is ended first."""
        boot = start.boot if start is not None and start.boot else effects.boot_id()
        return await asyncio.to_thread(self._probe, invocation, boot)

    def _probe(self, invocation: Invocation, boot: str) -> Evidence:
        effect = invocation.effect
        folder = self._shell.commands.folder_of(effect)
        found = _claimed(folder, boot)
        if isinstance(found, NeverStarted):
            return Evidence(found="unstarted", detail="the agent ended before it began")
        if isinstance(found, Exited) and isinstance(found.result, Exit):
            return Evidence(found="recovered", result=self._recovered(invocation, found.result))
        if isinstance(found, Running) and found.supervised:
            return Evidence(found="running")
        effects.end_recorded_group(folder)
        why = found.why if isinstance(found, Gone) else "its supervisor had died; it was ended"
        return Evidence(found="unknown", detail=why, partial=self._shell.partial(effect))

    def _recovered(self, invocation: Invocation, found: Exit) -> Result:
        return self._shell.told(
            invocation.effect,
            invocation,
            found,
            session_id=invocation.call,
            seconds=found.wall,
            begin=0,
        )


class WriteStdin(Plain):
    """Writes to a running command's stdin, or waits for more of its output."""

    name = "write_stdin"
    timeout: float | None = None

    def __init__(self, shared: Shell) -> None:
        self._shell = shared

    def spec(self, dialect: Dialect) -> dict[str, Any]:
        """A function tool in every dialect."""
        del dialect
        return {
            "type": "function",
            "name": self.name,
            "description": "Writes to the stdin of a command that still runs, or waits for more "
            "of its output, and answers with what it printed since.",
            "strict": False,
            "parameters": _STDIN_PARAMETERS,
        }

    async def run(self, invocation: Invocation) -> Result:
        """Deliver the characters, at most once, then wait for output."""
        wish = invocation.arguments
        number = wish.get("session_id")
        if isinstance(number, bool) or not isinstance(number, int | float):
            return failed("write_stdin needs `session_id`, the number of a running command.")
        target = self._shell.effect_of(int(number))
        chars = wish.get("chars") or ""
        if not isinstance(chars, str):
            return failed("write_stdin takes `chars` as a string.")
        if effects.read_child(self._shell.commands.folder_of(target)) is None:
            return failed(f"There is no command with session ID {int(number)}.")
        note = ""
        if chars:
            delivered = await self._deliver(invocation, target, chars)
            if isinstance(delivered, Result):
                return delivered
            note = delivered
        return await self._shell.answer(
            target,
            invocation,
            session_id=int(number),
            seconds=shell.milliseconds(wish.get("yield_time_ms")),
            note=note,
        )

    async def _deliver(self, invocation: Invocation, target: str, chars: str) -> Result | str:
        """What to say about the delivery, or the result that ends the call."""
        data = chars.encode("utf-8", "replace")
        try:
            written = await self._shell.commands.stdin(invocation.effect, target, data)
        except SupervisorGone as error:
            return _as_result(await self.probe(invocation, None), str(error))
        if isinstance(written, AlreadyClaimed):
            return _as_result(await self.probe(invocation, None))
        if isinstance(written, Refused):
            return failed(f"Nothing was written: {written.reason}")
        return _delivery(written)

    async def adopt(self, invocation: Invocation) -> Result:
        """Never asked for: a write is over at once."""
        return await self.run(invocation)

    async def probe(self, invocation: Invocation, start: Start | None) -> Evidence:
        """Whether the characters were delivered; a mere wait is answered with what there is."""
        boot = start.boot if start is not None and start.boot else effects.boot_id()
        wish = invocation.arguments
        target = self._shell.effect_of(int(wish.get("session_id") or 0))
        if not wish.get("chars"):
            return Evidence(found="answered", result=self._now(invocation, target, ""))
        folder = self._shell.commands.folder_of(invocation.effect)
        found = _claimed(folder, boot)
        if isinstance(found, NeverStarted):
            return Evidence(found="unstarted", detail="the agent ended before it was written")
        if isinstance(found, Exited) and isinstance(found.result, Written):
            note = _delivery(found.result)
            return Evidence(found="recovered", result=self._now(invocation, target, note))
        return Evidence(found="unknown", detail="the agent ended while it was written")

    def _now(self, invocation: Invocation, target: str, note: str) -> Result:
        """How the command stands at this moment, without waiting."""
        exited = effects.read_exit(self._shell.commands.folder_of(target))
        found = exited if isinstance(exited, Exit) else None
        return self._shell.told(
            target,
            invocation,
            found,
            session_id=int(invocation.arguments.get("session_id") or 0),
            seconds=found.wall if found else 0.0,
            begin=self._shell.shown.get(target, 0),
            note=note,
        )


def _claimed(folder: str, boot: str) -> effects.Evidence:
    """What is known of an effect that nobody can start any more: unclaimed, it is claimed here."""
    found = effects.evidence(folder, boot)
    if not isinstance(found, NotClaimed):
        return found
    return (
        NeverStarted("settler") if effects.settler_claim(folder) else effects.evidence(folder, boot)
    )


def _delivery(written: Written) -> str:
    if written.delivered == written.of and not written.error:
        return ""
    why = f": {written.error}" if written.error else ""
    return f"Only {written.delivered} of {written.of} bytes were written to its stdin{why}."


def _as_result(evidence: Evidence, error: str = "") -> Result:
    """What is known, as a result for a call that is still under way in this process."""
    if evidence.result is not None:
        return evidence.result
    why = "; ".join(filter(None, (error, evidence.detail)))
    if evidence.found == "unstarted":
        return failed(f"Nothing was done, the command was not started: {error or evidence.detail}.")
    text = UNKNOWN.format(why=f" ({why})" if why else "")
    return Result(content=f"{text}\n{evidence.partial}".rstrip(), status="unknown")

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
from backstay.tools.whole import Keep

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
            "description": "True gives the command a terminal of 40 rows and 120 columns, for "
            "programs that need one or are talked to with write_stdin. By default its stdin is "
            "empty and its output goes to a pipe.",
        },
        "yield_time_ms": {
            "type": "number",
            "description": "How long to wait before answering with what there is while the "
            "command goes on. Default 10000, from 250 to 30000.",
        },
        "max_output_tokens": {
            "type": "number",
            "description": "How much output to answer with; what is beyond is cut out of the "
            "middle, and the answer names a file that has the whole. Default 10000, at most 50000.",
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
            "description": "What to type into its terminal: \\n or \\r for Enter, \\u0003 for "
            "Ctrl-C, \\u0004 for Ctrl-D, \\u001b for Escape. Empty to wait for more output.",
        },
        "yield_time_ms": {
            "type": "number",
            "description": "How long to wait for output. With chars default 250, from 250 to "
            "30000; without default 10000, from 250 to 300000.",
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
        self,
        commands: Commands,
        session: str,
        cwd: str,
        environ: Mapping[str, str],
        keep: Keep | None = None,
    ) -> None:
        """`keep` stores the whole of outputs that are cut."""
        self.commands = commands
        self.keep = keep
        self.cwd = cwd
        self.environ = environ
        self.shown: dict[str, int] = {}
        """Bytes of each effect's output that recorded outputs have shown."""
        self._telling = asyncio.Lock()
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
        shown = self.shown.get(effect, 0)
        self.commands.on_output(effect, lambda _offset, data: invocation.show(data), shown)
        found: Exit | None
        try:
            found = await self.commands.wait(effect, seconds)
        except SupervisorSilent as error:
            return await asyncio.to_thread(self._silent, effect, session_id, error)
        except (SupervisorGone, LookupError):
            left = await asyncio.to_thread(self._lost, effect)
            if isinstance(left, Result):
                return left
            found = left
        async with self._telling:  # a call beside this one may have shown a part meanwhile
            return await asyncio.to_thread(
                self.told,
                effect,
                invocation,
                found,
                session_id=session_id,
                seconds=found.wall if found is not None else loop.time() - began,
                begin=self.shown.get(effect, 0),
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
        """The result that shows what the command printed from `begin` on; that counts as shown.

        Blocks.
        """
        answer = shell.result(
            self.commands,
            effect,
            found,
            session=session_id,
            seconds=seconds,
            begin=begin,
            most=shell.tokens(invocation.arguments.get("max_output_tokens")),
            note=note,
            keep=self.keep,
        )
        if answer.spool is not None:
            self.shown[effect] = max(answer.spool.end, self.shown.get(effect, 0))
        return answer

    def _silent(self, effect: str, session_id: int, error: SupervisorSilent) -> Result:
        """The command may go on or have ended: nobody can tell, and nothing is ended."""
        why = f" ({error}; until then write_stdin can ask again for session ID {session_id})"
        return self._unknown(effect, why)

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
        return self._unknown(effect, " (the process that supervised it is gone)")

    def _unknown(self, effect: str, why: str) -> Result:
        text, whole = self.partial(effect)
        content = f"{UNKNOWN.format(why=why)}\nIts output until then:\n{text}"
        return Result(content=content, status="unknown", whole=whole)

    def partial(self, effect: str) -> tuple[str, list[str]]:
        """What was saved of a command's output, bounded, and the blobs of the whole. Blocks."""
        shown = shell.excerpt(
            self.commands.read(effect),
            shell.DEFAULT_TOKENS * shell.BYTES_PER_TOKEN,
            tty=effects.has_terminal(self.commands.folder_of(effect)),
            keep=self.keep,
        )
        lines = [line for line in (shown.whole.line, shown.text) if line]
        return "\n".join(lines), shown.whole.digests


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
            "description": "Runs a shell command, with a terminal if tty is true. Answers with its "
            "output, or, when it takes longer than yield_time_ms, with what there is and a session "
            "ID for write_stdin, while the command goes on.",
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
        tty = wish.get("tty") is True
        argv = [shell.shell_of(self._shell.environ, wish.get("shell"))]
        argv += ["-l"] if wish.get("login") is True else []
        try:
            started = await self._shell.commands.start(
                invocation.effect,
                [*argv, "-c", cmd],
                cwd=os.path.join(self._shell.cwd, workdir),
                env=shell.with_terminal(self._shell.environ) if tty else self._shell.environ,
                limit=self._limit,
                tty=tty,
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
        try:
            return await self._shell.answer(
                invocation.effect, invocation, session_id=invocation.call, seconds=seconds
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
        partial, whole = self._shell.partial(effect)
        return Evidence(found="unknown", detail=why, partial=partial, whole=whole)

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
    """Types into a running command's terminal, or waits for more of its output."""

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
            "description": "Types into the terminal of a command that was started with tty=true, "
            "or waits for more output of any command that still runs; answers with what it "
            "printed since.",
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
        child = effects.read_child(self._shell.commands.folder_of(target))
        if child is None:
            hint = (
                "To run a command, call exec_command." if chars else "Nothing is left to wait for."
            )
            return failed(f"There is no command with session ID {int(number)}. {hint}")
        if chars and not child.tty:
            return failed(
                f"Nothing was written: command {int(number)} has no terminal, its stdin is empty. "
                "Start it with tty=true to write to it; without chars this waits for its output."
            )
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
            seconds=_polling(wish.get("yield_time_ms"), writes=bool(chars)),
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
            now = await asyncio.to_thread(self._now, invocation, target, "")
            return Evidence(found="answered", result=now)
        folder = self._shell.commands.folder_of(invocation.effect)
        found = _claimed(folder, boot)
        if isinstance(found, NeverStarted):
            return Evidence(found="unstarted", detail="the agent ended before it was written")
        if isinstance(found, Exited) and isinstance(found.result, Written):
            note = _delivery(found.result)
            now = await asyncio.to_thread(self._now, invocation, target, note)
            return Evidence(found="recovered", result=now)
        return Evidence(found="unknown", detail="the agent ended while it was written")

    def _now(self, invocation: Invocation, target: str, note: str) -> Result:
        """How the command stands at this moment, without waiting for it. Blocks."""
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


def _polling(wanted: Any, *, writes: bool) -> float:
    if writes:
        return shell.milliseconds(wanted, shell.WRITE_YIELD)
    return shell.milliseconds(wanted, longest=shell.LONGEST_POLL)


def _delivery(written: Written) -> str:
    if written.delivered == written.of and not written.error:
        return ""
    why = f": {written.error}" if written.error else ""
    return f"Only {written.delivered} of {written.of} bytes were written to its terminal{why}."


def _as_result(evidence: Evidence, error: str = "") -> Result:
    """What is known, as a result for a call that is still under way in this process."""
    if evidence.result is not None:
        return evidence.result
    why = "; ".join(filter(None, (error, evidence.detail)))
    if evidence.found == "unstarted":
        return failed(f"Nothing was done, the command was not started: {error or evidence.detail}.")
    text = UNKNOWN.format(why=f" ({why})" if why else "")
    content = f"{text}\n{evidence.partial}".rstrip()
    return Result(content=content, status="unknown", whole=evidence.whole)

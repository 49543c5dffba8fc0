"""The effects of one session: starting, feeding, stopping, reaping, listing.

Owns the commands and their claims. Tells the server what happens through `say`; knows nothing of
sockets.
"""

from __future__ import annotations

import os
import sys
import time

from . import ending, layout, processes, records
from .command import Command, never_ran
from .stdin import Write
from .timers import Timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable

    from .child import Order

    Reply = dict[str, object]

GREW_SECONDS = 0.05


class Running:
    """All effects of this supervisor."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        timers: Timers,
        say: Callable[[Reply], None],
        *,
        complete: bool,
    ) -> None:
        """`complete`: this process is a subreaper, all that its commands start stays below it."""
        self.complete = complete
        self.selector = selector
        self.timers = timers
        self.boot = layout.boot_id()
        self.start = processes.start_time(os.getpid())
        self._say = say
        self._commands: dict[str, Command] = {}
        self._leaders: dict[int, Command] = {}
        self._groups: dict[str, int] = {}
        self._sweeps: dict[str, ending.Sweep] = {}
        self._unrecorded: dict[str, Reply] = {}
        self.session_sweep: ending.Sweep | None = None

    def begin(self, effect: str, order: Order, limit: float | None) -> Reply:
        """Start a command, once: `started`, `claimed`, or `refused` (nothing was claimed)."""
        folder = os.path.join(layout.EFFECTS, effect)
        if os.path.exists(os.path.join(folder, layout.CLAIM)):
            return {"state": "claimed"}
        try:
            layout.make_folder(folder)
            records.reserve(folder)
            command = Command(effect, order, self)
        except OSError as error:
            return {"state": "refused", "reason": _reason(error)}
        try:
            claimed = layout.take_claim(folder, self._note("command"))
        except OSError as error:
            command.give_up()
            return self._never_ran(effect, _reason(error))
        if not claimed:
            command.give_up()
            return {"state": "claimed"}
        return self._run(command, limit)

    def write(
        self, effect: str, target: str, text: bytes, limit: float, answer: Callable[[Reply], None]
    ) -> None:
        """Write to a command's stdin, once; `answer` is called now or later, with the record."""
        folder = os.path.join(layout.EFFECTS, effect)
        if os.path.exists(os.path.join(folder, layout.CLAIM)):
            answer({"state": "claimed"})
            return
        try:
            layout.make_folder(folder)
            records.reserve(folder)
        except OSError as error:
            answer({"state": "refused", "reason": _reason(error)})
            return

        def done(sent: int, error: str | None) -> None:
            record: Reply = {"kind": "stdin", "delivered": sent, "of": len(text), "at": time.time()}
            if error:
                record["error"] = error
            self._record(folder, record)
            answer({"state": "written", "record": record})

        write = Write(text, done)
        try:
            if not layout.take_claim(folder, self._note("stdin")):
                answer({"state": "claimed"})
                return
        except OSError as error:
            write.finish(_reason(error))
            return
        command = self._commands.get(target)
        if command is None or command.stdin is None:
            running = command is not None and command.exit is None
            write.finish("its stdin is not open" if running else "the command has ended")
        else:
            command.stdin.add(write, limit)

    def stop(self, effect: str, why: str) -> bool:
        """End one effect's processes; False if it is none of ours."""
        group = self._groups.get(effect)
        if group is None:
            return False
        command = self._commands.get(effect)
        if command is not None:
            command.mark_ended(why)
        if effect not in self._sweeps:

            def find() -> list[ending.Target]:
                leader = self._leaders.get(group)
                own = leader is not None and leader.effect == effect
                reused = not own and processes.look(group) is not None
                return ending.of_effect(effect, 0 if reused else group)

            def done() -> None:
                del self._sweeps[effect]

            self._sweeps[effect] = ending.Sweep(self.timers, find, lambda: False, done)
        return True

    def stop_all(self, why: str, done: Callable[[], None]) -> list[str]:
        """End everything; the effects whose command was still running. `done` follows later."""
        running = [command for command in self._commands.values() if command.exit is None]
        for command in running:
            command.mark_ended(why)
        # A leader that has ended is waited for until it is reaped: its exit is to be recorded.
        self.session_sweep = ending.Sweep(
            self.timers, self._find_all, lambda: bool(self._leaders), done
        )
        return [command.effect for command in running]

    def reap(self) -> None:
        """Take every ended child; a leader's exit is recorded before it is told."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            command = self._leaders.pop(pid, None)
            if command is not None:
                command.exited(status)
                self._remember(command.effect, command.exit)
                self._flush_growth(command)
                self._say({"event": "exited", "effect": command.effect, "exit": command.exit})
                self._forget(command)
        for sweep in (*self._sweeps.values(), self.session_sweep):
            if sweep is not None:
                sweep.look()

    def anything_alive(self) -> bool:
        """Whether a command runs or has left a process behind."""
        if self.complete:
            return ending.has_children()
        return bool(self._find_all())

    def state(self, effect: str) -> Reply:
        """`running`, `exited` with the record, or `unknown`."""
        command = self._commands.get(effect)
        if command is not None and command.exit is None:
            return {"state": "running", "total": command.spool.total}
        record = command.exit if command else self._unrecorded.get(effect)
        record = record or records.read_exit(os.path.join(layout.EFFECTS, effect))
        return {"state": "exited", "exit": record} if record else {"state": "unknown"}

    def listing(self) -> list[Reply]:
        """What runs, and what has ended while others still hold its output."""
        return [
            {
                "effect": command.effect,
                "pid": command.pid,
                "start": command.start,
                "argv": [word.decode("latin-1") for word in command.argv],
                "seconds": command.seconds,
                "total": command.spool.total,
                "running": command.exit is None,
            }
            for command in self._commands.values()
        ]

    def close(self) -> None:
        """Close every descriptor."""
        for command in self._commands.values():
            command.close()

    def grew(self, command: Command) -> None:
        """Say so, at most every 50 ms."""
        if command.grew_timer is None:
            self._say_growth(command)
            command.grew_timer = self.timers.after(GREW_SECONDS, lambda: self._rest(command))

    def drained(self, command: Command) -> None:
        """Nobody holds its output any more."""
        self._forget(command)

    def overdue(self, command: Command) -> None:
        """Its time limit is reached."""
        self.stop(command.effect, "deadline")

    def log(self, line: str) -> None:
        """Write to the log, which is stderr."""
        log(line)

    def _run(self, command: Command, limit: float | None) -> Reply:
        try:
            command.run(limit)
        except OSError as error:
            command.give_up()
            return self._never_ran(command.effect, _reason(error))
        self._commands[command.effect] = command
        self._leaders[command.pid] = command
        self._groups[command.effect] = command.pid
        return {"state": "started", "pid": command.pid, "start": command.start}

    def _never_ran(self, effect: str, reason: str) -> Reply:
        record = never_ran(reason)
        self._record(os.path.join(layout.EFFECTS, effect), record)
        self._remember(effect, record)
        self._say({"event": "exited", "effect": effect, "exit": record})
        return {"state": "started", "pid": 0, "start": 0, "exit": record}

    def _record(self, folder: str, record: Reply) -> None:
        try:
            records.write_exit(folder, record)
        except OSError as error:
            record["recorded"] = False
            log(f"{folder}: the result could not be recorded: {error}")

    def _remember(self, effect: str, record: Reply | None) -> None:
        """Keep what could not be put on disk, for those who ask."""
        if record is not None and record.get("recorded") is False:
            self._unrecorded[effect] = record

    def _find_all(self) -> list[ending.Target]:
        groups = list(self._groups.values())
        return ending.of_all(frozenset(self._groups), groups, complete=self.complete)

    def _forget(self, command: Command) -> None:
        if command.exit is not None and not command.piped:
            self._commands.pop(command.effect, None)

    def _rest(self, command: Command) -> None:
        command.grew_timer = None
        if command.spool.total > command.told:
            self.grew(command)

    def _flush_growth(self, command: Command) -> None:
        if command.spool.total > command.told:
            self._say_growth(command)

    def _say_growth(self, command: Command) -> None:
        command.told = command.spool.total
        self._say({"event": "grew", "effect": command.effect, "total": command.told})

    def _note(self, kind: str) -> str:
        who = '{"who":"supervisor","kind":"%s","pid":%d,"start":%d,"boot":"%s"}'
        return who % (kind, os.getpid(), self.start, self.boot)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


_LOG_BYTES = 1 << 18
_written = 0


def log(line: str) -> None:
    """Append a line to the log, until that has its size; never a command's text or environment."""
    global _written  # noqa: PLW0603
    _written += len(line) + 32
    if _written < _LOG_BYTES:
        try:
            print(time.strftime("%Y-%m-%dT%H:%M:%S"), line, file=sys.stderr, flush=True)  # noqa: T201
        except OSError:
            pass  # a full disk; the log is not worth an end

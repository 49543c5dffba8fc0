"""`ps`: commands of sessions that are still alive, read from the effects' folders; ending one."""

import asyncio
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from backstay.cli.calls import command_text
from backstay.cli.kept import Past
from backstay.cli.listing import width_of
from backstay.cli.options import Option, read
from backstay.cli.page import Page, print_page
from backstay.cli.terminal import one_line
from backstay.core.items import tool_name
from backstay.errors import UsageError
from backstay.journal import PosixDisk, holder, lock_path
from backstay.journal.sessions import find, list_sessions
from backstay.runtime.config import default_home

_OPTIONS = (
    Option(("-h", "--help"), "print this help"),
    Option(("--json",), "one JSON object a line"),
    Option(("--end",), "end this command and all that it started", value="ID"),
)
PAGE: Final = Page(
    name="ps",
    text="""\
usage: backstay ps [--json]
       backstay ps --end ID

The commands that sessions have started and that are still alive: the ID (that
of the session, and the number under which the model knows the command), the
process, for how long, how much it has printed, who watches over it, and the
command itself.

--end sends TERM to the command and to all that it started, and KILL two
seconds later. Of the session's ID its beginning is enough: --end 01a2027d-14.
""",
    options=_OPTIONS,
)
END_WITHIN: Final = 10.0
"""Seconds that the end of a command is waited for: TERM, KILL and some."""


class Alive(msgspec.Struct):
    """One command that runs."""

    session: str
    number: int
    """Under which the model knows it: `session_id` in its tools."""
    effect: str
    pid: int
    seconds: float
    """Since it was claimed."""
    output: int
    """Bytes that it has printed so far."""
    tty: bool
    """It has a terminal."""
    supervised: bool
    """Its end will be recorded."""
    agent: int
    """The process that writes the session; 0 if there is none."""
    command: str


def main(argv: Sequence[str]) -> int:
    """Run `ps`; gives the exit code. Raises `BackstayError`."""
    given = read(argv, _OPTIONS, "ps")
    if given.has("help"):
        print_page(PAGE)
        return 0
    if given.words:
        raise UsageError("ps takes no arguments")
    if given.has("end"):
        return _end(given.last("end"))
    for entry in list_sessions(PosixDisk(), default_home(os.environ)):
        for alive in _alive(entry.path):
            print(msgspec.json.encode(alive).decode() if given.has("json") else _row(alive))
    return 0


def _end(wanted: str) -> int:
    """End a command and wait for that; 1 if it can't be ended."""
    from backstay.tools import commands, effects

    session, _, number = wanted.rpartition("-")
    if not session or not number.isdecimal():
        raise UsageError(f"{wanted}: say SESSION-NUMBER, as `backstay ps` lists it")
    folder = find(PosixDisk(), default_home(os.environ), session)
    effect = f"{os.path.basename(folder)}-{int(number)}"
    place = os.path.join(folder, "effects", effect)
    boot = effects.boot_id()
    if not isinstance(effects.evidence(place, boot), effects.Running):
        raise UsageError(f"{wanted} does not run; `backstay ps` lists what does")
    if not asyncio.run(commands.end_one(folder, effect)):
        effects.end_recorded_group(place)
    until = time.monotonic() + END_WITHIN
    while isinstance(effects.evidence(place, boot), effects.Running):
        if time.monotonic() > until:
            print(f"{effect} can't be ended: it still runs", file=sys.stderr)
            return 1
        time.sleep(0.02)
    print(f"ended {effect}")
    return 0


def _alive(folder: str) -> Iterator[Alive]:
    """What runs in a session: effects without a recorded exit, whose process is there."""
    from backstay.tools import effects

    root = os.path.join(folder, "effects")
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return
    past = Past(folder)
    who = holder(lock_path(folder))
    boot = effects.boot_id()
    for name in names:
        place = os.path.join(root, name)
        if os.path.exists(os.path.join(place, "exit.json")):
            continue
        found = effects.evidence(place, boot)
        if not isinstance(found, effects.Running):
            continue
        number = name.rpartition("-")[2]
        call = past.call(int(number)) if number.isdecimal() else None
        command = command_text(call.item) if call and tool_name(call.item) == "exec_command" else ""
        yield Alive(
            session=os.path.basename(folder),
            number=int(number) if number.isdecimal() else 0,
            effect=name,
            pid=found.child.pid if found.child else 0,
            seconds=max(time.time() - _begun(place), 0.0),
            output=effects.spool_total(place),
            tty=found.child.tty if found.child else False,
            supervised=found.supervised,
            agent=who.pid if who else 0,
            command=command,
        )


def _row(alive: Alive) -> str:
    watched = f"agent {alive.agent}" if alive.agent else "no agent"
    supervisor = "" if alive.supervised else ", no supervisor"
    terminal = ", with a terminal" if alive.tty else ""
    head = f"{alive.session}-{alive.number}" if alive.number else alive.effect
    facts = f"pid {alive.pid}, {_time(alive.seconds)}, {_size(alive.output)} printed{terminal}"
    room = min(width_of(1), 76) - 2
    text = one_line(alive.command, room) if alive.command else ""
    lines = textwrap.wrap(f"{facts}, {watched}{supervisor}", room)
    return "\n  ".join(filter(None, (head, *lines, text)))


def _begun(place: str) -> float:
    """When the command was claimed; its folder's time changes with its output."""
    for name in ("claim", ""):
        try:
            return os.stat(os.path.join(place, name)).st_mtime
        except FileNotFoundError:
            pass
    return time.time()


def _time(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _size(count: int) -> str:
    if count < 10_000:
        return f"{count} bytes"
    return f"{count / 1000:.0f} KB" if count < 10_000_000 else f"{count / 1_000_000:.0f} MB"

"""`ps`: commands of sessions that are still alive, read from the effects' folders. Never writes."""

import os
import time
from collections.abc import Iterator, Sequence

import msgspec

from backstay.cli.calls import command_text
from backstay.cli.kept import Past
from backstay.cli.options import Option, read, table
from backstay.cli.terminal import one_line
from backstay.core.items import tool_name
from backstay.errors import UsageError
from backstay.journal import PosixDisk, holder, lock_path
from backstay.journal.sessions import list_sessions
from backstay.runtime.config import default_home

_OPTIONS = (
    Option(("-h", "--help"), "print this help"),
    Option(("--json",), "one JSON object a line"),
)
_USAGE = """\
usage: backstay ps [--json]

The commands that sessions have started and that are still alive: the process,
for how long, who watches over it, the session and the command itself.
"""


class Alive(msgspec.Struct):
    """One command that runs."""

    session: str
    effect: str
    pid: int
    seconds: float
    """Since its folder was made."""
    supervised: bool
    """Its end will be recorded."""
    agent: int
    """The process that writes the session; 0 if there is none."""
    command: str


def main(argv: Sequence[str]) -> int:
    """Run `ps`; gives the exit code. Raises `BackstayError`."""
    given = read(argv, _OPTIONS, "ps")
    if given.has("help"):
        print(f"{_USAGE}\nOptions:\n{table(_OPTIONS)}", end="")
        return 0
    if given.words:
        raise UsageError("ps takes no arguments")
    for entry in list_sessions(PosixDisk(), default_home(os.environ)):
        for alive in _alive(entry.path):
            print(msgspec.json.encode(alive).decode() if given.has("json") else _row(alive))
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
            effect=name,
            pid=found.child.pid if found.child else 0,
            seconds=max(time.time() - os.stat(place).st_ctime, 0.0),
            supervised=found.supervised,
            agent=who.pid if who else 0,
            command=command,
        )


def _row(alive: Alive) -> str:
    watched = f"agent {alive.agent}" if alive.agent else "no agent"
    supervisor = "" if alive.supervised else ", no supervisor"
    head = f"{alive.pid:>8}  {alive.seconds:>6.0f} s  {alive.session}  {watched}{supervisor}"
    return f"{head}\n          {one_line(alive.command or alive.effect, 70)}"

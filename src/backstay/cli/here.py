"""What `backstay` without arguments says of this folder's sessions: those that need somebody.

Cut ones, those that run, prompts that wait, commands that live. Quick and silent: what can't be
found out is left away. Writes nothing.
"""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from backstay.cli.listing import NARROW, short_ids, when, width_of
from backstay.cli.terminal import BOLD, DIM, RED, YELLOW, Style, columns, one_line
from backstay.errors import StorageError
from backstay.journal import PosixDisk, holder, lock_path
from backstay.journal.inbox import waiting
from backstay.journal.sessions import Entry, folders, newest

MOST: Final = 5
"""Sessions that are named."""
_LOOKED_AT: Final = 100
"""Sessions of any folder that are looked at, the newest ones."""
_KNOWN: Final = ("failed", "interrupted")
_RECENT: Final = 24 * 3600.0
"""Seconds for which a turn that failed or was interrupted is worth a word."""


class Standing(msgspec.Struct, frozen=True):
    """A session that somebody may want to go on with."""

    entry: Entry
    state: str
    """What is the matter, in a few words."""
    command: str
    """What `backstay` is to be told, without the id."""


def standing(home: str, cwd: str, now: float) -> list[Standing]:
    """The sessions of a folder that need somebody, the last active first.

    Turns that failed or were interrupted come behind the others: their users know of them.
    """
    urgent: list[Standing] = []
    others: list[Standing] = []
    for entry in newest(PosixDisk(), home, cwd, _LOOKED_AT):
        one = _standing(entry, now)
        if one is not None:
            (others if one.state in _KNOWN else urgent).append(one)
        if len(urgent) == MOST:
            break
    return [*urgent, *others][:MOST]


def lines(found: Sequence[Standing], every: Sequence[str], width: int, looks: Style) -> list[str]:
    """A line each, none longer than the width, and what a line is headed by."""
    ids = short_ids([one.entry.id for one in found], every)
    program = "backstay " if width >= NARROW else ""
    rows = [(f"{program}{one.command} {ids[one.entry.id]}", one) for one in found]
    wide = max((len(command) for command, _ in rows), default=0)
    head = "In this folder:" if program else "In this folder (backstay ...):"
    return [head, *(_line(command.ljust(wide), one, width, looks) for command, one in rows)]


def print_standing(home: str) -> None:
    """Print what there is to say on stdout: nothing, where there is nothing."""
    from backstay.cli.sink import Sink
    from backstay.cli.terminal import style

    try:
        found = standing(home, os.getcwd(), time.time())
        every = sorted(path.rpartition("/")[2] for path in folders(PosixDisk(), home))
    except (OSError, StorageError):  # no folder, no right to read: nothing to be said of it here
        return
    if found:
        print()
        for line in lines(found, every, width_of(1), style("auto", Sink(1), os.environ)):
            print(line)


def _standing(entry: Entry, now: float) -> Standing | None:
    who = holder(lock_path(entry.path))
    if who is not None:
        return Standing(entry, f"running, pid {who.pid}", "attach")
    letters = sum(one.kind == "prompt" for one in waiting(PosixDisk(), entry.path))
    alive = sum(1 for _ in _alive(entry.path))
    more = [f"{letters} prompt{'s' * (letters > 1)} waiting"] if letters else []
    more += [f"{alive} command{'s' * (alive > 1)} alive"] if alive else []
    recent = now - entry.active < _RECENT
    if entry.ended == "cut" or (recent and entry.ended in _KNOWN):
        return Standing(entry, ", ".join([entry.ended, *more]), "continue")
    return Standing(entry, ", ".join(more), "resume") if more else None


def _alive(folder: str) -> Iterator[str]:
    """The commands of a session that run: most sessions have no folder for any."""
    from backstay.tools import effects

    root = os.path.join(folder, "effects")
    try:
        names = os.listdir(root)
    except OSError:
        return
    boot = effects.boot_id()
    for name in names:
        place = os.path.join(root, name)
        over = os.path.exists(os.path.join(place, "exit.json"))
        if not over and isinstance(effects.evidence(place, boot), effects.Running):
            yield name


def _line(command: str, one: Standing, width: int, looks: Style) -> str:
    tone = YELLOW if one.command == "attach" else RED if one.command == "continue" else DIM
    head = f"  {command}  "
    text = f"{one.state} {when(one.entry.active)}" if width >= NARROW else one.state
    state = one_line(text, max(width - columns(head), 4))
    room = width - columns(head) - columns(state) - 2
    title = one_line(one.entry.name, room) if room >= 8 else ""
    return f"{head}{looks(state, tone)}  {looks(title, BOLD)}".rstrip()

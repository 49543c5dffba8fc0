"""How lists of sessions look: rows that fit a width, ids that are short and still unique, times.

Owns no command; prints nothing.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from backstay.cli.terminal import BOLD, DIM, RED, YELLOW, Style, columns, harmless, one_line
from backstay.journal import holder, lock_path
from backstay.journal.sessions import SHORTEST_PREFIX, Entry

NARROW: Final = 60
"""Columns below which a row leaves out what can be asked for with `show`."""
_UNLIMITED: Final = 1000
_SHORTEST: Final = 40
_DAY: Final = 86_400
_MARKS: Final = {
    "running": ("*", YELLOW),
    "cut": ("!", RED),
    "failed": ("!", RED),
    "interrupted": ("!", RED),
    "unreadable": ("!", RED),
}
STATES: Final = 11
"""Columns of the longest state."""


def width_of(descriptor: int) -> int:
    """Columns that lines may have: the terminal's, COLUMNS, and elsewhere no limit worth a name."""
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return max(int(wanted), _SHORTEST)
    try:
        return max(os.get_terminal_size(descriptor).columns or 80, _SHORTEST)
    except OSError:
        return _UNLIMITED


def state_of(entry: Entry) -> str:
    """How it ended, or that it runs now."""
    return "running" if holder(lock_path(entry.path)) is not None else entry.ended


def short_ids(wanted: Sequence[str], every: Sequence[str]) -> dict[str, str]:
    """For each id the beginning that no other id of `every` (sorted) has."""
    short = {}
    for session in wanted:
        at = bisect_left(every, session)
        near = [*every[max(at - 1, 0) : at], *every[at + 1 : at + 2]]
        shared = max((_shared(session, other) for other in near), default=0)
        short[session] = session[: max(shared + 1, SHORTEST_PREFIX)].rstrip("-")
    return short


def _shared(one: str, other: str) -> int:
    """How many letters two ids begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), len(one))


def when(at: float, now: float | None = None) -> str:
    """A time in at most ten columns."""
    now = time.time() if now is None else now
    then, today = time.localtime(at), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    if 0 <= now - at < 6 * _DAY:
        return time.strftime("%a %H:%M", then)
    return time.strftime("%b %d" if then.tm_year == today.tm_year else "%Y-%m-%d", then)


class Table:
    """Rows of sessions, one line each; in narrow ones the folder has a line of its own."""

    def __init__(self, ids: dict[str, str], width: int, style: Style, *, folders: bool) -> None:
        self._ids = ids
        self._width = width
        self._style = style
        self._id_width = max(map(len, ids.values()), default=SHORTEST_PREFIX)
        self._states = width >= NARROW
        room = width - 2 - self._id_width - 2 - 12 - (STATES + 2) * self._states
        self._below = folders and room < NARROW - 20
        self._folder = min(room // 3, 40) if folders and not self._below else 0

    def row(self, entry: Entry, state: str) -> str:
        """Mark, id, time, state, folder, title, as many of them as fit."""
        mark, tone = _MARKS.get(state, (" ", DIM))
        parts = [f"{self._ids[entry.id]:<{self._id_width}}", f"{when(entry.active):<10}"]
        if self._states:
            parts.append(f"{state:<{STATES}}")
        if self._folder:
            folder = place_of(entry.cwd, self._folder)
            parts.append(folder + " " * (self._folder - columns(folder)))
        head = "  ".join(parts)
        room = self._width - len(mark) - 1 - columns(head) - 2
        title = one_line(entry.name, room) if entry.name else "(no prompt)"[:room]
        row = f"{self._style(mark, tone)} {head}  {self._style(title, BOLD)}".rstrip()
        below = f"\n    {place_of(entry.cwd, self._width - 4)}" if self._below else ""
        return row + below


def place_of(cwd: str, width: int) -> str:
    """A folder in so many columns: the home as ~, the beginning left out where it is too long."""
    if not cwd:
        return "?"
    home = os.path.expanduser("~")
    if cwd == home or cwd.startswith(f"{home}/"):
        cwd = "~" + cwd[len(home) :]
    shown = " ".join(harmless(cwd).split())
    while columns(shown) > width:
        shown = "…" + shown[2 if shown.startswith("…") else 1 :]
    return shown

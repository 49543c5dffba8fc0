"""Sessions of other agents brought into a home: one file at a time, each once.

Puts reading (`codex`, `claude`, `agents_sdk`) and writing (`landing`) together. Nothing is written
outside of the home.
"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from backstay.core.record import Imported
from backstay.doctor import claude, codex
from backstay.doctor.carry import Carrier
from backstay.doctor.endings import endings
from backstay.doctor.landing import Earlier, digest_of, earlier, is_whole, land
from backstay.doctor.rollout import find_rollouts, thread_id
from backstay.errors import EmptySession, StorageError
from backstay.journal import Disk, uuid7
from backstay.journal.label import LONGEST_TITLE, Label, title_of, write_label

if TYPE_CHECKING:
    from backstay.doctor import agents_sdk

_DAY = 86_400.0


class Brought(msgspec.Struct):
    """What became of a file."""

    session: str
    new: bool
    notes: list[str]
    """A line each: what was damaged, what is not known."""


class Coming(msgspec.Struct):
    """A conversation on its way: who had it, when, and how it is given to a carrier."""

    source: Imported
    cwd: str
    began: float
    ended: float
    run: Callable[[Carrier], Iterator[float]]
    """Gives the carrier one step after the other, and the time of each."""
    title: str = ""
    notes: list[str] = []


class Home:
    """The home that sessions are brought into; knows which were before."""

    def __init__(self, disk: Disk, home: str, cwd: str, version: str, *, now: float) -> None:
        """`cwd` is for sessions that do not name a folder, `now` for those without a time."""
        self._disk = disk
        self._home = home
        self._cwd = cwd
        self._version = version
        self._now = now
        self._before: list[Earlier] | None = None

    def bring(self, coming: Coming, *, again: bool = False) -> Brought:
        """Make a session of it, unless there is one of just this (`again`: all the same).

        Raises `EmptySession` where it holds no conversation, `StorageError`.
        """
        before = [one for one in self._earlier() if _is_same(one.source, coming.source)]
        same = [one for one in before if one.source.digest == coming.source.digest]
        whole = next((one for one in same if is_whole(self._disk, one)), None)
        if whole is not None and not again:
            return Brought(whole.session, new=False, notes=[])
        notes = [*coming.notes]
        if before and not same:
            notes.append(f"it has changed since it became {before[0].session}")
        began = coming.began if 0 < coming.began <= self._now + _DAY else self._now
        session = uuid7(began, os.urandom(10))
        carrier = Carrier(session, coming.cwd or self._cwd, coming.source, self._version)
        folder = land(self._disk, self._home, carrier, _run(coming, carrier, began))
        _date(folder, coming.ended, self._now)
        if coming.title:
            title = title_of(coming.title[:LONGEST_TITLE])
            write_label(self._disk, folder, Label(title))
        self._earlier().insert(0, Earlier(session, coming.source, folder))
        return Brought(session, new=True, notes=[*notes, *_settled(carrier)])

    def _earlier(self) -> list[Earlier]:
        if self._before is None:
            self._before = earlier(self._disk, self._home)
        return self._before


def _is_same(one: Imported, other: Imported) -> bool:
    return (one.agent, one.id) == (other.agent, other.id)


def _run(coming: Coming, carrier: Carrier, began: float) -> Iterator[float]:
    yield began
    for at in coming.run(carrier):
        yield at or began
    if not carrier.items:
        raise EmptySession(f"{coming.source.id}: there is no conversation in it")


def _date(folder: str, ended: float, now: float) -> None:
    """Let the session count as active when it was, so that `--last` finds what was used last."""
    if 0 < ended <= now:
        try:
            os.utime(f"{folder}/journal.jsonl", (ended, ended))
        except OSError:
            pass


def _settled(carrier: Carrier) -> list[str]:
    true = sum(one.status in ("done", "failed") for one in carrier.settled)
    others = len(carrier.settled) - true
    notes = []
    if true:
        notes.append(f"{_calls(true)} without an output got the true one, which the file holds")
    if others:
        notes.append(f"{_calls(others)} without an output: the model is told so")
    return notes


def _calls(count: int) -> str:
    return f"{count} call{'' if count == 1 else 's'}"


# Codex


class Rollouts:
    """The rollouts of a CODEX_HOME, by thread."""

    def __init__(self, codex_home: str) -> None:
        self.home = codex_home
        self._paths: dict[str, str] | None = None

    def all(self) -> list[str]:
        """Their paths, oldest first."""
        return list(self._found().values())

    def named(self, name: str) -> list[str]:
        """Those whose id begins so."""
        name = name.strip().lower()
        return [path for thread, path in self._found().items() if thread.startswith(name)]

    def path_of(self, thread: str, beside: str = "") -> str:
        """The rollout of a thread, "" without one; `beside`: a file next to which it may be too."""
        found = self._found().get(thread.lower(), "")
        if found or not beside:
            return found
        return _neighbour(thread.lower(), beside)

    def _found(self) -> dict[str, str]:
        if self._paths is None:
            self._paths = {thread_id(path) or path: path for path in find_rollouts(self.home)}
        return self._paths


def _neighbour(thread: str, beside: str) -> str:
    """Where the file is under the same `sessions` folder as another one, or in its folder."""
    folder = os.path.dirname(os.path.abspath(beside))
    parts = folder.split(os.sep)
    if "sessions" in parts:
        top = os.sep.join(parts[: len(parts) - parts[::-1].index("sessions") - 1])
        found = Rollouts(top or os.sep).path_of(thread)
        if found:
            return found
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return ""
    return next((os.path.join(folder, name) for name in names if thread_id(name) == thread), "")


def from_codex(path: str, rollouts: Rollouts) -> Coming:
    """A rollout. Raises `EmptySession` where it holds no conversation, `StorageError`."""
    if not os.path.isfile(path):
        raise StorageError(f"{path} is no file")

    def find(thread: str) -> str:
        return rollouts.path_of(thread, path)

    found = codex.about(path, find)
    if not found.items:
        raise EmptySession(f"{path}: there is no conversation in it")
    ident = found.id or os.path.basename(path).removesuffix(".jsonl")
    source = Imported("codex", ident, digest_of(path))

    def run(carrier: Carrier) -> Iterator[float]:
        yield from codex.carry(path, find, found, carrier)
        carrier.end(endings(path, carrier.open_calls(), found.cwd))
        yield found.ended

    return Coming(
        source=source,
        cwd=found.cwd,
        began=found.began,
        ended=found.ended,
        run=run,
        title=found.name,
        notes=_notes(found),
    )


def _notes(found: codex.About) -> list[str]:
    notes = []
    if found.damaged:
        lines = f"{found.damaged} line{'' if found.damaged == 1 else 's'}"
        notes.append(f"{lines} can't be read (backstay doctor says more)")
    if found.missing_parent:
        notes.append(f"what it shares with {found.missing_parent} is missing: no such rollout")
    if found.rolled_back:
        turns = f"{found.rolled_back} turn{'' if found.rolled_back == 1 else 's'}"
        notes.append(f"{turns} had been rolled back and are left out")
    return notes


# Claude Code


def from_claude(path: str) -> Coming:
    """A transcript. Raises `EmptySession` where it holds no conversation, `StorageError`."""
    if not os.path.isfile(path):
        raise StorageError(f"{path} is no file")
    found = claude.about(path)
    if not found.chosen:
        raise EmptySession(f"{path}: there is no conversation in it")
    ident = os.path.basename(path).removesuffix(".jsonl")

    def run(carrier: Carrier) -> Iterator[float]:
        yield from claude.carry(path, found, carrier)
        carrier.end({})
        yield found.ended

    notes = []
    if found.damaged:
        notes.append(f"{found.damaged} line{'' if found.damaged == 1 else 's'} can't be read")
    if found.branches:
        notes.append(f"{found.branches} lines of other branches are left out")
    if found.side:
        notes.append(f"{found.side} lines of sub-agents are left out")
    return Coming(
        source=Imported("claude", ident, digest_of(path)),
        cwd=found.cwd,
        began=found.began,
        ended=found.ended,
        run=run,
        title=found.title,
        notes=notes,
    )


# The Agents SDK


def from_agents_sdk(path: str, wanted: list[str]) -> list[Coming]:
    """The sessions of a file, or those that are `wanted`.

    Raises `EmptySession` without any, `SessionError` for another sort of file, `StorageError`.
    """
    from backstay.doctor import agents_sdk

    found = agents_sdk.sessions(path, wanted)
    missing = [name for name in wanted if all(one.name != name for one in found)]
    if missing or not found:
        what = f"no session {missing[0]}" if missing else "no session"
        raise EmptySession(f"{path}: there is {what} in it")
    return [_of_sdk(one) for one in found]


def _of_sdk(kept: "agents_sdk.Kept") -> Coming:
    from backstay.doctor import agents_sdk

    def run(carrier: Carrier) -> Iterator[float]:
        yield from agents_sdk.carry(kept, carrier)
        carrier.end({})
        yield kept.rows[-1].at

    unread = sum(agents_sdk.item_of(row.data) is None for row in kept.rows)
    notes = []
    if unread:
        notes.append(f"{unread} of {len(kept.rows)} messages are damaged or encrypted")
    if kept.gap:
        notes.append("the database is damaged: what SQLite could still read is there")
    return Coming(
        source=Imported("agents-sdk", kept.name, kept.digest),
        cwd="",
        began=kept.rows[0].at,
        ended=kept.rows[-1].at,
        run=run,
        title=kept.name,
        notes=notes,
    )

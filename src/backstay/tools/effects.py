"""An effect's folder as settlement reads it: evidence, the claim, the spool, ending what is left.

Plain files and processes, no asyncio. The folder is written by the supervisor (`supervise`);
whoever settles writes the claim alone.
"""

import os
import signal
import time
from typing import Literal

import msgspec

from backstay.core.record import Process
from backstay.errors import StorageError
from backstay.tools.supervise import layout, processes

EndedBy = Literal["itself", "stop", "deadline", "dead-man", "session-end", "user"]
"""What ended a command; `dead-man` is the supervisor after the agent was gone for its grace."""


class Exit(msgspec.Struct, tag_field="kind", tag="command", frozen=True, kw_only=True):
    """How a command ended: `code`, or `signal`; `error` if it could not be brought to run.

    `total` counts all output up to the leader's exit, `spool_error` says why some of it is not in
    the spool, `recorded` is false when this could not be put on disk.
    """

    code: int | None = None
    signal: int | None = None
    error: str | None = None
    wall: float = 0.0
    total: int = 0
    ended_by: EndedBy = "itself"
    at: float = 0.0
    spool_error: str | None = None
    recorded: bool = True


class Written(msgspec.Struct, tag_field="kind", tag="stdin", frozen=True, kw_only=True):
    """What became of a write to a command's stdin: `delivered` bytes of `of`."""

    delivered: int
    of: int
    error: str | None = None
    at: float = 0.0
    recorded: bool = True


class Child(msgspec.Struct, frozen=True):
    """A command's leader, as it was recorded before it could exec."""

    pid: int
    pgid: int
    start: int
    boot: str
    marker: str
    tty: bool = False
    """It has a terminal: what it prints is meant for one."""


class NotClaimed(msgspec.Struct, frozen=True):
    """Nobody has claimed it: it has not started; it may, until a settler claims it."""


class NeverStarted(msgspec.Struct, frozen=True):
    """It was claimed, has not started, and never will."""

    claimed_by: Literal["supervisor", "settler"]


class Exited(msgspec.Struct, frozen=True):
    """Its result is recorded."""

    result: Exit | Written


class Running(msgspec.Struct, frozen=True):
    """It runs; `supervised` says whether its end will be recorded. `child` is None while starting."""

    child: Child | None
    supervised: bool


class Gone(msgspec.Struct, frozen=True):
    """It was claimed, may have taken effect, and no result will ever be recorded.

    `total` bytes of output were seen; `read_spool` has what was kept.
    """

    total: int
    why: str


Evidence = NotClaimed | NeverStarted | Exited | Running | Gone


class _Claim(msgspec.Struct):
    who: str = "unknown"
    kind: str = "unknown"
    pid: int = 0
    start: int = 0
    boot: str = ""


class Piece(msgspec.Struct, frozen=True):
    """Bytes of a spool and the offset of the first."""

    offset: int
    data: bytes


class Spooled(msgspec.Struct, frozen=True):
    """The part of a range that was kept: pieces in order, what lies between them is lost."""

    begin: int
    end: int
    pieces: tuple[Piece, ...]

    @property
    def omitted(self) -> int:
        """Bytes of the range that were not kept."""
        return self.end - self.begin - sum(len(piece.data) for piece in self.pieces)


boot_id = layout.boot_id


def effect_folder(session: str, effect: str) -> str:
    """Where an effect of the session in folder `session` lives; ValueError for a bad id."""
    if not layout.is_effect_id(effect):
        raise ValueError("an effect id is 1 to 128 of A-Z a-z 0-9 . _ -, without a dot in front")
    return os.path.join(session, layout.EFFECTS, effect)


def evidence(folder: str, boot: str) -> Evidence:
    """What is known of the effect in `folder`; `boot` is what its `start` record names.

    Changes nothing. `NotClaimed` becomes certain only by winning `settler_claim`.
    """
    claim = _read_claim(folder)
    # Whether the supervisor lives is asked before the exit is looked for: once it is gone, no
    # exit can appear any more.
    supervised = claim is not None and processes.is_same(claim.pid, claim.start)
    result = read_exit(folder)
    if result is not None:
        return Exited(result)
    this_boot = boot == layout.boot_id()
    if claim is None:
        return NotClaimed() if this_boot else _gone(folder, "the machine was restarted")
    if claim.who == "settler" and claim.boot == boot:
        return NeverStarted("settler")
    if not this_boot:
        return _gone(folder, "the machine was restarted")
    child = read_child(folder)
    if supervised:
        return Running(child, supervised=True)
    if child is None and claim.kind == "command" and claim.who == "supervisor":
        return NeverStarted("supervisor")
    if child is not None and processes.is_same(child.pid, child.start):
        return Running(child, supervised=False)
    return _gone(folder, "its supervisor has died")


def settler_claim(folder: str) -> bool:
    """Claim the effect so that it can never start; False if it was claimed before.

    Raises StorageError when the folder can't be written.
    """
    own = os.getpid()
    note = '{"who":"settler","kind":"none","pid":%d,"start":%d,"boot":"%s"}'
    text = note % (own, processes.start_time(own), layout.boot_id())
    try:
        layout.make_folder(folder)
        return layout.take_claim(folder, text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"can't claim an effect in {folder}: {reason}") from error


def read_exit(folder: str) -> Exit | Written | None:
    """The recorded result, None if there is none."""
    text = _read(folder, layout.EXIT)
    try:
        return msgspec.json.decode(text, type=Exit | Written) if text else None
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def read_child(folder: str) -> Child | None:
    """The recorded leader, None if there is none or its record is not whole."""
    text = _read(folder, layout.CHILD)
    try:
        return msgspec.json.decode(text, type=Child) if text else None
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def has_terminal(folder: str) -> bool:
    """Whether the command writes to a terminal."""
    child = read_child(folder)
    return child is not None and child.tty


def read_spool(folder: str, begin: int = 0, end: int | None = None) -> Spooled:
    """The kept bytes of `begin` to `end` (default: all there is), with their offsets."""
    segments = _segments(folder)
    known = max((offset + size for offset, size in segments), default=0)
    end = known if end is None else end
    pieces = []
    for offset, size in segments:
        low, high = max(begin, offset), min(end, offset + size)
        if low < high:
            data = _read_range(
                os.path.join(folder, f"{layout.SEGMENT}{offset}"), low - offset, high - low
            )
            if data:
                pieces.append(Piece(low, data))
    return Spooled(begin, max(begin, end), tuple(pieces))


def spool_total(folder: str) -> int:
    """Bytes that the command has written so far, as far as segments can tell."""
    return max((offset + size for offset, size in _segments(folder)), default=0)


def end_recorded_group(folder: str) -> list[Process]:
    """End what a dead supervisor left of the effect: TERM, up to 2 s, KILL. Those it ended.

    Hits the recorded leader, its group and its session only if pid, start time and boot are those recorded,
    and any process that carries the effect's marker. Blocks for up to about 2 s.
    """
    child = read_child(folder)
    effect = os.path.basename(os.path.normpath(folder))
    known: dict[tuple[int, int], processes.Process] = {}
    ended: dict[tuple[int, int], Process] = {}
    kill_at = time.monotonic() + layout.KILL_AFTER
    pause = 0.01
    while True:
        known |= {(found.pid, found.start): found for found in _left_of(effect, child)}
        alive = [found for found in known.values() if processes.is_same(found.pid, found.start)]
        now = time.monotonic()
        if not alive or now > kill_at + layout.KILL_AFTER:
            return list(ended.values())
        for found in alive:
            key = (found.pid, found.start)
            number = signal.SIGKILL if now >= kill_at else signal.SIGTERM
            if (key not in ended or now >= kill_at) and processes.send(found, number):
                ended[key] = Process(*key)
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def _left_of(effect: str, child: Child | None) -> list[processes.Process]:
    leader = None
    if (
        child is not None
        and child.boot == layout.boot_id()
        and processes.is_same(child.pid, child.start)
    ):
        leader = child
    if not processes.HAS_PROC:  # untested: the leader alone can be told from another
        found = processes.look(leader.pid) if leader else None
        return [found] if found else []
    number = leader.pid if leader else 0
    return [
        process
        for process in processes.everything().values()
        if process.pid != os.getpid()
        and ((number and process.is_led_by(number)) or processes.mark_of(process.pid) == effect)
    ]


def _gone(folder: str, why: str) -> Gone:
    return Gone(spool_total(folder), why)


def _read_claim(folder: str) -> _Claim | None:
    text = _read(folder, layout.CLAIM)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=_Claim)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return _Claim()


def _segments(folder: str) -> list[tuple[int, int]]:
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                number = entry.name.removeprefix(layout.SEGMENT)
                if number.isdigit() and number != entry.name:
                    found.append((int(number), entry.stat().st_size))
    except FileNotFoundError:
        pass  # no folder, or a segment that has just been rotated away
    return sorted(found)


def _read(folder: str, name: str) -> bytes | None:
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _read_range(path: str, begin: int, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(begin)
            return file.read(size)
    except FileNotFoundError:  # rotated away meanwhile
        return b""

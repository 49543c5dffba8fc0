"""Forks: a new session that goes on behind a turn of another one, whose records it refers to.

Making one copies nothing and takes no lock of the parent's, which may be running. Deleting a
session copies its records into its forks first.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

from backstay import __version__
from backstay.core.history import REOPENED, History
from backstay.core.items import Item, message
from backstay.core.record import (
    AnyRecord,
    Attempt,
    Basis,
    Fork,
    Late,
    Note,
    Origin,
    Repair,
    Session,
    TurnEnd,
)
from backstay.errors import (
    NewerFormat,
    SessionError,
    SessionHeld,
    StorageError,
    UnknownSession,
    UsageError,
)
from backstay.journal.blobs import Blobs
from backstay.journal.disk import Absent, Disk, File, Present
from backstay.journal.folders import (
    home_of,
    journal_path,
    lock_path,
    parent,
    session_folder,
)
from backstay.journal.journal import Clock, Journal
from backstay.journal.lineage import digest, locate
from backstay.journal.lines import Found, parts
from backstay.journal.reader import Sheet, inherited, sheets, why_read_only
from backstay.journal.sessions import folders

_HEAD: Final = 16 * 1024
"""Bytes in which a fork says what it was forked from."""
_COPIED: Final = 1024 * 1024
"""Bytes in one write of a copy."""


class Forked(msgspec.Struct, frozen=True):
    """A fork that was made: its id and folder, and behind which turn of how many it goes on."""

    id: str
    folder: str
    turn: int
    """Counted from 1 over all turns that the parent can be read back to; 0 if not counted."""
    cut: bool
    """No turn was named, and the parent's last one, which runs or was cut, is not shared."""


class _Point(msgspec.Struct):
    """The last record to share, and the session whose file it is in."""

    session: str
    part: Found
    turn: int
    cut: bool
    outcome: Literal["completed", "failed", "interrupted", "superseded"]


def fork(
    disk: Disk,
    source: str,
    session: str,
    clock: Clock,
    *,
    turn: int | None = None,
) -> Forked:
    """A new session with this id, behind a turn of the session in the folder `source`.

    `turn` counts from 1; without it, behind the last turn that has ended. The fork is
    durable when this returns. Raises `UsageError` for a turn that is not there or has not ended, `EmptySession`,
    `NewerFormat`, `UnknownSession` where the parent is being deleted, `StorageError`.
    """
    home = home_of(source)
    point = _point(disk, source, turn)
    owner = session_folder(home, point.session)
    _sync(disk, owner)
    shared = _shared(disk, home, session, point)
    records = [part.record for part in shared]
    if newer := why_read_only(records):
        raise NewerFormat(f"{source}: {newer}: upgrade Backstay to fork it")
    opening = _opening(session, shared, point)
    with Journal.create(disk, home, session, clock) as journal:
        journal.commit(opening)
        if _is_being_deleted(disk, owner, clock):
            disk.unlink(journal.path)
            raise UnknownSession(f"{owner} is being deleted: it can't be forked any more")
    return Forked(session, journal.folder, point.turn, point.cut)


def _shared(disk: Disk, home: str, session: str, point: "_Point") -> list[Found]:
    """What the fork will read of others, read as it will do that."""
    last = point.part
    origin = Origin(point.session, last.record.n, last.offset, last.crc, 0, "", "")
    before = Sheet([], [], [], whole=True, origin=origin, session=session)
    chain = reversed(list(inherited(disk, home, before)))
    shared = [part for sheet in chain for part in sheet.kept]
    if not shared or shared[-1].crc != last.crc:
        raise StorageError(f"session {point.session} was changed meanwhile: try again")
    return shared


def _opening(session: str, shared: list[Found], point: "_Point") -> tuple[Session, Fork]:
    """The fork's first two records."""
    history = History()
    for part in shared:
        history.apply(part.record)
    last, first = point.part, shared[0].record.n
    upto = last.record.n
    told = digest(shared, first, upto)
    key = history.cache_key or point.session
    origin = Origin(point.session, upto, last.offset, last.crc, first, told, key)
    cwd, basis = history.cwd, history.basis or Basis("", "")
    header = Session(
        n=upto + 1, id=session, cwd=cwd, basis=basis, version=__version__, origin=origin
    )
    refers = Fork(
        n=upto + 2,
        id=session,
        cwd=cwd,
        basis=basis,
        origin=origin,
        must=True,
        ended=point.outcome,
        item=_out_of_reach(history.running),
    )
    return header, refers


def _out_of_reach(running: Iterable[str]) -> Item | None:
    """What the model is told of commands that it takes for running; None if there are none."""
    numbers = sorted(int(effect.rpartition("-")[2]) for effect in running)
    if not numbers:
        return None
    listed = ", ".join(map(str, numbers))
    return message(
        "developer",
        "From here on this is a session of its own, forked from the one above. Commands that were "
        f"started there and had not ended (session ID {listed}) can't be reached from here; "
        "whether they still run is not known.",
    )


def _point(disk: Disk, source: str, turn: int | None) -> _Point:
    """Where to fork: the tail is enough for the last ended turn, if it holds that turn's end."""
    if turn is None:
        point = _last_end(sheets(disk, journal_path(source)))
        if point is not None:
            return point
    chain = sheets(disk, journal_path(source), everything=True)
    if turn is None:
        point = _last_end(chain)
        if point is None:
            raise UsageError(f"no turn of session {_name(source)} has ended yet: nothing to fork")
        return point
    order = _turns(chain)
    if not 1 <= turn <= len(order):
        there = f"it has {len(order)}" if order else "it has none"
        raise UsageError(f"session {_name(source)} has no turn {turn}: {there}, counted from 1")
    point = _last_end(chain, order[turn - 1])
    if point is None:
        raise UsageError(
            f"turn {turn} of session {_name(source)} has not ended: fork an earlier one"
        )
    point.turn, point.cut = turn, False
    return point


def _turns(chain: list[Sheet]) -> list[int]:
    """The turns in the order in which they began."""
    order: dict[int, None] = {}
    for sheet in reversed(chain):
        for part in sheet.kept:
            if isinstance(part.record, Attempt | TurnEnd):
                order.setdefault(part.record.turn)
    return list(order)


def _last_end(chain: list[Sheet], turn: int | None = None) -> _Point | None:
    """The last end of that turn, or of any, with what was noted behind it; None without one."""
    point, following, cut = None, False, False
    for sheet in reversed(chain):
        for part in sheet.kept:
            record = part.record
            if isinstance(record, TurnEnd) and turn in (None, record.turn):
                point = _Point(sheet.session, part, 0, cut=False, outcome=record.outcome)
                following, cut = True, False
            elif following and _belongs(record):
                assert point is not None  # noqa: S101 - it follows one
                point.session, point.part = sheet.session, part
            else:
                following = False
                cut = cut or isinstance(record, Attempt)
    if point is not None:
        point.cut = cut
    return point


def _belongs(record: AnyRecord) -> bool:
    """Whether a record behind the end of a turn tells what became of that turn."""
    if isinstance(record, Note):
        return record.topic != REOPENED
    return isinstance(record, Late | Repair)


def _sync(disk: Disk, folder: str) -> None:
    """What is referred to must be on disk before what refers to it."""
    with disk.append_to(journal_path(folder)) as file:
        file.datasync()
    disk.sync_directory(folder)
    disk.sync_directory(parent(folder))


def _name(folder: str) -> str:
    return folder.rpartition("/")[2]


# Deleting what has forks


def deleting_path(folder: str) -> str:
    """The mark of a session that is being deleted: whoever forks it meanwhile gives way."""
    return f"{folder}/deleting"


def release(disk: Disk, folder: str, clock: Clock) -> list[str]:
    """Make every fork of a session independent of it, so that it can be deleted.

    The caller holds the session's lock, and deletes it afterwards or removes the mark
    (`deleting_path`) that this leaves: as long as it is there, nobody forks the session. Gives the
    ids of the forks. Raises `SessionHeld` where a fork is being written, `StorageError`.
    """
    try:
        disk.create(deleting_path(folder)).close()
    except Present:
        pass
    home, session = home_of(folder), _name(folder)
    forks = list(forks_of(disk, home, session))
    try:
        for path in forks:
            materialise(disk, path, clock)
        if forks:
            _keep_blobs(disk, folder)
    except (SessionError, StorageError):
        disk.unlink(deleting_path(folder))
        raise
    return [_name(path) for path in forks]


def _keep_blobs(disk: Disk, folder: str) -> None:
    """Make young what the copied records name: a sweep may have passed by the forks already."""
    from backstay.journal.space import names_in, with_named_by  # they stand above

    home = home_of(folder)
    blobs = Blobs(disk, home, "")
    for name in with_named_by(disk, home, names_in(disk, journal_path(folder))):
        try:
            disk.touch(blobs.path(name))
        except Absent:
            pass


def forks_of(disk: Disk, home: str, session: str) -> Iterator[str]:
    """The folders of the sessions that refer to records of this one; each session's head is read."""
    for folder in folders(disk, home):
        origin = _origin(disk, folder)
        if origin is not None and origin.parent == session:
            yield folder


def _origin(disk: Disk, folder: str) -> Origin | None:
    """What a session refers to: said by its first records, if at all."""
    try:
        with disk.open(journal_path(folder)) as file:
            found = parts(file, 0, min(file.size(), _HEAD))
            heads = [part.record for part in found if isinstance(part, Found)][:2]
    except Absent:
        return None
    for head in heads:
        if isinstance(head, Session | Fork) and head.origin is not None:
            return head.origin
    return None


def materialise(disk: Disk, folder: str, clock: Clock) -> bool:
    """Copy the records that a fork refers to into its own file, in front of its own.

    Whether anything was copied; nothing is where it refers to nothing, or what it refers to can't
    be read any more. A kill at any point leaves the one file or the other, whole.
    """
    try:
        lease = disk.lock(lock_path(folder), clock())
    except SessionHeld as error:
        raise SessionHeld(f"{_name(folder)} is a fork of it, and {error}") from None
    try:
        origin = _origin(disk, folder)
        if origin is None:
            return False
        source = journal_path(session_folder(home_of(folder), origin.parent))
        try:
            with disk.open(source) as file:
                place = locate(file, origin)
                if place.strange:
                    return False
                _replace(disk, folder, file, place.end)
        except Absent:
            return False
        return True
    finally:
        lease.release()


def _replace(disk: Disk, folder: str, shared: File, end: int) -> None:
    path = journal_path(folder)
    new = f"{path}.new"
    try:
        disk.unlink(new)  # a copy that was cut
    except Absent:
        pass
    with disk.open(path) as own, disk.create(new) as file:
        _copy(shared, end, file)
        _copy(own, own.size(), file)
        file.datasync()
    disk.rename(new, path)
    disk.sync_directory(folder)


def _copy(source: File, end: int, target: File) -> None:
    at, last = 0, b"\n"
    while at < end:
        content = source.read(at, min(_COPIED, end - at))
        if not content:
            break
        target.append(content)
        at, last = at + len(content), content[-1:]
    if last != b"\n":
        target.append(b"\n")


def _is_being_deleted(disk: Disk, folder: str, clock: Clock) -> bool:
    """Whether a process deletes it now; the mark of one that was killed is taken away."""
    try:
        disk.stat(deleting_path(folder))
    except Absent:
        return not _has_journal(disk, folder)
    try:
        lease = disk.lock(lock_path(folder), clock())
    except (SessionHeld, Absent):
        return True
    try:
        if _has_journal(disk, folder):
            disk.unlink(deleting_path(folder))
            return False
        return True
    finally:
        lease.release()


def _has_journal(disk: Disk, folder: str) -> bool:
    try:
        disk.stat(journal_path(folder))
    except Absent:
        return False
    return True

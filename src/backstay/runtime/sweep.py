"""`sessions gc`: removes what no session needs any more, and says how much that was.

Decides what is needed; how files go is `journal.removal`'s. A session that is held is left alone,
and nothing is taken that a record, whole or damaged, may still refer to.
"""

import os
import time
from collections.abc import Callable, Iterator

import msgspec

from backstay.core.record import AnyRecord, Output, Start
from backstay.errors import BackstayError, SessionHeld
from backstay.journal import PosixDisk, lock_path, look
from backstay.journal.removal import (
    YOUNG,
    Swept,
    erase,
    is_at_work,
    size_of,
    sweep_blobs,
    sweep_ephemeral,
    sweep_trash,
)
from backstay.journal.sessions import folders
from backstay.journal.space import named_blobs, with_named_by
from backstay.runtime import leftovers
from backstay.tools import effects


class Report(msgspec.Struct):
    """What was removed, or would be."""

    effects: Swept
    blobs: Swept
    trash: Swept
    ephemeral: Swept
    held: int
    """Sessions that were left alone because somebody writes them."""
    unread: list[str]
    """Journals that can't be read: while there is one, no blob is removed."""

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        parts = (self.effects, self.blobs, self.trash, self.ephemeral)
        return sum(part.size for part in parts)


def sweep(
    home: str,
    temporary: str,
    *,
    dry_run: bool,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Report:
    """Sweep a home, and `temporary`, where ephemeral sessions have theirs. Changes no journal."""
    now = time.time()
    report = Report(Swept(), Swept(), sweep_trash(home, dry_run=dry_run), Swept(), 0, [])
    used: set[str] = set()
    every = list(folders(PosixDisk(), home))
    for done, folder in enumerate(every, 1):
        try:
            used |= named_blobs(PosixDisk(), folder)
        except BackstayError:
            report.unread.append(folder)
        try:
            _sweep_effects(folder, now, report.effects, dry_run=dry_run)
        except SessionHeld:
            report.held += 1
        except BackstayError:
            pass  # nothing is known of its effects, so they stay
        progress(done, len(every))
    try:
        used = with_named_by(PosixDisk(), home, used)
    except BackstayError as error:
        report.unread.append(str(error))
    if not report.unread:
        report.blobs = sweep_blobs(home, used, now, dry_run=dry_run)
    report.ephemeral = sweep_ephemeral(temporary, now, dry_run=dry_run)
    return report


def _sweep_effects(folder: str, now: float, swept: Swept, *, dry_run: bool) -> None:
    """The folders of effects that have ended long ago and whose outputs are recorded."""
    if not os.path.isdir(os.path.join(folder, "effects")):
        return
    with _Held(folder):
        for start in _over(look(PosixDisk(), folder).records):
            try:
                place = effects.effect_folder(folder, start.effect)
                old = now - os.stat(place).st_mtime >= YOUNG
            except (OSError, ValueError):  # it is gone, or was never named so by Backstay
                continue
            if old and not isinstance(effects.evidence(place, start.boot), effects.Running):
                swept.add(size_of(place) if dry_run else erase(place))


def _over(records: list[AnyRecord]) -> Iterator[Start]:
    """Starts whose call has its output, and that the model does not take for running."""
    running = leftovers.running(records)
    answered = {record.call for record in records if isinstance(record, Output)}
    for record in records:
        if isinstance(record, Start) and record.call in answered and record.effect not in running:
            yield record


class _Held:
    """The session's lock, so that nobody opens it meanwhile. Raises `SessionHeld`."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        self._lease = PosixDisk().lock(lock_path(self._folder), time.time())
        if is_at_work(self._folder):
            self._lease.release()
            raise SessionHeld(f"{self._folder}: its commands are alive")

    def __exit__(self, *_: object) -> None:
        self._lease.release()

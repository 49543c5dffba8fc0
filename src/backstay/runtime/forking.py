"""Makes forks of a home's sessions; what they share and how they read it is the journal's."""

import os
import time

from backstay.journal import Disk, PosixDisk, uuid7
from backstay.journal.fork import Forked, fork
from backstay.journal.sessions import find


def make_fork(home: str, name: str, turn: int | None = None) -> Forked:
    """A fork of the session with this id, or the beginning of one; it is durable, nothing has run.

    `turn` counts from 1; without it, behind the last turn that has ended. Raises `UnknownSession`,
    `EmptySession`, `NewerFormat`, `UsageError` for a turn that is not there, `StorageError`.
    """
    disk = watched_disk()
    folder = find(disk, home, name)
    session = uuid7(time.time(), os.urandom(10))
    return fork(disk, folder, session, time.time, turn=turn)


def watched_disk() -> Disk:
    """The disk on which sessions are forked and deleted, with crash points where a test wants them."""
    wanted = os.environ.get("BACKSTAY_CRASH")
    if not wanted:
        return PosixDisk()
    from backstay.runtime.crash import Points

    return Points(wanted).disk(PosixDisk())

"""Makes forks of a home's sessions; what they share and how they read it is the journal's."""

import os
import time

from backstay.journal import PosixDisk, uuid7
from backstay.journal.fork import Forked, fork
from backstay.journal.sessions import find


def make_fork(home: str, name: str, turn: int | None = None) -> Forked:
    """A fork of the session with this id, or the beginning of one; it is durable, nothing has run.

    `turn` counts from 1; without it, behind the last turn that has ended. Raises `UnknownSession`,
    `EmptySession`, `NewerFormat`, `UsageError` for a turn that is not there, `StorageError`.
    """
    disk = PosixDisk()
    folder = find(disk, home, name)
    session = uuid7(time.time(), os.urandom(10))
    return fork(disk, folder, session, time.time, turn=turn)

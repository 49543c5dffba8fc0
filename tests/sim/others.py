"""What other processes do to a world's sessions: letters, forks, deletions.

Owns the sessions that no agent works on at the moment; the world itself looks at one at a time.
"""

from collections.abc import Callable
from random import Random

import msgspec

from backstay.core.record import Fork
from backstay.errors import UsageError
from backstay.journal import journal_path, look, session_folder, uuid7
from backstay.journal.folders import lock_path
from backstay.journal.fork import Forked
from backstay.journal.inbox import Letter, send
from backstay.journal.simulated import SimulatedDisk
from tests.sim.promises import Ledger, Violation

HOME = "/home"

Forking = Callable[..., Forked]
Releasing = Callable[..., list[str]]


class Branch(msgspec.Struct):
    """A session of the world, and whether power was lost since it was last open."""

    session: str
    ledger: Ledger
    lost: bool = False


def letter(disk: SimulatedDisk, branch: Branch, text: str, now: float, rng: Random) -> str:
    """Another process writes to a session: once this returns, the letter is never lost."""
    folder = session_folder(HOME, branch.session)
    ident = send(disk, folder, Letter(kind="prompt", text=text), now, rng.randbytes(10))
    branch.ledger.letters[ident] = text
    return ident


def fork(
    make: Forking, disk: SimulatedDisk, branch: Branch, now: float, rng: Random
) -> Branch | None:
    """A fork behind the session's last ended turn; None where none has ended."""
    name = uuid7(now, rng.randbytes(10))
    if not branch.ledger.certain:
        return None  # the disk has refused: what a fork shares may be gone with the next power cut
    try:
        made = make(disk, session_folder(HOME, branch.session), name, lambda: now)
    except UsageError:
        return None
    found = look(disk, made.folder)
    origins = [one.origin for one in found.records if isinstance(one, Fork)]
    if not origins:
        raise Violation("P7", f"the fork {name} does not say what it is forked from")
    ledger = branch.ledger.fork(found.records, origins[-1].upto, damaged=bool(found.damage))
    return Branch(name, ledger)


def delete(free: Releasing, disk: SimulatedDisk, branch: Branch, now: float) -> list[str]:
    """Delete a session: its forks get what they share with it first. Gives their ids."""
    folder = session_folder(HOME, branch.session)
    lease = disk.lock(lock_path(folder), now)
    try:
        forks = free(disk, folder, lambda: now)
        disk.unlink(journal_path(folder))
        disk.sync_directory(folder)
    finally:
        lease.release()
    return forks

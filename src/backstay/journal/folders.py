"""Where a session's files are: `sessions/YYYY/MM/DD/<id>/` in the home, by the id's own time."""

import time

from backstay.errors import StorageError
from backstay.journal.disk import Absent, Disk
from backstay.journal.ids import seconds


def sessions_root(home: str) -> str:
    """The folder that holds the sessions of all days."""
    return f"{home}/sessions"


def session_folder(home: str, session: str) -> str:
    """The folder of the session with this id; its day is in UTC."""
    day = time.strftime("%Y/%m/%d", time.gmtime(seconds(session)))
    return f"{sessions_root(home)}/{day}/{session}"


def journal_path(folder: str) -> str:
    """The journal in a session's folder."""
    return f"{folder}/journal.jsonl"


def lock_path(folder: str) -> str:
    """The lock file in a session's folder."""
    return f"{folder}/lock"


def parent(path: str) -> str:
    """The folder that holds this path."""
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")


def home_of(folder: str) -> str:
    """The home that a session's folder is in."""
    for _ in range(5):
        folder = parent(folder)
    return folder


def make_day(disk: Disk, home: str, day: str) -> None:
    """Make the folders down to a day's, durably.

    A folder that holds anything has a durable name: whoever makes one syncs its parent before
    putting anything into it. So an empty one is synced here, and one with content is not.
    """
    make_folder(disk, home)
    path = home
    for name in day[len(home) + 1 :].split("/"):
        folder, path = path, f"{path}/{name}"
        if disk.mkdir(path) or not disk.list(path):
            disk.sync_directory(folder)


def make_folder(disk: Disk, path: str) -> None:
    """Make a folder with all that it stands in, durably."""
    try:
        made = disk.mkdir(path)
    except Absent:
        make_folder(disk, parent(path))
        made = _made(disk, path)
    if made:
        disk.sync_directory(parent(path))


def _made(disk: Disk, path: str) -> bool:
    try:
        return disk.mkdir(path)
    except Absent:
        advice = "set BACKSTAY_HOME to a folder that can be written"
        raise StorageError(f"{path}: the folder can't be made: {advice}") from None

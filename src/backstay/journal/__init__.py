"""The journal of a session: append, datasync, lock, read from the tail, blobs, listing.

It owns bytes and files; what records mean is the core's.
"""

from backstay.journal.batch import Batch, Waiting
from backstay.journal.blobs import Blobs, MissingBlob
from backstay.journal.disk import Absent, Disk, File, Present, Stat
from backstay.journal.folders import journal_path, lock_path, session_folder
from backstay.journal.ids import is_id, uuid7
from backstay.journal.journal import Journal, look
from backstay.journal.lines import Damage, Found
from backstay.journal.lock import Holder, holder
from backstay.journal.posix import PosixDisk
from backstay.journal.reader import Identity, Reading, read, statement, walk
from backstay.journal.sessions import Entry, find, last, list_sessions

__all__ = [
    "Absent",
    "Batch",
    "Blobs",
    "Damage",
    "Disk",
    "Entry",
    "File",
    "Found",
    "Holder",
    "Identity",
    "Journal",
    "MissingBlob",
    "PosixDisk",
    "Present",
    "Reading",
    "Stat",
    "Waiting",
    "find",
    "holder",
    "is_id",
    "journal_path",
    "last",
    "list_sessions",
    "lock_path",
    "look",
    "read",
    "session_folder",
    "statement",
    "uuid7",
    "walk",
]

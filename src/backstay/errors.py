"""The errors that Backstay raises on purpose, and the exit code that each family means.

    BackstayError                   1
    ├── UsageError                  2   you misused us: a flag, a value, a line of configuration
    │   └── ConfigError             2   names the file and the line
    ├── RemoteError                 1   the service refused, broke the rules, or can't be reached
    ├── SessionError                3   the session can't be opened
    │   ├── UnknownSession          3
    │   ├── EmptySession            3
    │   ├── SessionHeld             3   another process writes it
    │   └── NewerFormat             3   written by a newer Backstay
    ├── StorageError                4   the disk refused; nothing acknowledged is lost
    └── Interrupted               130   the user said stop

Every message is one line that says what is wrong and what to do.
"""


class BackstayError(Exception):
    """The root of the tree."""

    exit_code = 1
    session_id = ""
    """The session that it concerns, where a turn of one failed: running it again goes on there."""


class UsageError(BackstayError):
    """The caller asked for something that can't be: a flag, a value, a call out of order."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or `-c` value is wrong; the message names the file and the line."""


class RemoteError(BackstayError):
    """The provider refused the request, broke the protocol, or can't be reached."""


class SessionError(BackstayError):
    """A session can't be opened."""

    exit_code = 3


class UnknownSession(SessionError):
    """No session has that id."""


class EmptySession(SessionError):
    """The journal holds no whole record: there is nothing to resume."""


class SessionHeld(SessionError):
    """Another process is writing the session; the message names it (pid, host, since)."""


class NewerFormat(SessionError):
    """The journal holds a record that this version must understand and doesn't."""


class StorageError(BackstayError):
    """The disk refused a write or a sync. The turn stops before its next effect."""

    exit_code = 4


class Interrupted(BackstayError):
    """The user interrupted the turn."""

    exit_code = 130

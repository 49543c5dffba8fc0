"""What a watcher of a session is told, in order.

`Recorded` is durable: everything that is reported as done comes out of it. All else is provisional
and may be taken back (P4).
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from backstay.core.commands import Wait
from backstay.core.items import Item
from backstay.core.record import Known


class Recorded(msgspec.Struct, frozen=True):
    """A record is on disk."""

    record: Known


class Sent(msgspec.Struct, frozen=True):
    """An attempt's request is on its way; nothing has come back yet."""

    attempt: int


class Answered(msgspec.Struct, frozen=True):
    """The first byte of the answer came."""

    attempt: int


class Streamed(msgspec.Struct, frozen=True):
    """Text of an item that is not done: `text`, `reasoning`, `arguments` or `other`."""

    attempt: int
    index: int
    channel: str
    text: str


class Began(msgspec.Struct, frozen=True):
    """An item of the response began."""

    attempt: int
    index: int
    item: Item


class Started(msgspec.Struct, frozen=True):
    """A call's effect was started (or adopted, after a crash)."""

    call: int
    item: Item
    adopted: bool = False


class Printed(msgspec.Struct, frozen=True):
    """Output of a running command, as it came."""

    call: int
    data: bytes


class Waiting(msgspec.Struct, frozen=True):
    """There is a wait before the next attempt."""

    wait: Wait


class Compacting(msgspec.Struct, frozen=True):
    """A summary is asked for, because the view is to be replaced by a shorter one."""

    reason: str


class Noticed(msgspec.Struct, frozen=True):
    """One line that a person should see: damage that was found, an event that was skipped."""

    text: str
    level: Literal["notice", "warning"] = "notice"


class Finished(msgspec.Struct, frozen=True):
    """A turn is over. `storage`: its end could not be written; `nothing`: none was cut.

    `compacted` is no turn's end: a compaction that was asked for is made.
    """

    turn: int
    outcome: Literal[
        "completed", "failed", "interrupted", "superseded", "storage", "nothing", "compacted"
    ]
    reason: str = ""
    code: str = ""
    mismatch: str = ""
    """How the answer of a completed turn departs from the schema that the prompt asked for."""


WatchEvent = (
    Recorded
    | Sent
    | Answered
    | Streamed
    | Began
    | Started
    | Printed
    | Waiting
    | Compacting
    | Noticed
    | Finished
)
Watcher = Callable[[WatchEvent], None]

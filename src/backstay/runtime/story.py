"""What a turn tells its caller: the public vocabulary of events. Types alone.

Each is a frozen struct with a tag, so that `msgspec.json.encode(event)` is a line for a log or a
browser: `{"type":"text_delta",...}`. What is `provisional` was seen but may be taken back; all else
is on disk when it is told.
"""

from typing import Any, ClassVar, Literal

import msgspec

from backstay.core.record import Status
from backstay.core.usage import Usage
from backstay.errors import BackstayError, Interrupted, RemoteError, StorageError, UsageError


def _tag(name: str) -> str:
    """TextDelta -> text_delta."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=_tag):
    """The base of all events."""

    provisional: ClassVar[bool] = False
    """True where it may be taken back: text of an attempt that is not settled, live output."""


class TurnStarted(Event, frozen=True, kw_only=True):
    """The prompt is on disk: from here on the turn survives this process."""

    session_id: str
    turn: int
    """The number of the prompt's record."""


class TextDelta(Event, frozen=True, kw_only=True):
    """Text of a message as it streams; a `MessageCompleted` of the same place confirms it."""

    provisional: ClassVar[bool] = True
    text: str
    attempt: int
    """Together with `index` the place of the item that this is a part of."""
    index: int


class ReasoningDelta(Event, frozen=True, kw_only=True):
    """Text of the model's reasoning, or of its summary, as it streams."""

    provisional: ClassVar[bool] = True
    text: str
    attempt: int
    index: int


class MessageCompleted(Event, frozen=True, kw_only=True):
    """A message of the model that is kept, told once; one that a retry says again never is."""

    text: str
    attempt: int
    index: int
    record: int
    """The number of its record in the journal."""


class ToolStarted(Event, frozen=True, kw_only=True):
    """A call's effect is started; that it was about to is on disk."""

    call: int
    """The call's number: that of its record in the journal."""
    name: str
    arguments: dict[str, Any]
    """As the model gave them; a call that takes a text has it as `input`."""
    adopted: bool = False
    """It was started by a process that died, and is taken over."""


class ToolOutput(Event, frozen=True, kw_only=True):
    """What a running call prints or tells as its progress, as it comes."""

    provisional: ClassVar[bool] = True
    call: int
    text: str


class ToolFinished(Event, frozen=True, kw_only=True):
    """A call has its one output. One that was never started has no `ToolStarted` before it."""

    call: int
    name: str
    arguments: dict[str, Any]
    output: str
    """As the model gets it; "" where it is no text."""
    status: Status
    """`done`, `failed` and `yielded` are the tool's own words; the others say why there is none:
    `rejected`, `never_started`, `interrupted`, `deadline`, `unknown`."""


class AttemptRetried(Event, frozen=True, kw_only=True):
    """An attempt was cut, and there is a wait before the next.

    Deltas of that attempt that no `MessageCompleted` confirmed are void.
    """

    attempt: int
    reason: str
    seconds: float
    """How long the wait is."""
    retry: int
    """Which one this is, from 1."""
    limit: int
    """Of how many."""


class Notice(Event, frozen=True, kw_only=True):
    """One line that a person should see: damage that was found, commands that were ended."""

    text: str
    level: Literal["notice", "warning"] = "notice"


class TurnCompleted(Event, frozen=True, kw_only=True):
    """The turn is over, and all of it is on disk. Always the last event, like `TurnFailed`."""

    session_id: str
    turn: int
    text: str
    """The model's answer: its last message that is kept, "" if there was none."""
    usage: Usage
    """Tokens of the whole turn, cut attempts and earlier processes included."""
    mismatch: str = ""
    """How the answer departs from the schema that was given, "" where it does not."""


class TurnFailed(Event, frozen=True, kw_only=True):
    """The turn ended otherwise. What it did is kept; run the session without a prompt to go on."""

    session_id: str
    turn: int
    outcome: Literal["failed", "interrupted", "superseded", "storage", "nothing"]
    """`failed`: the provider refused or can't be reached, or a limit was hit. `storage`: the disk
    refused. `nothing`: no turn was cut, so there was nothing to go on with."""
    reason: str
    code: str
    """The provider's error code or type, where it named one."""
    text: str
    """The last message that is kept, "" if there was none."""
    usage: Usage

    def error(self) -> BackstayError:
        """The same as an exception, for `raise`; its `session_id` says how to go on."""
        kinds: dict[str, type[BackstayError]] = {
            "interrupted": Interrupted,
            "superseded": Interrupted,
            "storage": StorageError,
            "nothing": UsageError,
        }
        error = kinds.get(self.outcome, RemoteError)(self.reason or self.outcome)
        error.session_id = self.session_id
        return error


TurnEvent = (
    TurnStarted
    | TextDelta
    | ReasoningDelta
    | MessageCompleted
    | ToolStarted
    | ToolOutput
    | ToolFinished
    | AttemptRetried
    | Notice
    | TurnCompleted
    | TurnFailed
)
"""Any of them."""

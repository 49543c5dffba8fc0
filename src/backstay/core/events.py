"""What happened: the inputs of the turn machine. Past participles; `commands` mirrors them."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from backstay.core.items import Item
from backstay.core.record import AnyRecord, Basis, SpoolRange, Status

OutcomeKind = Literal[
    "completed",
    "incomplete",
    "failed",
    "cut",
    "stalled",
    "refused",
    "unreachable",
    "interrupted",
    "died",
]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended.

    `completed`, `incomplete` and `failed` are the provider's own words in a stream (`failed` also
    for an `error` event); `refused` is an HTTP status; `cut` is a stream that ended in any way
    without a terminal event; `stalled` is a deadline (first byte or silence); `unreachable` is a
    failure before any byte of an answer; `died` is written for an attempt whose process ended.
    """

    kind: OutcomeKind
    reason: str = ""
    code: str = ""
    """The provider's error code or type, where it names one."""
    status: int | None = None
    """The HTTP status of a refusal."""
    retry_after: float | None = None
    """Seconds that the provider asked to wait."""
    response: str = ""
    """The response's id."""
    usage: dict[str, Any] | None = None


class Result(msgspec.Struct, kw_only=True):
    """What a tool gave: its text (or content parts) and how it came to it."""

    content: str | list[dict[str, Any]]
    status: Status = "done"
    spool: SpoolRange | None = None
    show: dict[str, Any] | None = None
    whole: list[str] = []
    """Digests of the blobs that hold the whole of what the content holds head and tail of."""


class Evidence(msgspec.Struct, kw_only=True):
    """What is known about a call that a crash left open; the core decides what follows.

    `unstarted`: the effect never began and, since its claim is ours now, never will. `recovered`:
    `result` is the true one. `running`: it can be adopted. `unknown`: it may have taken effect;
    `partial` is what was saved of its output. `answered`: the tool's own check settled it.
    """

    found: Literal["unstarted", "recovered", "running", "unknown", "answered"]
    result: Result | None = None
    partial: str = ""
    whole: list[str] = []
    """The blobs that hold the whole of what `partial` holds head and tail of."""
    detail: str = ""


class Created(msgspec.Struct):
    """A new session: its header is about to be written."""

    id: str
    cwd: str
    basis: Basis
    version: str = ""


class Opened(msgspec.Struct):
    """The session's records were read for writing, in order, damage left out.

    Id, folder and basis count only where no record says them.
    """

    records: Sequence[AnyRecord]
    id: str
    cwd: str
    basis: Basis
    next: int = 1
    """New records are numbered from here on at least: damaged lines may have held numbers."""
    damage: str = ""
    """What was found wrong and no record says yet; it becomes a repair record."""


class PromptGiven(msgspec.Struct):
    """A user's prompt; it is acknowledged once its record is on disk."""

    items: list[Item]
    basis: Basis
    model: str
    provider: str = ""
    effort: str = ""
    schema: dict[str, Any] | None = None
    """The JSON Schema that the answer is to have."""
    letter: str = ""
    """The letter of the inbox that it came in; one that is on record already is not taken again."""


class Continued(msgspec.Struct):
    """The user wants the cut turn finished without a new message."""

    model: str = ""
    """Where it is given, model, provider, effort and basis from here on are these."""
    provider: str = ""
    effort: str = ""
    basis: Basis | None = None
    """None to keep instructions and tools as they are."""


class Appended(msgspec.Struct):
    """Every record up to and including this number is on disk."""

    upto: int


class AppendFailed(msgspec.Struct):
    """The disk refused; nothing more is written to this session by this process."""

    reason: str


class ItemDone(msgspec.Struct):
    """An item of the response is complete as far as the provider says."""

    attempt: int
    index: int
    item: Item


class AttemptEnded(msgspec.Struct):
    """The response's stream ended, in whatever way."""

    attempt: int
    outcome: Outcome
    roll: float = 0.5
    """A random number in [0, 1) for the jitter of a retry; the core has no randomness."""


class Prepared(msgspec.Struct):
    """What a call is about to do is known: a plan for its start record, or at once a result."""

    call: int
    plan: dict[str, Any] | None = None
    result: Result | None = None


class CallFinished(msgspec.Struct):
    """A call has its result; one whose output is recorded already gets it as late."""

    call: int
    result: Result


class DeadlinePassed(msgspec.Struct):
    """A call's own deadline passed."""

    call: int


class Woke(msgspec.Struct):
    """The wait before a retry is over."""

    attempt: int
    """The attempt that was waited after."""


class Interrupted(msgspec.Struct):
    """The user said stop."""

    reason: str = "interrupted by the user"


class CompactionAsked(msgspec.Struct):
    """The user wants the view replaced by a shorter one, under these settings."""

    model: str = ""
    provider: str = ""
    effort: str = ""
    basis: Basis | None = None


class Summarized(msgspec.Struct):
    """The request for a summary ended, in whatever way; what it said in full are the items."""

    outcome: Outcome
    items: list[Item] = []
    roll: float = 0.5


class Settled(msgspec.Struct):
    """The evidence about an open call was gathered."""

    call: int
    evidence: Evidence


class Noted(msgspec.Struct):
    """Something the driver knows that belongs into the journal, and perhaps to the model."""

    topic: str
    text: str
    item: Item | None = None


Event = (
    Created
    | Opened
    | PromptGiven
    | Continued
    | Appended
    | AppendFailed
    | ItemDone
    | AttemptEnded
    | Prepared
    | CallFinished
    | DeadlinePassed
    | Woke
    | Interrupted
    | CompactionAsked
    | Summarized
    | Settled
    | Noted
)

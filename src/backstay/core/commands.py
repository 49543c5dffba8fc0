"""What to do: the outputs of the turn machine. Imperatives; `events` mirrors them."""

from typing import Any, Literal

import msgspec

from backstay.core.events import Outcome
from backstay.core.items import Item
from backstay.core.record import Basis, Known, Start


class Request(msgspec.Struct, frozen=True):
    """One request to a provider: the prompt view and what goes beside it."""

    input: list[Item]
    basis: Basis
    model: str
    effort: str
    session: str
    """The `prompt_cache_key` (FACTS 12): the session's id, of a fork its parent's."""
    schema: dict[str, Any] | None = None
    """The JSON Schema that the turn's answer is to have."""
    compact: bool = False
    """It asks the provider to shorten the input (`POST /responses/compact`)."""
    without: tuple[str, ...] = ()
    """Fields that the provider refused and that are left out; a dot leads into one."""


class Append(msgspec.Struct, frozen=True):
    """Write these records, in order, and say `Appended` once they are on disk."""

    records: tuple[Known, ...]


class Send(msgspec.Struct, frozen=True):
    """Send the request; its record is on disk. Answered by `ItemDone`s and one `AttemptEnded`."""

    attempt: int
    request: Request


class Abort(msgspec.Struct, frozen=True):
    """Give the attempt up; it still ends with its `AttemptEnded`."""

    attempt: int


class Summarize(msgspec.Struct, frozen=True):
    """Send a request whose answer is no part of the turn. Answered by one `Summarized`."""

    request: Request
    reason: str
    """Why the view is replaced, to be shown."""


class AbortSummary(msgspec.Struct, frozen=True):
    """Give the summary up; it still ends with its `Summarized`."""


class Prepare(msgspec.Struct, frozen=True):
    """Find out what the call will do, without an effect; say `Prepared`."""

    call: int
    item: Item


class StartCall(msgspec.Struct, frozen=True):
    """Start the call's effect; its start record is on disk. Answered by one `CallFinished`."""

    call: int
    item: Item
    start: Start


class StopCall(msgspec.Struct, frozen=True):
    """Stop a running call; its `CallFinished` still comes, soon."""

    call: int
    why: Literal["interrupted", "deadline"]


class Probe(msgspec.Struct, frozen=True):
    """Gather the evidence about a call that a crash left open; say `Settled`."""

    call: int
    item: Item
    start: Start


class Adopt(msgspec.Struct, frozen=True):
    """Take over a call that still runs. Answered by one `CallFinished`."""

    call: int
    item: Item
    start: Start


class Wait(msgspec.Struct, frozen=True):
    """Say `Woke` after so many seconds."""

    attempt: int
    """0: it is the request for a summary that is tried again."""
    seconds: float
    outcome: Outcome
    """Why there is a wait, to be shown."""
    tries: int
    """Which retry this is, counted from 1."""
    limit: int
    """Of how many."""


class Finish(msgspec.Struct, frozen=True):
    """The turn is over and everything about it is on disk (or can't be, for `storage`)."""

    turn: int
    outcome: Literal[
        "completed", "failed", "interrupted", "superseded", "storage", "nothing", "compacted"
    ]
    reason: str = ""
    code: str = ""


Command = (
    Append
    | Send
    | Abort
    | Summarize
    | AbortSummary
    | Prepare
    | StartCall
    | StopCall
    | Probe
    | Adopt
    | Wait
    | Finish
)

"""The phases of a session, and what each does with an event: the turn machine's table.

An event that a phase does not take is the driver's mistake.
"""

from enum import StrEnum
from typing import Any, Final, NamedTuple

from backstay.core import events as e


class Phase(StrEnum):
    """Where a session is."""

    CLOSED = "closed"
    SETTLING = "settling"
    IDLE = "idle"
    STREAMING = "streaming"
    DRAINING = "draining"
    STOPPING = "stopping"
    WAITING = "waiting"
    COMPACTING = "compacting"
    BROKEN = "broken"


class Row(NamedTuple):
    """What a phase does with an event, and the phases that it may be in afterwards."""

    action: str
    leads_to: tuple[Phase, ...]


_P = Phase
_RUNNING = (_P.STREAMING, _P.COMPACTING, _P.WAITING, _P.IDLE)
"""Where the end of an attempt leads: the next attempt, a shorter view, a wait, or the end."""

TABLE: Final[dict[Phase, dict[type[Any], Row]]] = {
    _P.CLOSED: {
        e.Created: Row("create", (_P.IDLE,)),
        e.Opened: Row("open", (_P.SETTLING, _P.IDLE)),
    },
    _P.SETTLING: {
        e.Settled: Row("settle", (_P.SETTLING, *_RUNNING)),
        e.CallFinished: Row("finish_call", (_P.SETTLING, *_RUNNING)),
        e.DeadlinePassed: Row("stop_late_call", (_P.SETTLING,)),
        e.PromptGiven: Row("accept", (_P.SETTLING,)),
        e.Continued: Row("intend_to_continue", (_P.SETTLING,)),
        e.Interrupted: Row("interrupt", (_P.SETTLING, _P.IDLE)),
        e.CompactionAsked: Row("intend_to_compact", (_P.SETTLING,)),
        e.Noted: Row("note", (_P.SETTLING,)),
    },
    _P.IDLE: {
        e.PromptGiven: Row(
            "accept_and_begin",
            (
                _P.IDLE,
                _P.STREAMING,
                _P.COMPACTING,
            ),
        ),
        e.Continued: Row("continue_turn", (_P.STREAMING, _P.COMPACTING, _P.IDLE)),
        e.CompactionAsked: Row("compact_idle", (_P.COMPACTING, _P.IDLE)),
        e.CallFinished: Row("finish_call", (_P.IDLE,)),
        e.Interrupted: Row("ignore", (_P.IDLE,)),
        e.DeadlinePassed: Row("ignore", (_P.IDLE,)),
        e.Woke: Row("ignore", (_P.IDLE,)),
        e.Noted: Row("note", (_P.IDLE,)),
    },
    _P.STREAMING: {
        e.ItemDone: Row("take_item", (_P.STREAMING,)),
        e.AttemptEnded: Row("drain", (_P.DRAINING, *_RUNNING)),
        e.Prepared: Row("start_prepared", (_P.STREAMING,)),
        e.CallFinished: Row("finish_call", (_P.STREAMING,)),
        e.DeadlinePassed: Row("stop_late_call", (_P.STREAMING,)),
        e.PromptGiven: Row("accept", (_P.STREAMING,)),
        e.Interrupted: Row("interrupt", (_P.STOPPING, _P.IDLE)),
        e.Woke: Row("ignore", (_P.STREAMING,)),
        e.Noted: Row("note", (_P.STREAMING,)),
    },
    _P.DRAINING: {
        e.Prepared: Row("start_prepared", (_P.DRAINING, *_RUNNING)),
        e.CallFinished: Row("finish_call", (_P.DRAINING, *_RUNNING)),
        e.DeadlinePassed: Row("stop_late_call", (_P.DRAINING,)),
        e.PromptGiven: Row("accept", (_P.DRAINING,)),
        e.Woke: Row("ignore", (_P.DRAINING,)),
        e.Interrupted: Row("interrupt", (_P.STOPPING, _P.IDLE)),
        e.Noted: Row("note", (_P.DRAINING,)),
    },
    _P.STOPPING: {
        e.AttemptEnded: Row("drain", (_P.STOPPING, _P.IDLE)),
        e.Prepared: Row("start_prepared", (_P.STOPPING, _P.IDLE)),
        e.CallFinished: Row("finish_call", (_P.STOPPING, _P.IDLE)),
        e.ItemDone: Row("ignore", (_P.STOPPING,)),
        e.DeadlinePassed: Row("ignore", (_P.STOPPING,)),
        e.PromptGiven: Row("accept", (_P.STOPPING,)),
        e.Woke: Row("ignore", (_P.STOPPING,)),
        e.Interrupted: Row("ignore", (_P.STOPPING,)),
        e.Noted: Row("note", (_P.STOPPING,)),
    },
    _P.WAITING: {
        e.Woke: Row("try_again", (_P.STREAMING, _P.COMPACTING, _P.WAITING)),
        e.CallFinished: Row("finish_call", (_P.WAITING,)),
        e.PromptGiven: Row("accept", (_P.WAITING,)),
        e.Interrupted: Row("interrupt", (_P.IDLE,)),
        e.DeadlinePassed: Row("ignore", (_P.WAITING,)),
        e.Noted: Row("note", (_P.WAITING,)),
    },
    _P.COMPACTING: {
        e.Summarized: Row("take_summary", (_P.COMPACTING, _P.STREAMING, _P.IDLE)),
        e.Woke: Row("ask_again", (_P.COMPACTING,)),
        e.CallFinished: Row("finish_call", (_P.COMPACTING,)),
        e.PromptGiven: Row("accept", (_P.COMPACTING,)),
        e.Interrupted: Row("interrupt", (_P.COMPACTING, _P.IDLE)),
        e.DeadlinePassed: Row("ignore", (_P.COMPACTING,)),
        e.Noted: Row("note", (_P.COMPACTING,)),
    },
    _P.BROKEN: {},
}
"""`Appended` and `AppendFailed` are taken in every phase but closed: they release what was held,
and break the session. A broken session ignores everything: what it can't record it must not do."""

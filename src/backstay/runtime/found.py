"""What a session's last agent left when it ended in the middle of things, as its records tell."""

import time
from collections.abc import Sequence

from backstay.core.record import (
    AnyRecord,
    Call,
    Fork,
    Late,
    Note,
    Output,
    Repair,
    Session,
    TurnEnd,
    Unknown,
)


def cut(records: Sequence[AnyRecord]) -> str:
    """One line on a turn that was under way; "" where the last one is over."""
    telling = [one for one in records if not isinstance(one, Note | Repair | Late)]
    if not telling or isinstance(telling[-1], TurnEnd | Session | Fork):
        return ""
    calls = {one.n for one in records if isinstance(one, Call)}
    calls -= {one.call for one in records if isinstance(one, Output)}
    left = f", {len(calls)} call{'s' * (len(calls) > 1)} had no output yet" if calls else ""
    heard = max((one.t for one in records if not isinstance(one, Unknown)), default=0.0)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(heard))
    return (
        f"the session was cut: its agent ended in the middle of a turn{left} (last heard of {at})"
    )


def letters(count: int) -> str:
    """One line on prompts that were sent while no agent was there; "" for none."""
    if not count:
        return ""
    those = "a prompt waits" if count == 1 else f"{count} prompts wait"
    return f"{those} in the inbox: `backstay send` put {'it' if count == 1 else 'them'} there"

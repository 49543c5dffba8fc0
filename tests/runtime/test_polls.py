"""Two calls of one response that wait for the same command."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from backstay.chaos import call, message, response
from backstay.core.items import message_text
from backstay.core.record import Output
from backstay.runtime.session import Session
from tests.runtime.bench import Bench

COMMAND = 4
"""The number of the first call's record."""


async def go(session: Session) -> Any:
    """One prompt."""
    return await session.prompt("go")


def test_what_a_command_printed_is_shown_once(tmp_path: Path, home: Path) -> None:
    """Each part in one of the outputs, whichever of the calls hears of the end first."""
    slow = "echo before; sleep 1; echo behind"
    poll = {"session_id": COMMAND, "yield_time_ms": 10_000}
    script = [
        response(call("exec_command", {"cmd": slow, "yield_time_ms": 250})),
        response(call("write_stdin", poll), call("write_stdin", poll)),
        response(message("done")),
    ]
    bench = Bench(tmp_path, home, script)
    assert bench.run(go).outcome == "completed"
    outputs = [one for one in bench.records() if isinstance(one, Output)]
    assert len(outputs) == 3
    told = "\n".join(message_text(one.item) for one in outputs)
    assert (told.count("before"), told.count("behind")) == (1, 1)
    ranges = sorted((one.spool.begin, one.spool.end) for one in outputs if one.spool)
    assert all(first[1] <= second[0] for first, second in pairwise(ranges))

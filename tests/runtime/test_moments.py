"""An interrupt, a close and a second prompt at each moment of a turn: it ends, and can go on."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backstay import chaos
from backstay.chaos import call, custom_call, judge, message, response
from backstay.runtime import watch
from backstay.runtime.session import Session
from tests.runtime.bench import Bench
from tests.runtime.test_session import PATCH

SOON = 20.0
STEP = 1 if os.environ.get("BACKSTAY_DEEP") else 9
"""Of so many moments one is tried; which one differs from variant to variant."""


def script() -> list[dict[str, Any]]:
    """A turn with a retry, a command that yields, a patch and a poll."""
    slow = {"cmd": "echo x >> runs; echo begun; sleep 0.4; echo ended", "yield_time_ms": 250}
    return [
        response(message("half"), fault=chaos.cut(after=3)),
        response(call("exec_command", slow), custom_call("apply_patch", PATCH)),
        response(message("done")),
    ]


def play(bench: Bench, moment: int, act: Callable[[Session], Any], *, soon: bool) -> int:
    """One turn with an act at the so manieth event; how many events there were."""

    async def work(session: Session) -> None:
        loop = asyncio.get_running_loop()
        acts: list[asyncio.Future[Any]] = []

        def do() -> None:
            made = act(session)
            if made is not None:
                acts.append(asyncio.ensure_future(made))
                acts[-1].add_done_callback(lambda one: one.cancelled() or one.exception())

        def watcher(event: watch.WatchEvent) -> None:
            bench.events.append(event)
            if len(bench.events) == moment:
                loop.call_soon(do) if soon else do()

        session._watcher = watcher  # noqa: SLF001
        await asyncio.wait_for(session.prompt("go"), SOON)
        for one in acts:
            await asyncio.wait_for(one, SOON)

    bench.run(work)
    return len(bench.events)


def goes_on(bench: Bench, tmp_path: Path) -> None:
    """What is left can be taken up by another process, and nothing ran twice."""

    async def work(session: Session) -> None:
        await asyncio.wait_for(session.resume(), SOON)
        ended = await asyncio.wait_for(session.prompt("and now"), SOON)
        assert ended.outcome == "completed"

    requests = list(bench.server.requests)
    bench.server = chaos.ChaosServer([response(message("done"))] * 3, strict=True)
    bench.run(work, name=bench.id)
    verdict = judge([*requests, *bench.server.requests])
    assert verdict.ok, verdict.table()
    runs = bench.cwd / "runs"
    assert not runs.exists() or runs.read_text() == "x\n"


ACTS: dict[str, Callable[[Session], Any]] = {
    "interrupt": Session.interrupt,
    "close": Session.close,
    "prompt": lambda session: session.prompt("and this"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("soon", [False, True], ids=["now", "soon"])
@pytest.mark.parametrize("act", ACTS)
def test_at_each_moment(tmp_path: Path, home: Path, act: str, soon: bool) -> None:
    """Whatever is under way."""
    moment = many = 1 + (2 * list(ACTS).index(act) + soon) % STEP
    while moment <= many:
        at = tmp_path / str(moment)
        at.mkdir()
        bench = Bench(at, home, [*script(), response(message("to the second prompt"))])
        try:
            many = play(bench, moment, ACTS[act], soon=soon)
            goes_on(bench, at)
        except BaseException as error:
            error.add_note(f"at event {moment}: {bench.events[moment - 1 : moment]}")
            raise
        moment += STEP

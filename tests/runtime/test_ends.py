"""Every wait ends (P8): interrupts at bad moments, tools that misbehave, sessions that are closed."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backstay import chaos
from backstay.chaos import call, message, response
from backstay.core import events as e
from backstay.core.commands import Request
from backstay.core.dialect import Dialect
from backstay.core.events import Result
from backstay.core.record import Attempt, Start, TurnEnd
from backstay.core.rules import Traits
from backstay.errors import UsageError
from backstay.runtime import watch
from backstay.runtime.driver import Deliver
from backstay.runtime.session import Session
from backstay.tools.tool import Invocation, Plain
from tests.runtime.bench import Bench
from tests.runtime.test_session import outputs_in, prompt

SOON = 15.0
"""Seconds. Longer than anything here takes, shorter than a test may."""


class Odd(Plain):
    """A tool that does what it is given to do."""

    name = "odd"

    def __init__(self, work: Callable[[], Any], timeout: float | None = None) -> None:
        self._work = work
        self.timeout = timeout

    def spec(self, dialect: Dialect) -> dict[str, Any]:
        del dialect
        return {"type": "function", "name": self.name, "parameters": {"type": "object"}}

    async def run(self, invocation: Invocation) -> Result:
        del invocation
        made: Result = await self._work()
        return made


def test_interrupt_in_the_very_moment_of_sending_ends_the_turn(tmp_path: Path, home: Path) -> None:
    """An attempt that is given up before it took its first step ends all the same."""
    bench = Bench(tmp_path, home, [response(message("never asked for"))])

    async def work(session: Session) -> watch.Finished:
        loop = asyncio.get_running_loop()
        seen = bench.events.append

        def watcher(event: watch.WatchEvent) -> None:
            seen(event)
            if isinstance(event, watch.Recorded) and isinstance(event.record, Attempt):
                loop.call_soon(session.interrupt)

        session._watcher = watcher  # noqa: SLF001
        return await asyncio.wait_for(session.prompt("go"), SOON)

    assert bench.run(work).outcome == "interrupted"


def test_second_resume_is_refused_and_the_first_goes_on(tmp_path: Path, home: Path) -> None:
    """Only one can finish a cut turn; a prompt's turn that runs is no cut turn either."""
    go = tmp_path / "go"
    script = [
        chaos.http_error(401),
        response(message("at last"), hold=chaos.hold(go, before="terminal")),
        response(message("more")),
    ]
    bench = Bench(tmp_path, home, script)

    async def work(session: Session) -> list[str]:
        outcomes: list[str] = [(await session.prompt("go")).outcome]
        first = asyncio.ensure_future(session.resume())
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="a turn is running"):
            await session.resume()
        go.touch()
        outcomes.append((await asyncio.wait_for(first, SOON)).outcome)
        second = asyncio.ensure_future(session.prompt("more"))
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="a turn is running"):
            await session.resume()
        outcomes.append((await asyncio.wait_for(second, SOON)).outcome)
        return outcomes

    assert bench.run(work) == ["failed", "completed", "completed"]


def test_closed_session_takes_no_prompt(tmp_path: Path, home: Path) -> None:
    """It says so; it neither waits for ever nor cancels whoever asks."""
    bench = Bench(tmp_path, home, [response(message("done"))])
    closed: list[Session] = []

    async def work(session: Session) -> None:
        closed.append(session)
        await session.prompt("go")
        await session.close()
        for ask in (session.prompt("more"), session.resume()):
            with pytest.raises(UsageError, match="is closed"):
                await asyncio.wait_for(ask, SOON)
        session.interrupt()
        assert await session.close() == []

    bench.run(work)


@pytest.mark.parametrize("running", ["a command", "a tool", "a stream"])
def test_close_in_a_turn_interrupts_it_and_sends_nothing_more(
    tmp_path: Path, home: Path, running: str
) -> None:
    """Whoever waits is told, the turn's end is recorded, and a later process goes on with it."""
    held = response(message("slow"), hold=chaos.hold(tmp_path / "never", before="terminal"))
    script = {
        "a command": response(call("exec_command", {"cmd": "sleep 60"})),
        "a tool": response(call("odd", {})),
        "a stream": held,
    }[running]
    bench = Bench(tmp_path, home, [script, response(message("done"))])

    async def forever() -> Result:
        await asyncio.sleep(3600)
        return Result(content="woke")

    async def work(session: Session) -> watch.Finished:
        turn = asyncio.ensure_future(session.prompt("go"))
        wanted = watch.Began if running == "a stream" else watch.Started
        while not any(isinstance(one, wanted) for one in bench.events):
            await asyncio.sleep(0.01)
        await asyncio.wait_for(session.close(), SOON)
        assert not session._driver._tasks  # noqa: SLF001
        return await asyncio.wait_for(turn, SOON)

    tools = [Odd(forever)]
    ended = bench.run(work, tools=tools)
    assert (ended.outcome, ended.reason) == ("interrupted", "the session was closed")
    assert len(bench.server.requests) == 1
    assert [one.outcome for one in bench.records() if isinstance(one, TurnEnd)] == ["interrupted"]

    async def resume(session: Session) -> watch.Finished:
        return await session.resume()

    bench.server = chaos.ChaosServer([response(message("done"))], strict=True)
    assert bench.run(resume, tools=tools, name=bench.id).outcome == "completed"


def test_tools_that_block_threads_do_not_keep_the_journal_from_the_disk(
    tmp_path: Path, home: Path
) -> None:
    """However many tools hang in threads, each ends at its deadline and the turn goes on."""
    many = (os.cpu_count() or 1) + 8
    script = [response(*[call("odd", {"n": n}) for n in range(many)]), response(message("done"))]
    bench = Bench(tmp_path, home, script)
    end = threading.Event()

    async def block() -> Result:
        await asyncio.to_thread(end.wait)
        return Result(content="")

    async def work(session: Session) -> watch.Finished:
        try:
            return await asyncio.wait_for(session.prompt("go"), SOON)
        finally:
            end.set()

    assert bench.run(work, tools=[Odd(block, timeout=0.3)]).outcome == "completed"
    assert all("time limit" in text for text in outputs_in(bench.inputs()[1]))


def test_tool_that_can_not_be_stopped_does_not_hold_up_the_close(
    tmp_path: Path, home: Path
) -> None:
    """It is given up, what is said of it is true, and the session closes."""
    script = [response(call("odd", {})), response(message("done"))]
    bench = Bench(tmp_path, home, script)
    end = asyncio.Event()

    async def deaf() -> Result:
        while not end.is_set():
            try:
                await asyncio.wait_for(end.wait(), 3600)
            except asyncio.CancelledError:
                continue
        return Result(content="")

    async def work(session: Session) -> None:
        try:
            turn = await asyncio.wait_for(session.prompt("go"), SOON)
            assert turn.outcome == "completed"
            await asyncio.wait({asyncio.ensure_future(session.close())}, timeout=SOON)
            assert session._driver._main.done()  # noqa: SLF001
        finally:
            end.set()

    bench.run(work, tools=[Odd(deaf, timeout=0.1)])
    (text,) = outputs_in(bench.inputs()[1])
    assert "did not react" in text
    assert "was stopped" not in text


@pytest.mark.parametrize(
    "made",
    [None, "a text", Result(content=object()), Result(content="", status="odd")],  # type: ignore[arg-type]
    ids=["nothing", "a text", "an object", "a status"],
)
def test_tool_that_returns_no_result_is_an_output(tmp_path: Path, home: Path, made: Any) -> None:
    """What no record can hold costs its call, not the session."""
    script = [response(call("odd", {})), response(message("done"))]
    bench = Bench(tmp_path, home, script)

    async def work() -> Any:
        return made

    assert bench.run(prompt(), tools=[Odd(work)]).outcome == "completed"
    assert outputs_in(bench.inputs()[1])[0].startswith("odd failed: ")
    bench.check()


def test_tool_that_exits_is_an_output(tmp_path: Path, home: Path) -> None:
    """`sys.exit` in a tool ends the call, not the agent."""
    script = [response(call("odd", {})), response(message("done"))]
    bench = Bench(tmp_path, home, script)

    async def work() -> Result:
        raise SystemExit(3)

    assert bench.run(prompt(), tools=[Odd(work)]).outcome == "completed"
    assert outputs_in(bench.inputs()[1]) == ["odd failed: SystemExit: 3"]


def test_tool_whose_stop_raises_is_cancelled(tmp_path: Path, home: Path) -> None:
    """A defect in `stop` costs nothing but the tool's own chance to end well."""

    class Raises(Odd):
        async def stop(self, invocation: Invocation) -> bool:
            raise ValueError("no way to stop it")

    async def forever() -> Result:
        await asyncio.sleep(3600)
        return Result(content="woke")

    script = [response(call("odd", {})), response(message("done"))]
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt(), tools=[Raises(forever, timeout=0.1)]).outcome == "completed"
    assert "time limit" in outputs_in(bench.inputs()[1])[0]


def test_raising_watcher_ends_the_wait_and_harms_no_command(tmp_path: Path, home: Path) -> None:
    """Whoever waits gets the watcher's exception, and the command's output is recorded as it is."""
    command = call("exec_command", {"cmd": "echo printed; sleep 0.3; echo whole >> runs"})
    bench = Bench(tmp_path, home, [response(command), response(message("done"))])

    async def work(session: Session) -> None:
        seen = bench.events.append

        def watcher(event: watch.WatchEvent) -> None:
            seen(event)
            if isinstance(event, watch.Printed):
                raise ValueError("a defect of the watcher")

        session._watcher = watcher  # noqa: SLF001
        with pytest.raises(ValueError, match="a defect of the watcher"):
            await asyncio.wait_for(session.prompt("go"), SOON)
        while not any("Output(" in str(one) for one in bench.events):
            await asyncio.sleep(0.01)

    bench.run(work)
    (output,) = bench.outputs()
    assert (bench.cwd / "runs").read_text() == "whole\n"
    assert output.status == "done"


def test_effects_that_can_not_be_claimed_end_the_turn_and_the_next_process_settles(
    tmp_path: Path, home: Path
) -> None:
    """A storage error of a tool's stops the turn before the next effect; nothing false is said."""
    script = [response(call("exec_command", {"cmd": "echo x >> runs"})), response(message("done"))]
    bench = Bench(tmp_path, home, script)
    effects: list[Path] = []

    async def work(session: Session) -> watch.Finished:
        effects.append(Path(session.folder, "effects"))
        effects[0].symlink_to(tmp_path / "nowhere")
        return await session.prompt("go")

    assert bench.run(work).outcome == "storage"
    assert len(bench.server.requests) == 1
    effects[0].unlink()

    async def resume(session: Session) -> watch.Finished:
        return await session.resume()

    bench.server = chaos.ChaosServer([response(message("done"))], strict=True)
    assert bench.run(resume, name=bench.id).outcome == "completed"
    assert "never started" in outputs_in(bench.inputs()[0])[0]
    assert not (bench.cwd / "runs").exists()


def test_enormous_result_of_a_tool_is_bounded(tmp_path: Path, home: Path) -> None:
    """Head and tail are kept and what is missing is counted, so that no request is impossible."""
    script = [response(call("odd", {})), response(message("done"))]
    bench = Bench(tmp_path, home, script)

    async def work() -> Result:
        return Result(content="begin" + "x" * 3_000_000 + "end")

    assert bench.run(prompt(), tools=[Odd(work)]).outcome == "completed"
    (text,) = outputs_in(bench.inputs()[1])
    assert len(text) < 300_000
    assert text.startswith("beginx")
    assert text.endswith("xend")
    assert "left out" in text


def test_blob_that_can_not_be_read_costs_its_text_only(tmp_path: Path, home: Path) -> None:
    """The session opens and says where the text was; it is there again when the blob is (P7)."""
    long = "long " * 40_000
    script = [response(message("done"))] * 3
    bench = Bench(tmp_path, home, script)
    bench.run(prompt(long))
    (blob,) = [one for one in (home / "blobs").iterdir() if one.stat().st_size == len(long)]
    blob.rename(tmp_path / "kept")
    blob.mkdir()
    bench.server = chaos.ChaosServer(script, strict=True)
    assert bench.run(prompt("more"), name=bench.id).outcome == "completed"
    assert "bytes stood here" in str(bench.inputs()[0])
    blob.rmdir()
    (tmp_path / "kept").rename(blob)
    bench.server = chaos.ChaosServer(script, strict=True)
    assert bench.run(prompt("more"), name=bench.id).outcome == "completed"
    assert long in str(bench.inputs()[0])


def test_plan_that_no_record_can_hold_is_an_output(tmp_path: Path, home: Path) -> None:
    """A defect in `prepare` costs its call, not the session."""

    class Plans(Odd):
        traits = Traits(prepares=True)

        async def prepare(self, invocation: Invocation) -> Any:
            del invocation
            return {"plan": object()}

    async def never() -> Result:
        raise AssertionError

    script = [response(call("odd", {})), response(message("done"))]
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt(), tools=[Plans(never)]).outcome == "completed"
    assert outputs_in(bench.inputs()[1])[0].startswith("odd failed: TypeError")


def test_evidence_that_is_none_is_unknown(tmp_path: Path, home: Path) -> None:
    """A defect in `probe` does not keep a session from being opened (P7)."""

    class Probes(Odd):
        async def probe(self, invocation: Invocation, start: Start) -> Any:
            del invocation, start

    async def forever() -> Result:
        await asyncio.sleep(3600)
        return Result(content="woke")

    bench = Bench(tmp_path, home, [response(call("odd", {}))])

    async def work(session: Session) -> None:
        turn = asyncio.ensure_future(session.prompt("go"))
        while not any(isinstance(one, watch.Started) for one in bench.events):
            await asyncio.sleep(0.01)
        await session.commands.end()
        await session._abandon()  # noqa: SLF001 - what a killed process leaves
        with pytest.raises(UsageError, match="was closed meanwhile"):
            await turn

    bench.run(work, tools=[Probes(forever)])
    assert bench.outputs() == []
    bench.server = chaos.ChaosServer([response(message("done"))], strict=True)
    ended = bench.run(Session.resume, tools=[Probes(forever)], name=bench.id)
    assert ended.outcome == "completed"
    assert "outcome of this call is unknown" in outputs_in(bench.inputs()[0])[0]


@pytest.mark.parametrize("ends", ["at once", "interrupt", "time limit"])
def test_plan_that_is_never_ready_ends(tmp_path: Path, home: Path, ends: str) -> None:
    """At the tool's time limit, and at an interrupt; it is said that nothing was done."""
    begun = asyncio.Event()

    class Plans(Odd):
        traits = Traits(prepares=True)

        async def prepare(self, invocation: Invocation) -> Any:
            begun.set()
            await asyncio.sleep(3600)

    async def never() -> Result:
        raise AssertionError

    script = [response(call("odd", {})), response(message("done"))]
    bench = Bench(tmp_path, home, script)

    async def work(session: Session) -> None:
        seen = bench.events.append

        def watcher(event: watch.WatchEvent) -> None:
            seen(event)
            # Both are handled in one step of the loop.
            if ends == "at once" and isinstance(event, watch.Began):
                item = {"type": "function_call", "call_id": "c", "name": "odd", "arguments": "{}"}
                session._driver.post(e.ItemDone(event.attempt, event.index, item))  # noqa: SLF001
                session.interrupt()

        session._watcher = watcher  # noqa: SLF001
        turn = asyncio.ensure_future(session.prompt("go"))
        if ends != "at once":
            await asyncio.wait_for(begun.wait(), SOON)
        if ends == "interrupt":
            session.interrupt()
        if ends != "time limit":
            assert (await asyncio.wait_for(turn, SOON)).outcome == "interrupted"
        else:
            assert (await asyncio.wait_for(turn, SOON)).outcome == "completed"

    bench.run(work, tools=[Plans(never, timeout=0.2 if ends == "time limit" else 3600)])
    (output,) = bench.outputs()
    said = "it was not run" if ends == "time limit" else "never started"
    assert said in str(output.item)


class Deaf(Session):
    """A session whose transport takes a cancellation for nothing, as one that is about to answer."""

    misses = 1
    over = False

    async def _send(self, request: Request, deliver: Deliver) -> None:
        del request, deliver
        missed = 0
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                missed += 1
                if self.over or missed > self.misses:
                    raise


class Deafer(Deaf):
    """One that never listens, until the test is over."""

    misses = 1000


@pytest.mark.parametrize("kind", [Deaf, Deafer])
def test_interrupt_that_the_transport_does_not_hear_ends_the_turn(
    tmp_path: Path, home: Path, kind: type[Deaf]
) -> None:
    """A lost cancellation is said again; an attempt that hears none is given up."""
    bench = Bench(tmp_path, home, [])

    async def main() -> watch.Finished:
        session = await kind.create(bench.settings(), bench.events.append)
        turn = asyncio.ensure_future(session.prompt("go"))
        while not any(isinstance(one, watch.Sent) for one in bench.events):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        session.interrupt()
        ended = await asyncio.wait_for(turn, SOON)
        await asyncio.wait_for(session.close(), SOON)
        session.over = True
        return ended

    with bench.server:
        assert asyncio.run(main()).outcome == "interrupted"

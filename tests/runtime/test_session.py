"""Whole turns: the real runtime with real commands, files and sockets, and a provider that breaks."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from backstay import chaos
from backstay.chaos import call, custom_call, message, response
from backstay.core.dialect import Dialect
from backstay.core.events import Evidence, Result
from backstay.core.record import Attempt, AttemptEnd, Repair, Start, TurnEnd
from backstay.core.rules import Traits
from backstay.runtime import watch
from backstay.runtime.session import Session
from backstay.tools.tool import Invocation, Plain
from tests.runtime.bench import Bench

PATCH = "*** Begin Patch\n*** Add File: new.txt\n+made by the patch\n*** End Patch"
ENDINGS: dict[str, dict[str, Any]] = {
    "close": chaos.cut(after="call"),
    "reset": chaos.reset(after="call"),
    "half an event": chaos.half_event(after="call"),
    "clean end": chaos.clean_end(after="call"),
    "failed": chaos.failed(code="server_error", after="call"),
    "error": chaos.error(code="server_error", after="call"),
    "flat error": chaos.error(code="server_error", shape="flat", after="call"),
    "bare error": chaos.error(code="server_error", shape="bare", after="call"),
    "stall": chaos.stall(after="call"),
}


def prompt(text: str = "go") -> Any:
    """Work that gives one prompt."""

    async def work(session: Session) -> watch.Finished:
        return await session.prompt(text)

    return work


def outputs_in(items: list[dict[str, Any]]) -> list[str]:
    """The texts of the outputs in an input."""
    return [item["output"] for item in items if item["type"].endswith("_output")]


@pytest.mark.parametrize("ending", ENDINGS)
def test_seed_custom_tool_call_cut_before_response_completed_is_in_the_retry(
    tmp_path: Path, home: Path, ending: str
) -> None:
    """The report that it all began with: the retried request holds the true output."""
    script = [
        response(custom_call("apply_patch", PATCH), message("half"), fault=ENDINGS[ending]),
        response(message("done")),
    ]
    bench = Bench(tmp_path, home, script)
    bench.silence = 500
    ended = bench.run(prompt())
    assert ended.outcome == "completed"
    assert (bench.cwd / "new.txt").read_text() == "made by the patch\n"
    first, second = bench.inputs()
    assert outputs_in(second) == ["Success. Updated the following files:\nA new.txt\n"]
    assert second[: len(first)] == first
    assert [one["type"] for one in second[len(first) :]] == [
        "custom_tool_call",
        "custom_tool_call_output",
    ]
    bench.check()


@pytest.mark.parametrize("ending", ENDINGS)
def test_seed_function_call_cut_before_response_completed_is_in_the_retry(
    tmp_path: Path, home: Path, ending: str
) -> None:
    """The same for a command: it ran once, and the retried request holds what it printed."""
    command = call("exec_command", {"cmd": "echo x >> runs; echo printed"})
    script = [response(command, fault=ENDINGS[ending]), response(message("done"))]
    bench = Bench(tmp_path, home, script)
    bench.silence = 500
    ended = bench.run(prompt())
    assert ended.outcome == "completed"
    assert (bench.cwd / "runs").read_text() == "x\n"
    assert outputs_in(bench.inputs()[1])[0].endswith("Output:\nprinted\n")
    bench.check()


def test_three_parallel_calls_one_slow_survive_a_cut(tmp_path: Path, home: Path) -> None:
    """A stream that is cut with three calls under way loses none, and the slow one is waited for."""
    calls = [call("exec_command", {"cmd": f"sleep {n}; echo {n} | tee -a runs"}) for n in (0, 1, 0)]
    script = [
        response(*calls, fault=chaos.cut(after=chaos.at("response.output_item.done", nth=3))),
        response(message("done")),
    ]
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt()).outcome == "completed"
    printed = [one.rsplit("Output:\n")[1] for one in outputs_in(bench.inputs()[1])]
    assert printed == ["0\n", "1\n", "0\n"]
    assert sorted((bench.cwd / "runs").read_text().split()) == ["0", "0", "1"]
    bench.check()


def test_incomplete_response_runs_its_whole_calls_and_drops_the_truncated_one(
    tmp_path: Path, home: Path
) -> None:
    """A call whose arguments were cut never runs and never enters history; the whole one ran."""
    script = [
        response(
            call("exec_command", {"cmd": "echo whole >> runs"}),
            call("exec_command", {"cmd": "echo cut >> runs"}),
            fault=chaos.truncated_call(),
        ),
        response(message("done")),
    ]
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt()).outcome == "completed"
    assert (bench.cwd / "runs").read_text() == "whole\n"
    assert len(outputs_in(bench.inputs()[1])) == 1
    bench.check()


def test_incomplete_response_without_calls_fails_with_its_reason(
    tmp_path: Path, home: Path
) -> None:
    """A message that hit the output limit is kept, and the turn ends as failed, resumable."""
    script = [response(message("long"), fault=chaos.incomplete(reason="max_output_tokens"))]
    bench = Bench(tmp_path, home, script)
    ended = bench.run(prompt())
    assert (ended.outcome, "max_output_tokens" in ended.reason) == ("failed", True)


def test_repeated_event_runs_a_call_once(tmp_path: Path, home: Path) -> None:
    """A provider that says a call three times gets one execution and one output."""
    command = call("exec_command", {"cmd": "echo x >> runs"})
    script = [
        response(command, fault=chaos.repeat(times=2, after="call")),
        response(message("done")),
    ]
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt()).outcome == "completed"
    assert (bench.cwd / "runs").read_text() == "x\n"
    bench.check()


def test_wrong_key_ends_at_once_after_one_request(tmp_path: Path, home: Path) -> None:
    """A refusal that waiting can't mend is not tried again, and the turn can be continued."""
    script = [chaos.http_error(401), response(message("now it works"))]
    bench = Bench(tmp_path, home, script)

    async def work(session: Session) -> list[str]:
        first = await session.prompt("go")
        requests = len(bench.server.requests)
        second = await session.resume()
        return [first.outcome, str(requests), second.outcome]

    assert bench.run(work) == ["failed", "1", "completed"]
    bench.check()


def test_refused_reasoning_is_dropped_once_and_that_is_recorded(tmp_path: Path, home: Path) -> None:
    """`invalid_encrypted_content` costs the reasoning, not the session (FACTS 9)."""
    error = {"error": {"code": "invalid_encrypted_content", "message": "can't be verified"}}
    script = [
        response(chaos.reasoning("think"), call("exec_command", {"cmd": "echo hi"})),
        chaos.http_error(400, body=error),
        response(message("done")),
    ]
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt()).outcome == "completed"
    kinds = [[item["type"] for item in items] for items in bench.inputs()]
    assert "reasoning" in kinds[1]
    assert "reasoning" not in kinds[2]
    repairs = [one for one in bench.records() if isinstance(one, Repair)]
    assert [one.action for one in repairs] == ["drop_reasoning"]


def test_unknown_tool_and_broken_arguments_are_answered_not_run(tmp_path: Path, home: Path) -> None:
    """What can't be run is answered with an output that says so, and the turn goes on."""
    script = [
        response(call("no_such_tool", {}), call("exec_command", "{not json")),
        response(message("done")),
    ]
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt()).outcome == "completed"
    first, second = outputs_in(bench.inputs()[1])
    assert "no_such_tool" in first
    assert "exec_command" in first
    assert "not a JSON object" in second
    bench.check()


def test_yielded_command_is_polled_fed_and_ended_with_the_session(
    tmp_path: Path, home: Path
) -> None:
    """A command that outlasts its patience goes on; the session's end ends and records it."""
    script = [
        response(
            call(
                "exec_command",
                {"cmd": "echo begun; read line; echo got $line; sleep 60", "yield_time_ms": 250,
                 "tty": True},
            )
        ),
        response(call("write_stdin", {"session_id": 4, "chars": "hello\n", "yield_time_ms": 500})),
        response(message("it runs")),
        response(message("bye")),
    ]  # fmt: skip
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt()).outcome == "completed"
    begun, got = outputs_in(bench.inputs()[2])
    assert "Process running with session ID 4" in begun
    assert "begun\n" in begun
    assert got.endswith("Output:\nhello\ngot hello\n")

    bench.server = chaos.ChaosServer(script[3:], strict=True)
    bench.run(prompt("more"), name=bench.id)
    told = [item for item in bench.inputs()[0] if item.get("role") == "developer"]
    assert "session ID 4 was ended" in str(told[-1])
    bench.check()


def test_prompt_while_a_turn_runs_is_recorded_at_once_and_comes_next(
    tmp_path: Path, home: Path
) -> None:
    """A second prompt waits for the first turn, and both turns complete in order."""
    go = tmp_path / "go"
    script = [
        response(message("first"), hold=chaos.hold(go, before="terminal")),
        response(message("second")),
    ]
    bench = Bench(tmp_path, home, script)

    async def work(session: Session) -> list[str]:
        first = asyncio.ensure_future(session.prompt("one"))
        while not any(isinstance(one, watch.Answered) for one in bench.events):
            await asyncio.sleep(0.01)
        second = asyncio.ensure_future(session.prompt("two"))
        while sum("Prompt(" in str(one) for one in bench.events) < 2:
            await asyncio.sleep(0.01)
        go.touch()
        return [(await first).outcome, (await second).outcome]

    assert bench.run(work) == ["completed", "completed"]
    bench.check()


def test_interrupt_stops_the_command_and_says_what_is_known(tmp_path: Path, home: Path) -> None:
    """An interrupt ends the command, records that, and the next request tells the model."""
    running = tmp_path / "work" / "running"
    script = [
        response(call("exec_command", {"cmd": "touch running; echo partial; sleep 60"})),
        response(message("ok")),
    ]
    bench = Bench(tmp_path, home, script)

    async def work(session: Session) -> list[str]:
        turn = asyncio.ensure_future(session.prompt("go"))
        while not running.exists():
            await asyncio.sleep(0.01)
        session.interrupt()
        first = await turn
        return [first.outcome, (await session.prompt("go on")).outcome]

    assert bench.run(work) == ["interrupted", "completed"]
    (told,) = outputs_in(bench.inputs()[1])
    assert "interrupted" in told
    assert "partial" in told
    assert "cut: interrupted by the user" in str(bench.inputs()[1])
    bench.check()


class Slow(Plain):
    """A tool of Python's that can be told to take its time."""

    name = "slow"
    traits = Traits()

    def __init__(self, seconds: float, timeout: float | None = None) -> None:
        self._seconds = seconds
        self.timeout = timeout

    def spec(self, dialect: Dialect) -> dict[str, Any]:
        del dialect
        return {"type": "function", "name": self.name, "parameters": {"type": "object"}}

    async def run(self, invocation: Invocation) -> Result:
        await asyncio.sleep(self._seconds)
        return Result(content="slept")


def test_python_tool_past_its_deadline_is_stopped_and_the_turn_goes_on(
    tmp_path: Path, home: Path
) -> None:
    """A hanging tool costs its own deadline, and its output says so (P8, P10)."""
    script = [response(call("slow", {})), response(message("done"))]
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt(), tools=[Slow(60, timeout=0.2)]).outcome == "completed"
    assert "time limit" in outputs_in(bench.inputs()[1])[0]
    bench.check()


def test_result_of_a_tool_that_was_given_up_is_late_and_told(tmp_path: Path, home: Path) -> None:
    """A tool that does not react to being stopped is given up; what it says later is a message."""
    awake = asyncio.Event()

    class Stubborn(Slow):
        async def run(self, invocation: Invocation) -> Result:
            while not awake.is_set():
                try:
                    await awake.wait()
                except asyncio.CancelledError:
                    continue
            return Result(content="the true result")

    script = [response(call("slow", {})), response(message("gone on")), response(message("ok"))]
    bench = Bench(tmp_path, home, script)

    async def work(session: Session) -> list[str]:
        first = await session.prompt("go")
        awake.set()
        while not any("Late(" in str(one) for one in bench.events):
            await asyncio.sleep(0.01)
        return [first.outcome, (await session.prompt("and now?")).outcome]

    assert bench.run(work, tools=[Stubborn(0, timeout=0.2)]) == ["completed", "completed"]
    assert "did not react" in outputs_in(bench.inputs()[1])[0]
    told = [item for item in bench.inputs()[2] if item.get("role") == "developer"]
    assert "the true result" in str(told[-1])
    assert len(outputs_in(bench.inputs()[2])) == 1
    bench.check()


def test_raising_tool_is_an_output(tmp_path: Path, home: Path) -> None:
    """An exception in a tool is told to the model by name, and the turn goes on."""

    class Raises(Slow):
        async def run(self, invocation: Invocation) -> Result:
            raise ValueError("no such colour")

    script = [response(call("slow", {})), response(message("done"))]
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt(), tools=[Raises(0)]).outcome == "completed"
    assert outputs_in(bench.inputs()[1]) == ["slow failed: ValueError: no such colour"]


def test_exclusive_patch_sees_what_the_command_before_it_wrote(tmp_path: Path, home: Path) -> None:
    """A patch waits for the commands before it and holds back those after it."""
    patch = "*** Begin Patch\n*** Update File: a.txt\n@@\n-one\n+two\n*** End Patch"
    script = [
        response(
            call("exec_command", {"cmd": "sleep 0.3; echo one > a.txt"}),
            custom_call("apply_patch", patch),
            call("exec_command", {"cmd": "cat a.txt"}),
        ),
        response(message("done")),
    ]
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt()).outcome == "completed"
    assert outputs_in(bench.inputs()[1])[2].endswith("Output:\ntwo\n")
    starts = [one for one in bench.records() if isinstance(one, Start)]
    assert starts[1].plan is not None
    bench.check()


def test_every_attempt_and_turn_is_closed_in_the_journal(tmp_path: Path, home: Path) -> None:
    """Each attempt has one end, the turn has one, and the retry says why it was made."""
    script = [response(message("a"), fault=chaos.cut(after=3)), response(message("b"))]
    bench = Bench(tmp_path, home, script)
    assert bench.run(prompt()).outcome == "completed"
    records = bench.records()
    attempts = [one for one in records if isinstance(one, Attempt)]
    ends = [one for one in records if isinstance(one, AttemptEnd)]
    assert [one.n for one in attempts] == [one.attempt for one in ends]
    assert [one.outcome for one in ends] == ["cut", "completed"]
    assert attempts[1].why
    assert sum(isinstance(one, TurnEnd) for one in records) == 1


def test_continue_without_a_cut_turn_says_that_there_is_nothing(tmp_path: Path, home: Path) -> None:
    """Nothing is sent when no turn was cut."""
    bench = Bench(tmp_path, home, [response(message("done"))])
    bench.run(prompt())
    requests = len(bench.server.requests)

    async def resume(session: Session) -> watch.Finished:
        return await session.resume()

    assert bench.run(resume, name=bench.id).outcome == "nothing"
    assert len(bench.server.requests) == requests == 1


def test_evidence_of_a_plain_tool_is_unknown() -> None:
    """What leaves no traces can't be settled as anything else."""
    start = Start(n=2, call=1, effect="e")
    found = asyncio.run(Slow(0).probe(Invocation(1, {}, "e"), start))
    assert isinstance(found, Evidence)
    assert found.found == "unknown"

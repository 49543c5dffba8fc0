"""The library: agents, sessions, events and hooks, against a provider that breaks."""

import ast
import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import backstay
from backstay import (
    Agent,
    AttemptRetried,
    ConfigError,
    Context,
    Interrupted,
    MessageCompleted,
    Notice,
    RemoteError,
    Session,
    SessionHeld,
    TextDelta,
    ToolCall,
    ToolFinished,
    ToolOutput,
    ToolResult,
    ToolStarted,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
    UnknownSession,
    UsageError,
    chaos,
    tool,
)
from backstay.chaos import ChaosServer, call, hold, http_error, judge, message, reasoning, response
from backstay.core.record import AnyRecord, Late, Output, Start, TurnEnd
from backstay.journal import PosixDisk, journal_path, read
from backstay.journal.sessions import find
from backstay.runtime.hooks import AfterTool, BeforeTool
from backstay.runtime.story import Event
from backstay.runtime.toolbox import OWN
from backstay.tools.tool import Tool
from tests.processes import processes_of

JSON = dict[str, Any]


class Desk:
    """An agent's home and a provider that plays a script; what agents say comes in here."""

    def __init__(self, home: Path, script: list[JSON] | Callable[[JSON], JSON]) -> None:
        self.home = home
        self.server = ChaosServer(script, strict=True)
        self.server.start()
        self.heard: list[TurnEvent] = []

    def agent(self, **options: Any) -> Agent:
        """An agent without shell tools, unless that is asked for."""
        given: JSON = {"shell_tools": False, "on_event": self.heard.append} | options
        return Agent("m", base_url=self.server.url, api_key="sk-t", home=self.home, **given)

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Do the work; the server ends with it."""
        try:
            return asyncio.run(work())
        finally:
            self.server.stop()

    def records(self, session: str) -> list[AnyRecord]:
        """What that session's journal holds."""
        folder = find(PosixDisk(), str(self.home), session)
        return list(read(PosixDisk(), journal_path(folder), everything=True).records)

    def ends(self, session: str) -> list[str]:
        """How its turns ended."""
        return [one.outcome for one in self.records(session) if isinstance(one, TurnEnd)]

    def check(self) -> None:
        """The provider's judgement."""
        verdict = judge(self.server.requests)
        assert verdict.ok, verdict.table()


@tool
def add(a: int, b: int, ctx: Context) -> int:
    """Add two numbers."""
    ctx.progress("adding")
    return a + b


async def everything(agent: Agent, session: Any, prompt: str | None) -> list[TurnEvent]:
    """All events of one turn."""
    return [event async for event in agent.run(session, prompt)]


def kinds(events: list[TurnEvent]) -> list[str]:
    """Their types, without those whose number depends on time."""
    return [type(one).__name__ for one in events]


def test_a_turn_is_told_in_order_and_ends_with_its_answer(home: Path) -> None:
    """From the prompt on disk to the answer; what is provisional says so."""
    script = [
        response(reasoning("hm"), call("add", {"a": 1, "b": 2}), usage={"input_tokens": 10}),
        response(message("It is 3."), usage={"input_tokens": 20}),
    ]
    desk = Desk(home, script)
    events = desk.run(lambda: everything(desk.agent(tools=[add]), None, "1 + 2?"))
    told = [name for name in kinds(events) if name not in ("TextDelta", "ReasoningDelta")]
    assert told == [
        "TurnStarted",
        "ToolStarted",
        "ToolOutput",
        "ToolFinished",
        "MessageCompleted",
        "TurnCompleted",
    ]
    (started,) = (one for one in events if isinstance(one, ToolStarted))
    (finished,) = (one for one in events if isinstance(one, ToolFinished))
    assert (started.name, started.arguments) == ("add", {"a": 1, "b": 2})
    assert (finished.call, finished.output, finished.status) == (started.call, "3", "done")
    end = events[-1]
    assert isinstance(end, TurnCompleted)
    assert end.text == "It is 3."
    assert end.usage.input_tokens == 30
    assert "".join(one.text for one in events if isinstance(one, TextDelta)) == "It is 3."
    assert {type(one).__name__ for one in events if one.provisional} == {
        "TextDelta",
        "ReasoningDelta",
        "ToolOutput",
    }
    assert desk.heard == events
    desk.check()


def test_events_are_json_lines_that_can_be_read_back(home: Path) -> None:
    """Each has its type; msgspec reads it as what it was."""
    desk = Desk(home, [response(call("add", {"a": 1, "b": 2})), response(message("3"))])
    events = desk.run(lambda: everything(desk.agent(tools=[add]), None, "go"))
    lines = [msgspec.json.encode(one) for one in events]
    assert msgspec.json.decode(lines[0])["type"] == "turn_started"
    assert [msgspec.json.decode(line, type=TurnEvent) for line in lines] == events


def test_what_a_cut_attempt_said_is_taken_back(home: Path) -> None:
    """Its deltas are void once it is retried; the message is told as completed once."""
    script = [
        response(message("one way"), fault=chaos.cut(before="terminal")),
        response(message("another way")),
    ]
    desk = Desk(home, script)
    events = desk.run(lambda: everything(desk.agent(), None, "go"))
    retried = next(one for one in events if isinstance(one, AttemptRetried))
    void = [one.text for one in events if isinstance(one, TextDelta)]
    assert "one way" in "".join(void)
    completed = [one for one in events if isinstance(one, MessageCompleted)]
    assert [one.text for one in completed] == ["another way"]
    assert retried.attempt != completed[0].attempt
    assert (retried.retry, retried.limit) == (1, 5)
    assert isinstance(events[-1], TurnCompleted)
    assert events[-1].text == "another way"


def test_a_conversation_goes_on_by_its_id_and_in_an_open_session(home: Path) -> None:
    """Each turn's request extends the one before, whether the session was closed between or not."""
    desk = Desk(home, [response(message(text)) for text in ("a", "b", "c", "d")])

    async def work() -> list[str]:
        agent = desk.agent()
        first = await agent.ask("1")
        second = await agent.ask("2", first.session_id)
        async with agent.session(first.session_id[:13]) as session:
            third = await session.ask("3")
            fourth = await agent.ask("4", session)
        assert {one.session_id for one in (first, second, third, fourth)} == {session.id}
        return [one.text for one in (first, second, third, fourth)]

    assert desk.run(work) == ["a", "b", "c", "d"]
    assert len(desk.server.bodies[3]["input"]) == 7
    desk.check()


def test_a_conversation_is_compacted_on_demand(home: Path) -> None:
    """What follows is asked on the shorter one; a failure changes nothing and says why."""
    script = [
        response(message("long " * 2000)),
        http_error(401),
        response(message("The user said hello.")),
        response(message("b")),
    ]
    desk = Desk(home, script)

    async def work() -> str:
        async with desk.agent().session() as session:
            await session.ask("hello")
            with pytest.raises(RemoteError):
                await session.compact()
            assert await session.compact()
            return (await session.ask("and?")).text

    assert desk.run(work) == "b"
    assert "The user said hello." in str(desk.server.bodies[-1]["input"])
    assert "long long" not in str(desk.server.bodies[-1]["input"])
    assert any(isinstance(one, Notice) and "compacted" in one.text for one in desk.heard)


def test_many_sessions_run_at_once_in_one_process(home: Path) -> None:
    """Each gets its own answer and its own journal; tools know which session they serve."""
    seen: set[str] = set()

    @tool
    async def who(ctx: Context) -> str:
        """Say who asks."""
        seen.add(ctx.session_id)
        await asyncio.sleep(0)
        return ctx.effect_id

    def answers(body: JSON) -> JSON:
        last = body["input"][-1]
        if last["type"] == "function_call_output":
            return response(message(f"{body['input'][0]['content'][0]['text']} {last['output']}"))
        return response(call("who"))

    desk = Desk(home, answers)

    async def work() -> Any:
        agent = desk.agent(tools=[who])
        return await asyncio.gather(*(agent.ask(f"p{n}") for n in range(12)))

    found = desk.run(work)
    assert len({one.session_id for one in found}) == len(seen) == 12
    for number, one in enumerate(found):
        prompt, effect = one.text.split()
        assert prompt == f"p{number}"
        assert effect.rpartition("-")[0] == one.session_id


# Leaving early


def waiting(begun: threading.Event | None = None) -> Any:
    """An async tool that never ends by itself."""

    @tool
    async def wait(ctx: Context) -> str:
        """Wait."""
        ctx.progress("waiting")
        await asyncio.sleep(3600)
        return "never"

    return wait


def test_leaving_the_loop_interrupts_the_turn_and_closes_the_session(home: Path) -> None:
    """After `break` the turn is recorded as interrupted, its call answered; it can be gone on with."""
    desk = Desk(home, [response(call("wait")), response(message("resumed"))])

    async def work() -> Any:
        agent = desk.agent(tools=[waiting()])
        session = ""
        async with aclosing(agent.run(None, "go")) as events:
            async for event in events:
                if isinstance(event, TurnStarted):
                    session = event.session_id
                if isinstance(event, ToolOutput):
                    break
        ends = desk.ends(session)
        return session, ends, await agent.ask(None, session)

    session, ends, answer = desk.run(work)
    assert ends == ["interrupted"]
    assert answer.text == "resumed"
    (output,) = (one for one in desk.records(session) if isinstance(one, Output))
    assert output.status == "interrupted"
    desk.check()


def test_a_turn_left_in_an_open_session_leaves_the_session_open(home: Path) -> None:
    """`break` ends the turn; the next one of the same session runs."""
    desk = Desk(home, [response(call("wait")), response(message("next"))])

    async def work() -> Any:
        async with desk.agent(tools=[waiting()]).session() as session:
            async with aclosing(session.run("go")) as events:
                async for event in events:
                    if isinstance(event, ToolStarted):
                        break
            return session.id, await everything(desk.agent(), session, "another")

    session, events = desk.run(work)
    assert desk.ends(session) == ["interrupted", "completed"]
    assert isinstance(events[-1], TurnCompleted)
    assert not [one for one in events if isinstance(one, ToolFinished)]


def test_a_turn_that_was_left_is_waited_for_by_the_next(home: Path) -> None:
    """Python closes an iterator that was left a little later; the next turn comes behind that."""
    desk = Desk(home, [response(call("wait")), response(message("next"))])

    async def work() -> Any:
        async with desk.agent(tools=[waiting()]).session() as session:
            async for event in session.run("go"):
                if isinstance(event, ToolStarted):
                    break
            return session.id, await session.ask("another")

    session, answer = desk.run(work)
    assert answer.text == "next"
    assert desk.ends(session) == ["interrupted", "completed"]


def test_a_session_is_closed_however_often_that_is_cancelled(home: Path) -> None:
    """A server may cancel its task at every wait; the session is closed, and can be opened again."""
    desk = Desk(home, [response(call("wait")), response(message("again"))])

    async def work() -> Any:
        begun = asyncio.Event()
        agent = desk.agent(tools=[waiting()])
        session = await Session.open(agent)

        async def serve() -> None:
            async with session:
                async for event in session.run("go"):
                    if isinstance(event, ToolStarted):
                        begun.set()

        task = asyncio.create_task(serve())
        await begun.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        return await agent.ask("once more", session.id)

    assert desk.run(work).text == "again"


def test_a_cancelled_task_leaves_a_recorded_end(home: Path) -> None:
    """Cancelling whoever awaits the turn ends it as interrupted, on disk before the task ends."""
    desk = Desk(home, [response(call("wait"))])

    async def work() -> str:
        begun = asyncio.Event()
        found: list[str] = []

        def hear(event: TurnEvent) -> None:
            if isinstance(event, TurnStarted):
                found.append(event.session_id)
            if isinstance(event, ToolStarted):
                begun.set()

        task = asyncio.create_task(desk.agent(tools=[waiting()], on_event=hear).ask("go"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert desk.ends(found[0]) == ["interrupted"]
        return found[0]

    desk.run(work)


def test_an_interrupt_ends_the_turn_and_it_can_be_finished(home: Path) -> None:
    """The iterator goes on to a last event that says so; `ask` raises, and names the session."""
    script = [response(call("wait")), response(call("wait")), response(message("done"))]
    desk = Desk(home, script)

    async def work() -> Any:
        async with desk.agent(tools=[waiting()]).session() as session:
            last: TurnEvent | None = None
            async for last in session.run("go"):
                if isinstance(last, ToolStarted):
                    session.interrupt("enough")
            soon = asyncio.get_running_loop().call_later
            soon(0.3, session.interrupt)
            with pytest.raises(Interrupted) as error:
                await session.ask(None)
            assert error.value.session_id == session.id
            return last, await session.ask(None)

    last, answer = desk.run(work)
    assert isinstance(last, TurnFailed)
    assert (last.outcome, last.reason) == ("interrupted", "enough")
    assert answer.text == "done"
    desk.check()


def test_a_thread_that_cannot_be_stopped_is_told_later(home: Path) -> None:
    """Its call is closed as interrupted, honestly; what it gives in the end is a late result."""
    release = threading.Event()

    @tool
    def stuck() -> str:
        """Hold on."""
        release.wait(20)
        return "at last"

    desk = Desk(home, [response(call("stuck")), response(message("I see"))])

    async def work() -> str:
        async with desk.agent(tools=[stuck]).session() as session:
            async for event in session.run("go"):
                if isinstance(event, ToolStarted):
                    session.interrupt()
            release.set()
            while not any(isinstance(one, Late) for one in desk.records(session.id)):
                await asyncio.sleep(0.01)
            await session.ask("and now?")
            return session.id

    session = desk.run(work)
    (output,) = (one for one in desk.records(session) if isinstance(one, Output))
    assert output.status == "interrupted"
    assert "it may still be running" in output.item["output"]
    assert "at last" in str(desk.server.bodies[1]["input"][-2])
    desk.check()


def test_a_thread_past_its_time_limit_does_not_hold_up_the_turn(home: Path) -> None:
    """The call ends at its deadline, the turn goes on, and the process can end."""
    release = threading.Event()

    @tool(timeout=0.1)
    def stuck() -> None:
        """Hold on."""
        release.wait(20)

    desk = Desk(home, [response(call("stuck")), response(message("without it"))])
    answer = desk.run(lambda: desk.agent(tools=[stuck]).ask("go"))
    release.set()
    assert answer.text == "without it"
    (output,) = (one for one in desk.records(answer.session_id) if isinstance(one, Output))
    assert output.status == "deadline"


# Hooks


async def refuse_later(call: ToolCall) -> str | None:
    """A hook that takes its time."""
    await asyncio.sleep(0)
    return None if call.arguments["a"] == 1 else "Only ones."


def refuse_at_once(call: ToolCall) -> str | None:
    """The same at once."""
    return None if call.arguments["a"] == 1 else "Only ones."


def fail(call: ToolCall) -> str | None:
    """A hook with a defect."""
    if call.arguments["a"] == 1:
        return None
    raise KeyError("Only ones.")


@pytest.mark.parametrize("hook", [refuse_at_once, refuse_later, fail])
def test_a_refused_call_never_starts(home: Path, hook: BeforeTool) -> None:
    """The model is told why, nothing of a start is recorded, and the other call runs."""
    calls = [call("add", {"a": n, "b": 1}) for n in (1, 2)]
    desk = Desk(home, [response(*calls), response(message("done"))])
    answer = desk.run(lambda: desk.agent(tools=[add], before_tool=hook).ask("go"))
    records = desk.records(answer.session_id)
    assert len([one for one in records if isinstance(one, Start)]) == 1
    outputs = {one.status: one.item["output"] for one in records if isinstance(one, Output)}
    assert outputs["done"] == "2"
    assert outputs["rejected"].startswith("This call was refused; it was not run. ")
    assert "Only ones." in outputs["rejected"]
    finished = [one.status for one in desk.heard if isinstance(one, ToolFinished)]
    assert sorted(finished) == ["done", "rejected"]
    desk.check()


def test_hooks_hear_of_exceptions_and_the_model_of_their_message(home: Path) -> None:
    """The exception object goes to `after_tool`; the model gets type and message, no traceback."""

    @tool
    def broken() -> None:
        """Break."""
        raise LookupError("no such order")

    ended: list[tuple[ToolCall, ToolResult]] = []
    desk = Desk(home, [response(call("broken")), response(message("sorry"))])

    def after(call: ToolCall, result: ToolResult) -> None:
        ended.append((call, result))

    hook: AfterTool = after
    desk.run(lambda: desk.agent(tools=[broken], after_tool=hook).ask("go"))
    ((which, result),) = ended
    assert which.name == "broken"
    assert isinstance(result.error, LookupError)
    assert result.error.__traceback__ is not None
    assert result.status == "failed"
    assert result.output == "broken failed: LookupError: no such order"
    assert desk.server.bodies[1]["input"][-1]["output"] == result.output


def test_a_hook_that_fails_costs_a_notice(home: Path) -> None:
    """The turn completes, the output stays, and the failure is seen."""

    def bad(*_: object) -> None:
        raise RuntimeError("hook")

    desk = Desk(home, [response(call("add", {"a": 1, "b": 1})), response(message("2"))])
    agent = desk.agent(tools=[add], after_tool=bad, on_event=bad)
    events = desk.run(lambda: everything(agent, None, "go"))
    assert isinstance(events[-1], TurnCompleted)
    notices = {one.text for one in events if isinstance(one, Notice)}
    assert notices == {
        f"the hook {name} failed: RuntimeError: hook" for name in ("on_event", "after_tool")
    }
    desk.check()


# Tools of Backstay's own


def test_shell_tools_are_there_and_may_be_refused(tmp_path: Path, home: Path) -> None:
    """Commands and patches run in the agent's folder; a hook can keep them from it."""

    def no_patches(call: ToolCall) -> str | None:
        return "Read only." if call.name == "apply_patch" else None

    patch = "*** Begin Patch\n*** Add File: new\n+x\n*** End Patch"
    script = [
        response(
            call("exec_command", {"cmd": "pwd; touch made"}),
            chaos.custom_call("apply_patch", patch),
        ),
        response(message("done")),
    ]
    desk = Desk(home, script)
    agent = desk.agent(shell_tools=True, cwd=tmp_path, before_tool=no_patches)
    desk.run(lambda: agent.ask("go"))
    assert (tmp_path / "made").exists()
    assert not (tmp_path / "new").exists()
    outputs = [one["output"] for one in desk.server.bodies[1]["input"] if "output" in one]
    assert str(tmp_path) in outputs[0]
    assert outputs[1].endswith("Read only.")
    desk.check()


def test_commands_that_still_run_are_ended_with_the_turn(tmp_path: Path, home: Path) -> None:
    """Before the last event is told, and the model's next request would say so."""
    command = {"cmd": "sleep 60", "yield_time_ms": 250}
    desk = Desk(home, [response(call("exec_command", command)), response(message("it runs"))])
    agent = desk.agent(shell_tools=True, cwd=tmp_path)
    events = desk.run(lambda: everything(agent, None, "go"))
    assert isinstance(events[-2], Notice)
    assert "was ended" in events[-2].text
    assert isinstance(events[-1], TurnCompleted)


def test_without_shell_tools_there_is_no_shell(home: Path) -> None:
    """The model sees the tools that were given and no folder; no supervisor is started."""
    seen: dict[int, str] = {}

    def look(event: TurnEvent) -> None:
        seen.update(processes_of(home))

    desk = Desk(home, [response(call("add", {"a": 1, "b": 1})), response(message("2"))])
    desk.run(lambda: desk.agent(tools=[add], on_event=look).ask("go"))
    first = desk.server.bodies[0]
    assert [one["name"] for one in first["tools"]] == ["add"]
    assert [one["role"] for one in first["input"]] == ["user"]
    assert "folder" not in first["instructions"]
    assert not seen


def test_instructions_are_those_that_are_given(home: Path) -> None:
    """As they stand, in place of the built-in ones."""
    desk = Desk(home, [response(message("a"))])
    desk.run(lambda: desk.agent(instructions="Be brief.").ask("go"))
    assert desk.server.bodies[0]["instructions"] == "Be brief."


# Configuration and misuse


def test_a_budget_ends_the_turn(home: Path) -> None:
    """With its code, and resumable."""
    desk = Desk(home, [response(call("add", {"a": 1, "b": 1})), response(message("2"))])
    events = desk.run(lambda: everything(desk.agent(tools=[add], max_steps=1), None, "go"))
    end = events[-1]
    assert isinstance(end, TurnFailed)
    assert (end.outcome, end.code) == ("failed", "budget")
    assert isinstance(end.error(), RemoteError)


def test_a_provider_of_ones_own_and_further_keys(home: Path) -> None:
    """A block of `config`, its key and its address; the request is made accordingly."""
    desk = Desk(home, [response(message("a"))])
    block = {"http_headers": {"X-Mine": "1"}, "env_key": "NO_SUCH_VARIABLE_HERE"}
    config = {"model_providers": {"mine": block}, "model_reasoning_effort": "low"}
    agent = desk.agent(provider="mine", config=config)
    desk.run(lambda: agent.ask("go"))
    (request,) = desk.server.requests
    assert request.headers.get("X-Mine", request.headers.get("x-mine")) == "1"
    assert request.body["reasoning"]["effort"] == "low"


def test_from_config_reads_the_users_file(home: Path) -> None:
    """Model and provider come from `config.toml`; without it none of that is read."""
    desk = Desk(home, [response(message("a"))])
    (home / "config.toml").write_text(f'model = "theirs"\nopenai_base_url = "{desk.server.url}"\n')
    agent = Agent.from_config(home=home, shell_tools=False)
    desk.run(lambda: agent.ask("go"))
    assert desk.server.bodies[0]["model"] == "theirs"


def test_misuse_is_said_in_one_line(home: Path) -> None:
    """When it is made, or when it is used; never by a traceback of ours."""
    taken = tool(name=min(OWN))(add.function)
    with pytest.raises(UsageError, match="more than one tool of the name add"):
        Agent("m", tools=[add, add])
    with pytest.raises(UsageError, match="is a tool of Backstay's own"):
        Agent("m", tools=[taken])
    with pytest.raises(ConfigError, match="did you mean model_provider"):
        Agent("m", config={"model_providr": "x"})
    desk = Desk(home, [])

    async def work() -> None:
        agent = desk.agent()
        with pytest.raises(UsageError, match="no model"):
            await Agent("", home=home).ask("go")
        with pytest.raises(UsageError, match="there is no such folder"):
            await desk.agent(cwd=home / "none").ask("go")
        with pytest.raises(UsageError, match="the prompt is empty"):
            await agent.ask(" ")
        with pytest.raises(UnknownSession):
            await agent.ask("go", "00000000-dead")
        with pytest.raises(UsageError, match="not open"):
            _ = agent.session().id

    desk.run(work)


def test_one_turn_and_one_holder_at_a_time(tmp_path: Path, home: Path) -> None:
    """A second turn, and a second opening, are refused while the first goes on."""
    script = [response(message("a"), hold=hold(tmp_path / "go", before="terminal"))]
    desk = Desk(home, script)

    async def work() -> str:
        agent = desk.agent()
        session = await Session.open(agent)
        running = asyncio.create_task(session.ask("go"))
        await asyncio.to_thread(desk.server.wait, 1)
        with pytest.raises(UsageError, match="is running"):
            await session.ask("more")
        with pytest.raises(SessionHeld):
            await agent.ask("more", session.id)
        (tmp_path / "go").touch()
        answer = await running
        await session.close()
        with pytest.raises(UsageError, match="closed"):
            await session.ask("more")
        return answer.text

    assert desk.run(work) == "a"


def test_nothing_to_finish_is_a_usage_error(home: Path) -> None:
    """A session whose turns are all complete has nothing to go on with."""
    desk = Desk(home, [response(message("a"))])

    async def work() -> None:
        agent = desk.agent()
        answer = await agent.ask("go")
        with pytest.raises(UsageError, match="no turn was cut"):
            await agent.ask(None, answer.session_id)

    desk.run(work)


def test_an_answer_may_have_a_form_and_a_prompt_an_image(tmp_path: Path, home: Path) -> None:
    """The schema is asked for and checked; the image is sent; one that is none is a usage error."""
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "dot.png")
    (tmp_path / "text.png").write_text("no image")
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    desk = Desk(home, [response(message('{"n":3}')), response(message('{"n":"x"}'))])

    async def work() -> None:
        agent = desk.agent()
        answer = await agent.ask("count", schema=schema, images=[tmp_path / "dot.png"])
        assert answer.text == '{"n":3}'
        with pytest.raises(RemoteError, match="does not fit") as error:
            await agent.ask("again", answer.session_id, schema=schema)
        assert error.value.session_id == answer.session_id
        with pytest.raises(UsageError, match="can't be sent"):
            await agent.ask("look", images=[tmp_path / "text.png"])

    desk.run(work)
    first = desk.server.bodies[0]
    assert first["text"]["format"]["schema"] == schema
    assert [part["type"] for part in first["input"][-1]["content"]][-1] == "input_image"


def test_a_session_is_forked_behind_a_turn(home: Path) -> None:
    """The fork knows that turn and none behind it; the other session stays as it is."""
    desk = Desk(home, [response(message(text)) for text in ("a", "b", "c")])

    async def work() -> None:
        agent = desk.agent()
        first = await agent.ask("one")
        await agent.ask("two", first.session_id)
        fork = agent.fork(first.session_id, turn=1)
        assert (await agent.ask("three", fork)).session_id == fork != first.session_id
        with pytest.raises(UsageError, match="has no turn 3"):
            agent.fork(first.session_id, turn=3)

    desk.run(work)
    said = str(desk.server.bodies[2]["input"])
    assert ["'one'" in said, "'two'" in said, "'three'" in said] == [True, False, True]


def test_it_works_without_an_event_loop_of_ones_own(home: Path) -> None:
    """`ask_sync` in a plain program."""
    desk = Desk(home, [response(message("a"))])
    try:
        assert desk.agent().ask_sync("go").text == "a"
    finally:
        desk.server.stop()


# The package


def test_every_public_name_is_there_and_importing_loads_none() -> None:
    """`from backstay import NAME` works for each; `import backstay` alone loads no module."""
    assert len(set(backstay.__all__)) == len(backstay.__all__)
    assert all(getattr(backstay, name) is not None for name in backstay.__all__)
    kinds = {one.__name__ for one in Event.__subclasses__()}
    assert kinds < set(backstay.__all__)
    stub = Path(backstay.__file__).with_suffix(".pyi").read_text()
    where: dict[str, tuple[str, ...]] = vars(backstay)["_WHERE"]
    declared = {
        (node.module, alias.name)
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == {(module, name) for module in where for name in where[module]}
    assert sorted(backstay.__all__) == ast.literal_eval(stub.partition("__all__ =")[2].strip())
    code = "import sys, backstay; print([m for m in sys.modules if m.startswith('backstay.')])"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "[]\n"


def test_whatever_a_tool_raises_is_its_output(home: Path) -> None:
    """Also what is no Exception, and what has no message; the turn goes on."""

    class Odd(BaseException):
        """As the test frameworks' own."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    @tool
    def interrupts() -> None:
        """In a thread that is nobody's Ctrl-C."""
        raise KeyboardInterrupt

    @tool
    def leaves() -> None:
        """Leave."""
        raise SystemExit(3)

    @tool
    async def odd() -> None:
        """Fail oddly."""
        raise Odd("odd")

    @tool
    async def mute() -> None:
        """Fail without a word."""
        raise Mute

    tools: list[Tool] = [interrupts, leaves, odd, mute]
    calls = [call(one.name, {}) for one in tools]
    desk = Desk(home, [response(*calls), response(message("all failed"))])

    errors: list[str] = []

    def after(call: ToolCall, result: ToolResult) -> None:
        errors.append(f"{call.name} {type(result.error).__name__}")

    async def work() -> str:
        return (await desk.agent(tools=tools, after_tool=after).ask("go")).text

    assert desk.run(work) == "all failed"
    assert sorted(errors) == [
        "interrupts RuntimeError",
        "leaves SystemExit",
        "mute Mute",
        "odd Odd",
    ]
    outputs = sorted(one.output for one in desk.heard if isinstance(one, ToolFinished))
    assert outputs == [
        "interrupts failed: RuntimeError: KeyboardInterrupt: ",
        "leaves failed: SystemExit: 3",
        "mute failed: Mute: (its message can't be shown)",
        "odd failed: Odd: odd",
    ]


def test_whoever_waits_is_told_that_nothing_is_handled_any_more(home: Path) -> None:
    """As when all tasks of a loop are cancelled: neither the turn nor the closing waits for ever."""
    began = asyncio.Event()

    @tool
    async def forever() -> None:
        """Never end."""
        began.set()
        await asyncio.Event().wait()

    desk = Desk(home, [response(call("forever", {}))])

    async def work() -> None:
        asking = asyncio.create_task(desk.agent(tools=[forever]).ask("go"))
        await began.wait()
        for task in asyncio.all_tasks():
            if "Driver._run " in repr(task.get_coro()):
                task.cancel()
        with pytest.raises(UsageError, match="closed meanwhile"):
            await asking

    desk.run(work)

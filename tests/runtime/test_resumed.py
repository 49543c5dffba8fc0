"""What a resumed session's requests hold: the prefix as it was, and what has changed since (P6)."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

from backstay import chaos
from backstay.chaos import call, custom_call, message, response
from backstay.core.dialect import Dialect
from backstay.core.events import Result
from backstay.runtime import watch
from backstay.runtime.session import Session
from backstay.tools.tool import Invocation, Plain
from tests.runtime.bench import JSON, Bench
from tests.runtime.test_session import PATCH, outputs_in, prompt


class Named(Plain):
    """A user's tool."""

    def __init__(self, name: str) -> None:
        self.name = name

    def spec(self, dialect: Dialect) -> dict[str, Any]:
        del dialect
        return {"type": "function", "name": self.name, "parameters": {"type": "object"}}

    async def run(self, invocation: Invocation) -> Result:
        del invocation
        return Result(content=f"{self.name} ran")


async def resume(session: Session) -> watch.Finished:
    """Work that finishes the cut turn."""
    return await session.resume()


def reopen(bench: Bench, script: list[JSON]) -> None:
    """A new provider for the next process."""
    bench.server = chaos.ChaosServer(script, strict=True)


def tools_of(bench: Bench) -> dict[str, str]:
    """The names and types of the tools in the last request."""
    return {tool["name"]: tool["type"] for tool in bench.server.bodies[-1]["tools"]}


def test_model_is_told_of_another_folder(tmp_path: Path, home: Path) -> None:
    """With `moved` commands run elsewhere, and the model learns it in the next request."""
    bench = Bench(tmp_path, home, [response(message("done"))])
    bench.run(prompt())
    first = bench.inputs()[0]
    other = tmp_path / "other"
    other.mkdir()
    for work in (prompt("more"), prompt("and more")):
        reopen(bench, [response(call("exec_command", {"cmd": "pwd"})), response(message("done"))])
        bench.run(work, name=bench.id, cwd=str(other), moved=True)
        assert outputs_in(bench.inputs()[1])[-1].endswith(f"Output:\n{other}\n")
        places = [item for item in bench.inputs()[0] if "<cwd>" in str(item)]
        assert [f"<cwd>{folder}</cwd>" in str(place) for folder, place in zip(
            (bench.cwd, other), places, strict=True
        )] == [True, True]  # fmt: skip
        assert bench.inputs()[0][: len(first)] == first


def test_model_is_told_of_another_folder_on_continuing_too(tmp_path: Path, home: Path) -> None:
    """A cut turn that goes on elsewhere says so, without a prompt."""
    bench = Bench(tmp_path, home, [chaos.http_error(401)])
    bench.run(prompt())
    other = tmp_path / "other"
    other.mkdir()
    reopen(bench, [response(message("done"))])
    assert bench.run(resume, name=bench.id, cwd=str(other), moved=True).outcome == "completed"
    assert f"<cwd>{other}</cwd>" in str(bench.inputs()[0][-1])


def test_same_folder_is_told_once(tmp_path: Path, home: Path) -> None:
    """Nothing is appended where nothing has changed."""
    bench = Bench(tmp_path, home, [response(message("done"))])
    bench.run(prompt())
    reopen(bench, [response(message("done"))])
    bench.run(prompt("more"), name=bench.id)
    assert str(bench.inputs()[0]).count("<cwd>") == 1


def test_another_provider_gets_the_tools_in_its_own_dialect(tmp_path: Path, home: Path) -> None:
    """Whether the session goes on with a prompt or without, and ever after."""
    bench = Bench(tmp_path, home, [chaos.http_error(401)])
    bench.run(prompt())
    assert tools_of(bench)["apply_patch"] == "custom"
    for work in (resume, prompt("more")):
        reopen(bench, [response(message("done"))])
        bench.provider, bench.dialect = "local", Dialect(custom_tools=False)
        assert bench.run(work, name=bench.id).outcome == "completed"
        assert tools_of(bench)["apply_patch"] == "function"


def test_tools_that_the_user_changed_are_sent(tmp_path: Path, home: Path) -> None:
    """A tool that was added is offered, one that was taken away is not; else nothing changes."""
    bench = Bench(tmp_path, home, [response(message("done"))])
    bench.run(prompt(), tools=[Named("one")])
    seen = []
    for names in (["one"], ["one", "two"], ["two"]):
        reopen(bench, [response(message("done"))])
        bench.run(prompt("more"), name=bench.id, tools=[Named(name) for name in names])
        seen.append([name for name in tools_of(bench) if name in ("one", "two")])
    assert seen == [["one"], ["one", "two"], ["two"]]
    reopen(bench, [chaos.http_error(401)])
    bench.run(prompt("more"), name=bench.id, tools=[Named("two")])
    reopen(bench, [response(call("three", {})), response(message("done"))])
    bench.run(resume, name=bench.id, tools=[Named("two"), Named("three")])
    assert outputs_in(bench.inputs()[1])[-1] == "three ran"
    assert "three" in tools_of(bench)


def test_patch_of_another_dialect_stays_what_it_is(tmp_path: Path, home: Path) -> None:
    """A custom call of the first provider is a function call for the second."""
    script = [response(custom_call("apply_patch", PATCH)), response(message("done"))]
    bench = Bench(tmp_path, home, script)
    bench.run(prompt())
    reopen(bench, [response(message("done"))])
    bench.provider, bench.dialect = "local", Dialect(custom_tools=False)
    bench.run(prompt("more"), name=bench.id)
    kinds = [item["type"] for item in bench.inputs()[0]]
    assert "function_call" in kinds
    assert "custom_tool_call" not in kinds


def test_sessions_leave_no_descriptor_and_no_thread_behind(tmp_path: Path, home: Path) -> None:
    """Ten sessions with a command each in one process cost as many descriptors as one."""
    bench = Bench(tmp_path, home, [])
    counts = []

    async def main() -> None:
        for _ in range(10):
            session = await Session.create(bench.settings(), bench.events.append)
            await session.prompt("go")
            await session.close()
            await asyncio.sleep(0.05)
            tasks = len(asyncio.all_tasks())
            counts.append((len(os.listdir("/proc/self/fd")), threading.active_count(), tasks))

    script = [response(call("exec_command", {"cmd": "echo hi"})), response(message("done"))]
    bench.server = chaos.ChaosServer(script * 10, strict=True)
    with bench.server:
        asyncio.run(main())
    assert counts[9][0] <= counts[1][0]
    assert counts[9][1:] == counts[1][1:]

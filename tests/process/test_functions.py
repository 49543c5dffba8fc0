"""`kill -9` in the middle of a function that is a tool, in real processes, and what is made of it."""

from pathlib import Path
from typing import Any, Final

import pytest

from backstay.chaos import call, message, response
from backstay.core.record import Output
from tests.process.agent import Bench

pytestmark = pytest.mark.processes

PROGRAM: Final = """
import asyncio, os, sys, time
from backstay import Agent, Context, tool

def there(ctx: Context) -> str | None:
    if os.path.exists("closed"):
        raise ConnectionError("the shop is closed")
    return "it was there" if ctx.effect_id in open("ledger").read() else None

async def there_async(ctx: Context) -> str | None:
    return there(ctx)

@tool(OPTIONS)
ASYNC def work(ctx: Context) -> str:
    open("begun", "a").write("x")
    if not os.path.exists("late"):
        open("ledger", "a").write(ctx.effect_id + "\\n")
    while not os.path.exists("go"):
        WAIT
    return "it ran"

open("ledger", "a").close()
agent = Agent("m", tools=[work], shell_tools=False, cwd=".")
session = sys.argv[1] if len(sys.argv) > 1 else ""
print(agent.ask_sync(None if session else "go", session).text)
"""


def killed_and_resumed(
    tmp_path: Path, home: Path, options: str, *marks: str, is_async: bool = False
) -> tuple[Output, list[str], int]:
    """Kill the agent in the middle of the function and resume it.

    Gives the call's output, the keys in the ledger, and how often the function began.
    """
    wait = "await asyncio.sleep(0.01)" if is_async else "time.sleep(0.01)"
    program = PROGRAM.replace("OPTIONS", options).replace("WAIT", wait)
    program = program.replace("ASYNC ", "async " if is_async else "")
    with Bench(tmp_path, home) as bench:
        for mark in marks:
            (bench.cwd / mark).touch()
        bench.serve(response(call("work")))
        agent = bench.start(program=program)
        begun, ledger = bench.cwd / "begun", bench.cwd / "ledger"
        ready = begun if "late" in marks else ledger
        bench.wait(lambda: ready.exists() and ready.read_text(), "the effect")
        agent.kill()
        (bench.cwd / "go").touch()
        bench.serve(response(message("resumed")))
        ended = bench.start(bench.session, program=program).end()
        assert (ended.code, ended.out, ended.err) == (0, "resumed\n", "")
        (output,) = bench.outputs()
        assert bench.sent() == [output.item["output"]]
        bench.check()
        return output, ledger.read_text().split(), len(begun.read_text())


@pytest.mark.parametrize("is_async", [False, True])
def test_a_killed_function_is_never_run_again(tmp_path: Path, home: Path, is_async: bool) -> None:
    """Without a word about it the model is told that nobody knows, and nothing runs twice."""
    output, ledger, runs = killed_and_resumed(tmp_path, home, "", is_async=is_async)
    assert output.status == "unknown"
    assert "It may have taken effect" in output.item["output"]
    assert (len(ledger), runs) == (1, 1)


def test_a_function_that_is_safe_to_repeat_runs_again(tmp_path: Path, home: Path) -> None:
    """With the same idempotency key, and its true output."""
    output, ledger, runs = killed_and_resumed(tmp_path, home, 'replay="safe"')
    assert (output.status, output.item["output"]) == ("done", "it ran")
    assert len(ledger) == runs == 2
    assert len(set(ledger)) == 1


@pytest.mark.parametrize("check", ["there", "there_async"])
def test_a_check_that_finds_the_effect_gives_the_output(
    tmp_path: Path, home: Path, check: str
) -> None:
    """The call is answered by it, and the function is not run again."""
    output, ledger, runs = killed_and_resumed(tmp_path, home, f"check={check}")
    assert (output.status, output.item["output"]) == ("done", "it was there")
    assert (len(ledger), runs) == (1, 1)


@pytest.mark.parametrize("replay, status", [("never", "never_started"), ("safe", "done")])
def test_a_check_that_finds_nothing(tmp_path: Path, home: Path, replay: str, status: str) -> None:
    """Says that the call may be made again; what is safe to repeat is run again at once."""
    options = f'check=there, replay="{replay}"'
    output, ledger, runs = killed_and_resumed(tmp_path, home, options, "late")
    assert output.status == status
    assert ledger == []
    assert runs == (2 if replay == "safe" else 1)


def test_a_check_that_cannot_tell_leaves_it_unknown(tmp_path: Path, home: Path) -> None:
    """The model is told why."""
    output, ledger, runs = killed_and_resumed(tmp_path, home, "check=there", "closed")
    assert output.status == "unknown"
    assert "ConnectionError: the shop is closed" in output.item["output"]
    assert (len(ledger), runs) == (1, 1)


POINTS: Final[dict[str, Any]] = {
    "before-start:work": "unknown",
    "before-finish:work": "unknown",
    "after-write:output": "done",
    "after-sync:call": "unknown",
}


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_around_a_function_tells_no_falsehood(
    tmp_path: Path, home: Path, point: str
) -> None:
    """At each point beside it: the true output once it is recorded, else that it is unknown."""
    program = PROGRAM.replace("OPTIONS", "").replace("WAIT", "pass").replace("ASYNC ", "")
    with Bench(tmp_path, home) as bench:
        (bench.cwd / "go").touch()
        bench.environ["BACKSTAY_CRASH"] = f"{point}:1"
        bench.serve(response(call("work")), response(message("not reached")))
        assert bench.start(program=program).end().code == -9
        del bench.environ["BACKSTAY_CRASH"]
        bench.serve(response(message("resumed")))
        assert bench.start(bench.session, program=program).end().code == 0
        assert bench.statuses() == [POINTS[point]]
        begun = bench.cwd / "begun"
        runs = len(begun.read_text()) if begun.exists() else 0
        assert runs == ("start" not in point and "call" not in point)
        bench.check()


FULL: Final = """
import resource, sys
sys.dont_write_bytecode = True
from backstay import Agent, StorageError

agent = Agent("m", shell_tools=False)
agent.ask_sync("small")
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
try:
    agent.ask_sync("large")
except StorageError as error:
    print(error.session_id)
"""


def test_a_full_disk_is_a_storage_error_that_names_the_session(tmp_path: Path, home: Path) -> None:
    """For a caller of the library; once there is room, the session goes on."""
    with Bench(tmp_path, home) as bench:
        bench.serve(response(message("ok")), response(message("x" * 20_000)))
        ended = bench.start(program=FULL).end()
        assert ended.code == 0, ended.err
        bench.serve(response(message("done")))
        session = ended.out.strip()
        program = PROGRAM.replace("OPTIONS", "").replace("WAIT", "pass").replace("ASYNC ", "")
        again = bench.start(session, program=program).end()
        assert (again.code, again.out) == (0, "done\n"), again.err

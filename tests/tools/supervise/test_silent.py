"""A supervisor that lives and does not answer: every request ends, and nothing false is said."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from backstay.core.events import Result
from backstay.tools import effects, link
from backstay.tools.commands import Commands, SupervisorSilent
from backstay.tools.exec_command import ExecCommand, Shell, WriteStdin
from backstay.tools.supervise import processes
from backstay.tools.tool import Invocation
from tests.tools.supervise.sessions import ENV, Session, agent_killed_while_running, sh


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process does nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def call(session: Session, number: int, name: str, **arguments: object) -> Invocation:
    """A call of a tool of commands."""
    item = {"type": "function_call", "name": name, "arguments": json.dumps(arguments)}
    return Invocation(number, item, session.effect(str(number)))


def test_request_to_a_stopped_supervisor_ends_and_names_it(session: Session) -> None:
    """Each request fails within its patience, names the pid and says what to do; none is lost."""

    async def main() -> None:
        commands = Commands(session.folder, patience=0.3)
        pid = (await commands.ready()).pid
        await sh(commands, session.effect("a"), "sleep 0.1; echo out")
        with stopped(pid):
            for request in (
                sh(commands, session.effect("b"), "true"),
                commands.wait(session.effect("a"), 1),
                commands.stop(session.effect("a")),
                commands.listing(),
            ):
                with pytest.raises(SupervisorSilent, match=rf"pid {pid}\b.*kill -CONT {pid}"):
                    await request
        found = await commands.wait(session.effect("a"), 20)
        assert found is not None
        with stopped(pid), pytest.raises(SupervisorSilent):
            await commands.end()
        await commands.close()
        await link.reap_one(pid, 20)

    asyncio.run(main())


def test_stopped_supervisor_of_another_agent_is_named(session: Session) -> None:
    """A client that finds a supervisor which does not even greet learns its pid as well."""

    async def main() -> None:
        first = Commands(session.folder)
        pid = (await first.ready()).pid
        second = Commands(session.folder, patience=0.3)
        with stopped(pid), pytest.raises(SupervisorSilent, match=rf"pid {pid}\b"):
            await second.ready()
        await second.close()
        await first.end()
        await first.close()

    asyncio.run(main())


def test_command_that_was_not_started_never_is(session: Session) -> None:
    """The model is told that nothing was started, and that stays true when the supervisor wakes."""

    async def main() -> Result:
        commands = Commands(session.folder, patience=0.3)
        tool = ExecCommand(Shell(commands, session.prefix, "/", ENV))
        pid = (await commands.ready()).pid
        path = os.path.join(session.folder, "ran")
        with stopped(pid):
            result = await tool.run(call(session, 4, "exec_command", cmd=f"touch {path}"))
        await commands.listing()  # the start that waited was answered before this
        assert not os.path.exists(path)
        await commands.end()
        await commands.close()
        return result

    result = asyncio.run(main())
    assert "not started" in str(result.content)
    assert result.status == "failed"


def test_running_command_is_left_alone_and_nothing_is_claimed_of_its_end(session: Session) -> None:
    """The answer says that the outcome is unknown, not that anybody died; the command goes on."""

    async def main() -> None:
        commands = Commands(session.folder, patience=0.3)
        shared = Shell(commands, session.prefix, "/", ENV)
        tool, poll = ExecCommand(shared), WriteStdin(shared)
        pid = (await commands.ready()).pid
        cmd = "echo begun; sleep 1; echo ended"
        begun = await tool.run(call(session, 4, "exec_command", cmd=cmd, yield_time_ms=250))
        assert begun.status == "yielded"
        with stopped(pid):
            silent = await poll.run(call(session, 5, "write_stdin", session_id=4))
            child = effects.read_child(session.path("4"))
            assert child is not None
            assert processes.is_same(child.pid, child.start)
        assert silent.status == "unknown"
        assert f"pid {pid}" in str(silent.content)
        assert "died" not in str(silent.content)
        ended = await poll.run(call(session, 6, "write_stdin", session_id=4, yield_time_ms=20_000))
        assert str(ended.content).endswith("Output:\nended\n")
        await commands.end()
        await commands.close()

    asyncio.run(main())


def test_what_a_leaving_supervisor_records_is_the_answer(session: Session) -> None:
    """Asked about a command that is just ended with its supervisor: its recorded exit (P2)."""
    go, up, asked = (os.path.join(session.folder, name) for name in ("go", "up", "asked"))

    async def main() -> list[Result]:
        commands = Commands(session.folder)
        shared = Shell(commands, session.prefix, "/", ENV)
        tool, poll = ExecCommand(shared), WriteStdin(shared)
        pid = (await commands.ready()).pid
        trap = f"while ! [ -e {go} ]; do :; done; echo cleaned; exit 7"
        cmd = f"trap ': > {asked}; {trap}' TERM; touch {up}; while :; do sleep 0.05; done"
        run = asyncio.ensure_future(tool.run(call(session, 4, "exec_command", cmd=cmd)))
        await appeared(up)
        os.kill(pid, signal.SIGTERM)
        await appeared(asked)
        assert await tool.stop(call(session, 4, "exec_command", cmd=cmd)) is False
        asking = asyncio.ensure_future(poll.run(call(session, 5, "write_stdin", session_id=4)))
        await asyncio.sleep(0.1)
        open(go, "w").close()
        results = [await run, await asking]
        await commands.close()
        await link.reap_one(pid, 20)
        return results

    for result in asyncio.run(main()):
        assert "exited with code 7 (it was ended with the session)" in str(result.content)
        assert result.status == "done"


async def appeared(path: str) -> None:
    """Wait for a file."""
    while not os.path.exists(path):
        await asyncio.sleep(0.01)


def test_adopted_from_a_supervisor_that_is_ending(session: Session) -> None:
    """An agent that comes back while the dead-man line ends the command gets its true end (P3)."""
    told = os.path.join(session.folder, "told")
    cmd = f"trap ': > {told}; sleep 9 & wait; sleep 9 & wait; echo bye; exit 3' TERM; echo x; "
    cmd += "while :; do sleep 0.05; done"
    agent_killed_while_running(session, session.effect("4"), cmd, 2.0)  # the trap is set by then

    async def main() -> Result:
        await appeared(told)
        commands = Commands(session.folder)
        tool = ExecCommand(Shell(commands, session.prefix, "/", ENV))
        result = await tool.adopt(call(session, 4, "exec_command", cmd=cmd))
        await commands.end()
        await commands.close()
        return result

    result = asyncio.run(main())
    assert "it was ended because the agent that ran it had died" in str(result.content)
    assert "Output:\nx\n" in str(result.content)

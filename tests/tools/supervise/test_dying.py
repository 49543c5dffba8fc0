"""Death of the agent and of the supervisor: what is adopted, ended, known afterwards."""

import asyncio
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from backstay.tools import effects, link
from backstay.tools.commands import Commands, SupervisorGone
from backstay.tools.effects import Exit, Exited, Gone, NeverStarted, NotClaimed, Running
from backstay.tools.supervise import processes
from tests.tools.supervise.sessions import (
    Session,
    agent_killed_while_running,
    output,
    processes_of,
    sh,
    until,
)


def test_agent_killed_exit_is_kept(session: Session) -> None:
    """The supervisor of a killed agent lets the command finish, records its exit, and leaves."""
    agent_killed_while_running(session, session.effect("a"), "sleep 0.5; echo out; exit 9", 30)
    until(lambda: effects.read_exit(session.path("a")))
    found = effects.evidence(session.path("a"), effects.boot_id())
    assert isinstance(found, Exited)
    assert isinstance(found.result, Exit)
    assert (found.result.code, found.result.ended_by) == (9, "itself")
    assert output(session.path("a")) == b"out\n"
    until(lambda: processes_of(session) == {})


def test_dead_man(session: Session) -> None:
    """After the grace the commands of a killed agent are ended, and what ended them is recorded."""
    agent_killed_while_running(session, session.effect("a"), "setsid sleep 300 & sleep 300", 0.3)
    until(lambda: processes_of(session) == {})
    found = effects.read_exit(session.path("a"))
    assert isinstance(found, Exit)
    assert (found.signal, found.ended_by) == (signal.SIGTERM, "dead-man")


def test_dead_man_in_spite_of_forks(session: Session) -> None:
    """A child that the killed agent had forked is not taken for the agent."""
    child = agent_killed_while_running(session, session.effect("a"), "sleep 300", 0.3, "fork")
    try:
        until(lambda: processes_of(session) == {})
        assert processes.look(child) is not None
    finally:
        os.kill(child, signal.SIGKILL)
    found = effects.read_exit(session.path("a"))
    assert isinstance(found, Exit)
    assert found.ended_by == "dead-man"


def test_adoption(session: Session) -> None:
    """A client that comes within the grace adopts what runs; the dead-man line is disarmed."""
    pid = agent_killed_while_running(session, session.effect("a"), "echo up; sleep 1.5; exit 3", 1)
    found = effects.evidence(session.path("a"), effects.boot_id())
    assert isinstance(found, Running)
    assert found.supervised

    async def run() -> None:
        commands = Commands(session.folder)
        assert (await commands.ready()).pid == pid
        assert commands.supervisor is not None
        assert processes.is_same(commands.supervisor.pid, commands.supervisor.start)
        seen: list[bytes] = []
        commands.on_output(session.effect("a"), lambda _offset, data: seen.append(data))
        ended = await commands.wait(session.effect("a"), 20)
        assert ended is not None
        assert (ended.code, ended.ended_by) == (3, "itself")
        assert seen == [b"up\n"]
        assert await commands.end() == []

    asyncio.run(run())


def test_supervisor_told_to_end(session: Session) -> None:
    """SIGTERM ends the commands and records them; INT and HUP do nothing."""
    pid = agent_killed_while_running(session, session.effect("a"), "sleep 300", 60)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGHUP)
    assert effects.read_exit(session.path("a")) is None
    os.kill(pid, signal.SIGTERM)
    until(lambda: processes_of(session) == {})
    found = effects.read_exit(session.path("a"))
    assert isinstance(found, Exit)
    assert found.ended_by == "session-end"


def test_supervisor_killed(session: Session) -> None:
    """Pending calls fail at once, the evidence says what is known, the group is ended, and the
    next start gets a new supervisor.
    """

    async def run() -> None:
        commands = Commands(session.folder)
        text = "echo partial; trap '' TERM; (sleep 300; true) & sleep 300"
        await sh(commands, session.effect("a"), text)
        await asyncio.to_thread(until, lambda: output(session.path("a")) == b"partial\n")
        waiting = asyncio.ensure_future(commands.wait(session.effect("a"), 60))
        await asyncio.sleep(0)
        first = await commands.ready()
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(SupervisorGone):
            await waiting
        found = effects.evidence(session.path("a"), effects.boot_id())
        assert isinstance(found, Running)
        assert not found.supervised
        ended = await asyncio.to_thread(effects.end_recorded_group, session.path("a"))
        assert len(ended) == 4  # the shell, the one in parentheses, and both sleeps
        assert processes_of(session) == {}
        gone = effects.evidence(session.path("a"), effects.boot_id())
        assert isinstance(gone, Gone)
        assert gone.total == len(b"partial\n")
        assert isinstance(await sh(commands, session.effect("b"), "exit 0"), object)
        assert await commands.ready() != first
        assert await commands.wait(session.effect("b"), 20) is not None
        await commands.end()

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(6))
def test_supervisor_killed_at_any_moment(session: Session, seed: int) -> None:
    """Whenever the supervisor is killed: what is said never to have started did not, and what was
    recorded or reported did; nothing runs twice.
    """
    chance = random.Random(seed)
    names = [str(number) for number in range(12)]
    marks = {name: Path(session.folder, f"mark-{name}") for name in names}

    async def start_all(commands: Commands) -> None:
        text = "echo ran >> {}; sleep 0.01; echo done"
        starts = [sh(commands, session.effect(n), text.format(marks[n])) for n in names]
        await asyncio.gather(*starts, return_exceptions=True)

    async def run() -> None:
        commands = Commands(session.folder)
        pid = (await commands.ready()).pid
        starting = asyncio.ensure_future(start_all(commands))
        await asyncio.sleep(chance.random() * 0.06)
        os.kill(pid, signal.SIGKILL)
        await starting
        await link.reap_one(pid, 20)
        await commands.close()

    asyncio.run(run())
    verdicts = {name: verdict(session.path(name)) for name in names}
    for name, found in verdicts.items():
        ran = marks[name].read_text() if marks[name].exists() else ""
        assert ran in ("", "ran\n")
        assert not (ran and found == "never started"), name
        assert ran or found != "exited", name


def verdict(folder: str) -> str:
    """What a settler concludes, as it would."""
    found = effects.evidence(folder, effects.boot_id())
    if isinstance(found, NotClaimed) and effects.settler_claim(folder):
        return "never started"
    if isinstance(found, NeverStarted):
        return "never started"
    effects.end_recorded_group(folder)
    return "exited" if isinstance(found, Exited) else "unknown"


def test_marked_processes_are_ended_too(session: Session) -> None:
    """What left the group of a dead supervisor's command is found by its marker."""

    async def run() -> None:
        commands = Commands(session.folder)
        await sh(commands, session.effect("a"), "setsid sleep 300 & sleep 300")
        await asyncio.to_thread(until, lambda: len(processes_of(session)) == 4)
        pid = (await commands.ready()).pid
        os.kill(pid, signal.SIGKILL)
        await link.reap_one(pid, 20)
        await commands.close()

    asyncio.run(run())
    until(lambda: len(processes_of(session)) == 3)
    assert len(effects.end_recorded_group(session.path("a"))) == 3
    assert processes_of(session) == {}


def test_a_reused_pid_is_spared(session: Session) -> None:
    """A process that only has the recorded pid, not its start time, is not touched."""
    folder = Path(session.path("a"))
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "300"], process_group=0) as bystander:
        start = processes.start_time(bystander.pid)
        (folder / "claim").write_text('{"who":"supervisor","kind":"command","pid":0,"start":0}')
        record = '{"pid":%d,"pgid":%d,"start":%d,"boot":"%s","marker":""}'
        for ticks, boot in ((start + 1, effects.boot_id()), (start, "another-boot")):
            (folder / "child.json").write_text(record % (bystander.pid, bystander.pid, ticks, boot))
            assert effects.end_recorded_group(str(folder)) == []
        assert bystander.poll() is None
        (folder / "child.json").write_text(
            record % (bystander.pid, bystander.pid, start, effects.boot_id())
        )
        assert [process.pid for process in effects.end_recorded_group(str(folder))] == [
            bystander.pid
        ]
        assert bystander.wait() == -signal.SIGTERM


def test_supervisor_killed_before_the_exec(session: Session) -> None:
    """A claim of a dead supervisor without a child's record is proof that nothing was started."""
    folder = Path(session.path("a"))
    folder.mkdir(parents=True)
    note = '{"who":"supervisor","kind":"%s","pid":1,"start":1,"boot":"%s"}'
    (folder / "claim").write_text(note % ("command", effects.boot_id()))
    assert effects.evidence(str(folder), effects.boot_id()) == NeverStarted("supervisor")
    (folder / "claim").write_text(note % ("stdin", effects.boot_id()))
    assert isinstance(effects.evidence(str(folder), effects.boot_id()), Gone)
    (folder / "claim").write_text("")
    assert isinstance(effects.evidence(str(folder), effects.boot_id()), Gone)

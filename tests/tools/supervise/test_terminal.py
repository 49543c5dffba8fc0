"""Commands with a terminal: it is theirs, every process of it ends, and none is lost with it."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from backstay.tools import effects, link
from backstay.tools.commands import Commands, Started, end_one
from backstay.tools.effects import Gone
from backstay.tools.supervise import processes
from tests.tools.supervise.sessions import Session, output, processes_of, sh, until

pytestmark = pytest.mark.skipif(not processes.HAS_PROC, reason="reads /proc")


def test_terminal_is_the_commands_own(session: Session) -> None:
    """All three descriptors are the terminal, it is the controlling one, and has a size."""

    async def run() -> None:
        commands = Commands(session.folder)
        text = "stty size; test -t 0 && test -t 1 && test -t 2 && echo all; echo me >/dev/tty"
        await sh(commands, session.effect("a"), text, tty=True)
        found = await commands.wait(session.effect("a"), 20)
        assert found is not None
        assert (found.code, found.ended_by, found.spool_error) == (0, "itself", None)
        assert output(session.path("a")) == b"40 120\r\nall\r\nme\r\n"
        assert found.total == len(output(session.path("a")))
        child = effects.read_child(session.path("a"))
        assert child is not None
        assert child.tty
        while await commands.listing():  # nobody holds the terminal any more
            await asyncio.sleep(0.01)
        await commands.end()

    asyncio.run(run())


def test_other_commands_have_none(session: Session) -> None:
    """Without it there is no terminal to be found, not even the one that the agent may have."""

    async def run() -> None:
        commands = Commands(session.folder)
        await sh(commands, session.effect("a"), "(echo x >/dev/tty) 2>/dev/null || echo none")
        assert await commands.wait(session.effect("a"), 20) is not None
        assert output(session.path("a")) == b"none\n"
        assert not effects.has_terminal(session.path("a"))
        await commands.end()

    asyncio.run(run())


def test_all_output_up_to_the_exit_is_kept(session: Session) -> None:
    """Much output right before the exit, with children that go on, is all there."""
    lines = b"".join(b"%d\r\n" % number for number in range(1, 30_001))

    async def run() -> None:
        commands = Commands(session.folder)
        for name, text in (("a", "seq 30000"), ("b", "sleep 300 & seq 30000")):
            await sh(commands, session.effect(name), text, tty=True)
            found = await commands.wait(session.effect(name), 20)
            assert found is not None
            assert found.total == len(lines)
            assert output(session.path(name)) == lines
        await commands.end()

    asyncio.run(run())


def test_terminal_outlives_those_that_close_it(session: Session) -> None:
    """A command that closes its terminal is not hung up, and can open it again."""

    async def run() -> None:
        commands = Commands(session.folder)
        text = "exec </dev/null >/dev/null 2>&1; sleep 0.3; echo back >/dev/tty"
        await sh(commands, session.effect("a"), text, tty=True)
        found = await commands.wait(session.effect("a"), 20)
        assert found is not None
        assert found.code == 0
        assert output(session.path("a")) == b"back\r\n"
        await commands.end()

    asyncio.run(run())


NAP = f"sleep 300.{os.getpid()}"
DEAF = f"set -m; {NAP} & (trap '' HUP TERM; env -i {NAP}; env -i {NAP}) & echo up; wait"
"""Jobs in groups of their own; one of them is deaf, and its children bear no mark."""
JOBS = DEAF.replace("trap '' HUP TERM", "true")


def up(session: Session) -> bool:
    """Whether the jobs are there."""
    return b"up" in output(session.path("a")) and len(sleepers()) == 2


def sleepers() -> list[int]:
    """The processes that nap."""
    found = []
    for pid in processes.everything():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if words == NAP.replace(" ", "\0").encode() + b"\0":
            found.append(pid)
    return found


@pytest.mark.parametrize("how", ["stop", "end", "from outside"])
def test_end_reaches_every_job(session: Session, how: str) -> None:
    """Job control makes a group for each job; all end with the command, unmarked and deaf ones too."""

    async def run() -> None:
        commands = Commands(session.folder)
        effect = session.effect("a")
        await sh(commands, effect, DEAF if how == "end" else JOBS, tty=True)
        while not up(session):
            await asyncio.sleep(0.01)
        if how == "end":
            (ended,) = await commands.end()
            found = ended.exit
        else:
            if how == "stop":
                assert await commands.stop(effect)
            else:
                assert await end_one(session.folder, effect)
            found = await commands.wait(effect, 20)
            while sleepers():
                await asyncio.sleep(0.01)
            await commands.end()
        assert found is not None
        reasons = {"stop": "stop", "end": "session-end", "from outside": "user"}
        assert (found.signal, found.ended_by) == (signal.SIGTERM, reasons[how])
        assert sleepers() == []
        assert processes_of(session) == {}

    asyncio.run(run())


def test_leader_is_found_before_it_leads() -> None:
    """Between its fork and its session a leader is in its supervisor's group: its pid tells it."""
    supervisor, leader = 7, 8
    forked = processes.Process(leader, supervisor, supervisor, supervisor, 9)
    assert forked.is_led_by(leader)
    job = processes.Process(10, leader, 10, leader, 9)
    assert job.is_led_by(leader)
    assert not job.is_led_by(supervisor)


def test_stop_right_after_the_start_finds_it(session: Session) -> None:
    """A command that is stopped before it has even made its session does not live on."""

    async def run() -> None:
        commands = Commands(session.folder)
        for number in range(20):
            effect = session.effect(f"a{number}")
            await sh(commands, effect, "sleep 300", tty=True)
            assert await commands.stop(effect)
            found = await commands.wait(effect, 20)
            assert found is not None
            assert found.ended_by == "stop"
        await commands.end()

    asyncio.run(run())


def test_supervisor_killed_under_a_terminal(session: Session) -> None:
    """The command is hung up, what is deaf to that is ended by who settles; its outcome is unknown."""

    async def run() -> None:
        commands = Commands(session.folder)
        started = await sh(commands, session.effect("a"), f"trap '' HUP; {DEAF}", tty=True)
        assert isinstance(started, Started)
        while not up(session):
            await asyncio.sleep(0.01)
        supervisor = (await commands.ready()).pid
        os.kill(supervisor, signal.SIGKILL)
        await link.reap_one(supervisor, 20)
        await commands.close()

    asyncio.run(run())
    found = effects.evidence(session.path("a"), effects.boot_id())
    assert isinstance(found, effects.Running)
    assert not found.supervised
    effects.end_recorded_group(session.path("a"))
    until(lambda: not sleepers())
    assert isinstance(effects.evidence(session.path("a"), effects.boot_id()), Gone)
    assert output(session.path("a")) == b"up\r\n"


def test_supervisor_killed_hangs_up(session: Session) -> None:
    """Nobody needs to settle anything for an ordinary command to end with its terminal."""

    async def run() -> None:
        commands = Commands(session.folder)
        await sh(commands, session.effect("a"), "echo up; exec sleep 300", tty=True)
        while not output(session.path("a")):
            await asyncio.sleep(0.01)
        supervisor = (await commands.ready()).pid
        os.kill(supervisor, signal.SIGKILL)
        await link.reap_one(supervisor, 20)
        await commands.close()

    asyncio.run(run())
    until(lambda: isinstance(effects.evidence(session.path("a"), effects.boot_id()), Gone))

"""Commands under a supervisor that lives: exits, output, children, stdin, stopping, ending."""

import asyncio
import os
import shutil
import signal
import stat
from functools import partial
from pathlib import Path

import pytest

from backstay.tools import effects
from backstay.tools.commands import AlreadyClaimed, Commands, Listed, Started, look
from backstay.tools.effects import Exited, Written
from backstay.tools.supervise import layout, processes
from tests.tools.supervise.sessions import ENV, Session, log_of, output, processes_of, sh, until


@pytest.mark.parametrize(
    "text, code, number",
    [
        ("exit 0", 0, None),
        ("exit 7", 7, None),
        ("kill -TERM $$", None, signal.SIGTERM),
        ("kill -KILL $$", None, signal.SIGKILL),
    ],
)
def test_true_exit(session: Session, text: str, code: int | None, number: int | None) -> None:
    """A command's exit code or signal is reported and recorded as it was."""

    async def run() -> None:
        commands = Commands(session.folder)
        assert isinstance(await sh(commands, session.effect("a"), text), Started)
        found = await commands.wait(session.effect("a"), 20)
        assert found is not None
        assert (found.code, found.signal, found.ended_by) == (code, number, "itself")
        assert found.recorded
        assert effects.evidence(session.path("a"), effects.boot_id()) == Exited(found)
        assert await commands.end() == []

    asyncio.run(run())


def test_both_streams_in_order(session: Session) -> None:
    """Standard output and error share one spool, in the order in which they were written."""

    async def run() -> None:
        commands = Commands(session.folder)
        effect = session.effect("a")
        await sh(commands, effect, "echo one; echo two >&2; printf three")
        found = await commands.wait(effect, 20)
        assert found is not None
        assert found.total == len(b"one\ntwo\nthree")
        spooled = commands.read(effect)
        assert [piece.data for piece in spooled.pieces] == [b"one\ntwo\nthree"]
        assert commands.read(effect, 4, 7).pieces[0].data == b"two"
        await commands.end()

    asyncio.run(run())


def test_head_and_tail_are_kept(session: Session) -> None:
    """Of 8 MB of binary output the head and the tail are kept, the rest is counted."""
    size = 8_000_000

    async def run() -> None:
        commands = Commands(session.folder)
        effect = session.effect("a")
        program = f"import sys; sys.stdout.buffer.write(bytes(i % 251 for i in range({size})))"
        await commands.start(effect, ["python3", "-c", program], cwd="/", env=ENV)
        found = await commands.wait(effect, 40)
        assert found is not None
        assert (found.code, found.total) == (0, size)
        spooled = commands.read(effect)
        assert spooled.end == size
        assert spooled.omitted == size - sum(len(piece.data) for piece in spooled.pieces) > 0
        first, last = spooled.pieces[0], spooled.pieces[-1]
        assert (first.offset, len(first.data)) == (0, layout.HEAD_BYTES)
        assert last.offset + len(last.data) == size
        for piece in spooled.pieces:
            assert all(
                piece.data[i] == (piece.offset + i) % 251 for i in range(0, len(piece.data), 997)
            )
        assert size - spooled.pieces[1].offset >= layout.TAIL_BYTES
        await commands.end()

    asyncio.run(run())


@pytest.mark.parametrize("text", ["sleep 300 &", "setsid sleep 300 &", "setsid -f sleep 300"])
def test_left_behind(session: Session, text: str) -> None:
    """A command is done when its leader is; what it left behind lives until the session ends."""

    async def run() -> None:
        commands = Commands(session.folder)
        effect = session.effect("a")
        await sh(commands, effect, text + " echo done" if text.endswith("&") else text)
        found = await commands.wait(effect, 20)
        assert found is not None
        assert found.code == 0
        assert len(processes_of(session)) == 2  # the supervisor and the sleep
        assert [(line.effect, line.running) for line in await commands.listing()] == [
            (effect, False)
        ]
        assert await commands.end() == []
        assert processes_of(session) == {}

    asyncio.run(run())


def test_left_behind_without_marker(session: Session) -> None:
    """A child that cleared its environment and left its group still ends with the session."""
    seconds = f"300.{int(session.prefix, 16)}"

    async def run() -> None:
        commands = Commands(session.folder)
        effect = session.effect("a")
        await sh(commands, effect, f"setsid -f env -i sleep {seconds} >/dev/null 2>&1")
        assert await commands.wait(effect, 20) is not None
        await asyncio.to_thread(until, lambda: sleeping(seconds))
        await commands.end()
        assert not sleeping(seconds)

    asyncio.run(run())


def sleeping(seconds: str) -> bool:
    """Whether a `sleep` of exactly so long is alive."""
    for pid in processes.everything():
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                return True
        except OSError:
            continue
    return False


def test_late_output_costs_nothing_of_the_result(session: Session) -> None:
    """Output of a child left behind is spooled, and displaces nothing that came before the exit."""

    async def run() -> None:
        commands = Commands(session.folder)
        effect = session.effect("a")
        flood = "head -c 5000000 /dev/zero"
        late = f"(cat {gate(session)}; {flood}; echo END) & {flood}; echo result"
        await sh(commands, effect, late)
        found = await commands.wait(effect, 20)
        assert found is not None
        assert found.total == 5_000_007
        before = commands.read(effect, 0, found.total)
        Path(gate(session)).write_bytes(b"")
        await asyncio.to_thread(until, lambda: output(session.path("a")).endswith(b"END\n"))
        assert effects.spool_total(session.path("a")) == 10_000_011
        assert commands.read(effect, 0, found.total) == before
        assert before.pieces[-1].data.endswith(b"result\n")
        await commands.end()

    os.mkfifo(gate(session))
    asyncio.run(run())


def test_output_is_complete_at_the_exit(session: Session) -> None:
    """All that a command has written before it ended is in its result, however late it is read."""
    program = (
        "import fcntl, os, sys; open(sys.argv[1]).read(); "
        "fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20); os.write(1, bytes(1000000))"
    )

    async def run() -> None:
        commands = Commands(session.folder)
        effect = session.effect("a")
        argv = ["python3", "-c", program, gate(session)]
        started = await commands.start(effect, argv, cwd="/", env=ENV)
        assert isinstance(started, Started)
        supervisor = (await commands.ready()).pid
        os.kill(supervisor, signal.SIGSTOP)
        Path(gate(session)).write_bytes(b"")
        await asyncio.to_thread(until, lambda: processes.look(started.pid) is None)
        os.kill(supervisor, signal.SIGCONT)
        found = await commands.wait(effect, 20)
        assert found is not None
        assert found.total == 1_000_000
        await commands.end()

    os.mkfifo(gate(session))
    asyncio.run(run())


def test_yields_then_exits(session: Session) -> None:
    """A wait that times out stops nothing; a later one gets the exit, also from another client."""

    async def run() -> None:
        commands = Commands(session.folder)
        effect = session.effect("a")
        await sh(
            commands, effect, "echo early; read line < $0; exit 4".replace("$0", gate(session))
        )
        assert await commands.wait(effect, 0.1) is None
        assert [line.running for line in await commands.listing()] == [True]
        Path(gate(session)).write_text("go\n")
        found = await commands.wait(effect, 20)
        assert found is not None
        assert found.code == 4
        assert await commands.wait(effect, 0) == found
        await commands.end()

    os.mkfifo(gate(session))
    asyncio.run(run())


def gate(session: Session) -> str:
    """A FIFO that a command waits on."""
    return session.folder + "/gate"


def test_output_as_it_comes(session: Session) -> None:
    """Live output reaches the callback in order and complete, before the wait is over."""

    async def run() -> None:
        commands = Commands(session.folder)
        effect = session.effect("a")
        seen: list[tuple[int, bytes]] = []
        commands.on_output(effect, lambda offset, data: seen.append((offset, data)))
        await sh(commands, effect, "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done")
        assert await commands.wait(effect, 20) is not None
        assert b"".join(data for _, data in seen) == b"1\n2\n3\n4\n5\n"
        assert len(seen) > 1
        await commands.end()

    asyncio.run(run())


def test_stdin_once(session: Session) -> None:
    """A write is delivered once; the same write again does nothing and says so."""

    async def run() -> None:
        commands = Commands(session.folder)
        target, write = session.effect("a"), session.effect("w")
        await sh(commands, target, "read a; echo got $a; read b; echo and $b", tty=True)
        first = await commands.stdin(write, target, b"one\n")
        assert first == Written(delivered=4, of=4, at=first.at if isinstance(first, Written) else 0)
        assert effects.evidence(session.path("w"), effects.boot_id()) == Exited(first)
        assert isinstance(await commands.stdin(write, target, b"one\n"), AlreadyClaimed)
        await commands.stdin(session.effect("x"), target, b"two\n")
        assert await commands.wait(target, 20) is not None
        assert output(session.path("a")) == b"one\r\ngot one\r\ntwo\r\nand two\r\n"
        late = await commands.stdin(session.effect("y"), target, b"three\n")
        assert isinstance(late, Written)
        assert (late.delivered, late.error) == (0, "the command has ended")
        await commands.end()

    asyncio.run(run())


def test_full_terminal(session: Session) -> None:
    """A write that the command does not read ends after its limit and says how much was taken."""

    async def run() -> None:
        commands = Commands(session.folder)
        target = session.effect("a")
        await sh(commands, target, "stty raw -echo; echo ready; sleep 300", tty=True)
        while not output(session.path("a")):
            await asyncio.sleep(0.01)
        found = await commands.stdin(session.effect("w"), target, bytes(1 << 20), limit=0.3)
        assert isinstance(found, Written)
        assert 0 < found.delivered < found.of
        assert found.error
        assert [ended.effect for ended in await commands.end()] == [target]

    asyncio.run(run())


def test_stdin_is_empty_unless_asked_for(session: Session) -> None:
    """A command that reads its stdin gets the end of it at once."""

    async def run() -> None:
        commands = Commands(session.folder)
        await sh(commands, session.effect("a"), "cat; echo end")
        found = await commands.wait(session.effect("a"), 20)
        assert found is not None
        assert output(session.path("a")) == b"end\n"
        await commands.end()

    asyncio.run(run())


def test_exit_that_cannot_be_recorded(session: Session) -> None:
    """An exit that does not get onto the disk is told all the same, as not recorded."""

    async def run() -> None:
        commands = Commands(session.folder)
        effect = session.effect("a")
        await sh(commands, effect, f"cat {gate(session)}; exit 8")
        shutil.rmtree(session.path("a"))
        Path(gate(session)).write_bytes(b"")
        for _ in range(2):
            found = await commands.wait(effect, 20)
            assert found is not None
            assert (found.code, found.recorded) == (8, False)
        await commands.end()

    os.mkfifo(gate(session))
    asyncio.run(run())
    assert "could not be recorded" in log_of(session)


def test_stop_and_limit(session: Session) -> None:
    """A stopped command gets TERM and KILL, a limited one the same at its limit; both are told."""

    async def run() -> None:
        commands = Commands(session.folder)
        soft, hard, limited = map(session.effect, ("soft", "hard", "limited"))
        await sh(
            commands, soft, "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"
        )
        await sh(commands, hard, "trap '' TERM; echo up; (sleep 300; echo no); sleep 300")
        await sh(commands, limited, "sleep 300", limit=0.2)
        for name in ("soft", "hard"):
            await asyncio.to_thread(until, partial(output, session.path(name)))
        assert await commands.stop(soft)
        assert await commands.stop(hard)
        assert not await commands.stop(session.effect("none"))
        exits = {name: await commands.wait(name, 20) for name in (soft, hard, limited)}
        told = {k: (e.code, e.signal, e.ended_by) for k, e in exits.items() if e is not None}
        assert told[soft] == (5, None, "stop")
        assert told[hard] == (None, signal.SIGKILL, "stop")
        assert told[limited] == (None, signal.SIGTERM, "deadline")
        await asyncio.to_thread(until, lambda: len(processes_of(session)) == 1)
        assert await commands.end() == []

    asyncio.run(run())


def test_stop_of_what_was_left_behind(session: Session) -> None:
    """A stop after a command's exit ends the children it left, and changes nothing of its exit."""

    async def run() -> None:
        commands = Commands(session.folder)
        await sh(commands, session.effect("a"), "sleep 300 & setsid -f sleep 300")
        await sh(commands, session.effect("b"), "exec sleep 300")
        found = await commands.wait(session.effect("a"), 20)
        assert await commands.stop(session.effect("a"))
        await asyncio.to_thread(until, lambda: len(processes_of(session)) == 2)
        assert await commands.wait(session.effect("a"), 20) == found
        assert [line.effect for line in await commands.listing()] == [session.effect("b")]
        assert len(await commands.end()) == 1

    asyncio.run(run())


def test_end_tells_what_it_ended(session: Session) -> None:
    """The end of a session ends its commands, records their exits and names them."""

    async def run() -> None:
        commands = Commands(session.folder)
        await sh(commands, session.effect("a"), "echo up; sleep 300")
        await sh(commands, session.effect("b"), "exit 0")
        await commands.wait(session.effect("b"), 20)
        (ended,) = await commands.end()
        assert ended.effect == session.effect("a")
        assert ended.exit is not None
        assert (ended.exit.signal, ended.exit.ended_by) == (signal.SIGTERM, "session-end")
        assert effects.read_exit(session.path("a")) == ended.exit
        assert processes_of(session) == {}

    asyncio.run(run())


@pytest.mark.parametrize(
    "argv, cwd, code, text",
    [
        (["/no/such/shell", "-c", "x"], "/", 127, "No such file or directory: /no/such/shell"),
        (["no-such-program"], "/", 127, "No such file or directory: no-such-program"),
        (["/bin/sh", "-c", "x"], "/no/such/folder", 127, "No such file or directory: /no/such"),
        (["/etc"], "/", 126, "Permission denied: /etc"),
        (["/" + "\x01" * 900], "/", 126, "File name too long: /\x01\x01"),
    ],
)
def test_what_cannot_be_run(
    session: Session, argv: list[str], cwd: str, code: int, text: str
) -> None:
    """A command that can't be executed has a result that says why."""

    async def run() -> None:
        commands = Commands(session.folder)
        await commands.start(session.effect("a"), argv, cwd=cwd, env=ENV)
        found = await commands.wait(session.effect("a"), 20)
        assert found is not None
        assert found.code == code
        assert (found.error or "").startswith(text)
        assert found.recorded
        await commands.end()

    asyncio.run(run())


def test_impossible_environment(session: Session) -> None:
    """A variable that no process can have is a result that says so too."""

    async def run() -> None:
        commands = Commands(session.folder)
        await commands.start(session.effect("a"), ["true"], cwd="/", env={**ENV, "A=B": "c"})
        found = await commands.wait(session.effect("a"), 20)
        assert found is not None
        assert (found.code, found.error) == (126, "Invalid argument: true")
        await commands.end()

    asyncio.run(run())


def test_environment_of_a_command(session: Session) -> None:
    """A command sees the environment it was given and its marker, no foreign descriptor, no ignored
    or blocked signal, and leads its own process group.
    """

    async def run() -> None:
        commands = Commands(session.folder)
        text = "env; ls /proc/self/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status; ps -o pid=,pgid= -p $$"
        env = {**ENV, "ODD": os.fsdecode(b"\xff\xfe=\n")}
        argv = ["/bin/sh", "-c", text]
        with open(os.devnull) as file:
            os.set_inheritable(file.fileno(), True)
            await commands.start(session.effect("a"), argv, cwd="/", env=env)
            found = await commands.wait(session.effect("a"), 20)
        assert found is not None
        assert found.code == 0
        text_out = output(session.path("a"))
        lines = text_out.split(b"\n")
        assert b"BACKSTAY_EFFECT=" + session.effect("a").encode() in lines
        assert b"ODD=\xff\xfe=\n" in text_out
        assert not any(line.startswith(b"HOME=") for line in lines)
        descriptors = [int(line) for line in lines if line.isdigit()]
        assert descriptors == [0, 1, 2, 3]  # 3 is the listing's own
        assert b"SigBlk:\t0000000000000000" in lines
        (ignored,) = (line.split()[1] for line in lines if line.startswith(b"SigIgn:"))
        assert int(ignored, 16) & ~(0b11 << 31) == 0  # glibc ignores its own 32 and 33
        pid, group = lines[-2].split()
        assert pid == group
        await commands.end()

    asyncio.run(run())


def test_private_files_and_no_secrets(session: Session) -> None:
    """Everything is for the owner alone, and no environment value is written anywhere."""

    async def run() -> None:
        commands = Commands(session.folder)
        env = {**ENV, "SECRET": "s3cr3t-value"}
        await commands.start(session.effect("a"), ["sleep", "300"], cwd="/", env=env)
        for folder, _, names in os.walk(session.folder):
            assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
            for name in names:
                path = Path(folder, name)
                assert stat.S_IMODE(path.lstat().st_mode) == 0o600, name
                assert path.is_socket() or b"s3cr3t" not in path.read_bytes()
        supervisor = (await commands.ready()).pid
        assert b"s3cr3t" not in Path(f"/proc/{supervisor}/environ").read_bytes()
        await commands.end()

    asyncio.run(run())


def test_long_path(tmp_path: Path, session: Session) -> None:
    """A session may lie at a path that is longer than a socket's name may be."""
    deep = Path(session.folder, *["x" * 60] * 4)
    deep.mkdir(parents=True)

    async def run() -> None:
        commands = Commands(str(deep))
        await sh(commands, session.effect("a"), "echo here")
        assert await commands.wait(session.effect("a"), 20) is not None
        second = Commands(str(deep))
        assert (await second.ready()) == (await commands.ready())
        await second.close()
        await commands.end()

    asyncio.run(run())


def test_one_supervisor_per_session(session: Session) -> None:
    """Clients that start at the same moment end up with one supervisor; viewers start none."""

    async def run() -> None:
        assert await look(session.folder) == []
        many = [Commands(session.folder) for _ in range(4)]
        for commands in many:
            commands.spawn()
        identities = {await commands.ready() for commands in many}
        assert len(identities) == 1
        assert identities == {many[0].supervisor}
        await sh(many[0], session.effect("a"), "sleep 300")
        (line,) = await look(session.folder)
        assert isinstance(line, Listed)
        assert line.argv == ["/bin/sh", "-c", "sleep 300"]
        for commands in many[1:]:
            await commands.close()
        assert len(await many[0].end()) == 1

    asyncio.run(run())


def test_same_effect_starts_once(session: Session) -> None:
    """An effect that is asked for again, by whatever client, does not run again."""

    async def run() -> None:
        commands, other = Commands(session.folder), Commands(session.folder)
        mark = session.folder + "/ran"
        text = f"echo ran >> {mark}"
        for client in (commands, other, commands):
            await sh(client, session.effect("a"), text)
        assert isinstance(await sh(other, session.effect("a"), text), AlreadyClaimed)
        assert await other.wait(session.effect("a"), 20) is not None
        assert Path(mark).read_text() == "ran\n"
        await other.close()
        await commands.end()

    asyncio.run(run())


def test_starts_again_after_its_end(session: Session) -> None:
    """After an end, and for a client that started nothing, everything still works."""

    async def run() -> None:
        commands = Commands(session.folder)
        assert await commands.end() == []
        for name in ("a", "b"):
            await sh(commands, session.effect(name), "exit 0")
            assert await commands.wait(session.effect(name), 20) is not None
            assert await commands.end() == []
        with pytest.raises(LookupError):
            await commands.wait(session.effect("never"), 1)
        await commands.end()

    asyncio.run(run())
    assert log_of(session) == ""

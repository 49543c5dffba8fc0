"""The socket: garbage, strangers, vanishing clients, and the program as it is started."""

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backstay.tools import link, supervise
from backstay.tools.commands import Commands, Refused, Started, look
from tests.tools.supervise.sessions import Session, log_of, processes_of, sh

PROGRAM = str(Path(supervise.__file__).parent)


class Raw:
    """A client that writes what it likes."""

    def __init__(self, folder: str) -> None:
        sock = link.connect(folder)
        assert sock is not None
        sock.setblocking(True)
        sock.settimeout(20)
        self.sock: socket.socket = sock
        self._file = sock.makefile("rb")
        assert self.read()["event"] == "hello"

    def read(self) -> Any:
        """The next message."""
        return json.loads(self._file.readline())

    def ask(self, line: bytes) -> Any:
        """The answer to a line; events are passed over."""
        self.sock.sendall(line + b"\n")
        while "event" in (message := self.read()):
            pass
        return message

    def close(self) -> None:
        """Go away."""
        self._file.close()
        self.sock.close()


@pytest.mark.parametrize(
    "line, about",
    [
        (b"garbage", "not a JSON object"),
        (b"\xff\xfe\x00", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b"[1,2]", "not a JSON object"),
        (b'{"id":1}', "do is not a string"),
        (b'{"id":1,"do":"dance","effect":"x"}', "unknown request: dance"),
        (b'{"id":1,"do":"state","effect":"../x"}', "effect is no effect id"),
        (b'{"id":1,"do":"start","effect":"x","cwd":"/"}', "argv, env and cwd"),
        (b'{"id":1,"do":"start","effect":"x","cwd":"/","argv":[],"env":{}}', "argv, env and cwd"),
        (b'{"id":1,"do":"start","effect":"x","cwd":"/","argv":["\\u0000"],"env":{}}', "argv, env"),
        (b'{"id":1,"do":"start","effect":"x","cwd":"/","argv":["\\u20ac"],"env":{}}', "argv, env"),
        (b'{"id":1,"do":"start","effect":"x","cwd":"/","argv":["a"],"env":{"a":1}}', "argv, env"),
        (
            b'{"id":1,"do":"start","effect":"x","cwd":"/","argv":["a"],"env":{},"limit":-1}',
            "limit is not a number",
        ),
        (b'{"id":1,"do":"stdin","effect":"x","target":"y","text":"?"}', "text is not base64"),
    ],
)
def test_garbage_is_answered(session: Session, line: bytes, about: str) -> None:
    """A line that makes no sense is answered with what is wrong, and harms nobody."""

    async def run() -> None:
        commands = Commands(session.folder)
        await commands.ready()
        raw = Raw(session.folder)
        assert raw.ask(b'{"id":0,"do":"attach"}')["ok"]
        answer = raw.ask(line)
        assert not answer["ok"]
        assert about in answer["error"]
        raw.close()
        await sh(commands, session.effect("a"), "exit 0")
        assert await commands.wait(session.effect("a"), 20) is not None
        await commands.end()

    asyncio.run(run())


def test_who_only_looks_may_do_nothing(session: Session) -> None:
    """A client that has not attached may list, and nothing else."""

    async def run() -> None:
        commands = Commands(session.folder)
        await commands.ready()
        raw = Raw(session.folder)
        assert raw.ask(b'{"id":1,"do":"list"}') == {"id": 1, "ok": True, "commands": []}
        for act in (b"end", b"stop", b"start", b"state"):
            answer = raw.ask(b'{"id":2,"do":"%s","effect":"x"}' % act)
            assert (answer["ok"], answer["error"]) == (False, "attach first")
        raw.close()
        await commands.end()

    asyncio.run(run())


def test_clients_that_vanish(session: Session) -> None:
    """A client that goes in the middle of a line, or before its answer, harms nobody."""

    async def run() -> None:
        commands = Commands(session.folder)
        await commands.ready()
        for line in (b'{"id":1,"do":"sta', b'{"id":1,"do":"list"}\n' * 1000, b"\n\n"):
            raw = Raw(session.folder)
            raw.sock.sendall(line)
            raw.close()
        assert await look(session.folder) == []
        await commands.end()

    asyncio.run(run())


def test_a_viewer_does_not_keep_it_alive(session: Session) -> None:
    """When its last client that attached is gone and nothing runs, the supervisor leaves."""

    async def run() -> None:
        commands = Commands(session.folder)
        identity = await commands.ready()
        raw = Raw(session.folder)
        await commands.close()
        assert raw.sock.recv(1) == b""
        raw.close()
        await link.reap_one(identity.pid, 20)

    asyncio.run(run())
    assert processes_of(session) == {}


def test_second_program_does_not_serve(session: Session) -> None:
    """A second supervisor on a session leaves at once with its own exit code."""

    async def run() -> None:
        commands = Commands(session.folder)
        first = await commands.ready()
        argv = [sys.executable, "-I", "-S", PROGRAM, session.folder, "60"]
        assert subprocess.run(argv, check=False, timeout=20).returncode == os.EX_TEMPFAIL
        assert await commands.ready() == first
        assert await commands.listing() == []
        await commands.end()

    asyncio.run(run())


def test_it_imports_nothing_of_ours_and_stays_small(session: Session) -> None:
    """The program runs on the standard library alone, in a session of its own, in under 15 MB."""

    async def run() -> None:
        commands = Commands(session.folder)
        await sh(commands, session.effect("a"), "head -c 20000000 /dev/zero")
        assert await commands.wait(session.effect("a"), 20) is not None
        pid = (await commands.ready()).pid
        assert os.getsid(pid) == pid
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        assert int(status["VmHWM"].split()[0]) < 15_000
        opened = [os.path.realpath(f"/proc/{pid}/fd/{fd}") for fd in range(3)]
        assert opened == [os.devnull, os.devnull, session.folder + "/supervisor.log"]
        await commands.end()

    asyncio.run(run())
    program = (
        "import sys; sys.path.append(sys.argv[1]); import supervise.server; print(*sys.modules)"
    )
    argv = [sys.executable, "-I", "-S", "-c", program, os.path.dirname(PROGRAM)]
    loaded = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    assert not [name for name in loaded if name.startswith(("backstay", "msgspec", "asyncio"))]


def test_the_log_has_a_bound(session: Session) -> None:
    """An old log that has grown large is started anew."""
    Path(session.folder, "supervisor.log").write_bytes(bytes(1 << 20))

    async def run() -> None:
        commands = Commands(session.folder)
        await commands.ready()
        await commands.end()

    asyncio.run(run())
    assert log_of(session) == ""


def test_out_of_descriptors(session: Session) -> None:
    """Near its limit of descriptors the supervisor refuses commands, and keeps serving the others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def run() -> None:
        commands = Commands(session.folder)
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard))
        try:
            await commands.ready()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        effects = [session.effect(str(number)) for number in range(20)]
        answers = [await sh(commands, effect, "sleep 300") for effect in effects]
        started = [e for e, answer in zip(effects, answers, strict=True) if answer_is_start(answer)]
        refused = [answer for answer in answers if isinstance(answer, Refused)]
        assert len(started) + len(refused) == 20
        assert {answer.reason for answer in refused} == {"Too many open files"}
        assert await commands.stop(started[0])
        found = await commands.wait(started[0], 20)
        assert found is not None
        assert found.recorded
        assert answer_is_start(await sh(commands, session.effect("more"), "exit 0"))
        assert len(await commands.end()) in (len(started) - 1, len(started))

    asyncio.run(run())


def answer_is_start(answer: object) -> bool:
    """Whether a command was started."""
    return isinstance(answer, Started)


def test_no_room_for_a_socket(session: Session) -> None:
    """Where no socket can be made the client that started the supervisor is served all the same."""

    async def run() -> None:
        Path(session.folder, "supervisor.sock", "in-the-way").mkdir(parents=True)
        commands = Commands(session.folder)
        await sh(commands, session.effect("a"), "exit 6")
        found = await commands.wait(session.effect("a"), 20)
        assert found is not None
        assert found.code == 6
        await commands.end()

    asyncio.run(run())
    assert "nobody will be able to attach" in log_of(session)


def test_a_program_that_cannot_start(session: Session) -> None:
    """When no supervisor can be brought up the caller is told, and where to look."""

    async def run() -> None:
        Path(session.folder, "supervisor.lock").mkdir()
        commands = Commands(session.folder)
        with pytest.raises(link.SupervisorGone, match="does not start"):
            await commands.ready()
        await commands.close()

    asyncio.run(run())
    assert "supervisor.lock" in log_of(session)

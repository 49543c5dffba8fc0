"""A session of a test: its folder, its effects' names, and which processes are its."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from backstay.tools import effects
from backstay.tools.commands import AlreadyClaimed, Commands, Refused, Started
from backstay.tools.supervise import layout, processes

ENV = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}


class Session(NamedTuple):
    """A folder, and the prefix that makes this test's effects its own."""

    folder: str
    prefix: str

    def effect(self, name: str) -> str:
        """The id of one of its effects."""
        return f"{self.prefix}-{name}"

    def path(self, name: str) -> str:
        """The folder of one of its effects."""
        return effects.effect_folder(self.folder, self.effect(name))


async def sh(
    commands: Commands, effect: str, text: str, *, limit: float | None = None, tty: bool = False
) -> Started | AlreadyClaimed | Refused:
    """Start a shell command in `/`."""
    return await commands.start(
        effect, ["/bin/sh", "-c", text], cwd="/", env=ENV, limit=limit, tty=tty
    )


def output(folder: str) -> bytes:
    """All that the spool kept."""
    return b"".join(piece.data for piece in effects.read_spool(folder).pieces)


def processes_of(session: Session) -> dict[int, str]:
    """Living processes that are marked as the session's, or are its supervisor."""
    found = {}
    for pid in processes.everything():
        mark = processes.mark_of(pid)
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        supervises = os.fsencode(session.folder) in words and b"-I" in words
        if supervises or (mark or "").startswith(session.prefix):
            found[pid] = b" ".join(words).decode(errors="replace")
    return found


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("it did not come about")
        time.sleep(0.01)


AGENT = """
import asyncio, os, sys, time
from backstay.tools.commands import Commands

async def main():
    folder, effect, text, grace, *forks = sys.argv[1:]
    commands = Commands(folder, grace=float(grace))
    await commands.start(effect, ["/bin/sh", "-c", text], cwd="/", env={"PATH": "/usr/bin:/bin"})
    print((await commands.ready()).pid, flush=True)
    if forks:
        child = os.fork()
        if child == 0:
            os.close(1)
            time.sleep(300)
            os._exit(0)
        print(child, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def agent_killed_while_running(
    session: Session, effect: str, text: str, grace: float, *forks: str
) -> int:
    """Have another process start a command, and kill -9 it.

    The pid of the supervisor, or with `forks` of the child that the agent has forked.
    """
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, session.folder, effect, text, str(grace), *forks],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        pid = int(agent.stdout.readline()) if forks else pid
        agent.kill()
    return pid


def log_of(session: Session) -> str:
    """The supervisor's log."""
    return Path(session.folder, layout.LOG).read_text()

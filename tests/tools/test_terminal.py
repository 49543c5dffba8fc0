"""`exec_command` with a terminal and `write_stdin`: programs that are talked to, as a model does it."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from backstay.core.events import Result
from backstay.tools import link, shell
from backstay.tools.commands import Commands
from backstay.tools.exec_command import ExecCommand, Shell, WriteStdin
from backstay.tools.tool import Invocation

PYTHON = f"PYTHON_BASIC_REPL=1 {sys.executable} -q"


class Talk:
    """A model's side: one command, and what is typed into its terminal."""

    def __init__(self, folder: Path) -> None:
        own = {"HOME": str(folder), "PS1": "$ ", "INPUTRC": os.devnull}
        own |= {"LINES": "24", "COLUMNS": "80"}  # as some shells export them
        inherited = {**os.environ, **own}
        self.commands = Commands(str(folder))
        self._shared = Shell(
            self.commands, "s", str(folder), shell.environment(inherited, frozenset())
        )
        self._number = 4
        self._unseen = ""
        self.result = Result(content="")

    async def run(self, cmd: str, **more: object) -> None:
        """Start the command."""
        wish = {"cmd": cmd, "yield_time_ms": 250, "tty": True} | more
        self._take(await ExecCommand(self._shared).run(self._call("exec_command", wish)))

    async def type(self, chars: str) -> None:
        """Type, or wait a moment."""
        wish = {"session_id": 5, "chars": chars, "yield_time_ms": 250}
        self._take(await WriteStdin(self._shared).run(self._call("write_stdin", wish)))

    async def see(self, text: str) -> str:
        """Wait for this text; all that came since it was last asked, up to now."""
        end = time.monotonic() + 20
        while text not in self._unseen:
            assert self.running, self._unseen
            assert time.monotonic() < end, self._unseen
            await self.type("")
        seen, self._unseen = self._unseen, ""
        return seen

    async def end(self) -> str:
        """Wait for the end of the command; all that came since it was last asked."""
        end = time.monotonic() + 20
        while self.running:
            assert time.monotonic() < end, self._unseen
            await self.type("")
        seen, self._unseen = self._unseen, ""
        return seen

    @property
    def running(self) -> bool:
        """Whether the last answer said that it runs."""
        return self.result.status == "yielded"

    @property
    def said(self) -> str:
        """The last answer."""
        return str(self.result.content)

    def _call(self, name: str, arguments: dict[str, object]) -> Invocation:
        self._number += 1
        item = {"type": "function_call", "name": name, "arguments": json.dumps(arguments)}
        return Invocation(self._number, item, f"s-{self._number}")

    def _take(self, result: Result) -> None:
        self.result = result
        self._unseen += self.said.partition("Output:\n")[2]


def talk(folder: Path, work: Callable[[Talk], Awaitable[None]]) -> None:
    """Have a talk; whatever runs is ended behind it."""

    async def main() -> None:
        one = Talk(folder)
        try:
            await work(one)
        finally:
            await one.commands.end()
            await one.commands.close()

    asyncio.run(main())


def test_python_is_talked_to(tmp_path: Path) -> None:
    """A REPL prompts, answers, survives Ctrl-C and ends; all of it reads as text."""

    async def work(one: Talk) -> None:
        await one.run(PYTHON)
        assert (await one.see(">>> ")).endswith(">>> ")
        await one.type("6 * 7\n")
        assert (await one.see("42\n>>> ")).endswith("6 * 7\n42\n>>> ")
        await one.type("while True: pass\n\n")
        await one.type("\x03")
        await one.see("KeyboardInterrupt\n>>> ")
        await one.type("exit(3)\n")
        await one.end()
        assert "Process exited with code 3" in one.said

    talk(tmp_path, work)


def test_ctrl_d_is_the_end(tmp_path: Path) -> None:
    """What reads up to the end of its input gets that."""

    async def work(one: Talk) -> None:
        await one.run("cat")
        await one.type("hi\n")
        await one.type("\x04")
        assert await one.end() == "hi\nhi\n"
        assert "Process exited with code 0" in one.said

    talk(tmp_path, work)


def test_shell_with_job_control(tmp_path: Path) -> None:
    """An interactive shell runs jobs, suspends one with Ctrl-Z, and goes on."""

    async def work(one: Talk) -> None:
        await one.run("PS1='> ' sh -i")
        assert "access tty" not in await one.see("> ")
        await one.type("sh -c 'echo up; exec cat'\n")
        await one.see("up\n")
        await one.type("\x1a")
        await one.see("> ")
        await one.type("jobs; echo $((40 + 2))\n")
        assert "Stopped" in await one.see("42\n")

    talk(tmp_path, work)


def test_password_is_asked_for(tmp_path: Path) -> None:
    """What is typed where a program does not echo is not in what it printed."""

    async def work(one: Talk) -> None:
        await one.run(f"{sys.executable} -c 'import getpass; print(len(getpass.getpass()))'")
        assert await one.see("Password: ") == "Password: "
        await one.type("open sesame\n")
        assert await one.end() == "\n11\n"

    talk(tmp_path, work)


CURSES = """
import curses
def main(screen):
    rows, columns = screen.getmaxyx()
    screen.addstr(2, 10, f"a screen of {rows} x {columns}")
    screen.addstr(20, 0, "key? ")
    key = "KEY_RESIZE"
    while key in ("KEY_RESIZE", ""):
        try:
            key = screen.getkey()
        except curses.error:  # a signal came in between
            key = ""
    open("key", "w").write(key)
curses.wrapper(main)
"""


def test_full_screen_program(tmp_path: Path) -> None:
    """A program that paints the screen gets keys, arrows too, and what it paints can be read."""
    (tmp_path / "paint.py").write_text(CURSES)

    async def work(one: Talk) -> None:
        await one.run(f"{sys.executable} paint.py")
        said = await one.see("key? ")
        assert "          a screen of 40 x 120\n" in said
        assert "\x1b" not in said
        await one.type("\x1bOA")
        await one.end()
        assert (tmp_path / "key").read_text() == "KEY_UP"

    talk(tmp_path, work)


@pytest.mark.skipif(not shutil.which("vim"), reason="there is no vim here")
def test_vim_edits_a_file(tmp_path: Path) -> None:
    """vim opens, is typed into, writes and quits; its screen reads as text."""
    (tmp_path / "text").write_text("one\ntwo\n")

    async def work(one: Talk) -> None:
        await one.run("vim -u NONE -i NONE text")
        assert "one\ntwo\n~\n" in await one.see("~\n")
        await one.type("Gothree\x1b")
        await one.type(":wq\r")
        await one.end()
        assert "Process exited with code 0" in one.said
        assert (tmp_path / "text").read_text() == "one\ntwo\nthree\n"

    talk(tmp_path, work)


def test_ctrl_c_reaches_the_foreground_once(tmp_path: Path) -> None:
    """One Ctrl-C is one interrupt, for the command and for the shell that runs it."""

    async def work(one: Talk) -> None:
        await one.run("trap 'echo caught' INT; echo up; for i in 1 2; do sleep 300; done")
        await one.see("up\n")
        await one.type("\x03")
        assert (await one.see("caught\n")).count("caught") == 1
        assert one.running
        await one.type("\x03")
        assert "caught\n" in await one.end()

    talk(tmp_path, work)


def test_supervisor_dies_under_a_terminal(tmp_path: Path) -> None:
    """What it had printed is told as text, the outcome is unknown, and nothing runs any more."""
    nap = f"300.{os.getpid()}"

    async def work(one: Talk) -> None:
        await one.run(f"trap '' HUP; printf '\\033[1mup\\033[0m\\n'; sleep {nap}; sleep {nap}")
        await one.see("up\n")
        supervisor = (await one.commands.ready()).pid
        os.kill(supervisor, signal.SIGKILL)
        await one.type("")
        assert one.result.status == "unknown"
        assert "The outcome of this call is unknown" in one.said
        assert one.said.endswith("\nup\n")
        await link.reap_one(supervisor, 20)

    talk(tmp_path, work)
    assert (
        f"sleep {nap}"
        not in subprocess.run(
            ["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True
        ).stdout
    )


def test_write_without_a_terminal_says_so(tmp_path: Path) -> None:
    """Nothing is written, the model is told how to be able to, and it can still wait."""

    async def work(one: Talk) -> None:
        await one.run("read x; echo got=$x; sleep 1; echo later", tty=False)
        assert one.running
        await one.type("hello\n")
        assert one.result.status == "failed"
        assert "Nothing was written" in one.said
        assert "tty=true" in one.said
        await one.type("")
        assert "got=\nlater\n" in await one.end()

    talk(tmp_path, work)


def test_lack_of_a_terminal_is_explained(tmp_path: Path) -> None:
    """A program that ends because it has no terminal gets a line that says how to give it one."""
    hint = "It seems to need a terminal: tty=true gives it one."
    fails = "echo 'the input device is not a TTY' >&2; exit 1"

    async def work(one: Talk) -> None:
        await one.run(fails, tty=False, yield_time_ms=20_000)
        assert hint in one.said
        await one.run("echo 'Output is not to a terminal'; sleep 300", tty=False)
        assert one.running
        assert hint in one.said
        await one.run(fails.replace("exit 1", "exit 0"), tty=False, yield_time_ms=20_000)
        assert hint not in one.said
        await one.run(fails, yield_time_ms=20_000)
        assert hint not in one.said

    talk(tmp_path, work)


def test_polls_do_not_cut_sequences(tmp_path: Path) -> None:
    """A control sequence whose bytes come one by one is never shown, in no part."""
    signs = [f"\\{byte:03o}" for byte in b"\x1b[1mr\x1b]0\x07."]
    cmd = f"stty -echo; for sign in {' '.join(map(repr, signs))}; do read go; printf $sign; done"

    async def work(one: Talk) -> None:
        await one.run(cmd.replace("\\\\", "\\"))
        for _ in signs:
            await one.type("\n")
        assert await one.end() == "r."

    talk(tmp_path, work)

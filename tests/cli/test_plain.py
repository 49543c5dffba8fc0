"""Where nobody wants escape codes there are none: real pseudo-terminals, every command."""

import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Mapping

import pytest

from backstay.chaos import call, cut, message, response
from tests.cli.command import Command
from tests.cli.test_turn import provider
from tests.journal.homes import head, put, turn

pytestmark = pytest.mark.processes

EXEC = ("exec", "-m", "m", "fix it")
COLOURED = {"TERM": "xterm-256color"}
PLAIN = [
    pytest.param((), COLOURED | {"NO_COLOR": "1"}, id="NO_COLOR"),
    pytest.param((), {"TERM": "dumb"}, id="TERM=dumb"),
    pytest.param(("--color", "never"), COLOURED, id="--color never"),
]


def on_terminal(
    command: Command, *words: str, env: Mapping[str, str], width: int = 40
) -> tuple[int, str]:
    """The exit code, and what a terminal of this size gets from stdout and stderr together."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 20, width, 0, 0))
    process = command.start(*words, env=env, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    said = b""
    until = time.monotonic() + 50
    while time.monotonic() < until and select.select([master], [], [], 50)[0]:
        try:
            said += os.read(master, 65536)
        except OSError:  # the other side is closed
            break
    os.close(master)
    return process.wait(50), said.decode()


def turn_on_terminal(command: Command, *words: str, env: Mapping[str, str]) -> str:
    """A turn with a command, a retry and an answer, as a terminal shows it."""
    shouting = call("exec_command", {"cmd": "printf '\\033[31mred\\033[0m text\\n'; sleep 0.5"})
    script = [
        response(message("Looking."), shouting, fault=cut(after="call")),
        response(message("All is well.")),
    ]
    with provider(command, *script):
        code, said = on_terminal(command, *EXEC, *words, env=env)
    assert code == 0, said
    assert "All is well." in said
    assert "red text" in said
    return said


@pytest.mark.parametrize("words, env", PLAIN)
def test_a_turn_on_a_plain_terminal(
    command: Command, words: tuple[str, ...], env: dict[str, str]
) -> None:
    """No escape code; where the terminal can do it, the line that counts is drawn all the same."""
    said = turn_on_terminal(command, *words, env=env)
    assert "\x1b" not in said
    assert ("\rrunning for" in said) == (env["TERM"] != "dumb")


def test_a_turn_on_a_capable_terminal(command: Command) -> None:
    """Colours, and a line that is drawn over: the same turn that is plain elsewhere."""
    said = turn_on_terminal(command, env=COLOURED)
    assert "\x1b[32mdone in" in said
    assert "\r\x1b[K\x1b[2mrunning for" in said


@pytest.mark.parametrize("env", [PLAIN[0].values[1], PLAIN[1].values[1]], ids=["NO_COLOR", "dumb"])
def test_every_other_command_on_a_plain_terminal(command: Command, env: dict[str, str]) -> None:
    """No escape code, and no line that is wider than the terminal but for a single word."""
    cut_one = put(command.home, [head(str(command.cwd)), *turn(2, "fix the parser " * 9)[:3]], 1)
    put(command.home, [head(str(command.cwd)), *turn(2, "write docs")], 2)
    for words in (
        [],
        ["--help"],
        ["sessions"],
        ["sessions", "--all"],
        ["sessions", "search", "parser"],
        ["sessions", "du"],
        ["ps"],
        ["exec", "--help"],
        ["chaos", "test", "--help"],
    ):
        code, said = on_terminal(command, *words, env=env)
        assert code == 0, said
        assert "\x1b" not in said, words
        lines = [line for line in said.splitlines() if len(line) > 40]
        assert [line for line in lines if " " in line.strip() and "/" not in line] == [], words
    code, said = on_terminal(command, "sessions", "show", cut_one.name, env=env)
    assert (code, "\x1b" in said) == (0, False)


def test_the_same_commands_have_colours_elsewhere(command: Command) -> None:
    """So that the tests above can fail."""
    put(command.home, [head(str(command.cwd)), *turn(2, "fix the parser")[:3]], 1)
    for words in ([], ["sessions"], ["sessions", "search", "parser"]):
        assert "\x1b[" in on_terminal(command, *words, env=COLOURED)[1], words

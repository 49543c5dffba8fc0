"""What the commands `serve` and `proxy` share: options, the log file, running, the verdict at the end."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, BinaryIO, get_args

import msgspec

from backstay.chaos.entry import Request
from backstay.chaos.listening import LOOPBACK
from backstay.chaos.script import Chaos, Dialect, Kind, ScriptError, readable
from backstay.chaos.sessions import judge_sessions

CHANCE = ("--probability", "--seed", "--kinds", "--seconds")
CHANCE_HELP = """\
  --probability P    break each answer with this probability, from 0 to 1
  --seed SEED        what decides which answers are broken, and how; without one a seed is made up
                     and printed on stderr
  --kinds KIND,...   what may befall an answer; by default close, reset, half_event, clean_end,
                     repeat, unknown, failed, status; the others are stall, reorder, garbage,
                     incomplete, error, truncated_call, keepalive_trap, delay, trickle
  --seconds S        how long a drawn stall lasts, and at most a delay (default 1)
"""
COMMON_HELP = """\
  --port N           listen on this port of 127.0.0.1 (default: a free one)
  --log FILE         append each request as a line of JSON; keys are left out
  --judge            at the end print on stderr what was wrong with the requests of each session,
                     and exit with 1 if anything was
"""


def options_of(
    argv: list[str], flags: Iterable[str], values: Iterable[str]
) -> tuple[list[str], dict[str, str]]:
    """The words and the options of a command line, an option's name without its dashes.

    Raises ScriptError.
    """
    words: list[str] = []
    options: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in flags:
            options[word[2:]] = ""
        elif name in values:
            if not equals and not rest:
                raise ScriptError(f"{name} needs a value")
            options[name[2:]] = value if equals else rest.pop(0)
        elif word.startswith("-"):
            raise ScriptError(f"unknown option {word}; see --help")
        else:
            words.append(word)
    return words, options


def port_of(options: dict[str, str]) -> int:
    """The port that was asked for, 0 for any. Raises ScriptError."""
    port = options.get("port", "0")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ScriptError(f"--port {port}: not a port number")
    return int(port)


def chance_of(options: dict[str, str]) -> Chaos | None:
    """The faults by probability that the options ask for. Raises ScriptError."""
    named = [name for name in CHANCE if name[2:] in options]
    if not named:
        return None
    if "probability" not in options:
        raise ScriptError(f"{named[0]} needs --probability as well")
    wanted: dict[str, Any] = {"probability": _number("probability", options["probability"])}
    wanted["seed"] = options.get("seed") or os.urandom(4).hex()
    if "kinds" in options:
        wanted["kinds"] = [kind.strip() for kind in options["kinds"].split(",")]
    if "seconds" in options:
        wanted["seconds"] = _number("seconds", options["seconds"])
    try:
        return msgspec.convert(wanted, Chaos)
    except msgspec.ValidationError as error:
        raise ScriptError(_about(readable(str(error)))) from None


def made_up_seed(chaos: Chaos | None, options: dict[str, str]) -> str | int | None:
    """The seed that `chance_of` made up, if it did."""
    return chaos.seed if chaos and "probability" in options and "seed" not in options else None


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ScriptError(f"--{name} {text}: not a number") from None


def _about(problem: str) -> str:
    """A problem with a chaos object in the words of the command line."""
    name, colon, text = problem.partition(": ")
    if name.startswith("kinds"):
        return f"--kinds: {text}; the kinds are {', '.join(get_args(Kind))}"
    return f"--{name}: {text}" if colon else problem


class Desk:
    """A command that serves until it is told to end: its log file, its verdict, its complaints."""

    def __init__(self, command: str, options: dict[str, str], dialect: Dialect = "openai") -> None:
        self.command = command
        self.dialect = dialect
        self.judging = "judge" in options
        self.requests: list[Request] = []
        self.log = _open_log(options.get("log"))

    def complain(self, text: str) -> None:
        """One line on stderr."""
        print(f"backstay chaos {self.command}: {text}", file=sys.stderr, flush=True)

    def note(self, request: Request) -> None:
        """A request came: log it, and keep it for the judge."""
        if self.judging:
            self.requests.append(request)
        self.write(request.entry())

    def write(self, entry: dict[str, Any]) -> None:
        """Append a line to the log."""
        if self.log:
            self.log.write(msgspec.json.encode(entry) + b"\n")
            self.log.flush()

    def run(
        self,
        listener: socket.socket,
        serving: Callable[[socket.socket], Coroutine[Any, Any, None]],
        seed: str | int | None = None,
    ) -> int:
        """Print the URL, serve until SIGTERM or SIGINT, judge; returns the exit code.

        `seed`: one that was made up, for the user to know.
        """
        if seed is not None:
            self.complain(f"faults by chance: --seed {seed} repeats them")
        try:
            asyncio.run(_serve(serving(listener), listener))
        finally:
            listener.close()
            if self.log:
                self.log.close()
        if not self.judging:
            return 0
        verdicts = judge_sessions(self.requests, dialect=self.dialect)
        print(verdicts.table(), file=sys.stderr)
        return 0 if verdicts.ok else 1


async def _serve(serving: Coroutine[Any, Any, None], listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    task = loop.create_task(serving)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    print(f"http://{LOOPBACK}:{listener.getsockname()[1]}/v1", flush=True)
    try:
        await task
    except asyncio.CancelledError:
        pass


def _open_log(path: str | None) -> BinaryIO | None:
    if path is None:
        return None
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    except OSError as error:
        raise ScriptError(f"--log {path}: {error.strerror}") from None

"""The fault server as a process: its arguments, its first line on stdout, its log file."""

import asyncio
import os
import signal
import sys
from typing import Any, BinaryIO

import msgspec

from backstay.chaos.script import Dialect, Script, ScriptError, Style, load
from backstay.chaos.server import LOOPBACK, Playhouse, Request, listen, serve

USAGE = """\
usage: backstay chaos serve SCRIPT [--port N] [--log FILE] [--strict] [--repeat]
                            [--style STYLE] [--dialect DIALECT]

Serve the Responses API on loopback as SCRIPT says (a JSON file, or a recorded .sse file).
The first line on stdout is the base URL. --log appends each request as a line of JSON.
"""
_FLAGS = ("--strict", "--repeat")
_VALUES = ("--port", "--log", "--style", "--dialect")


def main(argv: list[str]) -> int:
    """Run the server until SIGTERM or SIGINT; returns the exit code (2: wrong arguments or script)."""
    if "-h" in argv or "--help" in argv:
        print(USAGE, end="")
        return 0
    try:
        path, options = _arguments(argv)
        script = load(path)
        _override(script, options)
        listener = listen(int(options.get("port", 0)))
        log = _open_log(options.get("log"))
    except ScriptError as error:
        print(f"backstay chaos serve: {error}", file=sys.stderr)
        return 2
    try:
        house = Playhouse(script, lambda request: _write(log, request))
        house.on_problem = lambda text: print(f"backstay chaos serve: {text}", file=sys.stderr)
        asyncio.run(_serve(house, listener))
    except ScriptError as error:
        print(f"backstay chaos serve: {error}", file=sys.stderr)
        return 2
    finally:
        listener.close()
        if log:
            log.close()
    return 0


async def _serve(house: Playhouse, listener: Any) -> None:
    loop = asyncio.get_running_loop()
    serving = loop.create_task(serve(house, listener))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    print(f"http://{LOOPBACK}:{listener.getsockname()[1]}/v1", flush=True)
    try:
        await serving
    except asyncio.CancelledError:
        pass


def _arguments(argv: list[str]) -> tuple[str, dict[str, Any]]:
    """The script's path and the options; raises ScriptError."""
    paths: list[str] = []
    options: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in _FLAGS:
            options[word[2:]] = True
        elif name in _VALUES:
            if not equals and not rest:
                raise ScriptError(f"{name} needs a value")
            options[name[2:]] = value if equals else rest.pop(0)
        elif word.startswith("-"):
            raise ScriptError(f"unknown option {word}; see --help")
        else:
            paths.append(word)
    if len(paths) != 1:
        raise ScriptError("give one script (a JSON file or a recorded .sse file); see --help")
    port = options.get("port", "0")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ScriptError(f"--port {port}: not a port number")
    return paths[0], options


def _override(script: Script, options: dict[str, Any]) -> None:
    """Let the command line's options replace the script's; raises ScriptError."""
    script.strict = script.strict or "strict" in options
    script.repeat = script.repeat or "repeat" in options
    try:
        script.style = msgspec.convert(options.get("style", script.style), Style)
        script.dialect = msgspec.convert(options.get("dialect", script.dialect), Dialect)
    except msgspec.ValidationError as error:
        raise ScriptError(f"--style or --dialect: {error}") from None


def _open_log(path: str | None) -> BinaryIO | None:
    if path is None:
        return None
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    except OSError as error:
        raise ScriptError(f"--log {path}: {error.strerror}") from None


def _write(log: BinaryIO | None, request: Request) -> None:
    if log:
        log.write(msgspec.json.encode(request.entry()) + b"\n")
        log.flush()

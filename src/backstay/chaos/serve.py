"""The command `backstay chaos serve`: a script's server as a process."""

import sys

import msgspec

from backstay.chaos.command import (
    CHANCE,
    CHANCE_HELP,
    COMMON_HELP,
    Desk,
    chance_of,
    made_up_seed,
    options_of,
    port_of,
)
from backstay.chaos.listening import listen, serve
from backstay.chaos.script import Dialect, Script, ScriptError, Style, load
from backstay.chaos.server import Playhouse

USAGE = f"""\
usage: backstay chaos serve SCRIPT [OPTIONS]

Serve the Responses API on loopback as SCRIPT says: a JSON file, or a recorded .sse file, which is
then the answer to every request. The first line on stdout is the base URL; SIGTERM or Ctrl-C ends
the server.

{COMMON_HELP}\
  --strict           refuse a bad input (a call without its output, ...) as the real API does
  --repeat           play the last response again and again
  --style STYLE      whose streams to imitate: openai, chatgpt, copilot, llamacpp, openrouter,
                     no-trailing-blank
  --dialect DIALECT  whose rules to judge by: openai, deepseek

Faults stand in the script. By chance, for responses without any:
{CHANCE_HELP}
Exit codes: 0 ended, 1 the judge found something, 2 wrong options or script.
"""
_FLAGS = ("--strict", "--repeat", "--judge")
_VALUES = ("--port", "--log", "--style", "--dialect", *CHANCE)


def main(argv: list[str]) -> int:
    """Run the server until SIGTERM or SIGINT; returns the exit code."""
    if "-h" in argv or "--help" in argv:
        print(USAGE, end="")
        return 0
    try:
        words, options = options_of(argv, _FLAGS, _VALUES)
        if len(words) != 1:
            raise ScriptError("give one script (a JSON file or a recorded .sse file); see --help")
        port = port_of(options)
        script = load(words[0])
        _override(script, options)
        listener = listen(port)
    except ScriptError as error:
        return _refuse(error)
    try:
        desk = Desk("serve", options, script.dialect)
        house = Playhouse(script, desk.note)
    except ScriptError as error:
        listener.close()
        return _refuse(error)
    house.on_problem = desk.complain
    return desk.run(listener, lambda sock: serve(house, sock), made_up_seed(script.chaos, options))


def _refuse(error: ScriptError) -> int:
    print(f"backstay chaos serve: {error}", file=sys.stderr)
    return 2


def _override(script: Script, options: dict[str, str]) -> None:
    """Let the command line's options replace the script's; raises ScriptError."""
    script.strict = script.strict or "strict" in options
    script.repeat = script.repeat or "repeat" in options
    script.chaos = chance_of(options) or script.chaos
    try:
        script.style = msgspec.convert(options.get("style", script.style), Style)
        script.dialect = msgspec.convert(options.get("dialect", script.dialect), Dialect)
    except msgspec.ValidationError as error:
        raise ScriptError(f"--style or --dialect: {error}") from None

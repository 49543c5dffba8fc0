"""The command `backstay chaos proxy`: the fault proxy as a process."""

import sys

from backstay.chaos.breaks import Breaks, load
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
from backstay.chaos.entry import Request
from backstay.chaos.listening import listen, serve
from backstay.chaos.proxy import Relay
from backstay.chaos.script import ScriptError
from backstay.chaos.upstream import provider

USAGE = f"""\
usage: backstay chaos proxy --to URL [OPTIONS]

Pass every request on to the provider whose base URL is URL (https://api.openai.com/v1), and break
the answers to POST .../responses as told. What is not broken passes byte for byte. The first line
on stdout is the base URL to give to the client; SIGTERM or Ctrl-C ends the proxy.

{COMMON_HELP}\
  --plan FILE        what befalls which answer, by the number of the request (see docs/chaos.md)
  --ca FILE          trust the authorities in this file (PEM) instead of the system's

By chance, for requests that the plan does not name:
{CHANCE_HELP}
Exit codes: 0 ended, 1 the judge found something, 2 wrong options or plan.
"""
_FLAGS = ("--judge",)
_VALUES = ("--to", "--port", "--log", "--plan", "--ca", *CHANCE)


def main(argv: list[str]) -> int:
    """Run the proxy until SIGTERM or SIGINT; returns the exit code."""
    if "-h" in argv or "--help" in argv:
        print(USAGE, end="")
        return 0
    try:
        words, options = options_of(argv, _FLAGS, _VALUES)
        if words:
            raise ScriptError(f"{words[0]}: takes only options; see --help")
        if "to" not in options:
            raise ScriptError("say where to: --to https://api.openai.com/v1")
        port = port_of(options)
        to = provider(options["to"], options.get("ca"))
        breaks = load(options["plan"]) if "plan" in options else Breaks()
        breaks.chaos = chance_of(options) or breaks.chaos
        desk = Desk("proxy", options)
        listener = listen(port)
    except ScriptError as error:
        print(f"backstay chaos proxy: {error}", file=sys.stderr)
        return 2

    def over(request: Request, struck: list[str]) -> None:
        desk.write(
            {
                "answer": request.number,
                "status": request.status,
                "ended": request.ended,
                "struck": struck,
            }
        )

    relay = Relay(to, breaks, desk.note)
    relay.on_answer = over
    relay.on_problem = desk.complain
    return desk.run(listener, lambda sock: serve(relay, sock), made_up_seed(breaks.chaos, options))

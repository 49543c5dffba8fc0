"""`backstay chaos ...`: picks the command of the fault kit."""

import importlib
import sys

USAGE = """\
usage: backstay chaos COMMAND ...

Break the Responses API on purpose, and see what a client makes of it.

  serve SCRIPT          a server on loopback that plays a script and breaks it as told
  proxy --to URL        the same between any client and a real provider
  test -- COMMAND ...   take an agent through a matrix of faults; a table says what held

Each has --help. Both servers log what they are sent, and judge it with --judge.
"""
COMMANDS = {
    "serve": "backstay.chaos.serve",
    "proxy": "backstay.chaos.proxy_command",
    "test": "backstay.chaos.trial",
}


def main(argv: list[str]) -> int:
    """Run a command of the fault kit; returns its exit code (2: wrong usage)."""
    command, rest = (argv[0], argv[1:]) if argv else ("", [])
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if command not in COMMANDS:
        problem = f"there is no command 'chaos {command}'" if command else "chaos takes a command"
        print(f"backstay: {problem}: chaos serve, chaos proxy or chaos test", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[command])
    return int(module.main(rest))

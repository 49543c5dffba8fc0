"""The entry point of the console script: picks the command and turns errors into exit codes."""

import sys

from backstay import __version__


def main(argv: list[str] | None = None) -> int:
    """Run one command line (default: `sys.argv[1:]`) and give its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments == ["--version"]:
        print(f"backstay {__version__}")
        return 0
    print("backstay: only --version is there yet", file=sys.stderr)
    return 2

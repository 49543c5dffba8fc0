"""The entry point of the console script: picks the command and turns errors into exit codes."""

import os
import sys
from collections.abc import Sequence

from backstay import __version__
from backstay.errors import BackstayError, UsageError

SHORT = """\
Backstay, a coding agent whose sessions survive everything.

  backstay exec "PROMPT"      run a turn in this folder
  backstay resume ID|--last   go on with a session, with or without a new prompt
  backstay sessions           list the sessions

backstay --help has the other commands.
"""
COMMANDS = (
    ("exec [PROMPT]", "run a turn without asking back; as `codex exec`"),
    ("exec resume ID [PROMPT]", "go on with a session; without a prompt finish its cut turn"),
    ("resume ID|--last [PROMPT]", "the same"),
    ("fork ID|--last [PROMPT]", "a new session behind a turn of another (exec fork: the same)"),
    ("continue [ID]", "finish the cut turn of a session, by default of the newest one here"),
    ("compact ID|--last", "replace a session's conversation by a shorter one, with a summary"),
    ("sessions [list]", "list the sessions of this folder, or with --all of every folder"),
    ("sessions show ID", "what a session's journal holds, damage included; its cost"),
    ("sessions search WORDS", "find turns by what was asked, said or run"),
    ("sessions COMMAND", "rename, archive, delete, fork, gc, du"),
    ("send ID [PROMPT]", "give a session a prompt; the process that runs it takes it up"),
    ("interrupt ID", "stop the turn that another process runs"),
    ("attach ID", "follow a session that another process runs"),
    ("ps", "commands of sessions that are still alive"),
    ("import codex PATH|ID|--all", "make sessions out of Codex's; import --help: other agents'"),
    ("doctor --provider [NAME]", "what a provider supports, and how it misbehaves"),
    ("demo", "a cut stream and a kill -9, offline, and what is left of them: everything"),
    ("chaos serve SCRIPT", "a Responses API server that breaks as it is told"),
    ("chaos proxy --to URL", "the same between any client and a real provider"),
    ("chaos test -- COMMAND", "an agent's command in a matrix of faults: what held, what didn't"),
)
ENVIRONMENT = (
    ("OPENAI_API_KEY", "the key of the built-in provider (exec takes CODEX_API_KEY before it)"),
    ("OPENAI_BASE_URL", "where the built-in provider is"),
    ("BACKSTAY_HOME", "where sessions and config.toml are"),
    ("BACKSTAY_DEBUG", "1 shows the traceback of an unexpected error"),
    ("NO_COLOR", "no colours"),
)
CODES = (
    ("0", "the turn is complete"),
    ("1", "it failed: refused, unreachable, cut too often"),
    ("2", "a wrong flag, value or line of configuration; nothing to continue"),
    ("3", "the session can't be opened"),
    ("4", "the disk refused"),
    ("130, 143, 129", "interrupted: Ctrl-C, SIGTERM, SIGHUP"),
)


def main(argv: list[str] | None = None) -> int:
    """Run one command line (default: `sys.argv[1:]`) and give its exit code."""
    _open_missing()
    try:
        return _flushed(_dispatch(sys.argv[1:] if argv is None else argv))
    except BackstayError as error:
        _complain(str(error))
        return _flushed(error.exit_code)
    except KeyboardInterrupt:
        _complain("interrupted")
        return _flushed(130)
    except BrokenPipeError:
        return _flushed(130)
    except Exception as error:
        if os.environ.get("BACKSTAY_DEBUG"):
            raise
        _complain(
            f"an error of Backstay's own: {type(error).__name__}: {error} "
            "(BACKSTAY_DEBUG=1 shows where)"
        )
        return _flushed(1)


def _dispatch(argv: Sequence[str]) -> int:
    command, rest = (argv[0], argv[1:]) if argv else ("", [])
    match command:
        case "exec" | "e" | "resume" | "continue" | "fork" | "compact":
            return _turn(command, rest)
        case "sessions":
            from backstay.cli.sessions import main as sessions

            return sessions(rest)
        case "send" | "interrupt":
            from backstay.cli.inbox import interrupt_main, send_main

            return (send_main if command == "send" else interrupt_main)(rest)
        case "attach":
            from backstay.cli.attach import main as attach

            return attach(rest)
        case "ps":
            from backstay.cli.ps import main as ps

            return ps(rest)
        case "import":
            from backstay.cli.importing import main as importing

            return importing(rest)
        case "doctor":
            from backstay.cli.doctor import main as doctor

            return doctor(rest)
        case "demo":
            return _demo(rest)
        case "chaos":
            return _chaos(rest)
        case "":
            from backstay.cli.here import print_standing
            from backstay.runtime.config import default_home

            print(SHORT, end="")
            print_standing(default_home(os.environ))
        case "-h" | "--help" | "help":
            print(_help(), end="")
        case "-V" | "--version":
            print(f"backstay {__version__}")
        case _:
            from backstay.cli.options import nearest

            names = [usage.split()[0] for usage, _ in COMMANDS]
            near = nearest(command, names)
            hint = f"did you mean {near}?" if near else "backstay --help lists the commands"
            raise UsageError(f"there is no command {command!r}: {hint}")
    return 0


def _turn(command: str, rest: Sequence[str]) -> int:
    from backstay.cli import arguments

    parse = {
        "resume": arguments.parse_resume,
        "continue": arguments.parse_continue,
        "compact": arguments.parse_compact,
        "fork": arguments.parse_fork,
    }.get(command, arguments.parse_exec)
    asked = parse(rest)
    if asked.help:
        print(_command_help(asked.help), end="")
        return 0
    if asked.version:
        print(f"backstay {__version__}")
        return 0
    from backstay.cli.run import run

    return run(asked)


def _demo(rest: Sequence[str]) -> int:
    import importlib

    demo = importlib.import_module("backstay.cli.demo")
    return int(demo.main(list(rest)))


def _chaos(rest: Sequence[str]) -> int:
    from backstay.chaos.main import main as chaos

    return chaos(list(rest))


def _help() -> str:
    from backstay.cli.options import columns

    return (
        "Backstay, a coding agent whose sessions survive everything.\n\n"
        "usage: backstay COMMAND ...\n\n"
        f"Commands (each has --help):\n{columns(COMMANDS)}\n"
        f"Environment:\n{columns(ENVIRONMENT)}\n"
        f"Exit codes:\n{columns(CODES)}"
    )


def _command_help(command: str) -> str:
    from backstay.cli.arguments import NOT_HONOURED, SHOWN
    from backstay.cli.options import table

    usage = {
        "exec": (
            "usage: backstay exec [OPTIONS] [PROMPT]\n"
            "       backstay exec [OPTIONS] resume ID|--last [PROMPT]\n\n"
            "Run a turn without asking back. Without PROMPT, or with -, it is read from\n"
            "stdin; what stands there beside a PROMPT is appended to it as a <stdin> block.\n"
            "The answer goes to stdout, progress to stderr.\n"
        ),
        "resume": (
            "usage: backstay resume [OPTIONS] ID|--last [PROMPT]\n\n"
            "Go on with a session; the same as exec resume. Without PROMPT, and with nothing\n"
            "on stdin, the cut turn is finished. The beginning of an ID is enough.\n"
        ),
        "fork": (
            "usage: backstay fork [OPTIONS] ID|--last [--turn N] [PROMPT]\n\n"
            "A new session that goes on behind a turn of another one, which stays as it is\n"
            "and may be running; the same as exec fork. Without --turn it begins behind the\n"
            "last turn that has ended. Without PROMPT nothing runs, and its ID is printed.\n"
        ),
        "continue": (
            "usage: backstay continue [OPTIONS] [ID|--last]\n\n"
            "Finish the cut turn of a session, by default of the newest one in this folder.\n"
        ),
        "compact": (
            "usage: backstay compact [OPTIONS] ID|--last\n\n"
            "Replace what the model is sent of a session by a shorter conversation: your messages\n"
            "and a summary of the rest. The journal keeps everything.\n"
        ),
    }[command]
    return (
        f"{usage}\nOptions:\n{table(SHOWN)}\n"
        f"Taken for the sake of programs written for Codex, and answered with one line:\n"
        f"{table(NOT_HONOURED)}"
    )


def _complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    from backstay.cli.terminal import harmless

    text = " ".join(harmless(message).split())
    try:
        print(f"backstay: {text}", file=sys.stderr)
    except (OSError, ValueError, UnicodeError):
        pass


def _flushed(code: int) -> int:
    """Flush what commands have printed; a reader that is gone is no error of theirs."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    return code


def _open_missing() -> None:
    """Give descriptors 0 to 2 to the null device where they are closed.

    Else the next file that is opened would get one of them, and what is printed.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)

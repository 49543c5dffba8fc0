"""The entry point of the console script: picks the command and turns errors into exit codes."""

import atexit
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from backstay import __version__
from backstay.errors import BackstayError, UsageError

SHORT = (
    ('backstay exec "PROMPT"', "run a turn in this folder"),
    ("backstay resume ID|--last", "go on with a session, with or without a new prompt"),
    ("backstay sessions", "list the sessions"),
)
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
    ("sessions export ID --to md", "write it as a page (md, html), lines (jsonl) or a bundle"),
    ("sessions COMMAND", "rename, archive, delete, fork, gc, du"),
    ("send ID [PROMPT]", "give a session a prompt; the process that runs it takes it up"),
    ("interrupt ID", "stop the turn that another process runs"),
    ("attach ID", "follow a session that another process runs"),
    ("ps", "commands of sessions that are still alive"),
    ("import codex PATH|ID|--all", "make sessions out of Codex's; import --help: other agents'"),
    ("doctor [PATH|ID]", "what is wrong with sessions, Backstay's and Codex's; --repair"),
    ("doctor --provider [NAME]", "what a provider supports, and how it misbehaves"),
    ("completion SHELL", "a script for bash, zsh or fish that completes what is typed"),
    ("demo", "a cut stream and a kill -9, offline, and what is left of them: everything"),
    ("chaos serve SCRIPT", "a Responses API server that breaks as it is told"),
    ("chaos proxy --to URL", "the same between any client and a real provider"),
    ("chaos test -- COMMAND", "an agent's command in a matrix of faults: what held, what didn't"),
)
MODULES = {
    "sessions": ("backstay.cli.sessions", "main"),
    "send": ("backstay.cli.inbox", "send_main"),
    "interrupt": ("backstay.cli.inbox", "interrupt_main"),
    "attach": ("backstay.cli.attach", "main"),
    "ps": ("backstay.cli.ps", "main"),
    "import": ("backstay.cli.importing", "main"),
    "doctor": ("backstay.cli.doctor", "main"),
    "completion": ("backstay.cli.completion", "main"),
    "demo": ("backstay.cli.demo", "main"),
}
"""What commands that run no turn are: loaded when they are called, with the words behind them."""
ENVIRONMENT = (
    ("OPENAI_API_KEY", "the key of the built-in provider (exec takes CODEX_API_KEY before it)"),
    ("OPENAI_BASE_URL", "where the built-in provider is"),
    ("BACKSTAY_HOME", "where sessions and config.toml are"),
    ("BACKSTAY_DEBUG", "1 shows the traceback of an unexpected error"),
    ("BACKSTAY_DEBUG_LOG", "a file for the log of --debug"),
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


def run() -> NoReturn:
    """The console script: one command line, and the end of the process.

    The threads of the HTTP library may still run, and one that comes to Python while the interpreter
    is taken down aborts the process: a turn that is complete would exit with 134.
    """
    code = main()
    if "pyreqwest" not in sys.modules:
        sys.exit(code)
    atexit._run_exitfuncs()  # noqa: SLF001 - what would run next, without what follows it
    os._exit(_flushed(code))


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
        if _is_gone(error):
            _complain("this folder is gone: change to another one")
            return _flushed(2)
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
        case "chaos":
            return _chaos(rest)
        case "":
            return _front()
        case "-h" | "--help" | "help":
            return _tell(rest)
        case "-V" | "--version":
            print(f"backstay {__version__}")
            return 0
    if command in MODULES:
        import importlib

        module, function = MODULES[command]
        return int(getattr(importlib.import_module(module), function)(rest))
    from backstay.cli.options import nearest

    names = [usage.split()[0] for usage, _ in COMMANDS]
    near = nearest(command, names)
    hint = f"did you mean {near}?" if near else "backstay --help lists the commands"
    if command.startswith("-"):
        hint = "flags stand behind the command, as in backstay exec -m MODEL"
    elif " " in command:
        hint = "a prompt stands behind exec, as in backstay exec PROMPT"
    raise UsageError(f"there is no command {command!r}: {hint}")


def _front() -> int:
    """Without a command: what there is to do."""
    from backstay.cli.here import print_standing
    from backstay.cli.page import help_width
    from backstay.runtime.config import default_home

    print(_short(help_width()), end="")
    print_standing(default_home(os.environ))
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
        from backstay.cli.page import print_page
        from backstay.cli.pages import page

        print_page(page(asked.help))
        return 0
    if asked.version:
        print(f"backstay {__version__}")
        return 0
    from backstay.cli.run import run

    return run(asked)


def _tell(names: Sequence[str]) -> int:
    """`help`, or `help COMMAND`."""
    from backstay.cli.page import help_width, print_page
    from backstay.cli.pages import page

    name = " ".join(names)
    if name:
        print_page(page(name))
    else:
        print(overview(help_width()), end="")
    return 0


def _chaos(rest: Sequence[str]) -> int:
    ours = rest[: rest.index("--")] if "--" in rest else rest
    if "-h" in ours or "--help" in ours:
        from backstay.cli.pages import CHAOS

        name = f"chaos {rest[0]}"
        return _tell([name] if name in CHAOS else ["chaos"])
    from backstay.chaos.main import main as chaos

    return chaos(list(rest))


def overview(width: int) -> str:
    """All commands, what the environment says, the exit codes."""
    from backstay.cli.options import columns
    from backstay.cli.page import fitted

    head = (
        "Backstay, a coding agent whose sessions survive everything.\n\n"
        "usage: backstay COMMAND ...\n\n"
    )
    return (
        f"{fitted(head, width)}Commands (each has --help):\n{columns(COMMANDS, width)}\n"
        f"Environment:\n{columns(ENVIRONMENT, width)}\n"
        f"Exit codes:\n{columns(CODES, width)}"
    )


def _short(width: int) -> str:
    from backstay.cli.options import columns
    from backstay.cli.page import fitted

    return "\n".join(
        (
            fitted("Backstay, a coding agent whose sessions survive everything.\n", width),
            columns(SHORT, width, 30),
            "backstay --help has the other commands.\n",
        )
    )


def _complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    from backstay.cli.terminal import harmless

    text = " ".join(harmless(message).split())
    try:
        print(f"backstay: {text}", file=sys.stderr)
    except (OSError, ValueError, UnicodeError):
        pass


def _is_gone(error: Exception) -> bool:
    """Whether the folder that this was started in was removed: then nothing can be found."""
    if isinstance(error, FileNotFoundError):
        try:
            os.getcwd()
        except FileNotFoundError:
            return True
    return False


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

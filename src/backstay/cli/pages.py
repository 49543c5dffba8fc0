"""The page of every command: what `--help` prints, and what completion and man page are made of."""

from collections.abc import Iterator
from typing import Final

from backstay.cli.page import Page
from backstay.errors import UsageError

TURNS: Final = {
    "exec": (
        """\
usage: backstay exec [OPTIONS] [PROMPT]
       backstay exec [OPTIONS] resume ID|--last [PROMPT]
       backstay exec [OPTIONS] fork ID|--last [PROMPT]

Run a turn without asking back. Without PROMPT, or with -, it is read from stdin; what stands there
beside a PROMPT is appended to it as a <stdin> block. The answer goes to stdout, progress to stderr.
""",
        (
            ('backstay exec "make the failing test pass"', "a new session in this folder"),
            (
                'git diff | backstay exec "review this change"',
                "what stands on stdin goes into the prompt",
            ),
            ("backstay exec --json - < prompt.txt", "for programs: events as JSON lines"),
        ),
    ),
    "resume": (
        """\
usage: backstay resume [OPTIONS] ID|--last [PROMPT]

Go on with a session; the same as exec resume. Without PROMPT, and with nothing on stdin, the cut
turn is finished. The beginning of an ID is enough, from 8 characters on.
""",
        (
            ('backstay resume --last "now document it"', "the newest session of this folder"),
            ("backstay resume 01a2027d", "finish its cut turn"),
        ),
    ),
    "fork": (
        """\
usage: backstay fork [OPTIONS] ID|--last [--turn N] [PROMPT]

A new session that goes on behind a turn of another one, which stays as it is and may be running;
the same as exec fork. Without --turn it begins behind the last turn that has ended. Without PROMPT
nothing runs, and its ID is printed.
""",
        (('backstay fork 01a2027d --turn 2 "try it with threads"', "go on behind turn 2"),),
    ),
    "continue": (
        """\
usage: backstay continue [OPTIONS] [ID|--last]

Finish the cut turn of a session, by default of the newest one in this folder.
""",
        (("backstay continue", "what a crash, a kill or Ctrl-C cut here"),),
    ),
    "compact": (
        """\
usage: backstay compact [OPTIONS] ID|--last

Replace what the model is sent of a session by a shorter conversation: your messages and a summary
of the rest. The journal keeps everything.
""",
        (),
    ),
}
"""The commands that run a turn: usage, paragraphs, examples."""
OTHERS: Final = {
    "send": ("backstay.cli.inbox", "SEND"),
    "interrupt": ("backstay.cli.inbox", "INTERRUPT"),
    "attach": ("backstay.cli.attach", "PAGE"),
    "ps": ("backstay.cli.ps", "PAGE"),
    "import": ("backstay.cli.importing", "PAGE"),
    "doctor": ("backstay.cli.doctor", "PAGE"),
    "demo": ("backstay.cli.demo", "PAGE"),
    "completion": ("backstay.cli.completion", "PAGE"),
}
"""The others: in which module the page is, under which name."""
CHAOS: Final = ("chaos", "chaos serve", "chaos proxy", "chaos test")
NAMES: Final = (*TURNS, "sessions", *OTHERS, *CHAOS)


def page(name: str) -> Page:
    """The page of a command. Loads its module. Raises `UsageError` for one that is not there."""
    if name in TURNS:
        return _turn(name)
    if name in CHAOS:
        return Page(name=name, text=_chaos(name))
    if name == "sessions":
        from backstay.cli.sessions import page as sessions

        return sessions()
    if name in OTHERS:
        import importlib

        module, attribute = OTHERS[name]
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, Page)  # noqa: S101 - the table is ours
        return found
    raise UsageError(f"there is no command {name!r}: backstay --help lists them")


def every() -> Iterator[Page]:
    """All pages, in the order of the help."""
    return map(page, NAMES)


def _turn(name: str) -> Page:
    from backstay.cli.arguments import NOT_HONOURED, SHOWN

    text, examples = TURNS[name]
    return Page(
        name=name, text=text, options=SHOWN, unhonoured=NOT_HONOURED, examples=tuple(examples)
    )


def _chaos(name: str) -> str:
    """The fault kit knows nothing of the command line: its texts are its own."""
    import importlib

    from backstay.chaos.main import COMMANDS, USAGE

    module = COMMANDS.get(name.removeprefix("chaos").strip())
    return str(importlib.import_module(module).USAGE) if module else USAGE

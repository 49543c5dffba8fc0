"""`send` and `interrupt`: what a session that another process holds is asked to do."""

import os
import time
from collections.abc import Sequence
from typing import Final

from backstay.cli.options import Option, read
from backstay.cli.page import Page, print_page
from backstay.cli.prompt import read_prompt
from backstay.errors import UsageError
from backstay.journal import PosixDisk, holder, lock_path
from backstay.journal.inbox import Letter, send
from backstay.journal.sessions import find
from backstay.runtime.config import default_home

HELP: Final = (Option(("-h", "--help"), "print this help"),)
SEND: Final = Page(
    name="send",
    text="""\
usage: backstay send ID [PROMPT]

Give a session a prompt from outside. It is on disk when this returns, and survives
whatever happens. A process that holds the session takes it at once, and begins its
turn when the one that runs is over; else it waits for `backstay resume ID`. Without
PROMPT, or with -, it is read from stdin. The beginning of an ID is enough.
""",
    options=HELP,
)
INTERRUPT: Final = Page(
    name="interrupt",
    text="""\
usage: backstay interrupt ID

Stop the turn that runs, as Ctrl-C in its own terminal does: running calls are stopped,
what is known of them is recorded, and the session can be continued.
""",
    options=HELP,
)


def send_main(argv: Sequence[str]) -> int:
    """Run `send`; gives the exit code. Raises `BackstayError`."""
    given = read(argv, HELP, "send")
    if given.has("help"):
        print_page(SEND)
        return 0
    if not 1 <= len(given.words) <= 2:
        raise UsageError("send needs a session and one prompt: backstay send ID PROMPT")
    folder = _folder(given.words[0])
    text = read_prompt(given.words[1] if len(given.words) > 1 else None, optional=False)
    _put(folder, Letter(kind="prompt", text=text))
    who = holder(lock_path(folder))
    session = os.path.basename(folder)
    if who is None:
        print(f"kept for {session}, which no process holds: backstay resume {session}")
    else:
        print(f"given to {session}, which is held by {who}")
    return 0


def interrupt_main(argv: Sequence[str]) -> int:
    """Run `interrupt`; gives the exit code. Raises `BackstayError`."""
    given = read(argv, HELP, "interrupt")
    if given.has("help"):
        print_page(INTERRUPT)
        return 0
    if len(given.words) != 1:
        raise UsageError("interrupt needs one session: backstay interrupt ID")
    folder = _folder(given.words[0])
    who = holder(lock_path(folder))
    if who is None:
        raise UsageError(f"no process holds {os.path.basename(folder)}: nothing of it runs")
    _put(folder, Letter(kind="interrupt", text="interrupted by `backstay interrupt`"))
    print(f"asked {who} to stop the turn")
    return 0


def _folder(name: str) -> str:
    return find(PosixDisk(), default_home(os.environ), name)


def _put(folder: str, letter: Letter) -> None:
    send(PosixDisk(), folder, letter, time.time(), os.urandom(10))

"""`import`: sessions of other agents as sessions of Backstay. Their files are only read."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from backstay import __version__
from backstay.cli.options import Given, Option, nearest, read
from backstay.cli.page import Page, print_page
from backstay.errors import BackstayError, UnknownSession, UsageError
from backstay.journal import PosixDisk
from backstay.journal.sessions import SHORTEST_PREFIX
from backstay.runtime.config import default_home

if TYPE_CHECKING:
    from backstay.doctor.bringing import Coming, Home, Rollouts

OPTIONS: Final = (
    Option(("-a", "--all"), "all sessions that there are"),
    Option(("--from",), "where they are: CODEX_HOME, or Claude Code's folder", "FOLDER"),
    Option(("--session",), "agents-sdk: the sessions to take, by default all", "NAME"),
    Option(("--again",), "make a new session also of what was imported before"),
    Option(
        ("--cwd",), "bundle: the folder to go on in, instead of the one it was made in", "FOLDER"
    ),
    Option(("--as-new",), "bundle: give the session a new id"),
    Option(("-h", "--help"), "print this help"),
)
PAGE: Final = Page(
    name="import",
    text="""\
usage: backstay import codex PATH|ID... [--from CODEX_HOME]
       backstay import codex --all [--from CODEX_HOME]
       backstay import claude PATH|ID... | --all [--from FOLDER]
       backstay import agents-sdk FILE [--session NAME]
       backstay import bundle FILE [--cwd FOLDER] [--as-new]

Make sessions of Backstay out of sessions of other agents, damaged ones too; the
other agent's files are only read. The ids go to stdout, what there is to say to
stderr. What was imported before is not imported again unless it has changed.
""",
    options=OPTIONS,
)


def main(argv: Sequence[str]) -> int:
    """Run `import ...`; gives the exit code. Raises `BackstayError`."""
    given = read(argv, OPTIONS, "import")
    if given.has("help") or not given.words:
        print_page(PAGE)
        return 0 if given.has("help") else 2
    agent, *names = given.words
    sort = _SORTS.get(agent)
    if sort is None:
        near = nearest(agent, list(_SORTS))
        hint = f"did you mean {near}?" if near else f"it takes one of {', '.join(_SORTS)}"
        raise UsageError(f"import {agent}: {hint}")
    if not names and not given.has("all"):
        raise UsageError(f"import {agent}: name a file or an id, or give --all")
    if names and given.has("all"):
        raise UsageError("give names or --all, not both")
    return sort(given, names)


def _codex(given: Given, names: list[str]) -> int:
    from backstay.doctor.bringing import Rollouts, from_codex

    home = given.last("from") or os.environ.get("CODEX_HOME") or os.path.expanduser("~/.codex")
    rollouts = Rollouts(home)
    paths = [_named(rollouts, name) for name in names] or rollouts.all()
    if not paths:
        raise UnknownSession(f"there are no sessions of Codex in {home}: --from names its folder")

    def comings(path: str) -> "list[Coming]":
        return [from_codex(path, rollouts)]

    return _bring(given, paths, comings)


def _claude(given: Given, names: list[str]) -> int:
    from backstay.doctor.bringing import from_claude
    from backstay.doctor.claude import transcripts

    home = (
        given.last("from") or os.environ.get("CLAUDE_CONFIG_DIR") or os.path.expanduser("~/.claude")
    )
    known = transcripts(home)
    paths = [_transcript(known, name, home) for name in names] or known
    if not paths:
        raise UnknownSession(f"there are no sessions in {home}: --from names Claude Code's folder")
    return _bring(given, paths, lambda path: [from_claude(path)])


def _transcript(known: list[str], name: str, home: str) -> str:
    """The transcript that is meant: a path, an id or the beginning of one."""
    if os.sep in name or name.endswith(".jsonl") or os.path.isfile(name):
        return name
    long = len(name) >= SHORTEST_PREFIX
    found = [path for path in known if long and os.path.basename(path).startswith(name)]
    if not found:
        raise UnknownSession(f"no session {name} of Claude Code in {home}, and no such file")
    if len(found) > 1:
        raise UsageError(f"{len(found)} sessions begin with {name}: give more of the id")
    return found[0]


def _agents_sdk(given: Given, names: list[str]) -> int:
    from backstay.doctor.bringing import from_agents_sdk

    if given.has("all") or given.has("from"):
        raise UsageError("import agents-sdk: name the SQLite file; --session picks one of it")
    return _bring(given, names, lambda path: from_agents_sdk(path, given.all("session")))


def _named(rollouts: "Rollouts", name: str) -> str:
    """The rollout that is meant: a path, an id or the beginning of one."""
    if os.sep in name or name.endswith(".jsonl") or os.path.isfile(name):
        return name
    found = rollouts.named(name) if len(name) >= SHORTEST_PREFIX else []
    if not found:
        raise UnknownSession(f"no session {name} of Codex in {rollouts.home}, and no such file")
    if len(found) > 1:
        raise UsageError(f"{len(found)} sessions of Codex begin with {name}: give more of the id")
    return found[0]


def _bundle(given: Given, names: list[str]) -> int:
    from backstay.cli.unbundling import bundle

    return bundle(given, names)


_SORTS: Final[dict[str, Callable[[Given, list[str]], int]]] = {
    "codex": _codex,
    "claude": _claude,
    "agents-sdk": _agents_sdk,
    "bundle": _bundle,
}


# What they share


def _bring(given: Given, paths: list[str], comings: "Callable[[str], Iterable[Coming]]") -> int:
    """Import what `comings` finds in each file; one that fails keeps no other from it."""
    from backstay.doctor.bringing import Home

    home = Home(PosixDisk(), default_home(os.environ), _here(), __version__, now=time.time())
    alone = len(paths) == 1
    failed = 0
    for name in paths:
        try:
            for coming in comings(name):
                _bring_one(home, coming, given, name)
        except BackstayError as error:
            if alone:
                raise
            failed = failed or error.exit_code
            _say(str(error))
    return 0 if given.has("all") else failed


def _bring_one(home: "Home", coming: "Coming", given: Given, name: str) -> None:
    brought = home.bring(coming, again=given.has("again"))
    if brought.new:
        print(brought.session, flush=True)
        for note in brought.notes:
            _say(f"{name}: {note}")
    elif not given.has("all"):
        print(brought.session, flush=True)
        _say(f"{name} is session {brought.session} already: --again imports it once more")


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return os.path.expanduser("~")


def _say(line: str) -> None:
    from backstay.cli.terminal import harmless

    print(f"backstay: {' '.join(harmless(line).split())}", file=sys.stderr)

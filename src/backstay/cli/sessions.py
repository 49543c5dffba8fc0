"""`sessions ...`: which of its commands is meant, and those that only read: list, show, search.

Reading writes to no session; what is kept of them (the catalogue) is made from them and can go.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self

import msgspec

from backstay.cli.listing import NARROW, Table, short_ids, state_of, when, width_of
from backstay.cli.options import Given, Option, nearest, read
from backstay.cli.page import Page, print_page
from backstay.cli.sink import Sink
from backstay.cli.terminal import BOLD, Style, harmless, one_line, style
from backstay.core.usage import Price, Usage
from backstay.errors import BackstayError, ConfigError, UsageError
from backstay.journal import PosixDisk, holder, journal_path, lock_path, look
from backstay.journal.label import read_label
from backstay.journal.place import Place
from backstay.journal.sessions import Entry, find, list_sessions
from backstay.runtime.config import default_home, load

_JSON: Final = Option(("--json",), "one JSON object a line")
_LIMIT: Final = Option(("-n", "--limit"), "at most so many (default 20, 0 for all)", "COUNT")
_ALL: Final = Option(("-a", "--all"), "of every folder, not only of this one")
_ARCHIVED: Final = Option(("--archived",), "the archived ones, which are left out else")
_TURN: Final = Option(("--turn",), "behind turn N, from 1; else the last that has ended", "N")
_YES: Final = Option(("-y", "--yes"), "do not ask")
_DRY_RUN: Final = Option(("--dry-run",), "remove nothing, say what would be")
_TO: Final = Option(("--to",), "the format: md, html, jsonl, bundle, codex", "FORMAT")
_INTO: Final = Option(("--into",), "--to codex: the CODEX_HOME that gets the file", "FOLDER")
_OUTPUT: Final = Option(("-o", "--output"), "write to this file, not to stdout", "FILE")
_REDACT: Final = Option(
    ("--redact",), "none keeps secrets; else they are replaced", "HOW", ("default", "none")
)
_HELP: Final = Option(("-h", "--help"), "print this help")

Run = Callable[[Given, list[str], str], int]
"""Gets the flags, the words behind the command's name, and the home."""


class Action(msgspec.Struct, frozen=True):
    """One command of `sessions`: how it is written, what it does, which flags it takes."""

    usage: str
    help: str
    run: Run
    flags: tuple[Option, ...] = ()
    least: int = 0
    most: int | None = 0
    """Words that it takes; None for any number."""


def main(argv: Sequence[str]) -> int:
    """Run `sessions ...`; gives the exit code. Raises `BackstayError`."""
    every = {
        name: option for one in ACTIONS.values() for option in one.flags for name in option.names
    }
    given = read(argv, (_HELP, *dict.fromkeys(every.values())), "sessions")
    name, *rest = given.words or ["list"]
    if given.has("help"):
        print_page(page())
        return 0
    action = ACTIONS.get(name)
    if action is None:
        near = nearest(name, list(ACTIONS))
        hint = f"did you mean {near}?" if near else "backstay sessions --help lists the commands"
        raise UsageError(f"there is no sessions {name}: {hint}")
    if len(rest) < action.least or (action.most is not None and len(rest) > action.most):
        raise UsageError(f"write it as: backstay sessions {action.usage}")
    taken = {option.name for option in action.flags}
    for flag in given.values:
        if flag not in taken:
            raise UsageError(f"sessions {name} takes no --{flag} (backstay sessions --help)")
    return action.run(given, rest, default_home(os.environ))


def page() -> Page:
    """What the help says."""
    flags = dict.fromkeys(option for one in ACTIONS.values() for option in one.flags)
    return Page(
        name="sessions",
        text="usage: backstay sessions COMMAND ...\n\n"
        "The beginning of an ID is enough, from 8 characters on.\n",
        rows=tuple((action.usage, action.help) for action in ACTIONS.values()),
        options=(*flags, _HELP),
    )


# list


def _list(given: Given, _: list[str], home: str) -> int:
    place, limit = _place(given), _count(given)
    as_json = given.has("json")
    found = _listed(home, place, limit, usage=as_json)
    if as_json:
        prices = own_prices(home)
        for entry in found.entries:
            print(_as_json(entry, found.spent.get(entry.id), prices))
        return 0
    looks = style("auto", Sink(1), os.environ)
    ids = short_ids([entry.id for entry in found.entries], found.ids)
    rows = Table(ids, width_of(1), looks, folders=place.cwd is None)
    for entry in found.entries:
        print(rows.row(entry, state_of(entry)))
    if not found.entries:
        print(_none(home, place, found), file=sys.stderr)
    elif len(found.entries) < found.count:
        print(f"{found.count - len(found.entries)} more: -n 0 shows all", file=sys.stderr)
    return 0


class _Listed(msgspec.Struct):
    entries: list[Entry]
    count: int
    """All that there are in the place that was asked for."""
    ids: list[str]
    """Of all sessions, sorted."""
    spent: dict[str, Any] = {}
    """What each has used (`catalogue.Spent`)."""


def _listed(home: str, place: Place, limit: int, *, usage: bool) -> _Listed:
    """From the catalogue; without one from the files."""
    try:
        from backstay.journal import catalogue
    except ImportError as error:
        return _scanned(home, place, limit, str(error))

    def work(found: catalogue.Catalogue) -> _Listed:
        found.update(told)
        entries, count = found.entries(place, limit)
        ids = [entry.id for entry in entries]
        if usage:
            found.read_whole(told, ids)
        return _Listed(entries, count, found.ids, found.spent(ids) if usage else {})

    with Progress() as told:
        try:
            return catalogue.use(home, work, say)
        except catalogue.Unavailable as error:
            return _scanned(home, place, limit, str(error))


def _scanned(home: str, place: Place, limit: int, why: str) -> _Listed:
    say(f"there is no catalogue of sessions ({why}); the sessions are read anew")
    every = list_sessions(PosixDisk(), home)
    entries = [entry for entry in every if place.holds(entry)]
    ids = sorted(entry.id for entry in every)
    return _Listed(entries[: limit or None], len(entries), ids)


def _none(home: str, place: Place, found: _Listed) -> str:
    if not found.ids:
        return f"no sessions in {home}"
    sort = "archived sessions" if place.archived else "sessions"
    if place.cwd is None:
        return f"no {sort} in {home}"
    return f"no {sort} of this folder: --all looks at every folder ({len(found.ids)} in all)"


def _as_json(entry: Entry, spent: Any, prices: Mapping[str, Price]) -> str:
    from backstay.cli.transcript import cost_of

    fields = {**msgspec.to_builtins(entry), "state": state_of(entry)}
    if spent is not None:
        fields["turns"] = spent.turns
        fields["usage"] = sum(spent.usage.values(), Usage())
        fields["cost"] = cost_of(spent.usage, prices)
    return msgspec.json.encode(fields, order="sorted").decode()


# search


def _search(given: Given, words: list[str], home: str) -> int:
    try:
        from backstay.journal import catalogue
    except ImportError as error:
        raise BackstayError(
            f"searching needs Python's sqlite3, and there is none: {error}"
        ) from None
    place, limit = _place(given), _count(given)

    def work(found: catalogue.Catalogue) -> tuple[list[catalogue.Hit], list[str]]:
        found.update(told)
        found.read_whole(told)
        return found.search(" ".join(words), place, limit), found.ids

    with Progress() as told:
        hits, every = catalogue.use(home, work, say)
    looks = style("auto", Sink(1), os.environ)
    ids = short_ids([hit.entry.id for hit in hits], every)
    width = width_of(1)
    for hit in hits:
        entry = hit.entry
        if given.has("json"):
            print(_hit_as_json(hit))
            continue
        turn = f"turn {hit.turn}" if hit.turn else "title"
        head = f"{ids[entry.id]}  {turn}  {when(hit.at or entry.active)}  "
        title = one_line(entry.name or "(no prompt)", width - len(head)) if width >= NARROW else ""
        print(f"{head}{looks(title, BOLD)}".rstrip())
        if not title:
            print(f"    {looks(one_line(entry.name or '(no prompt)', width - 4), BOLD)}")
        print(f"    {_snippet(hit.snippet, width - 4, looks)}")
    if not hits:
        where = "" if place.cwd is None else " of this folder: --all looks at every folder"
        print(f"nothing found in the sessions{where}", file=sys.stderr)
    return 0 if hits else 1


def _hit_as_json(hit: Any) -> str:
    from backstay.journal.catalogue import BEGIN_MARK, END_MARK

    fields = {
        "id": hit.entry.id,
        "turn": hit.turn,
        "at": hit.at,
        "title": hit.entry.name,
        "cwd": hit.entry.cwd,
        "snippet": hit.snippet.replace(BEGIN_MARK, "").replace(END_MARK, ""),
    }
    return msgspec.json.encode(fields, order="sorted").decode()


def _snippet(text: str, width: int, looks: Style) -> str:
    """On one line, the words that were searched for in bold where that can be."""
    from backstay.journal.catalogue import BEGIN_MARK, END_MARK

    plain = one_line(text.replace(BEGIN_MARK, "").replace(END_MARK, ""), width)
    if not looks.color:
        return plain
    shown, room = [], len(plain)
    for index, part in enumerate(text.replace(END_MARK, BEGIN_MARK).split(BEGIN_MARK)):
        piece = harmless(part.replace("\n", " ").replace("\t", " "))[:room]
        room -= len(piece)
        shown.append(looks(piece, BOLD) if index % 2 else piece)
    return "".join(shown)


# show


def _show(_: Given, words: list[str], home: str) -> int:
    from backstay.cli.transcript import Transcript, cost_of, unpriced, used
    from backstay.journal.texts import own_records, spent, turn_order

    folder = find(PosixDisk(), home, words[0])
    reading = look(PosixDisk(), folder)
    prices = own_prices(home)
    label = read_label(PosixDisk(), folder)
    print(f"session {folder.rpartition('/')[2]}")
    print(f"journal {harmless(journal_path(folder))}")
    if label.title:
        print(f"title   {one_line(label.title, 200)}")
    if label.archived:
        print("archived")
    who = holder(lock_path(folder))
    if who is not None:
        print(f"running: {who}")
    usage = spent(own_records(PosixDisk(), folder, reading.records))
    print(f"turns   {len(turn_order(reading.records))}")
    print(used(sum(usage.values(), Usage()), cost_of(usage, prices)))
    for model in unpriced(usage, prices):
        print(
            f'  the price of {harmless(model) or "a model"} is not known: [prices."MODEL"] sets it'
        )
    for damage in reading.damage:
        print(f"damage  {harmless(str(damage))}")
    if reading.read_only:
        print(f"read-only: {harmless(reading.read_only)}")
    for line in Transcript(reading.records, prices).lines():
        print(line)
    return 0


# What they share


def own_prices(home: str) -> Mapping[str, Price]:
    """The user's own prices; a wrong configuration keeps nobody from looking at sessions."""
    try:
        return load(home, os.getcwd(), []).configuration.prices
    except (ConfigError, OSError) as error:
        say(f"{error}; going on with the prices that are built in")
        return {}


def say(line: str) -> None:
    """One line on stderr."""
    print(f"backstay: {' '.join(harmless(line).split())}", file=sys.stderr)


def _place(given: Given) -> Place:
    try:
        here = None if given.has("all") else os.getcwd()
    except OSError:
        raise UsageError("this folder is gone: --all has the sessions of every folder") from None
    return Place(here, archived=given.has("archived"))


def _count(given: Given) -> int:
    limit = given.last("limit", "20")
    if not limit.isdecimal():
        raise UsageError(f"-n {limit}: it takes a number")
    return int(limit)


class Progress:
    """Says on stderr that many sessions are read, once that has taken a second."""

    _after: Final = 1.0
    _every: Final = 0.2

    def __init__(self, why: str = " for the catalogue; this is done once") -> None:
        self._why = why
        self._live = style("never", Sink(2), os.environ).live
        self._drawn = 0
        self._next = time.monotonic() + self._after
        self._said = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._said and self._live:
            print(Style().erase(self._drawn), end="", file=sys.stderr, flush=True)

    def __call__(self, done: int, count: int) -> None:
        now = time.monotonic()
        if now < self._next or (self._said and not self._live):
            return
        self._next, self._said = now + self._every, True
        if self._live:
            line = f"reading sessions: {done} of {count}"
            print(f"\r{line}", end="", file=sys.stderr, flush=True)
            self._drawn = len(line)
        else:
            say(f"reading {count} sessions{self._why}")


def _later(name: str) -> Run:
    """A command of a module that is loaded when it is used."""

    def run(given: Given, words: list[str], home: str) -> int:
        from backstay.cli import tidy

        code: int = getattr(tidy, name)(given, words, home)
        return code

    return run


def every_id(home: str, names: Iterable[str]) -> list[str]:
    """The folders of these sessions, each once. Raises `UnknownSession`, `UsageError`."""
    return list(dict.fromkeys(find(PosixDisk(), home, name) for name in names))


def _fork(given: Given, names: list[str], home: str) -> int:
    from backstay.cli.fork import fork

    return fork(home, names[0], given.last("turn"))


def _export(given: Given, names: list[str], home: str) -> int:
    from backstay.cli.exporting import export

    return export(given, names, home)


ACTIONS: Final = {
    "list": Action(
        "[list] [OPTIONS]",
        "the sessions of this folder, the last active first; ! marks those that were cut",
        _list,
        (_ALL, _ARCHIVED, _LIMIT, _JSON),
    ),
    "show": Action(
        "show ID", "what its journal holds, its turns, tokens and cost", _show, (), 1, 1
    ),
    "search": Action(
        "search WORDS [OPTIONS]",
        'turns that hold all the words: in prompts, answers, commands, file names; "a phrase", begin*',
        _search,
        (_ALL, _ARCHIVED, _LIMIT, _JSON),
        1,
        None,
    ),
    "fork": Action(
        "fork ID [--turn N]",
        "make a new session that goes on behind a turn of it, and print its id",
        _fork,
        (_TURN,),
        1,
        1,
    ),
    "export": Action(
        "export ID --to FORMAT [-o FILE]",
        "write it as a page, as lines for programs, as a bundle for another machine, for Codex",
        _export,
        (_TO, _OUTPUT, _REDACT, _INTO),
        1,
        1,
    ),
    "rename": Action(
        "rename ID TITLE", 'give it a title ("" takes it away)', _later("rename"), (), 2, None
    ),
    "archive": Action(
        "archive ID...", "leave it out of lists and --last", _later("archive"), (), 1, None
    ),
    "unarchive": Action("unarchive ID...", "take it back", _later("unarchive"), (), 1, None),
    "delete": Action(
        "delete ID... [--yes]", "delete it for good; asks first", _later("delete"), (_YES,), 1, None
    ),
    "gc": Action(
        "gc [--dry-run]",
        "remove what no session needs any more, and say how much that was",
        _later("gc"),
        (_DRY_RUN,),
    ),
    "du": Action("du [OPTIONS]", "what sessions take on the disk", _later("du"), (_LIMIT, _JSON)),
}

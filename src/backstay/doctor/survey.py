"""Looks at many sessions, Backstay's own and Codex's: what there is, and what is wrong with each."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from backstay.doctor import journals
from backstay.doctor.catalogues import Listed, codex_list
from backstay.doctor.checks import Examination, examine
from backstay.doctor.findings import Findings
from backstay.doctor.holding import is_written
from backstay.doctor.rollout import codex_home_of, find_rollouts, is_rollout, thread_id
from backstay.doctor.salvage import Salvaged, salvage
from backstay.errors import StorageError, UsageError
from backstay.journal import PosixDisk, holder, journal_path, lock_path
from backstay.journal.ids import is_id
from backstay.journal.sessions import folders

SHORTEST: Final = 8
"""Characters of an id that are enough to name a session."""
_MAGIC: Final = b'{"k":"'
"""How a journal of Backstay's begins."""

Agent = Literal["backstay", "codex"]
Progress = Callable[[int, int], None]


class Place(msgspec.Struct, frozen=True):
    """A session that is there: a rollout file, or the folder of a journal."""

    agent: Agent
    path: str


class Report(msgspec.Struct, kw_only=True):
    """One session and what is wrong with it."""

    agent: Agent
    path: str
    id: str
    bytes: int
    lines: int = 0
    findings: Findings
    examined: Examination | None = None
    """Of a rollout."""
    running: bool = False
    """A process writes it now: a call without an output is merely one that has not ended."""
    salvaged: list[Salvaged] = []
    """What the file, or the working folder, tells of each call without an output."""

    @property
    def sound(self) -> bool:
        """Nothing but notes."""
        return not self.findings.damaged

    def as_data(self) -> dict[str, Any]:
        """What `--json` prints."""
        found = self.findings
        shown: dict[str, Any] = {
            "path": self.path,
            "agent": self.agent,
            "id": self.id,
            "state": "sound" if self.sound else "damaged",
            "running": self.running,
            "bytes": self.bytes,
            "lines": self.lines,
            "errors": found.count("error"),
            "warnings": found.count("warning"),
            "notes": found.count("note"),
            "counts": found.counts,
            "findings": msgspec.to_builtins(found.sorted()),
        }
        if self.examined is not None:
            shown["repairable"] = self.examined.repairable
            shown["du"] = msgspec.to_builtins(self.examined.weight)
            shown["calls"] = [
                {"call_id": call.call_id, "line": call.line, "name": call.name, "source": one.source,
                 "says": one.says, "output": one.text}
                for call, one in zip(self.examined.calls, self.salvaged, strict=False)
            ]  # fmt: skip
        return shown


def places(home: str, codex_home: str) -> list[Place]:
    """All sessions of Backstay and of Codex."""
    own = [Place("backstay", folder) for folder in _own(home)]
    return own + [Place("codex", path) for path in find_rollouts(codex_home)]


def named(words: Sequence[str], home: str, codex_home: str) -> list[Place]:
    """The sessions that files, folders and ids name. Raises `UsageError`."""
    found: dict[Place, None] = {}
    every: list[Place] | None = None
    for word in words:
        if os.path.lexists(word):
            here = _at(word)
        else:
            every = every if every is not None else places(home, codex_home)
            here = [one for one in every if _is_named(one, word.lower())]
        if not here:
            raise UsageError(
                f"there is no session {word}: give a file, a folder, or an id "
                f"(its first {SHORTEST} characters are enough)"
            )
        found.update(dict.fromkeys(here))
    return list(found)


def _is_named(one: Place, word: str) -> bool:
    if len(word) < SHORTEST:
        return False
    name = os.path.basename(one.path) if one.agent == "backstay" else thread_id(one.path)
    return name.startswith(word) or os.path.basename(one.path) == word


def _at(path: str) -> list[Place]:
    """The sessions at a path."""
    path = os.path.abspath(path)
    if not os.path.isdir(path):
        if _is_journal(path):
            return [Place("backstay", os.path.dirname(path))]
        return [Place("codex", path)]
    found: list[Place] = []
    for folder, inner, names in os.walk(path):
        inner.sort()
        if "journal.jsonl" in names and (is_id(os.path.basename(folder)) or folder == path):
            found.append(Place("backstay", folder))
            continue
        found += [
            Place("codex", os.path.join(folder, name)) for name in sorted(names) if is_rollout(name)
        ]
    return found


def _is_journal(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            begins = file.read(len(_MAGIC)) == _MAGIC
    except (OSError, ValueError):
        return False
    return begins or os.path.basename(path) == "journal.jsonl"


def _own(home: str) -> Iterator[str]:
    try:
        yield from folders(PosixDisk(), home)
    except StorageError:
        return


def survey(found: Sequence[Place], told: Progress, *, detail: bool) -> Iterator[Report]:
    """Each session with what is wrong with it.

    `detail`: also what became of calls without an output, by their file and the working folder.
    Without it a report is small, however large its file is.
    """
    lists: dict[str, Listed | None] = {}
    for done, place in enumerate(found):
        told(done, len(found))
        if place.agent == "backstay":
            yield _own_report(place.path)
        else:
            report = _codex_report(place.path, detail=detail)
            _listed(report, lists)
            yield report
    told(len(found), len(found))


def _own_report(folder: str) -> Report:
    found = Findings()
    path = journal_path(folder)
    try:
        size = os.path.getsize(path)
        running = holder(lock_path(folder)) is not None
    except (OSError, StorageError):
        size, running = 0, False
    journals.check(folder, found, running=running)
    ident = os.path.basename(folder)
    return Report(
        agent="backstay", path=folder, id=ident, bytes=size, findings=found, running=running
    )


def _codex_report(path: str, *, detail: bool) -> Report:
    running = is_written(path, thread_id(path))
    made = examine(path, running=running)
    report = Report(
        agent="codex",
        path=path,
        id=made.id,
        bytes=made.bytes,
        lines=made.lines,
        findings=made.findings,
        examined=made,
        running=running,
    )
    if not detail:
        report.examined = None
        return report
    try:
        report.salvaged = salvage(path, made.calls)
    except StorageError:
        pass  # it went away meanwhile
    return report


def _listed(report: Report, lists: dict[str, Listed | None]) -> None:
    """Whether Codex's own list knows the file, where the file stands in a CODEX_HOME."""
    home = codex_home_of(report.path)
    if not home:
        return
    if home not in lists:
        lists[home] = codex_list(home)
    known = lists[home]
    if known is None or not known.paths or not report.id:
        return
    there = known.paths.get(report.id)
    if there is None:
        text = f"{known.name} does not list it: `codex resume` may not show it"
        report.findings.add("catalogue-out-of-step", 0, 0, text)
    elif os.path.realpath(there) != os.path.realpath(report.path):
        text = f"{known.name} says that it is at {there[:300]}"
        report.findings.add("catalogue-out-of-step", 0, 0, text)


def stale_rows(codex_home: str) -> Report | None:
    """What Codex's list says of files that are gone; None where there is nothing to say."""
    known = codex_list(codex_home)
    if known is None:
        return None
    found = Findings()
    for ident, path in known.paths.items():
        if not os.path.exists(path):
            found.add(
                "catalogue-out-of-step", 0, 0, f"{ident[:60]} is listed at {path[:300]}: gone"
            )
    if not found.counts:
        return None
    path = os.path.join(codex_home, known.name)
    return Report(
        agent="codex", path=path, id=known.name, bytes=os.path.getsize(path), findings=found
    )

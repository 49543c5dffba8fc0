"""`attach`: follow a session that another process runs, from its journal, without touching it."""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Final

from backstay.cli.face import Face
from backstay.cli.options import Option, read
from backstay.cli.page import Page, print_page
from backstay.cli.sink import Sink
from backstay.core.record import AnyRecord, Attempt, Call, Prompt, Start, TurnEnd, Unknown
from backstay.errors import UsageError
from backstay.journal import Blobs, PosixDisk, holder, journal_path, lock_path
from backstay.journal.folders import home_of
from backstay.journal.follow import Follower
from backstay.journal.lines import line_start
from backstay.journal.payloads import inlined
from backstay.journal.sessions import find
from backstay.runtime.config import default_home
from backstay.runtime.watch import Finished, Recorded, Started

_OPTIONS: Final = (
    Option(("-h", "--help"), "print this help"),
    Option(("--json",), "print events as JSON lines on stdout, as exec --json does"),
    Option(("--color",), "auto (default), always or never", "WHEN", ("auto", "always", "never")),
)
PAGE: Final = Page(
    name="attach",
    text="""\
usage: backstay attach [--json] ID

Follow a session that another process runs: its last turn so far, and what is added,
until that process ends or Ctrl-C. Nothing is written and nothing is stopped. `send`
gives it a prompt, `interrupt` stops its turn. The beginning of an ID is enough.
""",
    options=_OPTIONS,
)
_EVERY: Final = 0.2
"""Seconds between two looks."""
_BACK: Final = 4 * 1024 * 1024
"""Bytes of the journal in which the last turn is looked for."""


def main(argv: Sequence[str]) -> int:
    """Run `attach`; gives the exit code. Raises `BackstayError`."""
    given = read(argv, _OPTIONS, "attach")
    if given.has("help"):
        print_page(PAGE)
        return 0
    if len(given.words) != 1:
        raise UsageError("attach needs one session: backstay attach ID")
    folder = find(PosixDisk(), default_home(os.environ), given.words[0])
    err = Sink(2)
    followed = _Followed(_face(given.has("json"), given.last("color", "auto"), err), folder)
    who = holder(lock_path(folder))
    followed.begin(f"held by {who}, " if who else "held by no process, ")
    try:
        while holder(lock_path(folder)) is not None:
            time.sleep(_EVERY)
            followed.go_on()
    except KeyboardInterrupt:
        err.text("left; the session goes on\n")
        return 130
    followed.go_on()
    followed.end()
    err.text(f"no process holds it: backstay resume {os.path.basename(folder)}\n")
    return 0


def _face(json: bool, color: str, err: Sink) -> Face:  # noqa: FBT001 - a private choice of two
    out = Sink(1)
    if json:
        from backstay.cli.jsonl import JsonLines

        return JsonLines(out.write)
    from backstay.cli.human import Human
    from backstay.cli.terminal import style, width

    looks = style(color, err, os.environ)
    return Human(out, err, looks, time.monotonic, streaming=False, width=width)


class _Followed:
    """The journal as it grows, told turn by turn."""

    def __init__(self, face: Face, folder: str) -> None:
        self._face = face
        self._folder = folder
        self._disk = PosixDisk()
        self._blobs = Blobs(self._disk, home_of(folder), os.path.basename(folder))
        with self._disk.open(journal_path(folder)) as file:
            begin = line_start(file, file.size() - _BACK, file.size())
        self._follower = Follower(self._disk, folder, begin)
        self._end: TurnEnd | None = None
        self._turn = 0
        self._calls: dict[int, Call] = {}

    def begin(self, who: str) -> None:
        """Tell the last turn so far."""
        records = list(self._news())
        self._face.opened(os.path.basename(self._folder), self._folder, who)
        attempts = [one.turn for one in records if isinstance(one, Attempt)]
        prompts = [one.n for one in records if isinstance(one, Prompt)]
        last = attempts[-1] if attempts else 0
        first = next((n for n in prompts if n == last), prompts[-1] if prompts else 0)
        for record in records:
            if record.n >= first:
                self._tell(record)

    def go_on(self) -> None:
        """Tell what was added."""
        for record in self._news():
            self._tell(record)
        self._face.tick()

    def end(self) -> None:
        """The process that held the session has ended."""
        end = self._end
        if end is not None:
            self._face.ended(Finished(end.turn, end.outcome, end.reason), [], "")
        elif self._turn:
            reason = "the process that ran it has ended"
            self._face.ended(Finished(self._turn, "failed", reason), [], "")

    def _news(self) -> Iterator[AnyRecord]:
        return inlined(self._follower.news(), self._blobs)

    def _tell(self, record: AnyRecord) -> None:
        if isinstance(record, Unknown):
            return
        if isinstance(record, Attempt):
            if self._end is not None:
                self.end()
                self._face.next_turn()
            self._turn, self._end = record.turn, None
        elif isinstance(record, TurnEnd):
            self._end = record
        elif isinstance(record, Call):
            self._calls[record.n] = record
        self._face(Recorded(record))
        if isinstance(record, Start) and record.call in self._calls:
            self._face(Started(record.call, self._calls[record.call].item))

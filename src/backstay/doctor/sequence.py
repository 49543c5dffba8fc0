"""The order of a rollout's records: their numbers, their times, the turns that they belong to.

Owns what a second writer, a resume or a crash leaves in them. Each finding goes to `report`.
"""

from collections.abc import Callable
from typing import Any, Final

from backstay.doctor.rollout import Entry

FURTHEST: Final = 1_000_000
"""Numbers may have gaps; one that is so far ahead is no number that Codex wrote."""
_RETURNS: Final = 2
"""So often a turn must come back behind a later one before two writers are suspected."""

Report = Callable[[str, int, int, str], None]
"""Code, line, offset, sentence."""


class Ordinals:
    """Whether the numbers of the records rise, as far as the file has any."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._last = -1
        self._unnumbered: list[tuple[int, int]] = []
        self._missing = 0
        self.used = False
        self.expected = False
        """The header says that records are numbered."""
        self.broken = False

    def take(self, entry: Entry) -> None:
        """The next record."""
        number, line = entry.ordinal, entry.line
        if number is None:
            self._missing += 1
            if len(self._unnumbered) < 100:
                self._unnumbered.append((line.number, line.offset))
            return
        self.used = True
        if not self.expected:
            return
        if number == self._last:
            self._bad("reused-ordinal", entry, f"the number {number} is used a second time")
        elif number < self._last:
            self._bad("out-of-order", entry, f"the number {number} stands behind {self._last}")
        elif number - self._last > FURTHEST:
            self._bad("out-of-order", entry, f"the number {number} follows {self._last}")
            return
        self._last = max(self._last, number)

    def _bad(self, code: str, entry: Entry, text: str) -> None:
        self.broken = True
        self._report(code, entry.line.number, entry.line.offset, text)

    def end(self, last: Entry | None) -> None:
        """The file is read."""
        if not self._missing or not self.expected:
            return
        self.broken = True
        for number, offset in self._unnumbered:
            at_end = last is not None and last.line.offset == offset
            text = "the last record has no number" if at_end else "a record has no number"
            self._report("missing-ordinal", number, offset, text)


class Turns:
    """Whether turns follow each other, and headers belong to one session."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._now = ""
        self._left: set[str] = set()
        self._returns: list[Entry] = []
        self._time = ""
        self._told_time = False
        self._header: dict[str, Any] | None = None

    def take(self, entry: Entry) -> None:
        """The next record."""
        if entry.type == "session_meta":
            self._meta(entry)
            return
        self._clock(entry)
        turn = _turn_of(entry)
        if not turn or turn == self._now:
            return
        if turn in self._left:
            self._returns.append(entry)
            if len(self._returns) > 1000:
                self._returns.pop()
        if self._now and len(self._left) < 1_000_000:
            self._left.add(self._now)
        self._now = turn

    def end(self) -> None:
        """The file is read."""
        if len(self._returns) >= _RETURNS:
            first = self._returns[0].line
            text = f"{len(self._returns)} times a turn goes on behind another one that had begun"
            self._report("two-writers", first.number, first.offset, text)

    def _meta(self, entry: Entry) -> None:
        before, self._header = self._header, self._header or entry.payload
        if before is None:
            return
        own, other = before.get("id"), entry.payload.get("id")
        copied = before.get("forked_from_id") or before.get("parent_thread_id")
        if isinstance(own, str) and isinstance(other, str) and own != other and not copied:
            text = f"there is a second header, of the session {other[:60]}"
            self._report("two-writers", entry.line.number, entry.line.offset, text)

    def _clock(self, entry: Entry) -> None:
        stamp, before = entry.timestamp, self._time
        if len(stamp) != 24 or not stamp.endswith("Z"):
            return
        if stamp[:19] < before[:19] and entry.ordinal is None and not self._told_time:
            self._told_time = True
            text = f"the time {stamp[:60]} stands behind {before[:60]}"
            self._report("out-of-order", entry.line.number, entry.line.offset, text)
        self._time = stamp


def _turn_of(entry: Entry) -> str:
    payload = entry.payload
    if entry.type == "response_item":
        about = payload.get("internal_chat_message_metadata_passthrough")
        found = about.get("turn_id") if isinstance(about, dict) else None
    elif entry.type == "turn_context" or payload.get("type") in ("task_started", "task_complete"):
        found = payload.get("turn_id")
    else:
        return ""
    return found if isinstance(found, str) else ""

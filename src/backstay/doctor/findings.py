"""What the doctor can find: a code each, how bad it is, and the sentence that says it.

Owns the words; who looks for what is elsewhere. docs/doctor.md has the same table.
"""

from typing import Final, Literal

import msgspec

Severity = Literal["error", "warning", "note"]
"""error: it can't be resumed, or what the model is sent is refused or untrue; note: harmless."""
RANK: Final[dict[str, int]] = {"error": 0, "warning": 1, "note": 2}
KEPT: Final = 100
"""Findings of one code that are listed for one session; more are counted."""


class Kind(msgspec.Struct, frozen=True):
    """One code: how bad it is by itself, and what it means."""

    severity: Severity
    means: str
    repaired: str = ""
    """What `--repair` does about it; "" where it can do nothing."""


CODES: Final[dict[str, Kind]] = {
    "call-without-output": Kind(
        "error",
        "a tool was called and its output is not recorded; the model would be told that the call was aborted, or the provider refuses the request",
        "an output is written behind the call: the true one where the file holds it, else what is known",
    ),
    "output-without-call": Kind(
        "warning",
        "an output answers a call that is not there; it is dropped or refused",
        "the line is left out",
    ),
    "duplicate-call": Kind(
        "error",
        "a call is recorded twice, or two open calls have one id; providers refuse the second one",
        "the second one is left out",
    ),
    "duplicate-output": Kind(
        "error",
        "a call has more than one output; providers refuse that",
        "the first output stays, the others are left out",
    ),
    "torn-line": Kind(
        "error",
        "a line was cut off, or a newline is missing",
        "what can't be read is left out, whole records get a line each",
    ),
    "nul-block": Kind(
        "error",
        "there are NUL bytes: the machine went down while the file was written",
        "the zeros are left out; in a name they are taken out",
    ),
    "invalid-json": Kind(
        "error",
        "a line is no JSON object that a strict reader takes",
        "it is left out, or written anew where it can be read all the same",
    ),
    "invalid-utf8": Kind(
        "error",
        "a line holds bytes that are no text",
        "each of them is replaced by U+FFFD",
    ),
    "line-too-long": Kind("warning", "a line is longer than 256 MB and was not read"),
    "missing-header": Kind(
        "error",
        "the first record is no session header: the session is not listed and not opened",
        "a header is made of the file's name and what the other records say",
    ),
    "out-of-order": Kind(
        "warning",
        "records do not stand in the order of their numbers",
        "the numbers are made to rise; the lines stay where they are",
    ),
    "reused-ordinal": Kind(
        "error",
        "two records have the same number: Codex stops reading its index of the session there",
        "the second one and those behind it are numbered anew",
    ),
    "missing-ordinal": Kind(
        "error",
        "a record lacks its number in a file that numbers them; at the end of a file Codex refuses to resume",
        "it gets the next number",
    ),
    "two-writers": Kind("warning", "two processes wrote to the file, their turns are mingled"),
    "reasoning-without-follower": Kind(
        "warning",
        "a reasoning item lacks the item that it led to; providers may refuse that",
        "the reasoning is left out",
    ),
    "truncated-arguments": Kind(
        "error",
        "the arguments of a call are no whole JSON; some servers refuse them for ever",
        "they are replaced by JSON that says so",
    ),
    "unreadable-image": Kind(
        "error",
        "an image can't be decoded; providers refuse the whole request",
        "a text that says so stands in its place",
    ),
    "compaction-cut-pair": Kind(
        "warning",
        "a compaction kept a call or an output without the other half",
        "an output behind it whose call is gone is left out",
    ),
    "oversize-payload": Kind(
        "note", "the session is large: images, outputs stored more than once, compaction copies"
    ),
    "empty-file": Kind("error", "the file holds nothing: there is nothing to resume"),
    "catalogue-out-of-step": Kind(
        "warning", "the agent's own list of sessions and the files differ"
    ),
    "unknown-format": Kind("warning", "the file is no session of an agent that the doctor knows"),
    "unreadable-file": Kind("error", "the file can't be read"),
    "wrong-checksum": Kind("warning", "a record was changed on the disk"),
    "lost-record": Kind("warning", "records are missing between others"),
    "missing-blob": Kind("error", "a large text that the journal names is not on the disk"),
    "newer-format": Kind("warning", "a newer version wrote it: this one only reads it"),
}


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something wrong, and where: the line from 1 (0: of the whole file) and the byte from 0."""

    code: str
    severity: Severity
    line: int
    offset: int
    text: str
    """One sentence."""
    call_id: str = ""


class Findings:
    """Findings of one session: the first of each code are kept, all are counted."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts: dict[str, int] = {}
        self._severities: dict[str, int] = {}

    def add(
        self,
        code: str,
        line: int,
        offset: int,
        text: str,
        *,
        severity: Severity | None = None,
        call_id: str = "",
    ) -> None:
        """One more."""
        graded = severity or CODES[code].severity
        count = self.counts.get(code, 0) + 1
        self.counts[code] = count
        self._severities[graded] = self._severities.get(graded, 0) + 1
        if count <= KEPT:
            self.kept.append(Finding(code, graded, line, offset, text, call_id))

    def count(self, severity: Severity) -> int:
        """How many there are of a severity."""
        return self._severities.get(severity, 0)

    @property
    def damaged(self) -> bool:
        """Whether there is more than notes."""
        return bool(self.count("error") or self.count("warning"))

    @property
    def worst(self) -> tuple[int, int, int]:
        """Sorts sessions, the worst first."""
        return -self.count("error"), -self.count("warning"), -self.count("note")

    def sorted(self) -> list[Finding]:
        """The kept ones, the worst first, then by place."""
        return sorted(self.kept, key=lambda one: (RANK[one.severity], one.offset, one.code))

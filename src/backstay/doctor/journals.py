"""What is wrong with one of Backstay's own sessions: its journal, read as it stands, and its blobs.

A journal mends itself when its session is resumed: damage is stated, open calls are settled. So
most of what is found is a warning; there is nothing here for a repair to write.
"""

import os
import re
from collections.abc import Iterator
from typing import Final

from backstay.core.history import DAMAGE
from backstay.core.record import Call, Output, Repair
from backstay.doctor.findings import Findings, Severity
from backstay.errors import BackstayError
from backstay.journal import Damage, PosixDisk, journal_path, read, walk
from backstay.journal.folders import home_of

_CODES: Final = {
    "torn": "torn-line",
    "zeros": "nul-block",
    "garbage": "invalid-json",
    "checksum": "wrong-checksum",
    "duplicate": "reused-ordinal",
    "order": "out-of-order",
    "conflict": "two-writers",
    "missing": "lost-record",
    "header": "missing-header",
    "shared": "lost-record",
}
_OF_ORDER: Final = frozenset({"duplicate", "order", "conflict", "missing", "header", "shared"})
_BLOB: Final = re.compile(rb'"\$blob":"([0-9a-f]{64})"')
_OVERLAP: Final = 80
_CHUNK: Final = 1024 * 1024
_MOST: Final = 10_000


def check(folder: str, found: Findings, *, running: bool = False) -> None:
    """Add what is wrong with the session in this folder. Never raises; writes nothing."""
    path = journal_path(folder)
    try:
        _parts(path, found, running=running)
        _whole(path, found)
        _blobs(path, home_of(folder), found)
    except (BackstayError, OSError, ValueError) as error:
        code = "empty-file" if not _size(path) else "unreadable-file"
        found.add(code, 0, 0, str(error)[:300])


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1


def _parts(path: str, found: Findings, *, running: bool) -> None:
    """Lines that are no records, and calls without an output."""
    damage: list[Damage] = []
    stated: set[str] = set()
    open_calls: dict[int, tuple[int, int, str]] = {}
    for part in walk(PosixDisk(), path):
        if isinstance(part, Damage):
            if len(damage) < _MOST:
                damage.append(part)
            continue
        record = part.record
        if isinstance(record, Call):
            name = str(record.item.get("call_id"))[:80]
            open_calls[record.n] = (part.line, part.offset, name)
        elif isinstance(record, Output):
            open_calls.pop(record.call, None)
        elif isinstance(record, Repair) and record.action == DAMAGE:
            stated.update(record.reason.split("; "))
    for one in damage:
        severity: Severity = "note" if str(one) in stated or running else "warning"
        known = " (known to the session already)" if str(one) in stated else ""
        found.add(_CODES[one.code], one.line, one.offset, f"{one}{known}", severity=severity)
    if not running:
        for line, offset, name in open_calls.values():
            text = f"the call {name} has no output; resuming the session settles it"
            found.add("call-without-output", line, offset, text, severity="note", call_id=name)


def _whole(path: str, found: Findings) -> None:
    """What only all records together tell; as far back as a resume reads."""
    reading = read(PosixDisk(), path)
    for one in reading.news:
        if one.code in _OF_ORDER:
            found.add(_CODES[one.code], one.line, one.offset, str(one), severity="warning")
    if reading.read_only:
        found.add("newer-format", 0, 0, f"it can only be read: {reading.read_only}")


def _blobs(path: str, home: str, found: Findings) -> None:
    missing: set[str] = set()
    for offset, name in _named(path):
        if name not in missing and not os.path.isfile(f"{home}/blobs/{name}"):
            missing.add(name)
            found.add("missing-blob", 0, offset, f"the blob {name} is not in {home}/blobs")


def _named(path: str) -> Iterator[tuple[int, str]]:
    """The blobs that stand for texts of the journal, and where they are named."""
    at, rest = 0, b""
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            text = rest + chunk
            begin = at - len(rest)
            for hit in _BLOB.finditer(text):
                if hit.end() > len(rest):
                    yield begin + hit.start(), hit[1].decode()
            at += len(chunk)
            rest = text[-_OVERLAP:]

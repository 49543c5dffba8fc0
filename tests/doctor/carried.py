"""Bringing files of other agents into a home, and looking at what a request would then hold."""

import os
from pathlib import Path
from typing import Any

from backstay.core.dialect import Dialect
from backstay.core.history import History
from backstay.core.record import AnyRecord
from backstay.core.view import view
from backstay.doctor.bringing import Brought, Home, Rollouts, from_codex
from backstay.journal import PosixDisk, look
from backstay.journal.sessions import find

NOW = 1_800_000_000.0
JSON = dict[str, Any]


def bring(home: Path, path: Path, codex_home: Path | None = None, **how: Any) -> Brought:
    """Carry a rollout over."""
    target = Home(PosixDisk(), str(home), "/elsewhere", "0", now=NOW)
    rollouts = Rollouts(str(codex_home or path.parent / "none"))
    return target.bring(from_codex(str(path), rollouts), **how)


def records(home: Path, session: str) -> list[AnyRecord]:
    """The records of a session, whose journal is sound."""
    reading = look(PosixDisk(), find(PosixDisk(), str(home), session))
    assert reading.damage == []
    return reading.records


def history(home: Path, session: str) -> History:
    """What they add up to."""
    made = History()
    for record in records(home, session):
        made.apply(record)
    return made


def sent(home: Path, session: str) -> list[JSON]:
    """The input of a request that is made now."""
    made = history(home, session)
    assert made.open_calls() == []
    return view(made, Dialect())


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder: its bytes, and when it was changed."""
    found = {}
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            found[str(path)] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found

"""A session folder whose processes are all seen to be gone at the end of the test."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.supervise.sessions import Session, processes_of


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A fresh session folder; the test fails if it leaves a process of it behind."""
    folder = tmp_path / "session"
    folder.mkdir(mode=0o700)
    session = Session(str(folder), uuid.uuid4().hex[:12])
    yield session
    left = processes_of(session)
    until = time.monotonic() + 5
    while left and time.monotonic() < until:
        time.sleep(0.02)
        left = processes_of(session)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    if left:
        pytest.fail(f"processes were left behind: {left}")

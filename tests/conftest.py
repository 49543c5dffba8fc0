"""Fixtures that every test may ask for, and the rules that every test is held to."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.processes import end_processes_of

REPOSITORY = Path(__file__).resolve().parent.parent

# The size of the tester's terminal, where it is exported, is not what a test's processes see.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50, print_blob=True)
settings.register_profile("deep", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("deep" if os.environ.get("BACKSTAY_DEEP") else "ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the tools name their effects alike: side by side one would end the other's."""
    for item in items:
        if REPOSITORY / "tests" / "tools" in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("effects"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of recorded streams, rollouts and patches; a skip without it, in CI a failure."""
    folder = Path(os.environ.get("BACKSTAY_DATA") or REPOSITORY.parent / "shared" / "data")
    if folder.is_dir():
        return folder
    reason = f"no recordings at {folder}: set BACKSTAY_DATA to their folder"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A fresh BACKSTAY_HOME; give it to the processes you start, nothing reads it by itself.

    What still runs with it after the test is killed; a test that promises that nothing does
    asks `tests.processes.processes_of`.
    """
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    yield folder
    end_processes_of(folder)


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    """Fail a test that leaves a child process behind, running or not waited for; end the child."""
    before = _children()
    yield
    left = _children() - before
    for pid in left:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # reaped meanwhile
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if left:
        pytest.fail(f"the test left child processes behind: {sorted(left)}")


def _children() -> set[int]:
    """The pids of this process's children, where /proc tells them (Linux)."""
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(map(int, listing.read_text().split()))
        except FileNotFoundError:  # the thread has ended meanwhile
            continue
    return found

"""The rules of the suite itself: they must be able to fail a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gate import complaints

REPOSITORY = Path(__file__).resolve().parent.parent


def run_pytest(folder: Path, body: str, **environment: str) -> str:
    """Run one test file under this suite's conftest; give pytest's report."""
    (folder / "test_inner.py").write_text(body)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    inherited = {key: value for key, value in os.environ.items() if key != "CI"}
    return subprocess.run(
        [*command, "-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(folder), str(folder)],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        env={**inherited, "PYTHONPATH": str(REPOSITORY), **environment},
    ).stdout


READS_RECORDINGS = "def test_x(data_dir): assert data_dir.is_dir()\n"


def test_missing_recordings_are_a_visible_skip(tmp_path: Path) -> None:
    """Without the recordings a test that needs them is skipped, and the reason says what to set."""
    output = run_pytest(tmp_path, READS_RECORDINGS, BACKSTAY_DATA=str(tmp_path / "none"))
    assert "1 skipped" in output
    assert "set BACKSTAY_DATA" in output


def test_missing_recordings_fail_in_ci(tmp_path: Path) -> None:
    """In CI the same test fails."""
    output = run_pytest(tmp_path, READS_RECORDINGS, BACKSTAY_DATA=str(tmp_path / "none"), CI="true")
    assert "1 error" in output
    assert "skipped" not in output


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are told by /proc")
def test_a_child_left_behind_fails_its_test(tmp_path: Path) -> None:
    """A test that leaves a process running is an error that names the pid."""
    body = "import os\ndef test_x(): os.posix_spawn('/bin/sleep', ['sleep', '50'], {})\n"
    output = run_pytest(tmp_path, body)
    assert "left child processes behind: [" in output
    assert "1 error" in output


def report(folder: Path, *cases: str) -> str:
    """Write a JUnit report of these cases; give its path."""
    path = folder / "report.xml"
    path.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    return str(path)


PASSED = '<testcase classname="a" name="one"/>'


def test_the_gate_accepts_a_run_with_an_ordinary_skip(tmp_path: Path) -> None:
    """A test that passed, and one skipped for its platform, are no complaint."""
    skipped = '<testcase classname="a" name="two"><skipped message="macOS only"/></testcase>'
    assert complaints(report(tmp_path, PASSED, skipped)) == []


def test_the_gate_refuses_a_run_without_recordings(tmp_path: Path) -> None:
    """One test skipped for want of recordings is named."""
    skipped = '<testcase classname="a" name="b"><skipped message="set BACKSTAY_DATA"/></testcase>'
    assert complaints(report(tmp_path, PASSED, skipped)) == ["a.b: set BACKSTAY_DATA"]


def test_the_gate_refuses_a_run_without_tests(tmp_path: Path) -> None:
    """An empty report is no success."""
    assert complaints(report(tmp_path)) == ["no test ran"]

"""Disks for the tests of the journal."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backstay.journal import PosixDisk
from backstay.journal.disk import Disk
from backstay.journal.simulated import SimulatedDisk


@pytest.fixture(params=["posix", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, str]:
    """Each disk in turn, with an empty folder on it."""
    if request.param == "posix":
        return PosixDisk(), str(tmp_path)
    disk = SimulatedDisk()
    disk.mkdir("/root")
    disk.sync_directory("/")
    return disk, "/root"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB; a skip where mounting is not permitted, in CI a failure."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        reason = "mounting a tmpfs is not permitted here"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)

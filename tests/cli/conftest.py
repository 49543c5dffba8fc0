"""Fixtures of the command line's tests."""

from pathlib import Path

import pytest

from tests.cli.command import Command


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def command(home: Path, workspace: Path) -> Command:
    """The command line with a fresh home and a provider that nobody listens for."""
    return Command(home, workspace)

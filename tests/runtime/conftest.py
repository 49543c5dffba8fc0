"""Fixtures of the runtime's tests."""

from pathlib import Path

import pytest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository."""
    (tmp_path / "project" / ".git").mkdir(parents=True)
    return tmp_path / "project"

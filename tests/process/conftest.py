"""The bench that every test of this folder works at."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.agent import Bench


@pytest.fixture
def bench(tmp_path: Path, home: Path) -> Iterator[Bench]:
    """A bench with the test's own home; agents that still run are killed at the end."""
    with Bench(tmp_path, home) as made:
        yield made

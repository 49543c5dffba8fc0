"""Fixtures of the core's tests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.core.playbook import Playbook


@pytest.fixture
def playbook() -> Iterator[Callable[..., Playbook]]:
    """Makes playbooks; one that was never checked fails the test."""
    made: list[Playbook] = []

    def make(*arguments: Any, **fields: Any) -> Playbook:
        made.append(Playbook(*arguments, **fields))
        return made[-1]

    yield make
    unchecked_fail(made)


def unchecked_fail(made: list[Playbook]) -> None:
    """A script that nobody ran proves nothing."""
    assert all(one.checked for one in made), "a playbook was never checked"

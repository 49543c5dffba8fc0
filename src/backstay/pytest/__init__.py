"""The pytest plugin: a Responses API server for a test, and the faults that may befall it.

pytest finds it by itself where Backstay is installed. Owns the fixtures `responses_server` and `fault`
alone; what they are is loaded by the first test that asks for one.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from backstay.pytest.fixtures import Faults, ResponsesServer


@pytest.fixture
def responses_server() -> Iterator["ResponsesServer"]:
    """A Responses API server on loopback that plays what the test tells it to.

    At the end of the test it fails it if the requests were wrong: see `ResponsesServer.check`.
    """
    from backstay.pytest.fixtures import ResponsesServer

    with ResponsesServer() as server:
        yield server
    server.check()


@pytest.fixture
def fault() -> "Faults":
    """The faults of a response, by their names: `fault.close(after="call")`."""
    from backstay.pytest.fixtures import Faults

    return Faults()

"""Tests of one's own agent, offline: `pytest test_my_agent.py`. The fixtures are Backstay's."""

from pathlib import Path

import pytest

from backstay import Agent, RemoteError, tool
from backstay.chaos import call, http_error, message, response
from backstay.pytest.fixtures import Faults, ResponsesServer

booked: list[str] = []


@tool
def book(seat: str) -> str:
    """Book a seat."""
    booked.append(seat)
    return f"{seat} is yours."


@pytest.fixture
def agent(responses_server: ResponsesServer, tmp_path: Path) -> Agent:
    booked.clear()
    url = responses_server.url
    return Agent("m", tools=[book], base_url=url, home=tmp_path, shell_tools=False)


def test_it_books_the_seat(agent: Agent, responses_server: ResponsesServer) -> None:
    responses_server.play(response(call("book", {"seat": "7A"})), response(message("Booked.")))
    assert agent.ask_sync("Seat 7A, please.").text == "Booked."
    assert responses_server.judge(must_contain=["7A is yours."]).ok


def test_a_cut_stream_books_once(
    agent: Agent, responses_server: ResponsesServer, fault: Faults
) -> None:
    cut = fault.close(after="call")
    responses_server.play(
        response(call("book", {"seat": "7A"}), fault=cut), response(message("Booked."))
    )
    agent.ask_sync("Seat 7A, please.")
    assert booked == ["7A"]


def test_a_refused_key_can_be_mended(agent: Agent, responses_server: ResponsesServer) -> None:
    responses_server.play(http_error(401), response(message("Hello.")))
    with pytest.raises(RemoteError) as refused:
        agent.ask_sync("Hello?")
    assert agent.ask_sync(None, refused.value.session_id).text == "Hello."

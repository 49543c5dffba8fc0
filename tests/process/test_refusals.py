"""What can be wrong before or instead of a turn: one clear line, the right exit code, nothing lost."""

import socket

import pytest

from backstay.chaos import http_error, message, response
from backstay.core.items import message_text
from backstay.core.record import Prompt
from tests.process.agent import Bench, Ended

pytestmark = pytest.mark.processes


def complaint(ended: Ended) -> str:
    """The one line on stderr that says what is wrong; a headline and a hint may stand around it."""
    assert "Traceback" not in ended.err
    around = ("backstay 0.", "to go on: ", "tokens: ")
    line, *hints = [one for one in ended.err.splitlines() if not one.startswith(around)]
    assert len(hints) <= 1
    return line


def prompt(bench: Bench) -> str:
    """The text of the one prompt that the journal holds."""
    (one,) = [one for one in bench.records() if isinstance(one, Prompt)]
    return message_text(one.items[-1])


def asked_in_vain(bench: Bench, retries: int) -> Ended:
    """Run a turn with a provider where nobody listens: a port that is taken, and only that."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        table = f'base_url="{url}",request_max_retries={retries}'
        provider = ("-c", f"model_providers.p={{{table}}}", "-c", "model_provider=p")
        return bench.exec("a prompt", *provider).end()


def test_unreachable_provider(bench: Bench) -> None:
    """Nobody listens: it is tried as often as configured, exit 1, and finished once somebody does."""
    ended = asked_in_vain(bench, retries=0)
    assert ended.code == 1
    assert "refused" in complaint(ended)
    assert prompt(bench) == "a prompt"
    assert bench.turns() == ["failed"]
    bench.serve(response(message("done")))
    ended = bench.resume().end()
    assert (ended.code, ended.out) == (0, "done\n")
    assert "a prompt" in str(bench.inputs()[0])


def test_unreachable_provider_is_tried_again_with_a_word_each_time(bench: Bench) -> None:
    """Each wait is told, with its number and its reason."""
    ended = asked_in_vain(bench, retries=2)
    assert ended.code == 1
    told = [line for line in ended.err.splitlines() if "trying again" in line]
    assert len(told) == 2
    assert "(1 of 2)" in told[0]


@pytest.mark.parametrize(
    "status, code, word",
    [
        (401, "invalid_api_key", "401"),
        (403, "", "403"),
        (404, "model_not_found", "404"),
        (429, "insufficient_quota", "quota"),
    ],
)
def test_refusal_that_waiting_cannot_mend_is_one_request(
    bench: Bench, status: int, code: str, word: str
) -> None:
    """A wrong key, a model that is not there, no credit: one request, exit 1, resumable."""
    error = {"error": {"message": f"refused: {word}", "code": code or None, "type": "x"}}
    bench.serve(http_error(status, body=error), response(message("done")))
    ended = bench.exec("a prompt").end()
    assert ended.code == 1
    assert word in complaint(ended)
    assert "sk-test" not in ended.err
    assert len(bench.server.requests) == 1
    assert prompt(bench) == "a prompt"
    assert bench.resume().end().code == 0
    bench.check()


def test_no_model(bench: Bench) -> None:
    """Without a model there is no session: exit 2 before anything is written."""
    bench.serve(response(message("done")))
    ended = bench.start("exec", "--yolo", "go").end()
    assert ended.code == 2
    assert "-m MODEL" in ended.one_line()
    assert list(bench.home.iterdir()) == []
    assert bench.server.requests == []


def test_no_key(bench: Bench) -> None:
    """Without a key nothing is sent to the provider: exit 2, with the variable's name."""
    bench.environ = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}
    ended = bench.exec("go").end()
    assert ended.code == 2
    assert "OPENAI_API_KEY" in ended.one_line()


def test_home_that_is_a_file(bench: Bench) -> None:
    """A home that can't be: exit 4, and no request."""
    bench.serve(response(message("done")))
    bench.home.rmdir()
    bench.home.write_text("not a folder")
    ended = bench.exec("go").end()
    assert ended.code == 4
    assert str(bench.home) in ended.one_line()
    assert bench.server.requests == []


@pytest.mark.parametrize(
    "text, word",
    [
        ('model = "m"\nmodel_reasoning_effort = 7\n', ":2:"),
        ('model = "m"\n\n[model_providers.x\n', ":3:"),
        ('\n\ncommand_grace_seconds = "soon"\n', ":3:"),
    ],
)
def test_wrong_line_of_configuration(bench: Bench, text: str, word: str) -> None:
    """The file and the line are named: exit 2, nothing is begun."""
    bench.serve(response(message("done")))
    (bench.home / "config.toml").write_text(text)
    ended = bench.exec("go").end()
    assert ended.code == 2
    assert f"{bench.home}/config.toml{word}" in ended.one_line()
    assert bench.server.requests == []
    assert not (bench.home / "sessions").exists()


def test_unknown_key_of_configuration_is_a_warning(bench: Bench) -> None:
    """It is named with its nearest neighbour, and the turn runs."""
    bench.serve(response(message("done")))
    (bench.home / "config.toml").write_text('modle = "m"\n')
    ended = bench.exec("go").end()
    assert ended.code == 0
    assert "did you mean model" in ended.err


@pytest.mark.parametrize(
    "session", ["01234567-0000-7000-8000-000000000000", "no-such-session", "../../etc", ""]
)
def test_unknown_session(bench: Bench, session: str) -> None:
    """An id that no session has, or none at all: exit 3, and nothing is sent."""
    bench.serve(response(message("done")), repeat=True)
    assert bench.exec("go").end().code == 0
    ended = bench.exec("resume", session, "more").end()
    assert ended.code == 3
    assert session in ended.one_line()
    assert len(bench.server.requests) == 1


def test_nothing_to_continue(bench: Bench) -> None:
    """A session whose last turn is complete: exit 2, one line, nothing sent or written."""
    bench.serve(response(message("done")), repeat=True)
    assert bench.exec("go").end().code == 0
    before = bench.journal.read_bytes()
    ended = bench.resume().end()
    assert ended.code == 2
    assert "nothing to continue" in complaint(ended)
    assert len(bench.server.requests) == 1
    assert bench.journal.read_bytes() == before


def test_unwritable_working_folder_of_a_command_is_the_models_concern(bench: Bench) -> None:
    """A folder that is not there is told to the model; the turn goes on."""
    bench.serve(response(bench.command("one", workdir="nowhere/at/all")), response(message("done")))
    assert bench.exec("go").end().code == 0
    assert "nowhere" in bench.sent()[0]
    assert bench.runs("one") == 0
    bench.check()

"""The agent on a real llama.cpp server with a real small model; only with `make real`.

docs/local-models.md says how to get one. A small model does not always do as it is told: each test
words its prompt in several ways, and asserts only what is the agent's part.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.agent import Agent
from tests.real.llama import Real, serving

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]

APPEND = (
    "Append the line hello to note.txt with a shell command, then say that you are done.",
    "Run this shell command, then say that you are done: echo hello >> note.txt",
    "Use exec_command with cmd `echo hello >> note.txt`. After that, say that you are done.",
)
COUNT = (
    "Count from one to forty in words. Do not call any tool, only write the words.",
    "Write a poem of ten lines about the sea. Only text.",
    "Say hello.",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a server with a model."""
    if running := os.environ.get("BACKSTAY_LLAMA_URL"):
        yield running
        return
    program, model = (os.environ.get(f"BACKSTAY_LLAMA_{name}") for name in ("SERVER", "MODEL"))
    if not program or not model:
        pytest.skip("no server: set BACKSTAY_LLAMA_URL, or BACKSTAY_LLAMA_SERVER and _MODEL")
    with serving(program, model, tmp_path_factory.mktemp("llama") / "log") as started:
        yield started


@pytest.fixture
def attempts(url: str, tmp_path: Path, home: Path) -> Iterator[Callable[[], Real]]:
    """A fresh bench at each call, with a home of its own; all of them are closed at the end."""
    with ExitStack() as stack:
        made: list[Real] = []

        def attempt() -> Real:
            root, place = tmp_path / str(len(made)), home / str(len(made))
            root.mkdir()
            place.mkdir(mode=0o700)
            made.append(stack.enter_context(Real(root, place, url)))
            return made[-1]

        yield attempt


def obeyed(attempts: Callable[[], Real], *plan: object) -> Real:
    """A bench whose model appended and came to its end, after as many prompts as it needs."""
    heard = []
    for prompt in APPEND:
        bench = attempts()
        bench.through(*plan)
        ended = bench.end(bench.exec(prompt))
        commands = noting(bench)
        if commands and all(">>" in one for one in commands) and bench.turns() == ["completed"]:
            assert ended.code == 0, ended.err
            return bench
        heard.append(f"{prompt}\n{bench.said()}\n{ended.err}")
    raise AssertionError("the model did not do it; it said:\n" + "\n".join(heard))


def noting(bench: Real) -> list[str]:
    """The commands that name the file, as the model wrote them."""
    return [text for one in bench.calls() if "note.txt" in (text := str(one.item["arguments"]))]


def paired(bench: Real) -> None:
    """Each call has its own output, each command ran once, and the server saw no loose end."""
    assert sorted(one.call for one in bench.outputs()) == [one.n for one in bench.calls()]
    written = (bench.cwd / "note.txt").read_text().splitlines()
    assert written == ["hello"] * len(noting(bench)), bench.said()
    bench.check()


def test_a_call_runs_and_the_model_answers(attempts: Callable[[], Real]) -> None:
    """One tool call from end to end: the command, its output in the next request, the answer."""
    bench = obeyed(attempts)
    paired(bench)
    assert set(bench.statuses()) == {"done"}
    assert len(bench.sent()) == len(bench.calls())


def test_a_session_goes_on(attempts: Callable[[], Real]) -> None:
    """A second process resumes it: the model is shown the call and its output, and answers."""
    bench = obeyed(attempts)
    before = len(bench.outputs())
    ended = bench.end(bench.resume("Thanks. Say goodbye in one word, call nothing."))
    assert bench.turns()[0] == "completed"
    assert len(bench.turns()) == 2, ended.err
    assert len(bench.sent()) >= before
    paired(bench)


def test_a_cut_behind_a_call_repeats_nothing(attempts: Callable[[], Real]) -> None:
    """The stream breaks when the call is there: it runs, and the retry holds its output."""
    bench = obeyed(attempts, {"fault": {"kind": "close", "after": "call"}})
    first, second = bench.inputs()[:2]
    assert len(first) < len(second)
    assert [one["type"] for one in second].count("function_call_output") == 1, second
    paired(bench)


def writing(attempts: Callable[[], Real]) -> tuple[Real, Agent, str]:
    """An agent whose answer stands still behind its first words, and its prompt."""
    delta = {"event": "response.output_text.delta"}
    heard = []
    for prompt in COUNT:
        bench = attempts()
        hold = {"after": delta | {"nth": 2}, "file": str(bench.root / "never"), "seconds": 1}
        bench.through({"hold": hold, "fault": {"kind": "stall", "after": delta | {"nth": 3}}})
        agent = bench.exec(prompt)
        while agent.running and not bench.server.problems:
            time.sleep(0.1)
        time.sleep(1)  # the hold is over, the words are there; an answer this short ends now
        if agent.running:
            return bench, agent, prompt
        heard.append(f"{prompt}\n{bench.said()}")
    raise AssertionError("it never answered with text; it said:\n" + "\n".join(heard))


def test_killed_in_the_middle_of_an_answer(attempts: Callable[[], Real]) -> None:
    """`kill -9` while the model writes; resumed without a prompt, the turn comes to its end."""
    bench, agent, prompt = writing(attempts)
    agent.kill()
    bench.through()
    ended = bench.end(bench.resume())
    assert bench.turns() == ["completed"], ended.err
    assert ended.out.strip(), "there is no answer"
    assert str(bench.inputs()[-1]).count(prompt) == 1
    bench.check()


KNOWN = {
    "reachable": "yes",
    "streams": "yes",
    "event_lines": "yes",
    "output_index": "no",
    "sequence_number": "no",
    "usage": "yes",
    "function_calls": "yes",
    "outputs": "yes",
    "custom_tools": "no",
    "unknown_items": "no",
    "compact_endpoint": "no",
}
"""What docs/local-models.md says of the server."""


def test_what_the_doctor_finds(url: str, attempts: Callable[[], Real]) -> None:
    """It finds what is known of the server, and the flags of the built-in provider fit it."""
    bench = attempts()
    address = f"model_providers.llamacpp.base_url={url}"  # not through the proxy, which keeps alive
    line = ("doctor", "--provider", "llamacpp", "--json", "--timeout", "900", "-c", address)
    ended = bench.end(bench.start(*line))
    found = json.loads(ended.out)
    verdicts = {one["name"]: one["verdict"] for one in found["findings"]}
    assert {name: verdicts.get(name) for name in KNOWN} == KNOWN, ended.out
    assert found["works"] is True
    assert not set(found["differs"]) & {"custom_tools", "unknown_items", "encrypted_reasoning"}

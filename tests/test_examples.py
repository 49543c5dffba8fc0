"""The examples, each as a process of its own against the fault server."""

import ast
import http.client
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from backstay.chaos import ChaosServer, call, cut, hold, http_error, judge, message, response
from backstay.chaos.sessions import judge_sessions
from backstay.core.record import TurnEnd
from backstay.journal import PosixDisk, journal_path, read
from backstay.journal.sessions import list_sessions
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.processes

EXAMPLES: Final = REPOSITORY / "examples"
FILES: Final = sorted(EXAMPLES.glob("*.py"))
JSON = dict[str, Any]


def environ(home: Path, url: str = "", **more: str) -> dict[str, str]:
    """What an example runs under."""
    given = {"BACKSTAY_HOME": str(home), "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-t"}
    return os.environ | given | more


def run(
    name: str, *words: str, cwd: Path, env: dict[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *words],
        cwd=cwd,
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_example_has_its_line_and_its_test() -> None:
    """In the README of the folder; and the name stands in this file, or pytest runs it."""
    listed = re.findall(
        r"^- \[([\w.]+)\]\(\1\): .+", (EXAMPLES / "README.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == [path.name for path in FILES]
    tested = Path(__file__).read_text()
    assert [path.name for path in FILES if f'"{path.stem}' not in tested] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_says_how_it_is_run(path: Path) -> None:
    """Its docstring has the command."""
    text = path.read_text()
    assert re.search(
        r"`[^`]*(python|uvicorn|pytest) [^`]+`", ast.get_docstring(ast.parse(text)) or ""
    )


def test_hello_world(tmp_path: Path, home: Path) -> None:
    """In under 30 lines a model uses a tool, through a cut stream too."""
    assert len((EXAMPLES / "hello_world.py").read_text().splitlines()) < 30
    script = [
        response(call("temperature", {"city": "Oslo"}), fault=cut(after="call")),
        response(message("It is 3.5 degrees.")),
    ]
    with ChaosServer(script, strict=True) as server:
        env = environ(home, server.url)
        ran = run("hello_world.py", "m", "How warm is it in Oslo?", cwd=tmp_path, env=env)
    assert (ran.returncode, ran.stdout) == (0, "It is 3.5 degrees.\n"), ran.stderr
    assert server.bodies[1]["input"][-1]["output"] == "3.5"
    assert judge(server.requests).ok


@pytest.mark.parametrize("point", ["before-start:charge", "before-finish:charge"])
def test_custom_tool(tmp_path: Path, home: Path, point: str) -> None:
    """Killed before or behind the charge, and resumed: the customer is charged once."""
    charge = call("charge", {"customer": "Ada", "cents": 1200})
    with ChaosServer([response(charge)], strict=True) as server:
        env = environ(home, server.url, BACKSTAY_CRASH=f"{point}:1")
        ran = run("custom_tool.py", "m", "Charge Ada 12 euros.", cwd=tmp_path, env=env)
        first = server.requests
    assert ran.returncode == -9, ran.stderr
    session = ran.stdout.split()[1]
    never = point.startswith("before-start")
    script = [response(charge)] if never else []
    with ChaosServer([*script, response(message("Charged."))], strict=True) as server:
        ran = run(
            "custom_tool.py", "m", "--resume", session, cwd=tmp_path, env=environ(home, server.url)
        )
        assert judge([*first, *server.requests]).ok
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "Charged."), ran.stderr
    assert "charge: Charged Ada 12.00 EUR. (done)\n" in ran.stdout
    assert ("never started" in ran.stdout) == never
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        assert shop.execute("SELECT customer, cents FROM charges").fetchall() == [("Ada", 1200)]


def test_batch(tmp_path: Path, home: Path) -> None:
    """Each prompt gets its session; one that fails costs the others nothing, and says which it is."""

    def answers(body: JSON) -> JSON:
        prompt = body["input"][0]["content"][0]["text"]
        return http_error(401) if prompt == "p3" else response(message(f"to {prompt}"))

    prompts = [f"p{number}" for number in range(20)]
    with ChaosServer(answers, strict=True) as server:
        ran = run(
            "batch.py", "m", cwd=tmp_path, env=environ(home, server.url), stdin="\n".join(prompts)
        )
    assert ran.returncode == 0, ran.stderr
    lines = {line["prompt"]: line for line in map(json.loads, ran.stdout.splitlines())}
    assert sorted(lines) == sorted(prompts)
    assert "HTTP 401" in lines.pop("p3")["error"]
    assert all(line["answer"] == f"to {prompt}" for prompt, line in lines.items())
    assert len({line["session"] for line in lines.values()}) == 19
    assert judge_sessions(server.requests).ok


def test_test_my_agent(tmp_path: Path, home: Path) -> None:
    """The tests of somebody's agent pass, and fail when the agent's tool is broken."""
    source = (EXAMPLES / "test_my_agent.py").read_text()
    broken = source.replace("booked.append(seat)", "seat += '!'")
    said = [reported(tmp_path, home, text) for text in (source, broken)]
    assert "3 passed" in said[0], said[0]
    assert "1 failed, 2 passed" in said[1] or "2 failed, 1 passed" in said[1], said[1]


def reported(folder: Path, home: Path, text: str) -> str:
    """What pytest prints of this test file."""
    (folder / "test_my_agent.py").write_text(text)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_agent.py"]
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environ(home),
        capture_output=True,
        text=True,
        check=False,
    ).stdout


# The endpoint


@contextmanager
def endpoint(home: Path, url: str) -> Iterator[int]:
    """`web.py` under uvicorn; gives its port."""
    words = ["-m", "uvicorn", "--app-dir", str(EXAMPLES), "web:app", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, *words],
        env=environ(home, url, MODEL="m"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"running on http://127.0.0.1:(\d+)", line):
                yield int(found[1])
                break
        else:
            pytest.fail("uvicorn did not start")
    finally:
        process.terminate()
        process.communicate(timeout=20)


@contextmanager
def asked(port: int, **question: str) -> Iterator[http.client.HTTPResponse]:
    """The answer of the endpoint, its body not yet read; the client leaves with the block."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/ask", json.dumps(question), headers)
        with connection.getresponse() as answer:
            yield answer


def told(port: int, **question: str) -> list[JSON]:
    """All events of a turn."""
    with asked(port, **question) as answer:
        return [json.loads(line) for line in answer]


def test_web(tmp_path: Path, home: Path) -> None:
    """It streams while the model speaks, goes on with a session, and tells errors as a line."""
    pause = hold(tmp_path / "heard", before="terminal")
    script = [response(message("first"), hold=pause), response(message("second"))]
    with ChaosServer(script, strict=True) as server, endpoint(home, server.url) as port:
        with asked(port, prompt="one") as answer:
            begun = json.loads(answer.readline())
            text = ""
            while text != "first":  # the stream is held: this comes before its end
                line = json.loads(answer.readline())
                text += line["text"] if line["type"] == "text_delta" else ""
            (tmp_path / "heard").touch()
            assert json.loads(answer.readlines()[-1])["text"] == "first"
        events = told(port, prompt="two", session=begun["session_id"])
        assert (events[-1]["type"], events[-1]["text"]) == ("turn_completed", "second")
        (wrong,) = told(port, prompt="x", session="00000000-dead")
        assert wrong["type"] == "error"
    assert judge(server.requests).ok


def test_web_interrupts_the_turn_of_a_client_that_leaves(tmp_path: Path, home: Path) -> None:
    """The connection is closed in the middle: that is recorded, and the session goes on later."""
    pause = hold(tmp_path / "never", before="terminal", seconds=30)
    script = [response(message("long"), hold=pause), response(message("short"))]
    with ChaosServer(script) as server, endpoint(home, server.url) as port:
        with asked(port, prompt="one") as answer:
            session = json.loads(answer.readline())["session_id"]
        while not (ends := turn_ends(home)):
            time.sleep(0.01)
        assert ends == ["interrupted"]
        events = [{"type": "error"}]
        while events[-1]["type"] == "error":  # it may be that it is not closed yet
            events = told(port, prompt="shorter", session=session)
    assert events[-1]["text"] == "short"


def turn_ends(home: Path) -> list[str]:
    """How the turns of the one session ended, so far."""
    (one,) = list_sessions(PosixDisk(), str(home))
    records = read(PosixDisk(), journal_path(one.path), everything=True).records
    return [record.outcome for record in records if isinstance(record, TurnEnd)]

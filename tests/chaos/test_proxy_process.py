"""The fault proxy as a process: its command line, its log, its verdict, and an agent behind it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

from backstay.chaos import ChaosServer, call, cut, judge_sessions, message, response
from backstay.chaos.script import Kind
from tests.chaos.client import fetch, poll
from tests.cli.command import Command
from tests.model.servers import CERTIFICATES

COMMAND = [sys.executable, "-m", "backstay", "chaos", "proxy"]


@pytest.fixture(scope="module")
def provider() -> Iterator[ChaosServer]:
    """A provider that answers always the same."""
    with ChaosServer([response(message("a"), call("f"))], repeat=True, seed="s") as server:
        yield server


@contextmanager
def running(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The base URL and the process of a proxy; ended with SIGTERM."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *words], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()
            process.wait(20)


def logged(path: Path) -> list[dict[str, Any]]:
    """The lines of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def until_logged(path: Path, lines: int) -> None:
    """Wait until a log has so many lines."""
    poll(lambda: len(logged(path)) == lines)


def test_requests_and_answers_are_logged(provider: ChaosServer, tmp_path: Path) -> None:
    """A line when a request comes and one when its answer is over; no key, mode 0600."""
    log, plan = tmp_path / "log", tmp_path / "plan.json"
    plan.write_text(json.dumps([None, {"fault": cut(after="call")}]))
    with running("--to", provider.url, f"--log={log}", "--plan", str(plan)) as (url, process):
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith("/v1")
        for number, ending in enumerate(("complete", "fin"), 1):
            assert fetch(url).ending == ending
            until_logged(log, 2 * number)
    assert process.returncode == 0
    first, over, second, cut_off = logged(log)
    assert (first["number"], second["number"], first["method"]) == (0, 1, "POST")
    assert first["body"]["input"] == "hello"
    assert over == {"answer": 0, "status": 200, "ended": "clean", "struck": []}
    assert cut_off == {"answer": 1, "status": 200, "ended": "close", "struck": ["close"]}
    assert "sesame" not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    verdicts = judge_sessions(logged(log))
    assert (verdicts.ok, verdicts.unread) == (True, [])
    assert verdicts.sessions[0][0].numbers == [0, 1]


def test_a_seed_repeats_a_run(provider: ChaosServer, tmp_path: Path) -> None:
    """One that was made up is printed; what was drawn stands in the log."""

    def played(*words: str) -> tuple[list[Any], str]:
        log = tmp_path / f"log{len(words)}"
        options = ("--to", provider.url, "--probability=0.5", "--log", str(log))
        with running(*options, *words) as (url, process):
            found = [(one.status, one.ending, one.types) for one in (fetch(url) for _ in range(12))]
            process.terminate()
            assert process.stderr is not None
            said = process.stderr.read()
        drawn = [entry.get("drawn") for entry in logged(log) if "number" in entry]
        return [found, drawn], said

    first, said = played()
    seed = said.split("--seed ")[1].split(" ")[0]
    assert 0 < sum(one is not None for one in first[1]) < 12
    assert played("--seed", seed) == (first, "")


def test_the_judge_speaks_at_the_end(provider: ChaosServer) -> None:
    """Its table is on stderr, and something wrong is exit code 1; SIGINT ends the proxy too."""
    for text, code in (("other", 1), ("same", 0)):
        with running("--to", provider.url, "--judge") as (url, process):
            for prompt in ("same", text):
                fetch(url, {"input": prompt, "prompt_cache_key": "k"})
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(20) == code
            assert process.stderr is not None
            assert ("changed_prefix" in process.stderr.read()) == bool(code)


@pytest.mark.parametrize(
    "words, text",
    [
        ([], "say where to: --to https://api.openai.com/v1"),
        (["--to"], "--to needs a value"),
        (["--to", "x"], "--to x: give a base URL"),
        (["script.json", "--to", "http://x"], "script.json: takes only options"),
        (["--to", "http://x", "--plan", "nope"], "nope: cannot be read: No such file"),
        (["--to", "http://x", "--plan", "PLAN"], "requests[0]: Object contains unknown field"),
        (["--to", "https://x", "--ca", "PLAN"], "--ca PLAN: no certificates: "),
        (["--to", "http://x", "--seed", "1"], "--seed needs --probability as well"),
        (["--to", "http://x", "--strict"], "unknown option --strict"),
        (["--to", "http://x", "--port", "x"], "--port x: not a port number"),
    ],
)
def test_bad_arguments_get_one_line(words: list[str], text: str, tmp_path: Path) -> None:
    """Exit code 2, nothing on stdout, one line on stderr, no traceback."""
    (tmp_path / "PLAN").write_text('[{"x": 1}]')
    ran = subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, cwd=tmp_path, timeout=30, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("backstay chaos proxy: ")
    assert text in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_help_names_every_option() -> None:
    """--help of the proxy and of the kit prints on stdout and ends with 0."""
    ran = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    options = ("--to", "--port", "--log", "--plan", "--ca", "--judge", "--probability", "--seed")
    for word in (*get_args(Kind), *options, "--kinds", "--seconds"):
        if word != "status":
            assert word in ran.stdout
    kit = subprocess.run([*COMMAND[:-1], "--help"], capture_output=True, text=True, check=True)
    for word in ("serve SCRIPT", "proxy --to URL", "test -- COMMAND"):
        assert word in kit.stdout
    assert max(len(line) for line in (ran.stdout + kit.stdout).splitlines()) <= 100


@pytest.mark.processes
@pytest.mark.parametrize("seed", [4, 7, 9])
def test_an_agent_gets_through_a_bad_network(home: Path, tmp_path: Path, seed: int) -> None:
    """`backstay exec` behind a proxy that breaks half of the answers: done, and nothing is wrong."""
    work = tmp_path / "work"
    work.mkdir()
    steps = 12
    script = [
        *(
            response(call("exec_command", {"cmd": f"echo {n} >> ledger"}), message("and so on"))
            for n in range(steps)
        ),
        response(message("All done.")),
    ]
    kinds = ["close", "reset", "half_event", "clean_end", "repeat", "unknown", "garbage", "failed"]
    chaos = {"probability": 0.5, "seed": seed, "kinds": [*kinds, "status", "error", "trickle"]}
    log = tmp_path / "log"
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"requests": [], "chaos": chaos | {"seconds": 0.1}}))
    with (
        ChaosServer(script, repeat=True, strict=True) as server,
        running("--to", server.url, "--log", str(log), "--plan", str(plan), "--judge") as run,
    ):
        url, process = run
        command = Command(home, work, url)
        done = command.run("exec", "--skip-git-repo-check", "-m", "m", "go")
        assert done.code == 0, done.err
        process.terminate()
        assert process.stderr is not None
        said = process.stderr.read()
        assert server.requests[-1].refusal is None
    assert process.returncode == 0, said
    assert "nothing wrong" in said
    requests = [entry for entry in logged(log) if "number" in entry]
    assert sum("drawn" in entry for entry in requests) > 3
    assert done.out.strip() == "All done."
    lines = (work / "ledger").read_text().split()
    assert len(lines) == len(set(lines))


def test_a_real_certificate_file_is_taken() -> None:
    """--ca with authorities in it is accepted; the proxy comes up."""
    ca_file = str(CERTIFICATES / "authority.pem")
    with running("--to", "https://127.0.0.1:9/v1", "--ca", ca_file) as (url, _process):
        assert fetch(url).status == 502

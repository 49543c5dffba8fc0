"""The fault server as a process: first line, log file, signals, bad arguments."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest

from backstay.chaos import call, cut, hold, judge, message, response, write_script
from backstay.chaos.script import Kind
from tests.chaos.client import fetch

COMMAND = [sys.executable, "-m", "backstay.chaos", "serve"]


@contextmanager
def running(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The base URL and the process of a server; ended with SIGTERM."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *words], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()
            process.wait(20)


def test_the_first_line_is_the_url_and_requests_are_logged_as_they_come(tmp_path: Path) -> None:
    """Each request is a line of JSON at once, without secrets, in a file of mode 0600."""
    script = write_script(tmp_path / "s.json", [response(message("a"))], repeat=True)
    log = tmp_path / "log.jsonl"
    with running(script, "--log", str(log)) as (url, process):
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith("/v1")
        assert fetch(url).types[-1] == "response.completed"
        assert len(log.read_text().splitlines()) == 1
        fetch(url)
        entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert process.returncode == 0
    assert log.stat().st_mode & 0o777 == 0o600
    assert [e["number"] for e in entries] == [0, 1]
    assert entries[0]["body"]["input"] == "hello"
    assert (entries[0]["status"], entries[0]["response"]) == (200, 0)
    assert "sesame" not in log.read_text()
    assert judge(entries).ok


def test_a_log_is_appended_to(tmp_path: Path) -> None:
    """A second server goes on in the same file."""
    script, log = write_script(tmp_path / "s.json", [response(message("a"))]), tmp_path / "log"
    for _ in range(2):
        with running(script, f"--log={log}") as (url, _process):
            fetch(url)
    assert len(log.read_text().splitlines()) == 2


def test_signals_end_the_process_while_it_stalls(tmp_path: Path) -> None:
    """SIGTERM and SIGINT: exit code 0, also with an answer in flight."""
    made = [response(call("f"), fault={"kind": "stall", "after": "call"})]
    script = write_script(tmp_path / "s.json", made)
    for number in (signal.SIGTERM, signal.SIGINT):
        with running(script) as (_, process):
            os.kill(process.pid, number)
            assert process.wait(20) == 0


def test_options_of_the_command_line(tmp_path: Path) -> None:
    """Strict, repeat and style may be given there; so may a port."""
    script = write_script(tmp_path / "s.json", [response(message("a"))])
    with running(script, "--strict", "--repeat", "--style", "openrouter") as (url, _process):
        assert b"[DONE]" in fetch(url).body
        assert b"[DONE]" in fetch(url).body
        assert fetch(url, {"stream": True}).status == 400
        port = url.split(":")[2].removesuffix("/v1")
        ran = subprocess.run(
            [*COMMAND, script, "--port", port], capture_output=True, text=True, check=False
        )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"backstay chaos serve: cannot listen on 127.0.0.1:{port}: ")


def test_the_judge_speaks_at_the_end(tmp_path: Path) -> None:
    """--judge: a table on stderr, exit code 1 if anything is wrong; sessions are told apart."""
    script = write_script(tmp_path / "s.json", [response(message("a"))], repeat=True)
    for text, code in (("second", 1), ("first", 0)):
        with running(script, "--judge") as (url, process):
            for prompt in ("first", text):
                for key in ("a", "b"):
                    fetch(url, {"input": prompt if key == "a" else "x", "prompt_cache_key": key})
            process.terminate()
            assert process.stderr is not None
            said = process.stderr.read()
        assert process.returncode == code
        assert "session b: 2 requests, nothing wrong" in said
        assert ("changed_prefix" in said) == bool(code)


def test_faults_by_chance_on_the_command_line(tmp_path: Path) -> None:
    """The seed repeats them; one that was made up is printed."""
    script = write_script(tmp_path / "s.json", [response(message("a"))], repeat=True)

    def played(*words: str) -> tuple[list[int], str]:
        with running(script, "--probability", "0.5", "--kinds=status,close", *words) as run:
            url, process = run
            found = [fetch(url) for _ in range(12)]
            process.terminate()
            assert process.stderr is not None
            return [one.status * len(one.body) for one in found], process.stderr.read()

    first, said = played()
    seed = said.split("--seed ")[1].split(" ")[0]
    assert len(set(first)) > 1
    assert played("--seed", seed) == (first, "")


def test_a_file_that_never_comes_is_told_on_stderr(tmp_path: Path) -> None:
    """The process says which file it waited for in vain."""
    made = [response(message("a"), hold=hold("flag", event=1, seconds=0.01))]
    with running(write_script(tmp_path / "s.json", made)) as (url, process):
        fetch(url)
        process.terminate()
        assert process.stderr is not None
        assert "flag did not appear within 0.01 s" in process.stderr.read()


@pytest.mark.parametrize(
    "words, text",
    [
        ([], "give one script"),
        (["a", "b"], "give one script"),
        (["nope.json"], "nope.json: cannot be read: No such file or directory"),
        (["SCRIPT", "--port"], "--port needs a value"),
        (["SCRIPT", "--port", "x"], "--port x: not a port number"),
        (["SCRIPT", "--port", "70000"], "--port 70000: not a port number"),
        (["SCRIPT", "--frobnicate"], "unknown option --frobnicate"),
        (["SCRIPT", "--style", "vax"], "Invalid enum value 'vax'"),
        (["SCRIPT", "--log", "/no/such/folder/log"], "--log /no/such/folder/log: No such file"),
        (["SCRIPT", "--probability", "2"], "--probability: Expected `float` <= 1.0"),
        (["SCRIPT", "--probability", "x"], "--probability x: not a number"),
        (["SCRIPT", "--kinds", "close"], "--kinds needs --probability as well"),
        (["SCRIPT", "--probability=1", "--kinds", "x"], "Invalid enum value 'x'; the kinds are"),
        (["BROKEN"], "responses[0]: the stream has no call number 1"),
    ],
)
def test_bad_arguments_get_one_line(words: list[str], text: str, tmp_path: Path) -> None:
    """Exit code 2, nothing on stdout, one line on stderr, no traceback."""
    script = write_script(tmp_path / "s.json", [])
    broken = write_script(tmp_path / "b.json", [response(fault=cut(after="call"))])
    words = [{"SCRIPT": script, "BROKEN": broken}.get(word, word) for word in words]
    ran = subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, cwd=tmp_path, timeout=30, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert text in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_help_names_every_option() -> None:
    """--help prints the usage on stdout and ends with 0."""
    ran = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    for option in ("--port", "--log", "--strict", "--repeat", "--style", "--dialect"):
        assert option in ran.stdout
    for kind in (*get_args(Kind), "--judge", "--probability", "--seed", "--kinds", "--seconds"):
        assert kind in ran.stdout

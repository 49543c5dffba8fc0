"""docs/chaos.md: its examples run, its tables name everything."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from backstay.chaos import ChaosServer, judge, message, response
from backstay.chaos.script import USUAL, Dialect, Fault, Item, Kind, Response, Style
from tests.chaos.client import fetch
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "chaos.md").read_text()
SERVER = PAGE.partition("\n## The server\n")[2].partition("\n## ")[0]
PROXY = PAGE.partition("\n## The proxy\n")[2].partition("\n## ")[0]
COMMANDS = re.findall(r"^\$ backstay (chaos (?:serve|proxy) .*)$", SERVER + PROXY, re.MULTILINE)
FILES = dict(re.findall(r"`(\w+\.json)`:\n\n```json\n(.*?)```", SERVER + PROXY, re.DOTALL))
PYTHON = re.findall(r"```python\n(.*?)```", SERVER + PROXY, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the page shows."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(command: str, folder: Path, requests: int, to: str) -> tuple[list[Any], int]:
    """The answers of a command of the page to so many requests, and its exit code."""
    words = [to if word == "https://api.openai.com/v1" else word for word in shlex.split(command)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-m", "backstay", *words],
        cwd=folder,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        answers = [fetch(url) for _ in range(requests)]
        process.terminate()
        return answers, process.wait(20)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_page_serves(command: str, folder: Path) -> None:
    """It starts, answers, logs where it says, and ends with 0."""
    with ChaosServer([response(message("a"))], repeat=True) as server:
        answers, code = run(command, folder, 5, server.url)
    assert len(answers) == 5
    assert code == 0
    assert ("--log" in command) == (folder / "requests.jsonl").exists()


def test_the_page_has_commands_files_and_python() -> None:
    """What the other tests go through is there."""
    assert (len(COMMANDS), sorted(FILES), len(PYTHON)) == (3, ["plan.json", "script.json"], 2)


def test_the_script_does_what_the_page_says(folder: Path) -> None:
    """Cut after the call, an error, whole, then exhausted."""
    answers, _ = run("chaos serve script.json", folder, 4, "")
    assert [one.status for one in answers] == [200, 429, 200, 400]
    assert (answers[0].ending, answers[0].types[-1]) == ("fin", "response.output_item.done")
    assert answers[2].types[-1] == "response.completed"
    assert answers[3].json["error"]["code"] == "script_exhausted"


def test_the_plan_does_what_the_page_says(folder: Path) -> None:
    """Whole, a RST, an error, slow but whole, half an event."""
    with ChaosServer([response({"type": "function_call", "name": "f"})], repeat=True) as server:
        answers, _ = run(f"chaos proxy --to {server.url} --plan plan.json", folder, 5, "")
    assert [one.status for one in answers] == [200, 200, 503, 200, 200]
    assert [one.ending for one in answers] == ["complete", "rst", "complete", "complete", "fin"]
    assert answers[4].types.count("response.output_item.done") == 2


@pytest.mark.parametrize("example", PYTHON)
def test_each_python_example_runs(example: str) -> None:
    """With an agent that asks twice, the second time after an error or a cut."""

    def run_agent(base_url: str) -> None:
        for _ in range(2):
            fetch(base_url, {"input": "go", "stream": True})

    with ChaosServer([response(message("a"))], repeat=True) as server:
        exec(example.replace("https://api.openai.com/v1", server.url), {"run_agent": run_agent})


def test_the_tables_name_everything() -> None:
    """Each kind, its options, each item, field, style, code of the judge; each default."""
    words = {*get_args(Kind), *get_args(Style), *get_args(Dialect)}
    for kind in (*get_args(Fault), *get_args(Item)):
        words |= {str(kind.__struct_config__.tag), *kind.__struct_encode_fields__}
    words |= set(Response.__struct_encode_fields__)
    prose = re.sub(r"```.*?```", "", SERVER, flags=re.DOTALL)
    named = set(re.findall(r"[\w-]+", " ".join(re.findall(r"`[^`]+`", prose))))
    assert words - named == {"phase", "call_id", "id"}  # those are in the docstring
    codes = (judge.__doc__ or "").partition("Codes, ")[2].partition("as notes:")[0]
    assert set(re.findall(r"\b[a-z]+_[a-z_]+", codes)) - named == set()
    for code in ("lost_output", "changed_output", "changed_prefix", "changed_instructions"):
        assert code in named
    defaults = PAGE.partition("without being told: ")[2].partition(".\n")[0]
    assert tuple(re.findall(r"`(\w+)`", defaults)) == USUAL

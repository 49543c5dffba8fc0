"""Errors that say what to do: what a new user does wrong, and what is said about it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import http_error
from backstay.cli.hints import hint
from backstay.model.provider import Provider, Secret
from backstay.runtime.watch import Finished
from tests.cli.command import LINE, Command
from tests.cli.test_turn import provider

pytestmark = pytest.mark.processes
EXEC = ("exec", "-m", "m", "hello")


def told(reason: str, outcome: Any = "failed", *, key: str = "k", name: str = "p") -> str:
    """The hint about a turn that ended so."""
    by = Provider(name=name, base_url="http://user:secret@host/v1?key=x", key=Secret(key))
    return hint(Finished(2, outcome, reason), by, "m", "MY_KEY" if key else "")


def test_a_hint_says_where_and_holds_no_secret() -> None:
    """The variable, the address, the model; nothing where there is nothing to be said."""
    refused = "the provider refused the request (HTTP {}): no"
    assert told(refused.format(401)) == "is the key in MY_KEY the right one for http://host/v1?"
    assert "OPENAI_API_KEY" in told(refused.format(401), key="", name="openai")
    assert "env_key of [model_providers.p]" in told(refused.format(401), key="")
    assert told(refused.format(404)) == "does m exist at http://host/v1? -m names another model"
    assert told("can't connect to host: refused").startswith("is http://host/v1 the right address")
    assert told(refused.format(500)) == ""
    assert told("interrupted", "interrupted") == ""


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["text", "json"])
def test_a_wrong_key_is_named(command: Command, flags: tuple[str, ...]) -> None:
    """Before the line that says how to go on."""
    with provider(command, http_error(401)):
        done = command.run(*EXEC, *flags)
    assert done.code == 1
    assert "is the key in OPENAI_API_KEY the right one for http://127.0.0.1" in done.err
    assert "to go on: backstay resume" in done.err.splitlines()[-1]


@pytest.mark.parametrize(
    "line, said",
    [
        (["fix the bug"], "a prompt stands behind exec"),
        (["-m", "m", "x"], "flags stand behind the command"),
        (["help", "frob"], "there is no command 'frob'"),
        (["exec", "-m", "m", "-C", sys.executable, "x"], "it is no folder"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(
    command: Command, line: list[str], said: str
) -> None:
    """Exit 2 and one line."""
    done = command.run(*line)
    assert done.code == 2
    assert said in done.complaint


def test_what_is_no_text_is_no_prompt(command: Command) -> None:
    """NUL bytes on stdin, as the prompt or beside one; bytes of other encodings are text."""
    for words in ((), ("look",)):
        done = command.run("exec", "-m", "m", *words, stdin=b"\x7fELF\0\1")
        assert (done.code, done.out) == (2, "")
        assert "it holds NUL bytes" in done.complaint
    assert "NUL" not in command.run("exec", "-m", "m", "x", stdin=b"caf\xe9").err


@pytest.mark.parametrize("words", [EXEC, ("sessions",), ("continue",), ("doctor", "--provider")])
def test_a_folder_that_is_gone_is_said_to_be_gone(
    command: Command, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Not an error of ours."""
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"import os, sys; os.rmdir({str(gone)!r}); os.execv(sys.executable, sys.argv[1:])"
    argv = [sys.executable, "-c", program, sys.executable, "-m", "backstay", *words]
    done = subprocess.run(
        argv,
        cwd=gone,
        env=command.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (line,) = [one for one in done.stderr.splitlines() if not one.startswith(LINE)]
    assert "this folder is gone" in line
    assert not os.path.exists(gone)

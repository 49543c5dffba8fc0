"""What the command line says and how it exits where no request is ever made: real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import Command

pytestmark = pytest.mark.processes


def test_help_fits_80_columns_and_names_every_command(command: Command) -> None:
    """`--help` of the program and of each command goes to stdout, exits 0 and fits 80 columns."""
    for line in (
        [],
        ["--help"],
        ["help"],
        ["exec", "--help"],
        ["exec", "resume", "-h"],
        ["resume", "--help"],
        ["continue", "--help"],
        ["sessions", "--help"],
        ["ps", "--help"],
    ):
        done = command.run(*line)
        assert (done.code, done.err) == (0, ""), line
        assert done.out
        assert max(map(len, done.out.splitlines())) <= 80, line
    every = command.run("--help").out
    assert all(f"  {name}" in every for name in ("exec", "resume", "continue", "sessions", "ps"))


@pytest.mark.parametrize(
    "line, code, said",
    [
        (["frobnicate"], 2, "there is no command 'frobnicate'"),
        (["sesions"], 2, "did you mean sessions"),
        (["exec", "--frob", "x"], 2, "exec has no flag --frob"),
        (["exec", "-m", "m", "-s", "read-only", "x"], 2, "read-only"),
        (["exec", "x"], 2, "no model is set: use -m"),
        (["exec", "-m", "m"], 2, "the prompt on stdin is empty"),
        (["exec", "-m", "m", "-"], 2, "the prompt on stdin is empty"),
        (["exec", "-m", "m", "  "], 2, "the prompt is empty"),
        (["exec", "-m", "m", "-C", "nowhere", "x"], 2, "no such folder"),
        (["exec", "-m", "m", "-o", "no/such/file", "x"], 2, "-o no/such/file"),
        (["exec", "-m", "m", "-c", "model", "x"], 2, "KEY=VALUE"),
        (["exec", "-m", "m", "-c", "model_provider=nope", "x"], 2, "model_providers.nope"),
        (["exec", "-m", "m", "-c", "sandbox_mode=read-only", "x"], 2, "read-only"),
        (["exec", "-m", "m", "-c", "openai_base_url=ftp://x", "x"], 2, "base_url"),
        (["exec", "fork", "ID", "x"], 3, "no session id"),
        (["fork", "--last"], 3, "no session"),
        (["exec", "review"], 2, "exec review"),
        (
            ["exec", "-m", "m", "resume", "00000000-0000-7000-8000-000000000000", "x"],
            3,
            "no session",
        ),
        (["resume", "00000000-0000-7000-8000-000000000000"], 3, "no session"),
        (["resume", "--last", "x"], 3, "no session"),
        (["continue"], 3, "no session"),
        (["sessions", "show", "00000000"], 3, "no session"),
        (["sessions", "show"], 2, "write it as: backstay sessions show ID"),
        (["sessions", "-n", "x"], 2, "-n x"),
        (["ps", "x"], 2, "no arguments"),
        (["chaos"], 2, "chaos serve"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_refusal_is_one_line_and_the_right_exit_code(
    command: Command, line: list[str], code: int, said: str
) -> None:
    """Nothing on stdout, one line on stderr that begins with the program's name."""
    done = command.run(*line)
    assert done.code == code
    assert not done.out
    assert done.complaint.startswith("backstay: ")
    assert said in done.complaint


def test_a_bad_line_of_configuration_is_named(command: Command) -> None:
    """Exit 2, with the file and the line; the prompt is not even read."""
    (command.home / "config.toml").write_text('model = "m"\n\nmodel_reasoning_effort = 3\n')
    done = command.run("exec", "x")
    assert done.code == 2
    assert f"{command.home / 'config.toml'}:3: model_reasoning_effort" in done.complaint


def test_no_key_is_told_before_anything_happens(command: Command) -> None:
    """Without a key for the built-in provider nothing is sent: exit 2."""
    done = command.run("exec", "-m", "m", "x", env={"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""})
    assert done.code == 2
    assert "OPENAI_API_KEY" in done.complaint


def test_a_home_that_cannot_be_written_is_a_storage_error(command: Command, tmp_path: Path) -> None:
    """A file in the place of the home: exit 4, one line that names it."""
    (tmp_path / "file").write_text("")
    done = command.run("exec", "-m", "m", "x", env={"BACKSTAY_HOME": str(tmp_path / "file")})
    assert done.code == 4
    assert str(tmp_path / "file") in done.complaint


def test_a_closed_stdout_makes_no_traceback(command: Command) -> None:
    """`backstay --help | true` ends quietly."""
    reading, writing = os.pipe()
    os.close(reading)
    process = command.start("--help", stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=50)
    assert err == b""


def test_missing_descriptors_are_no_trouble(command: Command) -> None:
    """Started with stdin, stdout and stderr closed, it still does what it was asked for."""
    shell = 'exec "$0" -m backstay sessions <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", shell, sys.executable], env=command.environment(), cwd=command.cwd, check=False
    )
    assert done.returncode == 0


def test_an_empty_home_has_no_sessions_and_stays_empty(command: Command) -> None:
    """Listing writes nothing."""
    done = command.run("sessions")
    assert (done.code, done.out) == (0, "")
    assert "no sessions" in done.err
    assert command.run("ps").out == ""
    assert list(command.home.iterdir()) == []

"""Completion: what may come next is what the help knows, in shells that are really asked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backstay.cli.arguments import EXEC
from backstay.cli.completion import SCRIPTS, replies
from backstay.cli.main import COMMANDS
from backstay.cli.pages import NAMES
from backstay.cli.sessions import ACTIONS
from tests.cli.command import Command
from tests.journal.homes import head, put, turn

pytestmark = pytest.mark.processes

PROGRAM = """
compdef() { :; }
_describe() { print -l -- ${(P)2}; }
_files() { print files $*; }
"""


def offered(*words: str) -> list[str]:
    """What may stand in the place of the last word, without the comments."""
    return [line.partition("\t")[0] for line in replies(words)]


@pytest.fixture
def path(command: Command, tmp_path: Path) -> str:
    """A PATH on which `backstay` is."""
    program = tmp_path / "bin" / "backstay"
    program.parent.mkdir()
    python = shutil.which("python3", path=os.path.dirname(sys.executable)) or "python3"
    program.write_text(f'#!/bin/sh\nexec "{python}" -m backstay "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"


def shell(command: Command, path: str, name: str, text: str) -> list[str]:
    """What a shell prints that has loaded its script."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    script = Path(path.partition(os.pathsep)[0]) / f"script.{name}"
    script.write_text(command.run("completion", name).out)
    plain = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name]
    done = subprocess.run(
        [name, *plain, "-c", text.replace("SCRIPT", str(script))],
        cwd=command.cwd,
        env=command.environment({"PATH": path}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def test_every_command_and_every_flag_is_offered() -> None:
    """From the tables of the help: none can be forgotten."""
    assert {usage.split()[0] for usage, _ in COMMANDS} <= {*offered("")}
    long = {name for option in EXEC for name in option.names if name.startswith("--")}
    assert {*offered("exec", "--")} == long
    assert {*offered("sessions", "")} == {*ACTIONS}
    for name in NAMES:
        assert "--help" in offered(*name.split(), "--"), name


@pytest.mark.parametrize(
    "words, expected",
    [
        (["exec", "--color", ""], ["auto", "always", "never"]),
        (["exec", "--color", "a"], ["auto", "always"]),
        (["exec", "--color=al"], ["--color=always"]),
        (["exec", "--color", "=", "al"], ["always"]),
        (["exec", "-o", ""], [":files"]),
        (["exec", "-C", ""], [":folders"]),
        (["exec", "-c", "model_verb"], ["model_verbosity="]),
        (["exec", ""], ["resume", "fork"]),
        (["exec", "a prompt", ""], []),
        (["exec", "--local-provider", "ll"], ["llamacpp"]),
        (["sessions", "list", "--ar"], ["--archived"]),
        (["sessions", "show", "--ar"], []),
        (["chaos", "s"], ["serve"]),
        (["chaos", "serve", "--stri"], ["--strict"]),
        (["chaos", "serve", ""], [":files"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["doctor", "--provider", "ol"], ["ollama"]),
        (["no-such-command", ""], []),
    ],
    ids=" ".join,
)
def test_what_comes_next(words: list[str], expected: list[str]) -> None:
    """Values where a flag takes one, words where a command does, nothing where a prompt stands."""
    assert offered(*words) == expected


@pytest.mark.parametrize("words", ["resume", "exec resume", "attach", "sessions show", "continue"])
def test_the_sessions_of_this_folder_are_offered(command: Command, words: str) -> None:
    """The last active first, with how they ended and what they are about."""
    first = put(command.home, [head(str(command.cwd)), *turn(2, "fix the parser")], 1)
    second = put(command.home, [head(str(command.cwd)), *turn(2, "write docs")[:3]], 2)
    put(command.home, [head("/elsewhere"), *turn(2, "not this one")], 3)
    done = command.run("completion", "reply", "--", *words.split(), "")
    assert done.out.splitlines() == [
        f"{second.name}\tcut: write docs",
        f"{first.name}\tcompleted: fix the parser",
    ]


def test_a_configuration_is_asked_for_names(command: Command) -> None:
    """Profiles and models; a file that is wrong costs the names, and says nothing."""
    config = command.home / "config.toml"
    config.write_text('model = "big"\n[profiles.night]\nmodel = "small"\n')
    assert command.run("completion", "reply", "--", "exec", "-p", "").out == "night\n"
    assert command.run("completion", "reply", "--", "exec", "-m", "").out == "big\n"
    config.write_text("model = [")
    done = command.run("completion", "reply", "--", "exec", "-m", "")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_bash_completes(command: Command, path: str) -> None:
    """Sourced in a real bash: commands, files with spaces, a key that goes on."""
    (command.cwd / "a script.json").write_text("[]")
    text = """
source SCRIPT; complete -p backstay
try() {
    COMP_WORDS=(backstay "$@"); COMP_CWORD=$#; _backstay backstay; printf '%s|' "${COMPREPLY[@]}"
    echo
}
try se; try chaos serve a; try exec -c model_verb; try exec --color = ne
"""
    assert shell(command, path, "bash", text) == [
        "complete -F _backstay backstay",
        "send|sessions|",
        "a script.json|",
        "model_verbosity=|",
        "never|",
    ]


def test_zsh_completes(command: Command, path: str) -> None:
    """The function runs, with comments; what zsh itself does with them is stood in for."""
    text = f"{PROGRAM}source SCRIPT; words=(backstay interr); CURRENT=2; _backstay\n"
    text += "words=(backstay exec -C ''); CURRENT=4; _backstay"
    assert shell(command, path, "zsh", text) == [
        "interrupt:stop the turn that another process runs",
        "files -/",
    ]


def test_fish_completes(command: Command, path: str) -> None:
    """Asked as its user asks it."""
    (command.cwd / "folder").mkdir()
    text = "source SCRIPT; complete -C 'backstay interr'; complete -C 'backstay exec -C fo'"
    assert shell(command, path, "fish", text) == [
        "interrupt\tstop the turn that another process runs",
        "folder/",
    ]


def test_a_shell_that_is_not_known_is_refused(command: Command) -> None:
    """With those that are."""
    done = command.run("completion", "tcsh")
    assert (done.code, done.complaint) == (2, "backstay: completion takes one of bash, zsh, fish")
    assert all(shell in done.complaint for shell in SCRIPTS)

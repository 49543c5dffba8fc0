"""Every flag of `codex exec` is taken, on either side of `resume`, and none is silently ignored."""

import pytest

from backstay.cli.arguments import (
    EXEC,
    NOT_HONOURED,
    parse_continue,
    parse_exec,
    parse_fork,
    parse_resume,
)
from backstay.cli.options import Option, read
from backstay.errors import UsageError

# The flags of `codex exec --help` and `codex exec resume --help`, 0.169.0, and what the SDK sends.
CODEX = {
    "-c": "key=1",
    "--config": "key=1",
    "--enable": "feature",
    "--disable": "feature",
    "--strict-config": None,
    "-i": "a.png",
    "--image": "a.png",
    "-m": "model",
    "--model": "model",
    "--oss": None,
    "--local-provider": "ollama",
    "-p": "profile",
    "--profile": "profile",
    "-s": "workspace-write",
    "--sandbox": "danger-full-access",
    "--approve-for-me": None,
    "--dangerously-bypass-approvals-and-sandbox": None,
    "--dangerously-bypass-hook-trust": None,
    "-C": "/",
    "--cd": "/",
    "--worktree": None,
    "--add-dir": "/",
    "--thread-source": "source",
    "--cyber-access-program": "standard",
    "--skip-git-repo-check": None,
    "--trust": None,
    "--ephemeral": None,
    "--ignore-user-config": None,
    "--ignore-rules": None,
    "--output-schema": "schema.json",
    "--color": "never",
    "--json": None,
    "--experimental-json": None,
    "-o": "out.txt",
    "--output-last-message": "out.txt",
}
FLAGS = [[flag] if value is None else [flag, value] for flag, value in CODEX.items()]


@pytest.mark.parametrize("flag", FLAGS, ids=" ".join)
def test_every_flag_of_codex_is_taken_before_and_after_resume(flag: list[str]) -> None:
    """No flag is a usage error, wherever it stands, and the words around it stay what they are."""
    assert parse_exec([*flag, "--", "do it"]).prompt == "do it"
    assert parse_exec(["do it", *flag]).prompt == "do it"
    assert parse_exec([*flag, "--skip-git-repo-check", "do it"]).prompt == "do it"
    for line in (
        [*flag, "--skip-git-repo-check", "resume", "ID", "go on"],
        ["resume", *flag, "ID", "go on"],
        ["resume", "ID", *flag, "go on"],
        ["resume", "ID", "go on", *flag],
    ):
        run = parse_exec(line)
        assert (run.action, run.session, run.prompt) == ("resume", "ID", "go on")
    assert parse_resume(["ID", *flag, "go on"]).prompt == "go on"


@pytest.mark.parametrize("option", NOT_HONOURED, ids=lambda option: option.names[-1])
def test_a_flag_that_does_nothing_says_so_in_one_line(option: Option) -> None:
    """What is accepted and not done is answered with exactly one line that names the flag."""
    name = option.names[-1]
    flag = next(line for line in FLAGS if line[0] == name)
    (note,) = parse_exec(["prompt", *flag, *flag]).notes
    assert note.startswith(f"{name}: ")
    assert "\n" not in note


def test_flags_on_both_sides_of_resume_add_up() -> None:
    """What stands behind `resume` does not undo what stands before it."""
    run = parse_exec(["--json", "-c", "a=1", "-m", "one", "resume", "--config=b=2", "--last", "hi"])
    assert run.json
    assert run.overrides == ["a=1", "b=2"]
    assert (run.last, run.prompt, run.model) == (True, "hi", "one")


def test_values_may_be_glued_to_their_flags() -> None:
    """`-mX`, `-m=X` and `--model=X` say the same; of repeated flags the last one holds."""
    for line in (["-mX"], ["-m=X"], ["--model=X"], ["-m", "Y", "-m", "X"]):
        assert parse_exec([*line, "p"]).model == "X"


def test_budgets_are_overrides_of_their_keys() -> None:
    """Of exec, resume and continue; digits may be grouped, a dollar sign may stand."""
    flags = ["--max-steps", "3", "--max-tokens", "2_000", "--max-cost", "$1.50"]
    wanted = ["max_steps=3", "max_tokens=2000", "max_cost=1.5"]
    assert parse_exec([*flags, "p"]).budget == wanted
    assert parse_resume([*flags, "ID"]).budget == wanted
    assert parse_continue(flags).budget == wanted


def test_a_local_provider_without_oss_says_that_it_does_nothing() -> None:
    """As in Codex, but not silently."""
    (note,) = parse_exec(["--local-provider", "ollama", "p"]).notes
    assert note.startswith("--local-provider: ")
    assert parse_exec(["--oss", "--local-provider", "ollama", "p"]).notes == []


def test_images_take_every_word_up_to_the_next_flag_but_not_behind_resume() -> None:
    """As Codex: `exec -i A B -- PROMPT`, but `resume ID -i A PROMPT`."""
    run = parse_exec(["-i", "a.png", "b.png", "--json"])
    assert run.prompt is None
    assert parse_exec(["resume", "ID", "-i", "a.png", "go on"]).prompt == "go on"


def test_words_behind_two_dashes_are_a_prompt() -> None:
    """Behind `--` neither a flag nor a command is recognised."""
    run = parse_exec(["--", "resume"])
    assert (run.action, run.prompt) == ("new", "resume")
    assert parse_exec(["--json", "--", "--help"]).prompt == "--help"
    assert parse_exec(["resume", "ID", "--", "-x"]).prompt == "-x"


def test_a_dash_alone_is_the_prompt_that_means_stdin() -> None:
    """`-` is a word, for a new session and for a resumed one."""
    assert parse_exec(["-"]).prompt == "-"
    assert parse_exec(["resume", "ID", "-"]).prompt == "-"


def test_continue_means_the_newest_session_unless_one_is_named() -> None:
    """`continue` takes a session and no prompt."""
    assert parse_continue([]).last
    assert parse_continue(["ID"]).session == "ID"
    with pytest.raises(UsageError, match="no prompt"):
        parse_continue(["ID", "prompt"])


@pytest.mark.parametrize(
    "line, said",
    [
        (["--modle", "x"], "did you mean --model"),
        (["-m"], "needs a value"),
        (["--json=1"], "takes no value"),
        (["--color", "blue"], "auto, always, never"),
        (["-s", "none"], "read-only, workspace-write"),
        (["-s", "read-only", "p"], "can't be enforced"),
        (["resume", "ID", "-s", "read-only"], "can't be enforced"),
        (["one", "two"], "more than one prompt"),
        (["resume"], "needs a session"),
        (["resume", "ID", "one", "two"], "more than one prompt"),
        (["fork"], "exec fork needs a session"),
        (["fork", "ID", "--turn", "0"], "--turn 0: it takes a number"),
        (["fork", "ID", "one", "two"], "more than one prompt"),
        (["--turn", "1", "p"], "--turn to exec fork"),
        (["resume", "ID", "--turn", "1"], "--turn belongs to fork"),
        (["review"], "exec review is not there yet"),
        (["--last", "p"], "belong to exec resume"),
        (["--max-steps", "0", "p"], "--max-steps 0: it takes a whole number above 0"),
        (["--max-tokens", "1.5", "p"], "--max-tokens 1.5: it takes a whole number"),
        (["--max-cost", "cheap", "p"], "--max-cost cheap: it takes US dollars"),
        (["--max-cost", "nan", "p"], "--max-cost nan: it takes US dollars"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(line: list[str], said: str) -> None:
    """A usage error names what is wrong and what to do, on one line."""
    with pytest.raises(UsageError, match=said) as caught:
        parse_exec(line)
    assert "\n" not in str(caught.value)


def test_fork_takes_a_session_a_turn_and_a_prompt() -> None:
    """Alike as a command of its own and behind `exec`, flags on either side."""
    for run in (
        parse_exec(["--json", "fork", "ID", "--turn", "3", "go"]),
        parse_exec(["fork", "--turn=3", "ID", "go", "--json"]),
        parse_fork(["ID", "go", "--json", "--turn", "3"]),
    ):
        assert (run.action, run.session, run.turn, run.prompt) == ("fork", "ID", 3, "go")
        assert run.json
    run = parse_fork(["--last", "--all", "--ephemeral"])
    assert (run.last, run.any_folder, run.turn, run.prompt) == (True, True, None, None)
    assert run.notes == ["--ephemeral: a session that is forked is kept"]
    assert parse_exec(["fork", "ID", "-V"]).version


def test_help_and_version_are_flags_everywhere() -> None:
    """They win over what else stands there, also behind `resume`."""
    assert parse_exec(["--help"]).help == "exec"
    assert parse_exec(["fork", "-h"]).help == parse_exec(["help", "fork"]).help == "fork"
    assert parse_exec(["resume", "-h"]).help == "resume"
    assert parse_exec(["help", "resume"]).help == "resume"
    assert parse_continue(["-h"]).help == "continue"
    assert parse_exec(["-V"]).version


def test_short_switches_may_be_clustered() -> None:
    """`-hV` is `-h -V`; an unknown letter in a cluster names the whole word."""
    assert read(["-hV"], EXEC, "exec").values.keys() == {"help", "version"}
    with pytest.raises(UsageError, match="-hz"):
        read(["-hz"], EXEC, "exec")

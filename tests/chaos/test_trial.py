"""`backstay chaos test` on agents of our own: every verdict is seen to hold, and to fail."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from backstay.chaos.trial import main

pytestmark = pytest.mark.processes

TINY = [sys.executable, "-S", str(Path(__file__).parent / "agents" / "tiny.py")]


def tried(
    capsys: pytest.CaptureFixture[str], habit: str, *options: str, resume: bool = True
) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON result of a trial of the tiny agent."""
    words = [*TINY, habit, "{session}", "{prompt}"]
    again = ["--resume", shlex.join(words)] if resume else []
    code = main(["--json", "--timeout", "12", *again, *options, "--", *words])
    printed = capsys.readouterr()
    assert printed.out, printed.err
    result: dict[str, Any] = json.loads(printed.out)
    return code, result


def verdicts(result: dict[str, Any]) -> dict[str, str]:
    """The verdict of each scenario."""
    return {one["name"]: one["verdict"] for one in result["scenarios"]}


CUTS = ["--only", "cut-*", "--only", "e*", "--only", "three*"]
EVENTS = ["--skip", "cut-*", "--skip", "e*", "--skip", "three*", "--skip", "kill-*"]
KILLS = ["--only", "kill-*"]


@pytest.mark.parametrize("options", [CUTS, EVENTS, KILLS], ids=["cuts", "events", "kills"])
def test_a_good_agent_holds_everything(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No scenario can't be held: an agent of two hundred lines holds them all."""
    code, result = tried(capsys, "good", *options)
    broken = {one["name"]: one["findings"] for one in result["scenarios"] if one["findings"]}
    assert broken == {}
    assert set(verdicts(result).values()) == {"held"}
    assert code == 0
    assert result["agent"]["runs_tools_while_streaming"] is True


GAVE_UP = "it gave up with exit code 1 after 1 request: error:"


@pytest.mark.parametrize(
    "habit, findings",
    [
        (
            "stale",
            {
                "cut-close": "the retry was sent without the output",
                "cut-at-once": "work ran 2 times",
                "three-parallel-cut": "first ran 2 times",
            },
        ),
        (
            "gives-up",
            {
                "cut-reset": GAVE_UP,
                "cut-half-event": GAVE_UP,
                "cut-half-chunk": GAVE_UP,
                "cut-clean-end": GAVE_UP,
                "cut-stall": GAVE_UP,
                "cut-before-headers": GAVE_UP,
                "ends-failed": GAVE_UP,
                "error-nested": GAVE_UP,
                "error-flat": GAVE_UP,
            },
        ),
        ("hangs", {"cut-close": "it did not end within 2 s, after 1 request"}),
        ("eager", {"truncated-call": "the truncated command ran 1 times"}),
        ("fragile", {"garbage-event": "gave up", "unknown-events": "gave up"}),
        ("final-only", {"empty-final-output": "first never ran"}),
        (
            "repeats",
            {"repeated-event": "work ran 2 times", "changing-ids": "", "no-indexes": ""},
        ),
        ("by-call-id", {"repeated-call-id": "second never ran"}),
        ("restates", {"prefix-kept": "instructions differ from those of request 0"}),
        (
            "hammers",
            {"rate-limit": "it asked again after 0.", "wrong-key": "6 requests were made"},
        ),
        ("floods", {"big-output": "a request of "}),
        (
            "late",
            {
                "kill-after-command": "work ran 2 times",
                "kill-before-next-response": "first ran 2 times",
                "kill-two-of-three": "first ran 2 times",
                "kill-twice": "first ran ",
                "interrupt": "work ran 2 times",
            },
        ),
        (
            "asserts",
            {
                "kill-in-command": "the model is told 'aborted' as if that were known",
                "kill-two-of-three": "third had begun, and the model is told 'aborted'",
            },
        ),
        (
            "orphans",
            {"no-process-left": "left behind: sh ", "interrupt": "the command still runs"},
        ),
        ("shares", {"two-processes": "work"}),
    ],
)
def test_a_bad_habit_is_found_out(
    habit: str, findings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and one line that says what happened; an empty one: the scenario holds."""
    chosen = [word for name in findings for word in ("--only", name)]
    short = ["--timeout", "2"] if habit == "hangs" else []
    code, result = tried(capsys, habit, *chosen, *short)
    expected = {name: "broken" if text else "held" for name, text in findings.items()}
    assert verdicts(result) == expected
    for one in result["scenarios"]:
        assert not one["findings"] or findings[one["name"]] in "\n".join(one["findings"]), one
    assert code == 1


def test_what_the_agent_makes_impossible_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    """Each skip says why, counts as not held, and does not fail the trial."""
    chosen = ["--only", "kill-after-command", "--only", "kill-twice", "--only", "unknown-events"]
    code, result = tried(capsys, "waits", *chosen)
    assert result["summary"] == {"held": 1, "broken": 0, "skipped": 2}
    assert verdicts(result)["kill-after-command"] == "skipped"
    reasons = {text for one in result["scenarios"] for text in one["findings"]}
    assert reasons == {"it runs its commands only once the response is complete"}
    assert result["agent"]["runs_tools_while_streaming"] is False
    assert code == 0


def test_without_a_way_to_resume_nothing_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """Those scenarios are skipped; a stall that outlasts the time limit is, too."""
    chosen = ["--only", "kill-*", "--only", "interrupt", "--only", "cut-stall", "--timeout", "1"]
    code, result = tried(capsys, "good", *chosen, resume=False)
    assert set(verdicts(result).values()) == {"skipped"}
    reasons = {text for one in result["scenarios"] for text in one["findings"]}
    assert reasons == {
        "it was not told how to resume: see --resume",
        "it waits for a silent stream longer than 1 s (--timeout)",
    }
    assert code == 0


def test_a_scenario_that_is_repeated_holds_if_it_held_every_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The result counts the runs; each has folders of its own, which --keep keeps."""
    chosen = ["--only", "server-error", "--repeat", "2", "--keep"]
    code, result = tried(capsys, "good", *chosen, resume=False)
    (one,) = result["scenarios"]
    assert (one["verdict"], one["held"], one["runs"], one["requests"]) == ("held", 2, 2, 8)
    assert code == 0
    ledgers = [Path(folder, "work", "trial", "ledger") for folder in one["folders"]]
    assert [ledger.read_text().count("begin") for ledger in ledgers] == [2, 2]
    root = Path(one["folders"][0]).parent
    subprocess.run(["rm", "-r", str(root)], check=True)


def test_the_table_and_junit_tell_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A line for each scenario with its property, its findings below; a case for each in the file."""
    report = tmp_path / "report.xml"
    chosen = ["--only", "repeated-event", "--only", "wrong-key", "--only", "kill-twice"]
    words = [*TINY, "repeats", "{session}", "{prompt}"]
    assert main([*chosen, "--junit", str(report), "--", *words]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "its tool bash (function) runs while the response streams"
    assert lines[2].startswith("BROKEN   repeated-event   ")
    assert any(line.strip() == "✗ work ran 2 times" for line in lines)
    assert any(line.startswith("held     wrong-key   ") for line in lines)
    assert any(line.startswith("skipped  kill-twice   ") for line in lines)
    assert lines[-1] == "3 scenarios: 1 held, 1 did not hold, 1 skipped"
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    assert {key: suite.get(key) for key in ("tests", "failures", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "skipped": "1",
    }
    cases = {case.get("name"): [child.tag for child in case] for case in suite}
    assert cases == {"repeated-event": ["failure"], "wrong-key": [], "kill-twice": ["skipped"]}
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "work ran 2 times" in str(failure.text)


def test_list_names_every_scenario_and_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A name and a sentence each, those that kill last; --only narrows it."""
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert len(names) == len(set(names)) >= 30
    assert names[0] == "cut-close"
    assert all(line.endswith(".") and len(line.split()) > 5 for line in lines)
    assert main(["--list", "--only", "cut-*", "--skip=cut-[a-r]*"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["cut-stall"]


@pytest.mark.parametrize(
    "words, text",
    [
        ([], "give the agent's command behind --"),
        (["--"], "give the agent's command behind --"),
        (["agent"], "agent: the agent's command stands behind --"),
        (["--frobnicate", "--", "agent"], "unknown option --frobnicate"),
        (["--only"], "--only needs a value"),
        (["--only", "cut-cake", "--", "agent"], "no scenario is called cut-cake"),
        (["--repeat", "0", "--", "agent"], "--repeat 0: not a number"),
        (["--repeat", "1.5", "--", "agent"], "--repeat 1.5: not a number"),
        (["--timeout", "soon", "--", "agent"], "--timeout soon: not a number"),
        (["--resume", "a 'b", "--", "agent"], "--resume a 'b: No closing quotation"),
        (["--resume", "", "--", "agent"], "--resume: the command is empty"),
        (["--session-from", "(", "--", "agent"], "--session-from (: missing )"),
        (["--tool-shape", "hammer", "--", "agent"], "neither one of exec_command, shell, bash"),
        (["--tool-shape", '{"cmd":"x"}', "--", "agent"], "that holds {command}"),
        (["--", "/no/such/agent"], "/no/such/agent: cannot be run: No such file"),
        (["--", "true"], "the command sent no request to http://127.0.0.1:"),
        (["--", *TINY, "good", "{session}", "x", "--tool"], None),
        (["--tool", "hammer", "--", *TINY, "good", "{session}", "x"], "hammer is not among the"),
        (
            ["--tool-shape", '{"order":"{command}"}', "--", *TINY, "good", "{session}", "x"],
            "the agent ran no command: it ended with exit code 1: KeyError: 'command'",
        ),
        (
            ["--resume", "true", "--", *TINY, "good", "{session}", "x"],
            "the --resume command sent no request",
        ),
        (
            ["--resume", shlex.join([*TINY, "good", "new", "x"]), "--", *TINY, "good", "old", "x"],
            "does not go on with the session",
        ),
        (
            ["--resume", "agent {session}", "--", *TINY, "good", "old", "x"],
            "no session id was found",
        ),
    ],
)
def test_what_can_not_be_tried_is_said_in_one_line(
    words: list[str], text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and nothing but the reason; what stands behind -- is the agent's own."""
    if text is None:
        words = ["--only", "wrong-key", *words]
    code = main(["--timeout", "10", *words] if "--timeout" not in words else words)
    printed = capsys.readouterr()
    if text is None:
        assert code == 0, printed.err
        return
    assert (code, printed.out) == (2, "")
    assert printed.err.startswith("backstay chaos test: ")
    assert text in printed.err
    assert printed.err.count("\n") == 1


def test_a_report_that_can_not_be_written_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """The table is printed all the same."""
    words = [*TINY, "good", "{session}", "{prompt}"]
    assert main(["--only", "wrong-key", "--junit", "/no/such/folder/x.xml", "--", *words]) == 2
    printed = capsys.readouterr()
    assert "1 scenarios: 1 held" in printed.out
    assert printed.err.startswith("backstay chaos test: --junit /no/such/folder/x.xml: No such")


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """--help prints the usage; behind -- it is the agent's."""
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for option in ("--resume", "--session-from", "--tool-shape", "--only", "--repeat", "--junit"):
        assert option in printed

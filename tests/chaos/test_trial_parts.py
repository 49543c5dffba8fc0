"""The parts of a trial by themselves: tool shapes, session ids, the model that asks again."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import ScriptError
from backstay.chaos.trial.agent import filled, session_in
from backstay.chaos.trial.commands import Bench
from backstay.chaos.trial.model import Model, Step, answers
from backstay.chaos.trial.options import USAGE
from backstay.chaos.trial.scenario import SCENARIOS
from backstay.chaos.trial.shape import Shape, found, parse_template

JSON = dict[str, Any]
UUID = "01a20283-99c9-7202-9830-152e4e2e4c43"


def function(name: str, required: list[str] | None = None, **fields: Any) -> JSON:
    """A function tool with these properties."""
    schema = {"type": "object", "properties": fields, "required": required or []}
    return {"type": "function", "name": name, "parameters": schema}


TEXT = {"type": "string"}
WORDS = {"type": "array", "items": TEXT}


@pytest.mark.parametrize(
    "tool, arguments",
    [
        (function("exec_command", cmd=TEXT), {"cmd": "ls"}),
        (
            function("exec_command", cmd=TEXT, yield_time_ms={"type": "number"}),
            {"cmd": "ls", "yield_time_ms": 30_000},
        ),
        (function("shell", command=WORDS), {"command": ["sh", "-c", "ls"]}),
        (
            function(
                "bash",
                ["command", "why", "timeout"],
                command=TEXT,
                why=TEXT,
                timeout={"type": "integer"},
            ),
            {"command": "ls", "why": "trial", "timeout": 60},
        ),
    ],
)
def test_the_shell_tool_is_found_among_those_offered(tool: JSON, arguments: JSON) -> None:
    """Its arguments are read off its schema, with plausible ones for what else it requires."""
    shape = found({"tools": [function("read", path=TEXT), tool]}, None, None)
    assert shape.call("ls", "c")["arguments"] == arguments
    assert (shape.name, shape.kind) == (tool["name"], "function")


def test_a_custom_tool_takes_the_command_as_its_input() -> None:
    """So it does where the template is text."""
    body = {"tools": [{"type": "custom", "name": "sh"}]}
    assert found(body, "sh", None).call("ls", "c1") == {
        "type": "custom_tool_call",
        "name": "sh",
        "input": "ls",
        "call_id": "c1",
    }
    assert (
        found(body, "sh", parse_template('"run: {command}"')).call("ls", "c")["input"] == "run: ls"
    )


@pytest.mark.parametrize(
    "tools, name, text",
    [
        (
            [],
            None,
            "no shell tool that is known by name is among the tools that the agent offers (none)",
        ),
        ([function("read", path=TEXT)], None, r"offers (read)"),
        ([function("read", path=TEXT)], "bash", "bash is not among the tools"),
        ([function("read", path=TEXT)], "read", "the arguments of read are not understood"),
    ],
)
def test_a_tool_that_is_not_found_is_said(tools: list[JSON], name: str | None, text: str) -> None:
    """One line that names the option to use."""
    with pytest.raises(ScriptError) as caught:
        found({"tools": tools}, name, None)
    assert text in str(caught.value)
    assert "see --tool" in str(caught.value)


@pytest.mark.parametrize(
    "printed, pattern, session",
    [
        (f'noise\n{{"type":"thread.started","thread_id":"{UUID}"}}', None, UUID),
        ('{"type":"thread.started","thread_id":"t-1"}', None, "t-1"),
        (f"session id: {UUID} and more", None, UUID),
        ("Session abc-1 started", r"Session (\S+)", "abc-1"),
        ("Session abc-1 started", r"abc-\d", "abc-1"),
        (f"{UUID}", "Session", None),
        ("thread.started is no JSON", None, None),
    ],
)
def test_the_session_is_found_in_what_is_printed(
    printed: str, pattern: str | None, session: str | None
) -> None:
    """A pattern's first group, or all of it; else thread.started; else the first UUID."""
    assert session_in(printed, pattern) == session


def test_only_known_placeholders_are_replaced() -> None:
    """Braces of JSON and TOML stay, and what is put in is not looked at again."""
    values = dict.fromkeys(("url", "key", "cwd", "home", "session"), "x") | {"prompt": "{url}"}
    assert filled('a={url, b="{url}"} {prompt} {other}', values) == 'a={url, b="x"} {url} {other}'


def test_the_model_asks_again_for_what_a_request_does_not_hold(tmp_path: Path) -> None:
    """A lost output is asked for again under a new call_id; one that is there is not."""
    bench = Bench(str(tmp_path / "bench"))
    command = bench.command("work")
    model = Model(Shape("bash", {"command": "{command}"}), [Step([command])])
    tools = [{"type": "function", "name": "bash"}]
    asked = [model({"input": "go", "tools": tools})["output"][0] for _ in range(2)]
    assert [one["call_id"] for one in asked] == ["call_work_1", "call_work_2"]
    call = {"type": "function_call", "call_id": "c", "arguments": f'{{"command":"{command.line}"}}'}
    output = {"type": "function_call_output", "call_id": "c", "output": "aborted"}
    assert answers([call, output], command) == ["aborted"]
    assert answers([output, call], command) == []
    assert model({"input": [call, output], "tools": tools})["output"][0]["type"] == "message"
    assert model.concluded == 1
    model({"input": "a title, please"})
    assert model.concluded == 1


def test_the_ledger_counts_what_ran(tmp_path: Path) -> None:
    """Begun and ended, whatever the agent says."""
    bench = Bench(str(tmp_path / "a folder"))
    command = bench.waiting("work", seconds=30)
    with subprocess.Popen(["sh", "-c", command.line], stdout=subprocess.PIPE, text=True) as process:
        while not bench.begun(command):
            assert process.poll() is None
        assert bench.ended(command) == 0
        bench.let_go()
        printed, _ = process.communicate()
    assert printed.splitlines() == ["work begins", command.token]
    assert (bench.begun(command), bench.ended(command)) == (1, 1)
    assert Path(command.done).exists()


def test_the_published_results_are_about_the_scenarios_that_there_are() -> None:
    """Each scenario has its row, in order; Backstay's column has nothing but what held."""
    page = Path(__file__).resolve().parents[2] / "docs" / "chaos-results.md"
    rows = [line.split("|") for line in page.read_text().splitlines() if line.startswith("| `")]
    names = [one.name for one in sorted(SCENARIOS, key=lambda one: one.needs != "")]
    assert [row[1].strip(" `") for row in rows] == names
    assert {row[2].strip() for row in rows} == {"held"}
    for column, counted in ((3, "27 held, 7 not, 0"), (4, "14 held, 17 not, 3")):
        verdicts = [row[column].strip().split(":")[0] for row in rows]
        held, broken = verdicts.count("held"), verdicts.count("**no**")
        assert counted == f"{held} held, {broken} not, {len(rows) - held - broken}"
        assert f"**{counted} can't happen**" in page.read_text()


def test_the_page_names_every_option() -> None:
    """What --help lists stands in the section of the fault kit's page, too."""
    page = Path(__file__).resolve().parents[2] / "docs" / "chaos.md"
    section = page.read_text().partition("\n## Testing your own agent\n")[2].partition("\n## ")[0]
    options = re.findall(r"^  (--[\w-]+)", USAGE, re.MULTILINE)
    assert len(options) >= 11
    assert [one for one in options if f"`{one}" not in section] == []
    assert f"{len(SCENARIOS)} scenarios:" in section


def test_the_published_commands_are_read_as_they_stand() -> None:
    """A shell makes of them what the command line accepts: --list in front runs nothing."""
    page = Path(__file__).resolve().parents[2] / "docs" / "chaos-results.md"
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        listing = f"{shlex.quote(sys.executable)} -m backstay chaos test --list "
        script = block.replace("backstay chaos test ", listing, 1)
        ran = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert len(ran.stdout.splitlines()) == len(SCENARIOS)

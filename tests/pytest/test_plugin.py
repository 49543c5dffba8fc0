"""The pytest plugin as its users have it: found by itself, cheap, and strict at a test's end."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "pytest-plugin.md"
BARE = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:timeout")
"""Plugins that the inner runs do without, since they take longer to load than the tests to run."""


def example(name: str) -> str:
    """A file that the guide shows, by the name in its first line."""
    (text,) = re.findall(
        rf"^```python\n# {name}\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE
    )
    return str(text)


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder for tests of a user, whose warnings are errors."""
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def outcome_of(run: pytest.Pytester, test: str) -> pytest.RunResult:
    """The result of one file of tests."""
    run.makepyfile(
        "from backstay.chaos import *\nimport urllib.request, json, pytest\n" + ASK + test
    )
    return run.runpytest_subprocess(*BARE)


ASK = """
def ask(url, *items):
    body = {"input": [{"role": "user", "content": "go"}, *items], "stream": True}
    request = urllib.request.Request(url + "/responses", json.dumps(body).encode())
    with urllib.request.urlopen(request) as answer:
        return answer.read()

CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
"""


def test_the_guides_example_runs_as_it_stands(run: pytest.Pytester) -> None:
    """Both files, copied from the page: every test passes, with the plugin found by itself."""
    run.makepyfile(my_agent=example("my_agent.py"), test_my_agent=example("test_my_agent.py"))
    result = run.runpytest_subprocess(*BARE)
    result.assert_outcomes(passed=6)


def test_the_guides_example_fails_where_the_agent_forgets(run: pytest.Pytester) -> None:
    """Without the output in its history, the agent's test fails as the page says."""
    agent = example("my_agent.py").replace("[call, output(call)]", "[call] if output(call) else []")
    run.makepyfile(my_agent=agent, test_my_agent=example("test_my_agent.py"))
    result = run.runpytest_subprocess(*BARE, "-k", "close")
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.re_match_lines(
        [
            "responses_server:",
            r"request 1 was refused: No tool output found for function call call_\w+\.",
            "session from request 0: 2 requests, 1 wrong",
            r"  1 +1 +call_without_output +no output for call_\w+",
        ]
    )


EXHAUSTED = """
    with pytest.raises(OSError):
        ask(responses_server.url)
"""
UNPAIRED = """
    responses_server.play(response(message("a")), strict=False)
    ask(responses_server.url, CALL)
"""
RAISES = """
    responses_server.play(lambda body: 1 / 0)
    with pytest.raises(OSError):
        ask(responses_server.url)
"""
HELD = """
    hold = {"file": "never", "event": 1, "seconds": 0.01}
    responses_server.play(response(message("a"), hold=hold))
    ask(responses_server.url)
"""


@pytest.mark.parametrize(
    "body, text",
    [
        (EXHAUSTED, "script exhausted"),
        (UNPAIRED, "call_without_output"),
        (RAISES, "ZeroDivisionError: division by zero"),
        (HELD, "never did not appear within 0.01 s"),
    ],
    ids=["exhausted", "unpaired", "function", "hold"],
)
def test_what_was_wrong_fails_the_test_at_its_end(
    run: pytest.Pytester, body: str, text: str
) -> None:
    """Even where the test itself was content; unless it tolerates it."""
    wrong = f"def test_wrong(responses_server):{body}"
    tolerant = f"def test_tolerant(responses_server):{body}    responses_server.tolerate()\n"
    result = outcome_of(run, f"{wrong}\n{tolerant}")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_wrong*", f"*{text}*"])


def test_single_findings_can_be_tolerated(run: pytest.Pytester) -> None:
    """Only the codes that were named."""
    test = """
def test_it(responses_server):
    responses_server.play(response(message("a")), strict=False)
    responses_server.tolerate("{code}")
    ask(responses_server.url, CALL)
    assert responses_server.judge().codes == ["call_without_output"]
"""
    outcome_of(run, test.format(code="call_without_output")).assert_outcomes(passed=1)
    outcome_of(run, test.format(code="item_id")).assert_outcomes(passed=1, errors=1)


def test_playing_again_keeps_the_url_and_the_requests(run: pytest.Pytester) -> None:
    """A test may resume its agent against a new script; faults come by their names."""
    test = """
def test_it(responses_server, fault):
    url = responses_server.url
    responses_server.play(response(message("one"), fault=fault.unknown(before=0)))
    assert b"chaos.rate_limits" in ask(url)
    responses_server.play(lambda body: response(message(body["input"][0]["content"])), style="openrouter")
    assert b"[DONE]" in ask(url)
    assert len(responses_server.wait(2)) == len(responses_server.bodies) == len(responses_server.log) == 2
    assert responses_server.url == url
"""
    outcome_of(run, test).assert_outcomes(passed=1)


def test_a_wrong_script_is_said_at_once(run: pytest.Pytester) -> None:
    """`play` raises ScriptError, and the server goes on with what it had."""
    test = """
def test_it(responses_server):
    responses_server.play(response(message("one")))
    with pytest.raises(ScriptError, match="no call number 1"):
        responses_server.play(response(message("a"), fault=cut(after="call")))
    assert b"one" in ask(responses_server.url)
"""
    outcome_of(run, test).assert_outcomes(passed=1)


def test_a_run_that_asks_for_nothing_loads_nothing() -> None:
    """The plugin costs a start of pytest one small module: no server, no codec."""
    code = (
        "import sys, pytest; before = set(sys.modules); import backstay.pytest; "
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "['backstay', 'backstay.pytest']\n"


def test_every_fault_has_its_name(fault: object) -> None:
    """The fixture has a builder for each kind of fault that a script may hold."""
    from typing import get_args

    from backstay.chaos.script import Fault

    tags = {kind.__struct_config__.tag for kind in get_args(Fault)}
    assert {tag for tag in tags if not hasattr(fault, str(tag))} == set()

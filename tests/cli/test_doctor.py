"""`backstay doctor --provider` as a process: a table, a dialect to copy, the same as data."""

import json
import tomllib
from typing import Any

import pytest

from backstay.chaos import ChaosServer, http_error, response
from backstay.chaos import message as said
from backstay.cli.doctor import text_of
from backstay.core.dialect import Dialect
from backstay.model.checkup import Finding, Report
from tests.cli.command import Command
from tests.model.test_checkup import local

pytestmark = pytest.mark.processes
FOUND = dict.fromkeys(("custom_tools", "unknown_items", "images", "output_images"), False)
ASKING = "asking it at http://127.0.0.1:"


def block(server: ChaosServer, more: str = "") -> tuple[str, ...]:
    """A provider of this name at this address."""
    table = f'base_url="{server.url}", env_key="IT_KEY"{more}'
    return "-c", f"model_providers.it={{{table}}}", "-m", "any"


def test_a_local_server_gets_its_table_and_its_dialect(command: Command) -> None:
    """What it costs is said before, on stderr; the block is TOML that can be copied."""
    with ChaosServer(local, style="llamacpp") as server:
        ran = command.run(
            "doctor", "--provider", "it", *block(server), env={"IT_KEY": "sk-secret-key"}
        )
    assert ran.code == 0, ran.err
    assert ran.err.startswith(ASKING)
    assert "9 to 17 requests" in ran.err
    assert "dropped without a word" in " ".join(ran.out.split())
    assert "an agent can run on it" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    start = ran.out.index("[model_providers.it.dialect]")
    copied = tomllib.loads(ran.out[start:].partition("\n\n")[0])
    flags = copied["model_providers"]["it"]["dialect"]
    assert flags == FOUND
    assert f"# configured otherwise: {', '.join(FOUND)}" in ran.out
    assert "sk-secret-key" not in ran.out + ran.err


def test_the_same_as_data(command: Command) -> None:
    """With what to write, and what is configured otherwise; `--provider=NAME` says the same."""
    more = ", dialect={custom_tools=false}"
    with ChaosServer(local, style="llamacpp") as server:
        line = ("doctor", "--provider=it", "--json", *block(server, more))
        ran = command.run(*line, env={"IT_KEY": "sk-secret-key"})
    found: dict[str, Any] = json.loads(ran.out)
    assert found["works"] is True
    assert found["suggested"] == FOUND
    assert found["differs"] == [name for name in FOUND if name != "custom_tools"]
    assert {one["name"] for one in found["findings"]} >= {"reachable", "store", "keep_alive"}
    assert found["requests"] >= 9


def test_a_provider_that_no_agent_can_run_on_is_exit_1(command: Command) -> None:
    """A wrong key, and a model that never calls; the configured provider is asked without a name."""
    with ChaosServer([http_error(401)], repeat=True) as server:
        command.url = server.url
        ran = command.run("doctor", "--provider", "-m", "any")
        assert ran.code == 1
        assert ran.out.count("\n") < 8
        assert "can't run on it" in ran.out
    with ChaosServer([response(said("no"))], repeat=True) as server:
        command.url = server.url
        assert command.run("doctor", "--provider", "-m", "any").code == 1


@pytest.mark.parametrize(
    "line, said",
    [
        (["--repair"], "say what to repair"),
        (["--in-place"], "--in-place goes with --repair"),
        (["-m", "any"], "--model is for --provider"),
        (["--provider", "--all"], "--all is about sessions"),
        (["-n", "many"], "-n many: it takes a number"),
        (["--provider"], "no model is set"),
        (["--provider", "a", "b"], "takes one NAME"),
        (["--provider", "nope", "-m", "m"], "built in are azure"),
        (["--provider", "-m", "m", "--timeout", "0"], "--timeout 0: it takes seconds"),
        (["--provider", "--frob"], "doctor has no flag --frob"),
    ],
)
def test_a_wrong_command_line_is_one_line(command: Command, line: list[str], said: str) -> None:
    """Exit 2, and nothing is asked."""
    ran = command.run("doctor", *line)
    assert ran.code == 2
    assert said in ran.complaint


def test_the_help_fits_80_columns(command: Command) -> None:
    """On stdout, exit 0."""
    ran = command.run("doctor", "--help")
    assert (ran.code, ran.err) == (0, "")
    assert max(map(len, ran.out.splitlines())) <= 80


def test_a_provider_as_configured_needs_no_change() -> None:
    """Nothing to write where everything is as at api.openai.com."""
    report = Report(provider="it", url="u", model="m", dialect={"custom_tools": True})
    report.findings.append(Finding(name="reachable", verdict="yes", detail="\x1b[2J"))
    text = text_of(report, Dialect())
    assert "# nothing: it does what api.openai.com does" in text
    assert "# as configured" in text
    assert "\x1b" not in text

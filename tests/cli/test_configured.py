"""What configuration does to a whole run: profiles, local providers, the commands' environment."""

import os

import pytest

from backstay.chaos import ChaosServer, call, message, response
from tests.cli.command import Command

pytestmark = pytest.mark.processes


def test_a_profile_makes_the_request(command: Command) -> None:
    """Model, effort, summary and verbosity of `[profiles.NAME]` are what is sent; `-m` goes first."""
    command.home.mkdir(exist_ok=True)
    (command.home / "config.toml").write_text(
        'model = "base"\n[profiles.deep]\nmodel = "deep"\nmodel_reasoning_effort = "high"\n'
        'model_reasoning_summary = "detailed"\nmodel_verbosity = "low"\n'
    )
    with ChaosServer([response(message("ok"))], repeat=True) as server:
        command.url = server.url
        assert command.run("exec", "-p", "deep", "--yolo", "x").code == 0
        assert command.run("exec", "-p", "deep", "-m", "mine", "--yolo", "x").code == 0
        nope = command.run("exec", "-p", "dep", "--yolo", "x")
        first, second = server.bodies
    assert first["model"] == "deep"
    assert first["reasoning"] == {"effort": "high", "summary": "detailed"}
    assert first["text"]["verbosity"] == "low"
    assert second["model"] == "mine"
    assert (nope.code, nope.complaint) == (
        2,
        "backstay: no profile dep: there are deep (write [profiles.dep] into config.toml)",
    )


def test_oss_asks_the_local_provider_for_its_model(command: Command) -> None:
    """Without a key; `apply_patch` is a function there. A profile's provider gives way."""
    with ChaosServer([response(message("ok"))], repeat=True) as server:
        where = ("-c", f"model_providers.ollama.base_url={server.url}")
        line = ("exec", "--oss", "--local-provider", "ollama", *where, "--yolo", "x")
        ran = command.run(*line, env={"OPENAI_API_KEY": ""})
        (body,) = server.bodies
        (request,) = server.requests
    assert ran.code == 0, ran.err
    assert body["model"] == "gpt-oss:20b"
    assert {tool["type"] for tool in body["tools"]} == {"function"}
    assert "include" not in body
    assert "authorization" not in {name.lower() for name in request.headers}


def test_commands_inherit_what_the_policy_leaves(command: Command) -> None:
    """`set` has the last word; no policy brings a provider's key back."""
    policy = (
        'shell_environment_policy={inherit="all", exclude=["HIDE_*"], set={PAGER="less", ONE="1"}}'
    )
    with ChaosServer(
        [
            response(call("exec_command", {"cmd": "env", "login": False})),
            response(message("ok")),
        ]
    ) as server:
        command.url = server.url
        env = {"HIDE_ME": "1", "KEEP_ME": "1"}
        ran = command.run("exec", "-m", "m", "--yolo", "-c", policy, "x", env=env)
        (output,) = [one for one in server.bodies[1]["input"] if one["type"].endswith("_output")]
    assert ran.code == 0, ran.err
    seen = dict(line.split("=", 1) for line in output["output"].splitlines() if "=" in line)
    assert (seen["KEEP_ME"], seen["ONE"], seen["PAGER"], seen["TERM"]) == ("1", "1", "less", "dumb")
    assert seen["PATH"] == os.environ["PATH"]
    assert not {"HIDE_ME", "OPENAI_API_KEY"} & set(seen)

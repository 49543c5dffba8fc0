"""Backstay itself in the trial that it offers to others: all of it holds."""

import json
import shlex
import sys

import pytest

from backstay.chaos.trial import main

PROVIDER = (
    'model_providers.t={name="t", base_url="{url}", env_key="OPENAI_API_KEY", '
    'wire_api="responses", stream_idle_timeout_ms=3000}'
)
FLAGS = ["--json", "-m", "m", "--yolo", "-c", PROVIDER, "-c", 'model_provider="t"']
EXEC = [sys.executable, "-m", "backstay", "exec"]


@pytest.mark.deep
@pytest.mark.processes
@pytest.mark.timeout(900)
def test_backstay_holds_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """No scenario is broken, and none is skipped."""
    resume = shlex.join([*EXEC, "resume", "{session}", "{prompt}", *FLAGS])
    code = main(["--json", "--resume", resume, "--", *EXEC, "{prompt}", *FLAGS])
    result = json.loads(capsys.readouterr().out)
    wrong = {one["name"]: one["findings"] for one in result["scenarios"] if one["findings"]}
    assert wrong == {}
    assert result["summary"] == {"held": len(result["scenarios"]), "broken": 0, "skipped": 0}
    assert code == 0

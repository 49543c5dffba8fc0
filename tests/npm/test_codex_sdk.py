"""The official Codex SDK with its executable replaced by `backstay`; needs node and npm.

Only with `-m npm`. The package is fetched by npm into a cache folder of the tests' own, once.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import ChaosServer, call, custom_call, cut, judge, message, response

pytestmark = [pytest.mark.npm, pytest.mark.timeout(300)]

PACKAGE = "@openai/codex-sdk"
SCRIPT = """
import { Codex } from "@openai/codex-sdk";
const [path, baseUrl, cwd, home] = process.argv.slice(2);
const env = { PATH: process.env.PATH, HOME: process.env.HOME, BACKSTAY_HOME: home };
const codex = new Codex({ codexPathOverride: path, baseUrl, apiKey: "sk-sdk", env });
const options = {
  model: "m", sandboxMode: "danger-full-access", workingDirectory: cwd, skipGitRepoCheck: true,
  modelReasoningEffort: "low", networkAccessEnabled: true, webSearchMode: "disabled",
  approvalPolicy: "never", additionalDirectories: [home],
};
const out = { streamed: [] };
const thread = codex.startThread(options);
const { events } = await thread.runStreamed("make a file");
for await (const event of events) out.streamed.push(event);
out.id = thread.id;
const again = codex.resumeThread(thread.id, options);
const parts = [{ type: "text", text: "and" }, { type: "text", text: "again" }];
const outputSchema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
out.turn = await again.run(parts, { outputSchema });
out.resumed = again.id;
try {
  await codex.startThread({ ...options, model: "refused" }).run("fails");
} catch (error) { out.error = String(error); }
console.log(JSON.stringify(out));
"""
KEYS: dict[str, set[str]] = {
    "thread.started": {"thread_id"},
    "turn.started": set(),
    "turn.completed": {"usage"},
    "turn.failed": {"error"},
    "item.started": {"item"},
    "item.updated": {"item"},
    "item.completed": {"item"},
    "error": {"message"},
}
ITEMS: dict[str, set[str]] = {
    "agent_message": {"text"},
    "reasoning": {"text"},
    "command_execution": {"command", "aggregated_output", "status"},
    "file_change": {"changes", "status"},
    "error": {"message"},
}
"""What each type of the package's declarations demands (index.d.ts of 0.169)."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the SDK can be imported."""
    if shutil.which("npm") is None:
        pytest.fail("npm is not installed; `make npm` needs node and npm")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    argv = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--omit=optional", PACKAGE]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)
    (folder / "run.mjs").write_text(SCRIPT)
    return folder


def test_sdk_runs_streams_resumes_and_reports_a_failure(
    package: Path, tmp_path: Path, home: Path
) -> None:
    """A program written for `codex exec` works unchanged, over a cut stream too."""
    cwd = tmp_path / "work"
    cwd.mkdir()
    wrapper = tmp_path / "codex"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m backstay "$@"\n')
    wrapper.chmod(0o700)
    patch = "*** Begin Patch\n*** Add File: b.txt\n+b\n*** End Patch"
    script = [
        response(call("exec_command", {"cmd": "echo hi > a.txt; cat a.txt"})),
        response(custom_call("apply_patch", patch), fault=cut(after="call")),
        response(message("made")),
        response(message('{"n": 3}')),
        {"status": 401},
    ]
    with ChaosServer(script, strict=True) as server:
        argv = ["node", "run.mjs", str(wrapper), server.url, str(cwd), str(home)]
        done = subprocess.run(argv, cwd=package, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        requests = server.requests
    found = json.loads(done.stdout)
    _check_events(found["streamed"])
    kinds = [event["type"] for event in found["streamed"]]
    assert kinds[:2] == ["thread.started", "turn.started"]
    assert kinds[-1] == "turn.completed"
    items = [e["item"] for e in found["streamed"] if e["type"] == "item.completed"]
    command = next(item for item in items if item["type"] == "command_execution")
    assert (command["exit_code"], command["aggregated_output"]) == (0, "hi\n")
    change = next(item for item in items if item["type"] == "file_change")
    assert change["changes"] == [{"path": "b.txt", "kind": "add"}]
    assert found["resumed"] == found["id"]
    assert found["turn"]["finalResponse"] == '{"n": 3}'
    assert requests[3].body["text"]["format"]["schema"]["required"] == ["n"]
    assert "text" not in requests[2].body
    assert set(found["turn"]["usage"]) >= {"input_tokens", "cached_input_tokens", "output_tokens"}
    assert "401" in found["error"]
    assert requests[0].headers["authorization"] != "Bearer sk-sdk", "the log must be redacted"
    assert judge(requests[:4]).ok, judge(requests[:4]).table()
    prompt = requests[3].body["input"][-1]["content"][0]["text"]
    assert prompt == "and\n\nagain"
    assert os.path.isfile(cwd / "b.txt")


def _check_events(events: list[dict[str, Any]]) -> None:
    """Every event and item has what its type declaration demands."""
    for event in events:
        assert KEYS[event["type"]] <= set(event), event
        if "item" in event:
            item = event["item"]
            assert {"id", "type", *ITEMS[item["type"]]} <= set(item), item

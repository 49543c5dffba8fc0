"""The real Codex binary: what it sends of its sessions we send, and what we write it resumes.

Only with `-m npm`. BACKSTAY_CODEX names the binary, else the package is fetched by npm once.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import ChaosServer, call, custom_call, cut, judge, message, reasoning, response
from backstay.core.items import OUTPUTS, call_id, kind
from tests.cli.command import Command

pytestmark = [pytest.mark.npm, pytest.mark.timeout(300)]

JSON = dict[str, Any]
TOLD = (
    *("<environment_context>", "<permissions", "<skills", "# AGENTS.md", "<collaboration_mode>"),
    "You are a coding agent",
)
"""How messages begin that each agent makes itself."""
OWN = ("id", "status", "internal_chat_message_metadata_passthrough")
PATCH = "*** Begin Patch\n*** Add File: b.txt\n+b\n*** End Patch\n"


@pytest.fixture(scope="module")
def codex(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The binary of `@openai/codex`."""
    named = os.environ.get("BACKSTAY_CODEX")
    if named:
        return named
    if shutil.which("npm") is None:
        pytest.fail("npm is not installed; `make npm` needs node and npm")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"private": true}')
    argv = ["npm", "install", "--silent", "--no-audit", "--no-fund", "@openai/codex"]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)
    return str(folder / "node_modules" / ".bin" / "codex")


@pytest.fixture
def command(home: Path, tmp_path: Path) -> Command:
    """Our own command line, in an empty folder."""
    (tmp_path / "workspace").mkdir()
    return Command(home, tmp_path / "workspace")


class Codex:
    """Runs the binary with a home of its own against a scripted provider."""

    def __init__(self, binary: str, home: Path, cwd: Path) -> None:
        self.home = home
        self.cwd = cwd
        self._binary = binary
        home.mkdir(exist_ok=True)

    def start(self, url: str, *args: str) -> subprocess.Popen[str]:
        """`codex exec`."""
        block = "model_providers.chaos"
        keys = {
            "model_provider": "chaos",
            f"{block}.name": "chaos",
            f"{block}.base_url": url,
            f"{block}.wire_api": "responses",
            f"{block}.env_key": "CODEX_API_KEY",
            f"{block}.supports_websockets": "false",
        }
        flags = [part for name, value in keys.items() for part in ("-c", f"{name}={value}")]
        how = ["--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        return subprocess.Popen(
            [self._binary, "exec", *how, "-m", "gpt-5.1-codex", *flags, *args],
            cwd=self.cwd,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "CODEX_HOME": str(self.home),
                "CODEX_API_KEY": "sk-x",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, url: str, *args: str) -> str:
        """The same to its end; gives the thread's id."""
        process = self.start(url, *args)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
        return str(json.loads(out.splitlines()[0])["thread_id"])

    def copy(self, home: Path) -> "Codex":
        """One that goes on with copies of the sessions."""
        shutil.copytree(self.home / "sessions", home / "sessions")
        return Codex(self._binary, home, self.cwd)


def shared(items: Sequence[JSON]) -> list[JSON]:
    """A request's items without what each agent adds, and without what is the provider's."""
    found = []
    for item in items:
        bare = {name: one for name, one in item.items() if name not in OWN and one is not None}
        content = bare.get("content")
        if kind(bare) == "message" and isinstance(content, list):
            text = "".join(part.get("text", "") for part in content)
            if bare.get("role") != "assistant" and text.startswith(TOLD):
                continue
            own = ("annotations", "logprobs")
            bare["content"] = [{n: v for n, v in p.items() if n not in own} for p in content]
        found.append(bare)
    return found


def both(peer: Codex, command: Command, tmp_path: Path, thread: str) -> tuple[list[JSON], ...]:
    """What Codex sends of a thread, and what we send of it after an import."""
    done = command.run("import", "codex", thread, "--from", str(peer.home))
    assert done.code == 0, done.err
    with ChaosServer([response(message("ok"))], strict=True) as server:
        command.url = server.url
        again = command.run("resume", done.out.strip(), "x", "-m", "gpt-5.1-codex")
        assert again.code == 0, again.err
        assert judge(server.requests).ok
        ours = server.requests[0].body["input"]
    with ChaosServer([response(message("ok"))]) as server:
        peer.copy(tmp_path / f"copy-{thread}").run(server.url, "resume", thread, "x")
        theirs = server.requests[0].body["input"]
    return shared(theirs), shared(ours)


def back(binary: str, command: Command, tmp_path: Path, session: str) -> None:
    """Codex resumes what we export, with a paired request of the same items."""
    into = tmp_path / "into"
    done = command.run("sessions", "export", session, "--to", "codex", "--into", str(into))
    assert done.code == 0, done.err
    peer = Codex(binary, into, command.cwd)
    with ChaosServer([response(message("ok"))], strict=True) as server:
        peer.run(server.url, "resume", session, "x")
        theirs = server.requests[0].body["input"]
    with ChaosServer([response(message("ok"))], strict=True) as server:
        command.url = server.url
        assert command.run("resume", session, "x", "-m", "gpt-5.1-codex").code == 0
        ours = server.requests[0].body["input"]
    assert shared(theirs) == shared(ours)


def test_sessions_are_continued_as_codex_would(
    codex: str, command: Command, tmp_path: Path
) -> None:
    """Calls, patches, reasoning, a cut stream, a compaction, a second turn, a fork: item by item."""
    peer = Codex(codex, tmp_path / "codex", command.cwd)
    big = {"input_tokens": 9000, "output_tokens": 2000}
    script = [
        response(reasoning("a", encrypted_content="E1"), call("exec_command", {"cmd": "echo hi"})),
        response(custom_call("apply_patch", PATCH), call("exec_command", {"cmd": "cat b.txt"})),
        response(call("exec_command", {"cmd": "echo cut"}), fault=cut(after="call")),
        response(message("one")),
        response(
            reasoning("b", encrypted_content="E2"), call("exec_command", {"cmd": "ls"}), usage=big
        ),
        response(message("THE SUMMARY")),
        response(message("two")),
        response(message("three")),
    ]
    with ChaosServer(script) as server:
        thread = peer.run(server.url, "begin")
        limit = ("-c", "model_auto_compact_token_limit=10000")
        first, ours = both(peer, command, tmp_path, thread)
        assert first == ours
        peer.run(server.url, *limit, "resume", thread, "fill it")
        fork = peer.run(server.url, "fork", thread, "another way")
    for one in (thread, fork):
        shutil.rmtree(tmp_path / f"copy-{one}", ignore_errors=True)
        theirs, ours = both(peer, command, tmp_path, one)
        assert theirs == ours
        assert any("THE SUMMARY" in str(item) for item in ours)
    session = command.run("import", "codex", fork, "--from", str(peer.home), "--again").out.strip()
    back(codex, command, tmp_path, session)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_cut_turn_is_continued_with_the_true_output(
    codex: str, command: Command, tmp_path: Path, how: signal.Signals
) -> None:
    """An interrupted turn as Codex sends it; of a killed one the outputs that were saved, too."""
    peer = Codex(codex, tmp_path / "codex", command.cwd)
    slow = {"cmd": "touch started; sleep 20; echo slow", "yield_time_ms": 25000}
    calls = (call("exec_command", {"cmd": "echo quick"}), call("exec_command", slow))
    with ChaosServer([response(*calls, fault={"kind": "stall"})]) as server:
        process = peer.start(server.url, "stop me")
        deadline = time.monotonic() + 30
        while not (command.cwd / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)  # the output of the quick one is on its way into the file
        os.killpg(process.pid, how)
        out, _ = process.communicate(timeout=30)
    thread = str(json.loads(out.splitlines()[0])["thread_id"])
    theirs, ours = both(peer, command, tmp_path, thread)
    if how is signal.SIGINT:
        assert theirs == ours
        return
    assert [one for one in theirs if kind(one) not in OUTPUTS] == [
        one for one in ours if kind(one) not in OUTPUTS
    ]
    outputs = {call_id(one): str(one["output"]) for one in ours if kind(one) in OUTPUTS}
    first, second = outputs.values()
    assert "quick" in first
    assert "outcome of this call is unknown" in second

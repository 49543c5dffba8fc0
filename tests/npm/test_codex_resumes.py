"""The real Codex goes on with rollouts that `doctor --repair --in-place` repaired.

Only with -m npm. BACKSTAY_CODEX names the binary; else the package is fetched by npm, once.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import ChaosServer, call, judge, message, response, stall
from backstay.doctor.checks import examine
from backstay.doctor.repair import repair
from backstay.doctor.rollout import find_rollouts, thread_id

pytestmark = [pytest.mark.npm, pytest.mark.timeout(300)]

CONFIG = """\
model = "gpt-5"
model_provider = "local"
[model_providers.local]
name = "local"
base_url = "{url}"
wire_api = "responses"
env_key = "LOCAL_KEY"
supports_websockets = false
"""
UNSAFE = "--dangerously-bypass-approvals-and-sandbox"
Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def codex(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The binary."""
    given = os.environ.get("BACKSTAY_CODEX")
    if given:
        return given
    if shutil.which("npm") is None:
        pytest.fail("npm is not installed; `make npm` needs node and npm")
    folder = tmp_path_factory.mktemp("codex")
    (folder / "package.json").write_text('{"private": true}')
    argv = ["npm", "install", "--silent", "--no-audit", "--no-fund", "@openai/codex"]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)
    return str(folder / "node_modules/.bin/codex")


class Place:
    """A CODEX_HOME and a working folder."""

    def __init__(self, codex: str, folder: Path) -> None:
        self.codex = codex
        self.home = folder / "codex"
        self.cwd = folder / "work"
        self.home.mkdir()
        self.cwd.mkdir()

    def start(self, url: str, *words: str) -> subprocess.Popen[bytes]:
        """`codex exec`, in a session of its own."""
        (self.home / "config.toml").write_text(CONFIG.format(url=url))
        own = {"CODEX_HOME": str(self.home), "HOME": str(self.home), "LOCAL_KEY": "sk-x"}
        return subprocess.Popen(
            [self.codex, "exec", "--json", "--skip-git-repo-check", UNSAFE, *words],
            cwd=self.cwd,
            env={"PATH": os.environ["PATH"], **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def rollout(self) -> str:
        """The one session."""
        (path,) = find_rollouts(str(self.home))
        return path


@pytest.fixture
def killed(codex: str, tmp_path: Path) -> Place:
    """A session that was killed before the response ended; both its commands had ended."""
    place = Place(codex, tmp_path)
    calls = [call("exec_command", {"cmd": f"echo {name}-token"}) for name in ("first", "second")]
    with ChaosServer([response(*calls, fault=stall(before="terminal"))]) as server:
        process = place.start(server.url, "do it")
        try:
            _wait(lambda: _ended(place) == 2)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return place


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not done():
        if time.monotonic() > until:
            pytest.fail("Codex did not run the commands")
        time.sleep(0.1)


def _ended(place: Place) -> int:
    paths = find_rollouts(str(place.home))
    return Path(paths[0]).read_bytes().count(b'"CommandExecution"') if paths else 0


def resumed(place: Place) -> Lines:
    """What Codex sends when it goes on: the items of its request, which the judge takes."""
    ident = thread_id(place.rollout)
    with ChaosServer([response(message("going on"))], strict=True) as server:
        process = place.start(server.url, "resume", ident, "go on")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        assert f'"{ident}"'.encode() in out.splitlines()[0]
        requests = server.requests
    wrong = [one for one in judge(requests).findings if one.code != "item_id"]  # its own habit
    assert wrong == []
    found: Lines = requests[0].body["input"]
    return found


def outputs(items: Lines) -> dict[str, str]:
    """Each output by its call."""
    return {one["call_id"]: str(one["output"]) for one in items if one["type"].endswith("_output")}


def rewritten(place: Place, change: Callable[[Lines], Lines]) -> None:
    """The rollout with its records changed, as other versions and crashes leave them."""
    path = Path(place.rollout)
    records = change([json.loads(line) for line in path.read_bytes().splitlines()])
    path.write_text("".join(json.dumps(one, separators=(",", ":")) + "\n" for one in records))


def unnumbered(records: Lines) -> Lines:
    """As versions wrote them that did not number records."""
    for one in records:
        one.pop("ordinal", None)
        one["payload"].pop("history_mode", None)
    return records


def gone_on(records: Lines) -> Lines:
    """The session went on with another prompt, whose turn is whole."""
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "more"}]}
    answer = {"type": "message", "role": "assistant"}
    answer["content"] = [{"type": "output_text", "text": "yes"}]  # type: ignore[assignment]
    last = records[-1]
    more = [{**last, "type": "response_item", "payload": item} for item in (said, answer)]
    if "ordinal" in last:
        more = [one | {"ordinal": last["ordinal"] + n} for n, one in enumerate(more, 1)]
    return records + more


@pytest.mark.parametrize("how", ["numbered", "unnumbered", "gone on", "gone on, unnumbered"])
def test_salvaged_outputs_reach_the_model(how: str, killed: Place) -> None:
    """`codex exec resume` sends each call with its true output; before the repair it lies."""
    if "gone on" in how:
        rewritten(killed, gone_on)
    if "unnumbered" in how:
        rewritten(killed, unnumbered)
        for path in killed.home.glob("*.sqlite*"):
            path.unlink()
    before = Path(killed.rollout).read_bytes()
    done = repair(killed.rollout, in_place=True)
    assert Path(done.backup).read_bytes() == before
    assert examine(killed.rollout).findings.counts == {}
    items = resumed(killed)
    told = outputs(items).values()
    assert {text.splitlines()[-1] for text in told} == {"first-token", "second-token"}
    assert repair(killed.rollout, in_place=True).target == ""
    assert not examine(killed.rollout).findings.damaged


def test_without_a_repair_the_model_is_told_aborted(killed: Place) -> None:
    """What the repair is for; if this fails Codex has learnt to salvage."""
    assert set(outputs(resumed(killed)).values()) == {"aborted"}


def test_a_last_record_without_a_number(killed: Place) -> None:
    """Codex refuses it; repaired it goes on."""

    def damage(records: Lines) -> Lines:
        del records[-1]["ordinal"]
        return records

    rewritten(killed, damage)
    with ChaosServer([response(message("x"))]) as server:
        refused = killed.start(server.url, "resume", thread_id(killed.rollout), "go on")
        _, err = refused.communicate(timeout=60)
        assert refused.returncode != 0
        assert b"missing an ordinal" in err
    repair(killed.rollout, in_place=True)
    assert len(outputs(resumed(killed))) == 2


@pytest.mark.parametrize("lost", ["header", "middle", "tail", "zeros"])
def test_damaged_files(lost: str, killed: Place) -> None:
    """A lost header, a torn line, a torn tail, a block of zeros: repaired, it goes on."""
    path = Path(killed.rollout)
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if b'"world_state"' in line)
    match lost:
        case "header":
            del lines[0]
        case "middle":
            lines[place] = lines[place][:60]
        case "tail":
            lines.append(lines[-1][:80])
        case _:
            lines.insert(place, b"\0" * 4096)
    path.write_bytes(b"".join(lines))
    repair(killed.rollout, in_place=True)
    assert not examine(killed.rollout).findings.damaged
    assert len(outputs(resumed(killed))) == 2


def test_a_copy_beside_it_is_no_session_to_codex(killed: Place) -> None:
    """Codex goes on with the file of its name, whatever stands beside it."""
    done = repair(killed.rollout)
    assert done.target.endswith(".repaired.jsonl")
    assert set(outputs(resumed(killed)).values()) == {"aborted"}

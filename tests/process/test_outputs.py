"""Terminals and cut outputs across a `kill -9`: the true output, and the whole of it."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from backstay.chaos import call, message, response
from tests.process.agent import JSON, Bench

pytestmark = pytest.mark.processes

LINES = "".join(f"{number}\n" for number in range(1, 30_001))


def kept(bench: Bench) -> Path:
    """The file that the one output names, which is a blob of the home."""
    (output,) = bench.outputs()
    (digest,) = output.whole
    return bench.home / "blobs" / digest


def body(text: str) -> str:
    """A result without its first line, the time that it took."""
    return text.partition("\n")[2]


def test_whole_output_outlives_the_agent_and_the_session(bench: Bench) -> None:
    """An undisturbed run: the file is there when the session has ended, and its record names it."""
    bench.serve(response(call("exec_command", {"cmd": "seq 30000"})), response(message("done")))
    assert bench.exec("go").end().code == 0
    (told,) = bench.sent()
    assert f"30000 lines and {len(LINES)} bytes, is in {kept(bench)}:" in told
    assert kept(bench).read_text() == LINES
    bench.check()


@pytest.mark.parametrize("tty", [False, True])
def test_whole_output_is_made_by_who_recovers(bench: Bench, tty: bool) -> None:
    """The agent is killed while the command runs; the next one tells what it would have told."""
    go = bench.root / "go"
    cmd = f"touch begun; while [ ! -e {go} ]; do sleep 0.05; done; seq 30000"
    wish = {"cmd": cmd, "yield_time_ms": 30_000, "tty": tty}
    bench.serve(bench.held(call("exec_command", wish)), response(message("done")))
    agent = bench.exec("go")
    bench.wait((bench.cwd / "begun").exists, "the command runs")
    agent.kill()
    go.touch()
    bench.wait(bench.exited, "the command has ended")
    assert not (bench.home / "blobs" / sha256(LINES.encode()).hexdigest()).exists()
    assert bench.resume().end().code == 0
    (recovered,) = bench.sent()
    assert kept(bench).read_text() == LINES
    bench.check()

    bench.serve(response(call("exec_command", wish)), response(message("done")))
    assert bench.resume("again").end().code == 0
    assert body(bench.sent()[-1]) == body(recovered)
    assert {len(one.whole) for one in bench.outputs()} == {1}


@pytest.mark.parametrize("point", ["before-finish:exec_command:1", "before-write:output:1"])
def test_kill_between_the_file_and_its_record(bench: Bench, point: str) -> None:
    """The file was made and nothing names it yet: who recovers names the same one."""
    bench.serve(bench.held(call("exec_command", {"cmd": "seq 30000"})), response(message("done")))
    bench.environ["BACKSTAY_CRASH"] = point
    assert bench.exec("go").end().code == -9
    before = sorted(path.name for path in (bench.home / "blobs").iterdir())
    del bench.environ["BACKSTAY_CRASH"]
    assert bench.resume().end().code == 0
    assert kept(bench).name in before
    assert kept(bench).read_text() == LINES
    assert f"is in {kept(bench)}:" in bench.sent()[0]
    bench.check()


def test_terminal_is_adopted(bench: Bench) -> None:
    """A call that was open at the kill is taken over, and what is typed then reaches its command."""
    cmd = "stty size; printf 'name? '; read -r name; echo hello $name; tty >/dev/null && echo still"
    wish: JSON = {"cmd": cmd, "yield_time_ms": 1500, "tty": True}
    bench.serve(bench.held(call("exec_command", wish)))
    agent = bench.exec("go")
    bench.wait(bench.spooled, "the command asks")
    agent.kill()
    number = bench.calls()[0].n
    types: JSON = {"session_id": number, "chars": "you\n", "yield_time_ms": 20_000}
    bench.serve(response(call("write_stdin", types)), response(message("done")))
    assert bench.resume().end().code == 0
    first, second = bench.sent()
    assert f"Process running with session ID {number}" in first
    assert first.endswith("Output:\n40 120\nname? ")
    assert "Process exited with code 0" in second
    assert second.endswith("Output:\nyou\nhello you\nstill\n")
    assert os.path.exists(bench.folder / "effects" / f"{bench.session}-{number}" / "exit.json")
    bench.check()

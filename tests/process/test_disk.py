"""A disk that is full or read-only: stop before the next effect, lose nothing, go on with room."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backstay.chaos import message, response
from tests.process.agent import Bench
from tests.processes import end_processes_of, processes_of

pytestmark = pytest.mark.processes


class Disk:
    """A small file system of its own under BACKSTAY_HOME."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.filler = place / "filler"

    def fill(self, leave: int = 0) -> None:
        """Use up all room but so many bytes (in whole pages)."""
        fd = os.open(self.filler, os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(fd, bytes(4096))
        os.close(fd)
        os.truncate(self.filler, max(self.filler.stat().st_size - leave, 0))

    def free(self) -> None:
        """Give the room back."""
        self.filler.unlink()

    def remount(self, how: str) -> None:
        """`ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{how}", self.place], check=True)


@pytest.fixture
def disk(home: Path) -> Iterator[Disk]:
    """A file system of 1 MB as the home; a visible skip where mounting is not permitted."""
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(home)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        refused = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        refused = str(error)
    if refused and os.environ.get("CI") and os.geteuid() == 0:
        pytest.fail(f"no file system can be mounted: {refused}")
    if refused:
        pytest.skip(f"no file system can be mounted: {refused}")
    try:
        yield Disk(home)
    finally:
        end_processes_of(home)
        subprocess.run(["umount", "-l", str(home)], check=True)


def test_full_disk_before_the_prompt(bench: Bench, disk: Disk) -> None:
    """Nothing is acknowledged and nothing is sent: one line, exit 4."""
    bench.serve(response(message("done")), repeat=True)
    disk.fill()
    ended = bench.exec("go").end()
    assert ended.code == 4
    assert "No space left" in ended.one_line()
    assert bench.server.requests == []
    disk.free()
    assert bench.exec("go").end().code == 0


def test_disk_that_fills_up_while_a_command_runs(bench: Bench, disk: Disk) -> None:
    """The output can't be recorded: exit 4, no second effect; with room again it is still there."""
    full = bench.root / "full"
    waits = f"seq 1500; while [ ! -e {full} ]; do sleep 0.05; done"
    bench.serve(
        response(bench.command("one", waits)),
        response(bench.command("two")),
        response(message("done")),
    )
    agent = bench.exec("go", "--json")
    bench.wait(lambda: bench.spooled() > 6000, "more than a page is printed and saved")
    disk.fill()
    full.touch()
    ended = agent.end()
    assert ended.code == 4, ended.err
    assert "No space left" in ended.err
    assert "turn.failed" in ended.out
    assert "turn.completed" not in ended.out
    assert len(bench.server.requests) == 1
    assert (bench.runs("one-end"), bench.runs("two")) == (1, 0)
    assert processes_of(bench.home) == {}

    disk.free()
    ended = bench.resume().end()
    assert (ended.code, ended.out) == (0, "done\n"), ended.err
    assert (bench.runs("one"), bench.runs("two")) == (1, 1)
    assert bench.statuses() == ["done", "done"]
    assert "exited with code 0" in bench.sent()[0]
    assert "\n1499\n1500\n" in bench.sent()[0]
    bench.check()


@pytest.mark.parametrize("leave", [4096, 16384, 65536])
def test_disk_that_fills_up_at_any_point_of_a_turn(bench: Bench, disk: Disk, leave: int) -> None:
    """Wherever the room ends: no effect that is not recorded, and the turn is finished later."""
    steps = [
        response(bench.command(f"step-{number}", "seq 1000"), message(f"{number}" * 300))
        for number in range(12)
    ]
    bench.serve(*steps, response(message("done")), repeat=True)
    warm = bench.exec("go").end()
    assert warm.code == 0
    bench.serve(*steps, response(message("done")), repeat=True)
    bench.ledger.unlink()
    disk.fill(leave)
    ended = bench.resume("again").end()
    assert ended.code == 4, (ended.err, leave)
    assert "No space left" in ended.err
    began = [f"step-{number}" for number in range(12) if bench.runs(f"step-{number}")]
    started = {one.call for one in bench.starts()}
    recorded = str([one.item for one in bench.calls() if one.n in started])
    assert all(f"echo {name} >>" in recorded for name in began)
    accepted = bench.server.requests != []
    disk.free()

    ended = bench.resume(*([] if accepted else ["again"])).end()
    assert (ended.code, ended.out) == (0, "done\n"), ended.err
    assert all(bench.runs(name) == 1 for name in began)
    assert processes_of(bench.home) == {}
    for output in bench.outputs():
        assert output.status in ("done", "never_started") or "not started" in str(output.item)
    bench.check()


def test_read_only_home(bench: Bench, disk: Disk) -> None:
    """A new session and an old one: one line, exit 4, no request; a session can still be shown."""
    bench.serve(response(message("done")), repeat=True)
    assert bench.exec("go").end().code == 0
    session, journal = bench.session, bench.journal.read_bytes()
    disk.remount("ro")
    for words in (["more"], ["resume", session, "more"]):
        ended = bench.exec(*words).end()
        assert ended.code == 4, ended.err
        assert "ead-only file system" in ended.one_line()
    shown = bench.start("sessions", "show", session).end()
    assert (shown.code, "go" in shown.out) == (0, True), shown.err
    assert len(bench.server.requests) == 1
    disk.remount("rw")
    assert bench.journal.read_bytes() == journal
    assert bench.resume("more").end().code == 0
    bench.check()

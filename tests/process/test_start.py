"""What is loaded when the first request goes out: start-up is a feature, so the list is checked in.

`first_request_modules.txt` is rewritten by running this test with BACKSTAY_REWRITE set; read the
difference before it is committed, every line of it costs every start.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backstay.chaos import message, response, stall
from tests.process.agent import Bench

pytestmark = pytest.mark.processes

LISTED = Path(__file__).with_name("first_request_modules.txt")
BARE = "import asyncio, msgspec, pyreqwest.client"
SHOW = "import sys; print(*sorted(sys.modules), sep='\\n', file=open({!r}, 'w'))"
LATER = (
    "backstay.chaos",
    "backstay.cli.demo",
    "backstay.cli.jsonl",
    "backstay.cli.ps",
    "backstay.model.scripted",
    "backstay.tools.patch.apply",
    "backstay.tools.patch.engine",
    "backstay.tools.patch.parse",
    "backstay.tools.patch.plan",
    "backstay.tools.supervise.server",
    "argparse",
    "dataclasses",
    "difflib",
    "pathlib",
    "random",
    "shutil",
    "sqlite3",
    "tempfile",
    "tomllib",
)
"""What a first request has no use for."""


@pytest.fixture
def loaded(bench: Bench) -> set[str]:
    """The modules of an `exec` that waits for its first answer, beyond those of a bare start."""
    seen = bench.root / "modules"
    program = (
        "import os, signal\n"
        f"def show(*_):\n    {SHOW.format(str(seen))}\n    os._exit(0)\n"
        "signal.signal(signal.SIGUSR1, show)\n"
        "from backstay.cli.main import main\n"
        "main(['exec', '-m', 'm', '--yolo', 'go'])\n"
    )
    bench.serve(response(message("done"), fault=stall(before="headers")))
    agent = bench.start(program=program)
    bench.server.wait(1)
    agent.signal(signal.SIGUSR1)
    assert agent.end().code == 0
    return {*seen.read_text().split()} - bare(bench.root / "bare") - {"__main__"}


def bare(place: Path) -> set[str]:
    """The modules of an interpreter that has imported what every start needs, and nothing else."""
    argv = [sys.executable, "-c", f"{BARE}\n{SHOW.format(str(place))}"]
    subprocess.run(argv, check=True)
    return {*place.read_text().split()}


def test_modules_at_the_first_request_are_those_that_are_listed(loaded: set[str]) -> None:
    """Beyond asyncio, msgspec and pyreqwest: exactly these of ours, and no others of anybody."""
    extra = {name for name in loaded if not name.startswith("_")}
    if os.environ.get("BACKSTAY_REWRITE"):
        LISTED.write_text("".join(f"{name}\n" for name in sorted(extra)))
    listed = {*LISTED.read_text().split()}
    ours = {name for name in listed if name.partition(".")[0] == "backstay"}
    assert extra - listed == set()
    assert ours - extra == set()


@pytest.mark.parametrize("name", LATER)
def test_what_the_first_request_needs_not_comes_later(name: str) -> None:
    """Patches, TOML, the database, the other output: none of it is in the list."""
    listed = LISTED.read_text().split()
    assert name not in listed
    assert not any(one.startswith(f"{name}.") for one in listed)


def test_nothing_that_comes_later_is_loaded(loaded: set[str]) -> None:
    """Nor does anything bring it in that is not counted as ours."""
    assert loaded & {*LATER} == set()


def test_a_thread_that_is_left_does_not_hold_up_the_end(bench: Bench) -> None:
    """Nor can one abort the process while the interpreter is taken down: it is not."""
    program = (
        "import threading, time, sys\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "sys.argv = ['backstay', 'exec', '-m', 'm', '--yolo', 'go']\n"
        "from backstay.cli.main import run\n"
        "run()\n"
    )
    bench.serve(response(message("done")))
    done = bench.start(program=program).end()
    assert (done.code, done.out) == (0, "done\n")

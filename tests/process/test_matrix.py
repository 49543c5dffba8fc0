"""The crash matrix: killed at every named point, and again while it goes on; judged from outside."""

import random
from pathlib import Path

import pytest

from tests.process import matrix
from tests.process.agent import Bench
from tests.process.matrix import KILLED

pytestmark = pytest.mark.processes

RECORDS = (
    *("session", "prompt", "attempt", "item", "call", "start", "output", "attempt_end"),
    *("repair", "turn_end", "note"),
)
WRITES = [
    f"{moment}:{kind}"
    for kind in RECORDS
    for moment in ("before-write", "after-write", "after-sync")
]
RUNS = [
    *(f"before-start:{tool}" for tool in ("exec_command", "write_stdin", "apply_patch")),
    *(f"after-start:{tool}" for tool in ("exec_command", "write_stdin")),
    *(f"before-finish:{tool}" for tool in ("exec_command", "write_stdin", "apply_patch")),
    *("before-prepare:apply_patch", "after-prepare:apply_patch"),
    *(
        f"before-patch:{step}"
        for step in ("mkdir", "create", "mode", "write", "sync", "rename", "unlink")
    ),
]
ENDS = ["before-send", "after-send", "before-close", "after-end", "before-release", "after-release"]
POINTS = ["after-open", *WRITES, *RUNS, *ENDS]
"""All points that the session passes when nothing kills it."""
SETTLING = [
    *(f"before-settle:{tool}" for tool in ("exec_command", "write_stdin", "apply_patch")),
    *(f"after-settle:{tool}" for tool in ("exec_command", "write_stdin", "apply_patch")),
    *("before-adopt:exec_command", "before-patch:discard", "before-patch:rmdir"),
]
"""Those that it passes only when it goes on after a kill."""
OPEN = [
    "after-start:exec_command:1",
    "after-start:exec_command:4",
    "after-start:write_stdin:1",
    "before-patch:write:2",
    "before-patch:rename:2",
]
"""Kills that leave a call open, each settled in another way."""
FALLS = [
    ("before-start:exec_command:1", "before-settle:exec_command"),
    ("before-start:exec_command:1", "after-settle:exec_command"),
    ("after-start:exec_command:1", "before-settle:exec_command"),
    ("after-start:exec_command:1", "after-settle:exec_command"),
    ("after-start:exec_command:4", "before-adopt:exec_command"),
    ("after-start:exec_command:4", "before-finish:exec_command"),
    ("before-start:write_stdin:1", "after-settle:write_stdin"),
    ("after-start:write_stdin:1", "before-settle:write_stdin"),
    ("after-start:write_stdin:1", "after-settle:write_stdin"),
    ("before-start:apply_patch:1", "before-settle:apply_patch"),
    ("before-patch:write:2", "before-patch:discard"),
    ("before-patch:write:2", "before-patch:rmdir"),
    ("before-patch:write:2", "after-settle:apply_patch"),
    ("before-patch:rename:2", "before-patch:rename"),
    ("before-patch:rename:2", "before-patch:unlink"),
    ("before-patch:rename:2", "after-settle:apply_patch"),
]
"""Kills that leave a call open, and kills while that is settled."""
PAIRS = [(f"{first}:1", second) for first in POINTS for second in (*POINTS, *SETTLING)]
DRAWN = 8
"""How many of the pairs the suite tries; `deep` draws `DRAWN_DEEP`, and all that begin `OPEN`."""
DRAWN_DEEP = 200


def test_the_matrix_holds_every_point(bench: Bench) -> None:
    """What an undisturbed session passes is what is killed at below, no less and no more."""
    matrix.prepare(bench)
    log = bench.root / "points"
    assert matrix.start(bench, f"count:{log}") == 0
    assert sorted(matrix.passed(log)) == sorted(POINTS)
    assert set(bench.statuses()) == {"done", "yielded"}
    assert "crash=unset" in bench.sent()[-1]
    matrix.judged(bench)


@pytest.mark.parametrize("point", POINTS)
def test_killed_once(bench: Bench, point: str) -> None:
    """Killed when it first passes a point, the session goes on to its end and has kept its word."""
    matrix.prepare(bench)
    assert matrix.start(bench, f"{point}:1") == KILLED
    matrix.finish(bench)
    matrix.judged(bench)


@pytest.mark.deep
@pytest.mark.parametrize("point", POINTS)
def test_killed_each_later_time(tmp_path: Path, home: Path, point: str) -> None:
    """The same the second time that it passes the point, the third, until it passes it no more."""
    number, code = 1, KILLED
    while code == KILLED:
        number += 1
        root = tmp_path / str(number)
        root.mkdir()
        with Bench(root, home / str(number)) as bench:
            matrix.prepare(bench)
            code = matrix.start(bench, f"{point}:{number}")
            if code == KILLED:
                matrix.finish(bench)
            matrix.judged(bench)


def test_the_matrix_holds_every_point_of_settlement(tmp_path: Path, home: Path) -> None:
    """What sessions that were killed pass when they go on is killed at below, or above."""
    seen: set[str] = set()
    for number, first in enumerate(OPEN):
        root = tmp_path / str(number)
        root.mkdir()
        with Bench(root, home / str(number)) as bench:
            matrix.prepare(bench)
            assert matrix.start(bench, first) == KILLED
            assert matrix.go_on(bench, f"count:{root / 'points'}") == 0
            matrix.judged(bench)
            seen |= set(matrix.passed(root / "points"))
    assert seen >= set(SETTLING)
    assert seen <= {*SETTLING, *POINTS}


@pytest.mark.parametrize("first, second", FALLS)
def test_killed_while_it_settles(bench: Bench, first: str, second: str) -> None:
    """Killed at an open call, and again where that is settled: the word is kept all the same."""
    matrix.prepare(bench)
    assert matrix.start(bench, first) == KILLED
    assert matrix.go_on(bench, f"{second}:1") == KILLED
    matrix.finish(bench)
    matrix.judged(bench)


@pytest.mark.parametrize("first, second", random.Random(DRAWN).sample(PAIRS, DRAWN))
def test_killed_twice(bench: Bench, first: str, second: str) -> None:
    """Killed at any point, and again at another on its way to the end."""
    killed_twice(bench, first, second)


@pytest.mark.deep
@pytest.mark.parametrize("second", [*POINTS, *SETTLING])
@pytest.mark.parametrize("first", OPEN)
def test_killed_with_a_call_open_and_again(bench: Bench, first: str, second: str) -> None:
    """The same for every second point behind each kind of settlement."""
    killed_twice(bench, first, second)


@pytest.mark.deep
@pytest.mark.parametrize("first, second", random.Random(DRAWN_DEEP).sample(PAIRS, DRAWN_DEEP))
def test_killed_twice_anywhere(bench: Bench, first: str, second: str) -> None:
    """The same for many more pairs."""
    killed_twice(bench, first, second)


def killed_twice(bench: Bench, first: str, second: str) -> None:
    """Kill it at both points, or once where it does not pass the second any more."""
    matrix.prepare(bench)
    assert matrix.start(bench, first) == KILLED
    if matrix.go_on(bench, f"{second}:1") == KILLED:
        matrix.finish(bench)
    matrix.judged(bench)

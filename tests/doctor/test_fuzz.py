"""Damaged in every way: the doctor never fails, never hangs, and what it repairs is repaired."""

import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from backstay.doctor.checks import examine
from backstay.doctor.repair import repair
from backstay.doctor.salvage import salvage
from tests.doctor.mutate import excerpt, mutated
from tests.doctor.rollouts import NAME, call, item, meta, numbered, said, text
from tests.doctor.test_checks import FOUND, NOTES, SOUND
from tests.doctor.test_salvage import EVENTS, PATCH

CASES = 2_000
DEEP = 1_000_000
_LONGEST = 20
"""Seconds after which a case is a hang."""


def own() -> list[bytes]:
    """Rollouts with all that the checks look for."""
    made = [body for _, _, body in FOUND.values()] + [body for _, body in NOTES.values()]
    events = [record for record, _ in EVENTS.values()]
    killed = [meta(), said("x"), call("c"), item("custom_tool_call", call_id="p", name="apply_patch",
                                                  input=PATCH), *events]  # fmt: skip
    return [*made, *SOUND.values(), text(*killed), text(*numbered(killed))]


@contextmanager
def no_hang() -> Iterator[None]:
    """An alarm that ends the case."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(_LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(seed: int, bodies: Sequence[bytes], path: str) -> None:
    """One case: examined, salvaged and, every other time, repaired, examined and repaired again."""
    draw = random.Random(seed)
    body = mutated(draw, excerpt(draw, draw.choice(bodies), draw.choice((4, 8, 16))))
    with open(path, "wb") as file:
        file.write(body)
    found = examine(path)
    assert found.weight.unreadable <= found.bytes == len(body)
    assert len(salvage(path, found.calls)) == len(found.calls)
    if seed % 2 or not found.repairable:
        return
    done = repair(path, found=found)
    again = examine(done.target)
    assert not again.repairable, (found.findings.counts, again.findings.counts)
    os.unlink(done.target)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: each repair waits for the disk otherwise."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir="/dev/shm") as made:
        yield Path(made)


def run(seeds: Sequence[int], bodies: Sequence[bytes], folder: Path) -> None:
    """Many cases; a failure names its seed."""
    path = str(folder / NAME)
    for seed in seeds:
        try:
            with no_hang():
                attempt(seed, bodies, path)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


def test_damaged_rollouts(folder: Path) -> None:
    """Those of these tests, damaged in some thousand ways."""
    run(range(CASES), own(), folder)


def recorded(data_dir: Path) -> list[bytes]:
    """Real sessions, and what others made up."""
    paths = sorted((data_dir / "rollouts").rglob("*.jsonl"))
    assert paths
    return [path.read_bytes() for path in paths]


@pytest.mark.data
def test_damaged_recordings(data_dir: Path, folder: Path) -> None:
    """Recorded sessions, damaged in some thousand ways."""
    run(range(CASES), recorded(data_dir), folder)


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_a_million_damaged_rollouts(data_dir: Path, folder: Path) -> None:
    """The same a million times; files that Codex wrote are added with BACKSTAY_ROLLOUTS=FOLDER."""
    bodies = own() + recorded(data_dir)
    more = os.environ.get("BACKSTAY_ROLLOUTS")
    if more:
        bodies += [path.read_bytes() for path in sorted(Path(more).rglob("rollout-*.jsonl"))]
    begin = time.monotonic()
    run(range(DEEP), bodies, folder)
    print(f"{DEEP / (time.monotonic() - begin):.0f} cases a second")

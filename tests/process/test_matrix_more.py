"""The crash matrix of what stands beside a turn: letters and compactions, forks and deletions."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstay.chaos import at, cut, judge, message, response, stall
from backstay.core.items import message_text
from backstay.core.record import Compaction, Prompt
from backstay.errors import BackstayError
from backstay.journal import PosixDisk, look
from backstay.journal.sessions import list_sessions
from tests.process.agent import Bench
from tests.process.matrix import KILLED, passed
from tests.processes import processes_of

JSON = dict[str, Any]
pytestmark = pytest.mark.processes

STEPS = 5
SMALL = ("-c", "model_auto_compact_token_limit=3000")
ASKED = "about to be replaced by a summary"
RECORDS = ("prompt", "compaction", "attempt", "start", "output", "turn_end")
LETTER = (
    *("before-letter", "after-letter", "before-discard", "after-discard"),
    *(f"{moment}:prompt" for moment in ("before-write", "after-write", "after-sync")),
)
COMPACTION = [f"{moment}:compaction" for moment in ("before-write", "after-write", "after-sync")]
SHORT = ("mkdir", "create", "append_to", "sync_directory")
FORKING = [f"before-disk:{name}" for name in SHORT]
DELETING = [f"before-disk:{name}" for name in ("create", "rename", "sync_directory", "mkdir")]


def model(steps: int) -> Callable[[Bench], Callable[[JSON], JSON]]:
    """Makes so many calls with a thousand tokens of output each."""

    def of(bench: Bench) -> Callable[[JSON], JSON]:
        def answer(body: JSON) -> JSON:
            if ASKED in message_text(body["input"][-1]):
                return response(message("Summary."), usage=None)
            if bench.runs("step") >= steps:
                return response(message("done"), usage=None)
            printed = "head -c 4000 /dev/zero | tr '\\0' x"
            return response(bench.command("step", printed), usage=None)

        return answer

    return of


# A letter whose turn is compacted


def written(bench: Bench) -> None:
    """A session with one ended turn, and a letter that nobody has taken yet."""
    bench.improvise(model(0)(bench))
    assert bench.exec("the prompt").end().code == 0
    assert bench.start("send", bench.session, "the letter").end().code == 0
    bench.improvise(model(STEPS)(bench))


def taken(bench: Bench, crash: str) -> int:
    """Go on in the session with this in BACKSTAY_CRASH; the exit code."""
    bench.environ = {"BACKSTAY_CRASH": crash} if crash else {}
    return bench.resume(*SMALL).end().code


def judged(bench: Bench) -> None:
    """The letter is one prompt and is gone; its turn went through, each step once."""
    letters = [one for one in bench.records() if isinstance(one, Prompt) and one.letter]
    assert [message_text(one.items[-1]) for one in letters] == ["the letter"]
    assert list(bench.folder.glob("inbox/*")) == []
    assert bench.turns() == ["completed", "completed"]
    assert bench.runs("step") == bench.runs("step-end") == STEPS
    assert any(isinstance(one, Compaction) for one in bench.records())
    assert [message_text(one) for one in bench.inputs()[-1]].count("the letter") == 1
    assert processes_of(bench.home) == {}


def killed(bench: Bench, point: str) -> None:
    """Kill it there, and let it go on to the end."""
    written(bench)
    assert taken(bench, point) == KILLED
    assert taken(bench, "") in (0, 2)  # 2: the turn was over, nothing is left to be done
    judged(bench)


def test_the_points_are_those_that_it_passes(bench: Bench) -> None:
    """An undisturbed session passes each of them, and goes on as it should."""
    written(bench)
    log = bench.root / "points"
    assert taken(bench, f"count:{log}") == 0
    found = passed(log)
    assert {*LETTER, *COMPACTION} <= found.keys()
    assert all(found[point] == 1 for point in LETTER)
    judged(bench)


@pytest.mark.parametrize("point", [*LETTER, *COMPACTION])
def test_killed_around_a_letter_or_a_compaction(bench: Bench, point: str) -> None:
    """The letter becomes one prompt, never none and never two; the turn behind it goes on."""
    killed(bench, f"{point}:1")


@pytest.mark.deep
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("moment", ["before-write", "after-write", "after-sync"])
def test_killed_anywhere_in_its_turn(bench: Bench, moment: str, kind: str, number: int) -> None:
    """The same around the other records, as often as they are written."""
    written(bench)
    if taken(bench, f"{moment}:{kind}:{number}") == KILLED:
        assert taken(bench, "") in (0, 2)
    judged(bench)


# Forks, and deleting what has forks


def records(bench: Bench) -> dict[str, list[bytes]]:
    """What each session of the home reads as, those left out that hold nothing."""
    found = {}
    for one in list_sessions(PosixDisk(), str(bench.home)):
        try:
            reading = look(PosixDisk(), one.path)
        except BackstayError:
            continue
        assert reading.damage == []
        found[one.id] = [msgspec.json.encode(record) for record in reading.records]
    return found


def parent(bench: Bench) -> str:
    """A session with one ended turn."""
    bench.improvise(model(1)(bench))
    assert bench.exec("the prompt").end().code == 0
    return bench.session


def run(bench: Bench, crash: str, *words: str) -> int:
    """A command of `backstay sessions`; the exit code."""
    bench.environ = {"BACKSTAY_CRASH": crash} if crash else {}
    return bench.start("sessions", *words).end().code


def points_of(log: Path, kinds: list[str], *, every: bool) -> list[str]:
    """The points of these kinds that were passed: the first and the last of each, or all."""
    found: Counter[str] = passed(log)
    assert set(kinds) <= found.keys()
    return [
        f"{kind}:{number}"
        for kind in kinds
        for number in (range(1, found[kind] + 1) if every else sorted({1, found[kind]}))
    ]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.deep)])
def test_killed_while_it_forks(bench: Bench, every: bool) -> None:
    """The parent is as it was; the fork is there whole, or there is none."""
    session = parent(bench)
    before = records(bench)[session]
    log = bench.root / "points"
    assert run(bench, f"count:{log}", "fork", session) == 0
    for point in points_of(log, FORKING, every=every):
        there = records(bench)
        assert run(bench, point, "fork", session) == KILLED
        after = records(bench)
        assert {name: after[name] for name in there} == there
        for name in after.keys() - there.keys():
            assert after[name][: len(before)] == before
    assert run(bench, "", "fork", session) == 0


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.deep)])
def test_killed_while_what_has_forks_is_deleted(bench: Bench, every: bool) -> None:
    """Each fork reads the same, whether its parent is there or gone; then it is deleted at last."""
    session = parent(bench)
    log = bench.root / "points"
    assert run(bench, "", "fork", session) == 0
    (fork,) = records(bench).keys() - {session}
    whole = records(bench)[fork]
    assert run(bench, f"count:{log}", "delete", "--yes", session) == 0
    assert records(bench) == {fork: whole}
    session = fork
    for point in points_of(log, DELETING, every=every):
        assert run(bench, "", "fork", session) == 0
        (fork,) = records(bench).keys() - {session}
        whole = records(bench)[fork]
        assert run(bench, point, "delete", "--yes", session) in (KILLED, 0)
        assert records(bench)[fork] == whole
        if session in records(bench):
            assert run(bench, "", "delete", "--yes", session) == 0
        assert records(bench) == {fork: whole}
        session = fork


# A stream that is taken up again

KEPT = ("-c", "model_providers.openai.dialect.background=true")
TAKING_UP = (
    *(f"{moment}:output:1" for moment in ("before-write", "after-write", "after-sync")),
    *("before-write:item:1", "after-sync:item:1", "after-sync:attempt_end:1"),
)


def taken_up(bench: Bench) -> int:
    """How often a stream was asked for again."""
    return sum(one.method == "GET" for one in bench.server.log)


@pytest.mark.parametrize("point", ["silent", *TAKING_UP])
def test_killed_around_a_stream_that_is_taken_up(bench: Bench, point: str) -> None:
    """A new process tries the step anew, with what the cut stream left; nothing ran twice."""
    silent = point == "silent"
    cuts = [cut(after="call"), cut(after=at(-6)), *([stall(after=at(-4))] if silent else [])]
    first = response(bench.command("one", "sleep 0.6"), message("word " * 60), fault=cuts)
    bench.serve(first, *(response(message("done")) for _ in range(3)))
    bench.environ = {} if silent else {"BACKSTAY_CRASH": point}
    agent = bench.exec(*KEPT, "go")
    if silent:
        bench.wait(lambda: taken_up(bench) == 2 and bench.outputs(), "the stream is silent again")
        agent.kill()
    else:
        assert agent.end().code == KILLED
    assert taken_up(bench)
    bench.environ = {}
    assert bench.resume(*KEPT).end().code == 0
    assert bench.turns() == ["completed"]
    assert bench.runs("one") == bench.runs("one-end") == 1
    verdict = judge(bench.server.requests)
    assert verdict.ok, verdict.table()

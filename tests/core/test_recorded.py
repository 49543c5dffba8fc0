"""Recorded streams: assembled in any pieces, played through whole turns, and cut wherever they can.

A stream is cut after every event, and at a few byte offsets inside of one.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import cycle, pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from backstay.core import commands as c
from backstay.core import events as e
from backstay.core.items import kind, message
from backstay.core.rules import Rules, Traits
from backstay.core.stream import Delta, Done, Ended, Notice, Response, StreamEvent
from backstay.core.table import Phase
from tests.core.past import BASIS
from tests.core.watch import Watched
from tests.core.wire import created, done, final, said

pytestmark = pytest.mark.data

ANSWER = created("resp_last") + done(said("the end"), 0) + final(output=[])
ENDINGS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.function_call_arguments.delta": "failed",  # then llama.cpp's bare error
    "-": "cut",  # no stream: a plain error body
}


class Recording(NamedTuple):
    """A recorded body, how its index says that it ends, and the items that it lists."""

    name: str
    body: bytes
    ending: str
    items: Counter[str] | None


class EveryTool(dict[str, Traits]):
    """Tools of every name; each third one is exclusive."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Traits:
        return Traits(parallel=len(name) % 3 != 0)


@pytest.fixture(scope="module")
def recordings(data_dir: Path) -> list[Recording]:
    """All recorded bodies that the two indexes name."""
    found = list(_indexed(data_dir / "sse", "file", "last event"))
    found += _indexed(data_dir / "sse" / "llama.cpp", "file", "ends with")
    assert len(found) > 200
    return found


def _indexed(folder: Path, name: str, ending: str) -> Iterator[Recording]:
    with (folder / "INDEX.tsv").open(newline="") as index:
        for row in csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE):
            items = row.get("item types")
            counted = None if items is None else Counter(dict(map(_count, items.split("; "))))
            body = (folder / row[name]).read_bytes()
            yield Recording(row[name], body, ENDINGS[row[ending]], counted)


def _count(words: str) -> tuple[str, int]:
    name, _, number = words.partition("=")
    return name, int(number)


def assembled(pieces: list[bytes]) -> list[StreamEvent]:
    """What the assembler makes of a body in these pieces."""
    response = Response()
    found = [one for piece in pieces for one in response.feed(piece)]
    return found if response.ended else found + response.close("cut", "closed")


def odd_pieces(body: bytes) -> list[bytes]:
    """The body in pieces of one byte to a thousand."""
    edges = [0]
    for size in cycle((1, 2, 3, 61, 7, 1000, 13, 200)):
        if edges[-1] >= len(body):
            return [body[a:b] for a, b in pairwise(edges)]
        edges.append(edges[-1] + size)
    raise AssertionError


def cuts(body: bytes) -> list[int]:
    """Where to cut: behind every event, and inside of some."""
    ends = [at + 2 for at in range(len(body)) if body[at : at + 2] == b"\n\n"]
    inside = [len(body) * part // 7 for part in range(1, 7)]
    return sorted({0, *ends, *inside, max(len(body) - 2, 0), max(len(body) - 30, 0)})


class Session:
    """A tiny driver: the disk answers at once, tools too; the responses are given."""

    def __init__(self, responses: list[list[StreamEvent]]) -> None:
        self.responses = responses
        self.machine = Watched(Rules(tools=EveryTool()))
        self.finish: c.Finish | None = None
        self.outcomes: list[str] = []
        self._todo: list[e.Event] = [
            e.Created(id="s", cwd="/w", basis=BASIS),
            e.PromptGiven([message("user", "go")], BASIS, "m"),
        ]

    def run(self) -> "Session":
        """Until there is nothing left to do."""
        for _ in range(10_000):
            if not self._todo:
                return self
            for command in self.machine.handle(self._todo.pop(0)):
                self._take(command)
        raise AssertionError("the turn does not end")

    def _take(self, command: c.Command) -> None:
        match command:
            case c.Append(records):
                self._todo.insert(0, e.Appended(records[-1].n))
            case c.Send(attempt):
                self._stream(attempt)
            case c.StartCall(call):
                self._todo.append(e.CallFinished(call, e.Result(content=f"result {call}")))
            case c.Wait(attempt):
                self._todo.append(e.Woke(attempt))
            case c.Finish():
                self.finish = command
            case _:
                raise AssertionError(f"nobody asked for {command}")

    def _stream(self, attempt: int) -> None:
        for event in self.responses.pop(0) if self.responses else assembled([ANSWER]):
            match event:
                case Done(index, item):
                    self._todo.append(e.ItemDone(attempt, index, item))
                case Ended(outcome):
                    self.outcomes.append(outcome.kind)
                    self._todo.append(e.AttemptEnded(attempt, outcome))


def test_pieces_make_no_difference(recordings: list[Recording]) -> None:
    """Each recorded body gives the same events in odd pieces as in one."""
    for recording in recordings:
        whole = assembled([recording.body])
        assert assembled(odd_pieces(recording.body)) == whole, recording.name
        assert isinstance(whole[-1], Ended), recording.name
        assert not [one for one in whole if isinstance(one, Notice)], recording.name


def test_every_recording_ends_and_holds_what_its_index_says(recordings: list[Recording]) -> None:
    """The ending, and how many items of each type."""
    for recording in recordings:
        found = assembled([recording.body])
        (ended,) = [one for one in found if isinstance(one, Ended)]
        assert ended.outcome.kind == recording.ending, recording.name
        items = Counter(kind(one.item) for one in found if isinstance(one, Done))
        if recording.items is not None:
            assert items == recording.items, recording.name
        places = [one.index for one in found if isinstance(one, Done)]
        assert len(places) == len(set(places)), recording.name
        if recording.ending == "cut":
            assert found == [ended], recording.name


def test_deltas_belong_to_an_item_that_comes(recordings: list[Recording]) -> None:
    """What is shown while a response streams is part of what it becomes, where it completes."""
    for recording in recordings:
        found = assembled([recording.body])
        places = {one.index for one in found if isinstance(one, Done)}
        shown = {one.index for one in found if isinstance(one, Delta)}
        if recording.ending == "completed":
            assert shown <= places, recording.name


def test_answers_in_one_piece_hold_what_they_list(data_dir: Path) -> None:
    """A response that was not streamed gives the items of its output; an unfinished one none."""
    outcomes: Counter[str] = Counter()
    for path in sorted((data_dir / "sse" / "pydantic-ai" / "nonstream").glob("*.json")):
        body = msgspec.json.decode(path.read_bytes())["response_body"]
        *items, ended = Response().whole(body)
        assert isinstance(ended, Ended)
        outcomes[ended.outcome.kind] += 1
        whole = ended.outcome.kind in ("completed", "incomplete")
        wanted = body["output"] if whole else []
        assert [one.item for one in items if isinstance(one, Done)] == wanted, path.name
    assert outcomes["completed"] > 10
    assert set(outcomes) == {"completed", "incomplete", "failed", "cut"}


def test_every_recording_plays_through_a_turn(recordings: list[Recording]) -> None:
    """The machine takes it to the end that it names, and every call is answered in what follows."""
    for recording in recordings:
        session = Session([assembled([recording.body])]).run()
        assert session.outcomes[0] == recording.ending, recording.name
        assert session.finish is not None, recording.name
        assert session.machine.turn.phase is Phase.IDLE, recording.name
        assert session.finish.outcome in ("completed", "failed"), recording.name
        if recording.ending == "completed":
            assert session.finish.outcome == "completed", recording.name


@pytest.mark.parametrize("quarter", range(4))
def test_a_recording_that_is_cut_anywhere_loses_nothing(
    recordings: list[Recording], quarter: int
) -> None:
    """P1, P3, P5 and P6 hold on the request after the cut, and the turn completes.

    The provider then says the same again, call ids and all: those are new calls.
    """
    for recording in recordings[quarter::4]:
        if recording.ending == "cut":
            continue
        whole = assembled([recording.body])
        for cut in cuts(recording.body):
            session = Session([assembled([recording.body[:cut]]), whole])
            try:
                session.run()
            except AssertionError as error:
                error.add_note(f"{recording.name} cut at {cut}")
                raise
            assert session.finish is not None
            assert session.machine.turn.phase is Phase.IDLE

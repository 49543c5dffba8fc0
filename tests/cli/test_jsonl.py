"""`--json` from what a watcher is told: only what is settled is completed, nothing counts twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from backstay.cli.jsonl import JsonLines
from backstay.core.record import Basis, Codec, Session
from backstay.runtime.watch import Finished, Noticed, Recorded, Started, Streamed, WatchEvent
from tests.cli import script as s


class Told:
    """A renderer and what it has written."""

    def __init__(self, folder: str = "", **how: bool) -> None:
        self.lines: list[bytes] = []
        self.face = JsonLines(self.lines.append, **how)
        self.face.opened("ID", folder, "")

    def __call__(self, *events: WatchEvent) -> "Told":
        for event in events:
            self.face(event)
        return self

    def end(self, ended: Finished) -> "Told":
        """The turn is over."""
        self.face.ended(ended, [], "")
        return self

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was written."""
        return [json.loads(line) for line in self.lines]

    @property
    def types(self) -> list[str]:
        """Types, with the items' behind a colon."""
        return [e["type"] + (f":{e['item']['type']}" if "item" in e else "") for e in self.events]

    def texts(self, type: str = "agent_message") -> list[str]:
        """The texts of completed items of a type."""
        items = [e["item"] for e in self.events if e["type"] == "item.completed"]
        return [i.get("text", i.get("message")) for i in items if i["type"] == type]


def test_a_message_waits_until_its_attempt_has_completed() -> None:
    """Before the end of its attempt nothing says that a message is final."""
    told = Told()(s.prompt(), s.attempt(3), Streamed(3, 0, "text", "Hi"), s.message(4, 3, 0, "Hi"))
    assert told.types == ["thread.started", "turn.started"]
    told(s.end(5, 3, "completed"))
    assert told.texts() == ["Hi"]
    told(s.turn_end(6)).end(s.finished())
    assert told.texts() == ["Hi"]
    assert told.types[-1] == "turn.completed"


def test_a_later_call_of_the_attempt_settles_what_stands_before_it() -> None:
    """By index: the message behind the call still waits, and goes with the retry."""
    told = Told()(s.prompt(), s.attempt(3))
    told(s.thought(4, 3, 0, "Hm"), s.message(5, 3, 1, "before"), s.call(6, 3, 2))
    assert told.texts() == ["before"]
    assert told.texts("reasoning") == ["Hm"]
    told(s.message(7, 3, 3, "behind"), s.output(8, 6, show={"exit_code": 0}))
    told(s.end(9, 3, "cut"), s.waiting(), s.attempt(10, [7], "cut"))
    told(s.message(11, 10, 0, "said again"), s.end(12, 10, "completed"))
    assert told.texts() == ["before", "said again"]


def test_a_superseded_message_is_never_reported() -> None:
    """Not when the retry is sent, and not when the turn then fails."""
    told = Told()(s.prompt(), s.attempt(3), s.message(4, 3, 0, "half"), s.end(5, 3, "cut"))
    told(s.waiting(), s.attempt(6, [4], "cut"), s.end(7, 6, "cut"), s.turn_end(8, "failed", "no"))
    told.end(s.finished("failed", "no"))
    assert told.texts() == []
    assert told.types[-2:] == ["error", "turn.failed"]


def test_a_message_that_a_failed_turn_keeps_is_reported() -> None:
    """Complete messages stay where the turn ends instead of being tried again; partial ones go."""
    told = Told()(s.prompt(), s.attempt(3), s.message(4, 3, 0, "whole"))
    told(s.message(5, 3, 1, "part", status="incomplete"), s.end(6, 3, "interrupted"))
    assert told.texts() == []
    told(s.turn_end(7, "interrupted", "Ctrl-C")).end(s.finished("interrupted", "Ctrl-C"))
    assert told.texts() == ["whole"]
    failed = told.events[-1]
    assert failed["error"] == {"message": "Ctrl-C"}
    assert failed["outcome"] == "interrupted"


def test_a_message_that_comes_late_by_index_is_settled_at_once() -> None:
    """One that stands before a call that is recorded already can't be superseded any more."""
    told = Told()(s.prompt(), s.attempt(3), s.call(4, 3, 1), s.message(5, 3, 0, "late"))
    assert told.texts() == ["late"]


def test_usage_is_the_sum_of_the_attempts() -> None:
    """All five counters; an attempt without a count adds nothing, odd values add nothing."""
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
    }
    told = Told()(s.prompt(), s.attempt(3), s.end(4, 3, "completed", usage))
    told(s.attempt(5), s.end(6, 5, "cut"), s.attempt(7), s.end(8, 7, "completed", usage))
    told(s.attempt(9), s.end(10, 9, "completed", {"input_tokens": None, "output_tokens": True}))
    told.end(s.finished())
    assert told.events[-1]["usage"] == {
        "input_tokens": 20,
        "cached_input_tokens": 10,
        "cache_write_input_tokens": 4,
        "output_tokens": 6,
        "reasoning_output_tokens": 2,
    }


def write_journal(folder: Path, *events: Recorded) -> str:
    """A journal with these records behind a header; gives the session's folder."""
    header = Session(n=1, id="ID", cwd="/", basis=Basis("", ""))
    lines = [Codec().encode(record) for record in [header, *s.records(*events)]]
    (folder / "journal.jsonl").write_bytes(b"".join(lines))
    return str(folder)


def test_a_resumed_turn_counts_what_earlier_processes_used_once(tmp_path: Path) -> None:
    """The attempts on disk and those that were watched are the same ones: each counts once."""
    usage = {"input_tokens": 10, "output_tokens": 1}
    before = [s.prompt(), s.attempt(3), s.call(4, 3, 0), s.output(5, 4)]
    before += [s.end(6, 3, "completed", usage)]
    now = [s.attempt(7), s.message(8, 7, 0, "Hi"), s.end(9, 7, "completed", usage), s.turn_end(10)]
    told = Told(write_journal(tmp_path, *before, *now), resuming=True)
    told(*now).end(s.finished())
    assert told.types[:2] == ["thread.started", "turn.started"]
    assert told.texts() == ["Hi"]
    assert told.events[-1]["usage"]["input_tokens"] == 20


def test_an_answer_that_an_earlier_process_recorded_is_still_given(tmp_path: Path) -> None:
    """It died between the answer and the turn's end: the resumed run reports the answer."""
    before = [s.prompt(), s.attempt(3), s.message(4, 3, 0, "old"), s.end(5, 3, "cut")]
    before += [s.attempt(6, [4]), s.message(7, 6, 0, "Hi"), s.end(8, 6, "completed")]
    told = Told(write_journal(tmp_path, *before, s.turn_end(9)), resuming=True)
    told(s.turn_end(9)).end(s.finished())
    assert told.texts() == ["Hi"]
    assert told.face.answer == "Hi"


def test_a_call_of_an_earlier_process_is_completed_by_this_one(tmp_path: Path) -> None:
    """Its output is settled here; what was called stands in the journal."""
    before = [s.prompt(), s.attempt(3), s.call(4, 3, 0, arguments='{"cmd":"make"}')]
    told = Told(write_journal(tmp_path, *before))
    told(s.output(5, 4, "built", status="unknown"))
    found, event = told.events[1:]
    assert found["item"]["type"] == "error"
    assert "outcome is unknown: it may have taken effect: make" in found["item"]["message"]
    assert event["item"]["command"] == "make"
    assert (event["item"]["status"], event["item"]["outcome"]) == ("failed", "unknown")


def test_the_old_turn_does_not_start_the_new_one(tmp_path: Path) -> None:
    """A prompt on a cut turn: what is settled first comes before turn.started."""
    before = [s.prompt(), s.attempt(3), s.call(4, 3, 0)]
    told = Told(write_journal(tmp_path, *before))
    told(s.output(5, 4), s.end(6, 3, "died"), s.prompt(7), s.turn_end(8, "superseded"))
    assert told.types == [
        "thread.started",
        "item.completed:error",
        "item.completed:command_execution",
        "turn.started",
    ]


def test_what_is_found_while_a_session_opens_is_told_behind_its_name(tmp_path: Path) -> None:
    """Damage, and what became of calls, in order; the first line is thread.started."""
    lines: list[bytes] = []
    face = JsonLines(lines.append, resuming=True)
    face(Noticed("the session was cut", "warning"))
    face(Started(4, s.call_item("exec_command", '{"cmd":"make"}'), adopted=True))
    assert lines == []
    face.opened("ID", str(tmp_path), "")
    events = [json.loads(line) for line in lines]
    said = [event.get("item", {}).get("message") for event in events]
    assert events[0]["type"] == "thread.started"
    assert said[1] == "the session was cut"
    assert "it still runs, and is taken over: make" in said[3]


@pytest.mark.parametrize(
    "status, show, expected",
    [
        ("done", {"exit_code": 0}, ("completed", 0)),
        ("done", {"exit_code": 2}, ("failed", 2)),
        ("yielded", {"session_id": 4}, ("in_progress", None)),
        ("never_started", None, ("failed", None)),
        ("unknown", None, ("failed", None)),
        ("deadline", {"exit_code": 143}, ("failed", 143)),
    ],
)
def test_a_commands_status(status: Any, show: Any, expected: tuple[str, int | None]) -> None:
    """Completed with exit code 0; in progress where it goes on; failed otherwise."""
    told = Told()(
        s.prompt(), s.attempt(3), s.call(4, 3, 0), s.output(5, 4, status=status, show=show)
    )
    item = told.events[-1]["item"]
    assert (item["status"], item.get("exit_code")) == expected
    assert item["outcome"] == status


def test_a_patch_is_a_file_change() -> None:
    """Its changes, or why there are none."""
    told = Told()(
        s.prompt(), s.attempt(3), s.call(4, 3, 0, "apply_patch"), s.call(5, 3, 1, "apply_patch")
    )
    told(s.output(6, 4, show={"changes": [{"path": "a", "kind": "update"}]}))
    assert told.events[-1]["item"]["changes"] == [{"path": "a", "kind": "update"}]
    told(s.output(7, 5, "no such file", status="failed"))
    item = told.events[-1]["item"]
    assert (item["status"], item["changes"], item["message"]) == ("failed", [], "no such file")


def test_a_plan_is_one_list_that_completes_with_the_turn() -> None:
    """Started, updated under the same id, completed before the turn is."""
    first = '{"plan":[{"step":"a","status":"completed"},{"step":"b","status":"pending"}]}'
    second = '{"plan":[{"step":"a","status":"completed"},{"step":"b","status":"completed"}]}'
    told = Told()(s.prompt(), s.attempt(3), s.call(4, 3, 0, "update_plan", first), s.output(5, 4))
    told(s.call(6, 3, 1, "update_plan", second), s.output(7, 6), s.end(8, 3, "completed"))
    told.end(s.finished())
    plans = [e for e in told.events if e.get("item", {}).get("type") == "todo_list"]
    assert [e["type"] for e in plans] == ["item.started", "item.updated", "item.completed"]
    assert len({e["item"]["id"] for e in plans}) == 1
    assert plans[0]["item"]["items"][1] == {"text": "b", "completed": False}
    assert plans[2]["item"]["items"][1] == {"text": "b", "completed": True}


def test_any_other_tool_is_a_tool_call() -> None:
    """With its arguments, its result, or its error; started and completed share an id."""
    told = Told()(s.prompt(), s.attempt(3), s.call(4, 3, 0, "lookup", '{"q":1}'))
    told(Started(4, s.call_item("lookup", '{"q":1}')), s.output(5, 4, "found"))
    started, done = (e["item"] for e in told.events[-2:])
    assert started["id"] == done["id"]
    assert (done["server"], done["tool"], done["arguments"]) == ("backstay", "lookup", {"q": 1})
    assert done["result"]["content"] == [{"type": "text", "text": "found"}]
    told(s.call(6, 3, 1, "lookup", "{"), s.output(7, 6, "bad arguments", status="rejected"))
    failed = told.events[-1]["item"]
    assert (failed["status"], failed["error"]) == ("failed", {"message": "bad arguments"})
    assert failed["arguments"] == "{"


def test_retries_and_warnings_are_items_not_errors() -> None:
    """The event `error` says that all is over; what goes on is an item of type error."""
    told = Told()(
        s.prompt(), s.attempt(3), s.waiting(2), Noticed("damaged", "warning"), Noticed("fyi")
    )
    assert "error" not in told.types
    assert told.texts("error") == ["Reconnecting... 2/5 (closed)", "damaged"]


def test_an_end_that_is_not_on_disk_says_so() -> None:
    """turn.failed is printed although its record could not be written."""
    told = Told()(s.prompt(), s.attempt(3)).end(s.finished("storage", "the disk is full"))
    assert "could not be recorded" in told.events[-1]["error"]["message"]


def test_every_line_is_json_whatever_the_model_says() -> None:
    """Newlines, separators and lone surrogates stay inside of one line each."""
    told = Told()(s.prompt(), s.attempt(3), s.message(4, 3, 0, "a\nb\u2028c\ud800"))
    told(s.end(5, 3, "completed"))
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in told.lines)
    assert told.texts() == ["a\nb\u2028c\ufffd"]


def test_reasoning_is_left_out_where_it_is_hidden() -> None:
    """`hide_agent_reasoning`; the answer behind it is told."""
    told = Told(reasoning=False)
    told(s.prompt(), s.attempt(3))
    told(s.thought(4, 3, 0, "Hm"), s.message(5, 3, 1, "an answer"), s.end(6, 3, "completed"))
    assert told.texts("reasoning") == []
    assert told.texts() == ["an answer"]

"""Codex's sessions become ours: what a request then holds is what Codex itself would send."""

import json
from pathlib import Path
from typing import Any

import pytest

from backstay.core.pairing import problems
from backstay.core.record import Attempt, Compaction, Note, Output, Prompt, Session, TurnEnd
from backstay.errors import EmptySession, StorageError
from backstay.journal import PosixDisk, journal_path
from backstay.journal.sessions import find, list_sessions
from tests.doctor import codexfile as c
from tests.doctor.carried import bring, files, history, records, sent

PARENT = "01a20332-806c-7c93-b05e-8903a252dddf"
TURN = [c.user("go"), c.thought(), c.call("c1"), c.patch_call("c2"), c.out("c1"), c.patch_out("c2")]


def carried(home: Path, tmp_path: Path, *steps: c.Step) -> list[dict[str, Any]]:
    """What is sent of a session of these steps."""
    return sent(home, bring(home, c.write(tmp_path / "codex", steps)).session)


def test_items_are_sent_as_they_stand(home: Path, tmp_path: Path) -> None:
    """Prompts, reasoning, both sorts of calls, outputs and answers, in their order."""
    steps = [c.told(), *TURN, c.thought("B"), c.said("made"), c.user("and"), c.said("yes")]
    assert carried(home, tmp_path, *steps) == steps


def test_records_tell_who_had_it_where_and_when(home: Path, tmp_path: Path) -> None:
    """The header names source and folder, prompts the model; times are those of the file."""
    path = c.write(tmp_path / "codex", [c.told(), *TURN, c.said("made"), c.event("task_complete")])
    made = bring(home, path)
    found = records(home, made.session)
    head = found[0]
    assert isinstance(head, Session)
    assert head.imported is not None
    assert (head.cwd, head.imported.agent, head.imported.id) == ("/work", "codex", c.THREAD)
    prompt = next(one for one in found if isinstance(one, Prompt))
    assert prompt.items == [c.user("go")], "what Codex told its model is no prompt of the user's"
    assert (prompt.model, prompt.provider, prompt.effort) == ("gpt-5.1-codex", "openai", "low")
    assert 1795348802 <= prompt.t <= 1795348804  # when it was followed by something
    assert [one.step for one in found if isinstance(one, Attempt)] == [1, 2]
    ends = [one.outcome for one in found if isinstance(one, TurnEnd)]
    assert ends == ["completed"]
    listed = list_sessions(PosixDisk(), str(home))
    assert [(one.id, one.prompt, one.ended) for one in listed] == [
        (made.session, "go", "completed")
    ]
    assert listed[0].active < 1795348900


@pytest.mark.parametrize("shape", ["0.40", "bare"])
def test_old_formats_are_read(home: Path, tmp_path: Path, shape: str) -> None:
    """Lines without ordinals, and those of before 0.32 without an envelope, say the same."""
    steps: list[c.Step] = [*TURN, c.said("made")]
    if shape == "bare":
        head = {"id": c.THREAD, "timestamp": "2025-06-01T10:00:00Z", "instructions": "x"}
        lines: list[Any] = [head, *steps, {"record_type": "state"}]
    else:
        lines = [c.entry(one, at, at) for at, one in enumerate([c.meta(), *steps])]
        for line in lines:
            del line["ordinal"]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    path = c.put(tmp_path / "codex", content)
    assert sent(home, bring(home, path).session) == steps


def test_compaction_replaces_what_was_before(home: Path, tmp_path: Path) -> None:
    """What it holds is sent and nothing before it, which stays readable; the turn goes on."""
    kept = [c.told(), c.user("go"), c.user("summary of it")]
    steps = [*TURN, c.compacted(kept), c.thought("B"), c.said("made"), c.user("and")]
    made = bring(home, c.write(tmp_path / "codex", steps))
    assert sent(home, made.session) == [*kept, c.thought("B"), c.said("made"), c.user("and")]
    found = records(home, made.session)
    at = next(at for at, one in enumerate(found) if isinstance(one, Compaction))
    compaction = found[at]
    assert isinstance(compaction, Compaction)
    assert compaction.turn == next(one.n for one in found if isinstance(one, Prompt))
    assert any(isinstance(one, Output) for one in found[:at])


def test_compaction_of_old_versions_keeps_the_users_words(home: Path, tmp_path: Path) -> None:
    """Without a replacement: the user's messages, newest first up to 80,000 characters, and the
    summary.
    """
    long = "x" * 79_990
    steps = [
        c.user("lost"),
        c.user(long),
        c.told(),
        c.said("a"),
        c.user("0123456789ab"),
        c.said("b"),
    ]
    found = carried(home, tmp_path, *steps, c.compacted(None, "SO FAR"), c.said("on"))
    texts = [item["content"][0]["text"] for item in found]
    assert texts[1:] == ["0123456789ab", "SO FAR", "on"]
    assert texts[0].startswith("xxxx")
    assert "2 characters left out" in texts[0]


def test_old_compaction_behind_a_new_one_keeps_what_that_kept(home: Path, tmp_path: Path) -> None:
    """What was replaced does not come back."""
    steps = [c.user("gone"), c.compacted([c.user("kept")]), c.user("new"), c.compacted(None, "SUM")]
    found = carried(home, tmp_path, *steps)
    assert found == [c.user("kept"), c.user("new"), c.user("SUM")]


def test_compaction_that_cut_pairs_is_put_right(home: Path, tmp_path: Path) -> None:
    """A call that lost its output gets one that says so, an output without a call is left out."""
    kept = [c.call("a"), c.out("b"), c.thought(), c.user("s"), c.call("a", "pwd"), c.out("a", "/w")]
    kept.append(c.out("a", "once more"))
    found = carried(home, tmp_path, *TURN, c.compacted(kept), c.said("on"))
    assert problems(found) == []
    assert [item["type"] for item in found[:2]] == ["function_call", "function_call_output"]
    assert "unknown" in found[1]["output"]
    assert found[4]["output"] == "/w"


def test_fork_goes_on_behind_its_parents_records(home: Path, tmp_path: Path) -> None:
    """The parent's file is read up to where the fork was made, and its header is not the fork's."""
    codex = tmp_path / "codex"
    parent = [*TURN, c.said("made"), c.user("not shared"), c.said("nor this")]
    c.write(codex, parent, PARENT, cwd="/elsewhere")
    base = {"thread_id": PARENT, "end_ordinal_exclusive": 9, "end_byte_offset": 1}
    path = c.write(codex, [c.user("fork"), c.said("forked")], history_base=base, first=9)
    made = bring(home, path, codex)
    assert sent(home, made.session) == [*TURN, c.said("made"), c.user("fork"), c.said("forked")]
    assert history(home, made.session).cwd == "/work"
    assert made.notes == []


def test_fork_of_a_fork_begins_with_the_oldest(home: Path, tmp_path: Path) -> None:
    """Each file up to where the next one goes on."""
    codex = tmp_path / "codex"
    oldest = PARENT[:-1] + "0"
    c.write(codex, [c.user("a"), c.user("not shared")], oldest)
    base = {"thread_id": oldest, "end_ordinal_exclusive": 3}
    c.write(codex, [c.user("b")], PARENT, history_base=base, first=3)
    base = {"thread_id": PARENT, "end_ordinal_exclusive": 6}
    path = c.write(codex, [c.user("c")], history_base=base, first=6)
    assert sent(home, bring(home, path).session) == [c.user("a"), c.user("b"), c.user("c")]


def test_fork_finds_its_parent_beside_it(home: Path, tmp_path: Path) -> None:
    """Also where no CODEX_HOME is named."""
    codex = tmp_path / "codex"
    c.write(codex, [c.user("one"), c.said("two")], PARENT)
    base = {"thread_id": PARENT, "end_ordinal_exclusive": 4}
    path = c.write(codex, [c.user("fork")], history_base=base, first=4)
    assert sent(home, bring(home, path).session) == [c.user("one"), c.said("two"), c.user("fork")]


def test_fork_without_its_parent_says_so(home: Path, tmp_path: Path) -> None:
    """What there is is carried over."""
    base = {"thread_id": PARENT, "end_ordinal_exclusive": 4}
    path = c.write(tmp_path / "codex", [c.user("fork")], history_base=base)
    made = bring(home, path)
    assert sent(home, made.session) == [c.user("fork")]
    assert any(PARENT in note for note in made.notes)


def test_forks_that_name_each_other_end(home: Path, tmp_path: Path) -> None:
    """A circle of parents is no way to hang."""
    codex = tmp_path / "codex"
    one = {"thread_id": PARENT, "end_ordinal_exclusive": 9}
    other = {"thread_id": c.THREAD, "end_ordinal_exclusive": 9}
    path = c.write(codex, [c.user("a")], history_base=one)
    c.write(codex, [c.user("b")], PARENT, history_base=other)
    assert sent(home, bring(home, path, codex).session) == [c.user("b"), c.user("a")]


def test_rolled_back_turns_are_gone(home: Path, tmp_path: Path) -> None:
    """With what the model was told for them, and no more than that."""
    steps = [
        *(c.told(), c.user("one"), c.said("first"), c.event("task_complete")),
        *(c.told("<environment_context>new"), c.user("two"), c.call("c"), c.out("c")),
        *(c.user("three"), c.said("third"), c.event("thread_rolled_back", num_turns=2)),
        *(c.user("four"), c.said("fourth")),
    ]
    found = carried(home, tmp_path, *steps)
    wanted = [c.told(), c.user("one"), c.said("first"), c.user("four"), c.said("fourth")]
    assert found == wanted


def test_rollback_of_everything_keeps_what_stands_before_it(home: Path, tmp_path: Path) -> None:
    """More turns than there are: all; a rollback that rolled back takes those before it."""
    steps = [
        *(c.told(), c.user("one"), c.said("1"), c.user("two"), c.said("2")),
        *(c.event("thread_rolled_back", num_turns=1), c.user("three"), c.said("3")),
        *(c.event("thread_rolled_back", num_turns=9), c.user("four")),
    ]
    assert carried(home, tmp_path, *steps) == [c.told(), c.user("four")]


def test_rollbacks_add_up(home: Path, tmp_path: Path) -> None:
    """A second one takes the turn before those that are gone."""
    steps = [c.user("one"), c.said("1"), c.user("two"), c.said("2"), c.user("three")]
    once = c.event("thread_rolled_back", num_turns=1)
    assert carried(home, tmp_path, *steps, once, once) == [c.user("one"), c.said("1")]


def test_rolled_back_compaction_is_undone(home: Path, tmp_path: Path) -> None:
    """What it had replaced is sent again."""
    steps = [
        *(c.user("one"), c.said("1"), c.user("two"), c.compacted([c.user("short")]), c.said("2")),
        *(c.event("thread_rolled_back", num_turns=1), c.user("three")),
    ]
    assert carried(home, tmp_path, *steps) == [c.user("one"), c.said("1"), c.user("three")]


def test_open_call_gets_its_true_output(home: Path, tmp_path: Path) -> None:
    """Where an event of the file holds it; of the other one nothing is known, and it says so."""
    steps = [c.user("go"), c.call("c1"), c.call("c2", "pwd"), c.ended("c1", "hi\n", 3)]
    made = bring(home, c.write(tmp_path / "codex", steps))
    found = sent(home, made.session)
    assert problems(found) == []
    assert "exited with code 3" in found[3]["output"]
    assert "hi\n" in found[3]["output"]
    assert "outcome of this call is unknown" in found[4]["output"]
    assert "aborted" not in str(found)
    assert len(made.notes) == 2
    assert history(home, made.session).unfinished


def test_call_with_half_its_arguments_never_started(home: Path, tmp_path: Path) -> None:
    """No agent runs what it can't read."""
    broken = c.call("c1") | {"arguments": '{"cmd": "rm'}
    found = carried(home, tmp_path, c.user("go"), broken)
    assert "never started" in found[2]["output"]
    assert json.loads(found[1]["arguments"])


def test_what_is_written_twice_is_carried_once(home: Path, tmp_path: Path) -> None:
    """Repeated calls, outputs and items of one id; a reuse of a call id is a call of its own."""
    message = c.said("same", id="msg_1")
    steps = [
        *(c.user("go"), c.call("c1"), c.call("c1"), c.out("c1"), c.out("c1", "other")),
        *(message, message, c.call("c1", "pwd"), c.out("c1", "/w"), c.said("end")),
    ]
    found = carried(home, tmp_path, *steps)
    assert problems(found) == []
    assert [item.get("output") for item in found if "output" in item] == ["done", "/w"]
    assert [item["type"] for item in found].count("message") == 3


def test_output_without_a_call_is_kept_and_not_sent(home: Path, tmp_path: Path) -> None:
    """As is what Codex keeps for itself."""
    ghost = {"type": "ghost_snapshot", "ghost_commit": {"id": "abc"}}
    made = bring(home, c.write(tmp_path / "codex", [c.user("go"), c.out("c9", "lost"), ghost]))
    assert sent(home, made.session) == [c.user("go")]
    notes = [one.text for one in records(home, made.session) if isinstance(one, Note)]
    assert json.loads(notes[0]) == c.out("c9", "lost")
    assert json.loads(notes[1]) == ghost


def test_output_finds_the_newest_call_of_its_id(home: Path, tmp_path: Path) -> None:
    """A killed call of the same id does not get it."""
    steps = [
        c.user("a"),
        c.call("c1", "old"),
        c.user("b"),
        c.call("c1", "new"),
        c.out("c1", "true"),
    ]
    found = carried(home, tmp_path, *steps)
    assert "unknown" in found[2]["output"]
    assert found[5]["output"] == "true"
    assert found[4]["arguments"] == c.call("c1", "new")["arguments"]


def test_output_of_the_other_sort_is_given_the_calls_own(home: Path, tmp_path: Path) -> None:
    """A provider takes no function's output for a custom tool's call."""
    found = carried(home, tmp_path, c.user("a"), c.patch_call("c1"), c.out("c1", "ok"))
    assert found[2] == c.patch_out("c1", "ok")


def test_interrupted_turn_says_what_codex_said(home: Path, tmp_path: Path) -> None:
    """And nothing more: the next prompt comes straight behind it."""
    note = c.told("<turn_aborted>\nThe user interrupted")
    steps = [*TURN, note, c.event("turn_aborted", reason="interrupted"), c.user("again")]
    made = bring(home, c.write(tmp_path / "codex", steps))
    assert sent(home, made.session) == [*TURN, note, c.user("again")]
    ends = [one for one in records(home, made.session) if isinstance(one, TurnEnd)]
    assert [(one.outcome, one.item) for one in ends] == [
        ("interrupted", note),
        ("interrupted", None),
    ]


def test_prompt_that_got_no_answer_keeps_its_place(home: Path, tmp_path: Path) -> None:
    """Before what the model was told for the next one."""
    new = c.told("<environment_context>new")
    steps = [c.told(), c.user("a"), c.event("task_started"), new, c.user("b"), c.said("yes")]
    found = carried(home, tmp_path, *steps)
    assert found == [c.told(), c.user("a"), new, c.user("b"), c.said("yes")]


def test_what_is_told_within_a_turn_keeps_its_place(home: Path, tmp_path: Path) -> None:
    """Between two responses, also where no output stands between them."""
    steps = [c.user("a"), c.said("one"), c.told(), c.said("two"), c.call("c1"), c.out("c1")]
    assert carried(home, tmp_path, *steps) == steps


def test_items_behind_the_end_of_their_turn_stay_in_it(home: Path, tmp_path: Path) -> None:
    """0.40 writes `turn_aborted` before the call that it aborted."""
    steps = [c.user("go"), c.event("turn_aborted"), c.call("c1"), c.out("c1", "aborted by user")]
    made = bring(home, c.write(tmp_path / "codex", steps))
    assert [item["type"] for item in sent(home, made.session)][1:] == [
        "function_call",
        "function_call_output",
    ]
    found = history(home, made.session)
    assert len(found.turns) == 1
    assert found.unfinished


def test_damaged_lines_cost_what_stood_in_them(home: Path, tmp_path: Path) -> None:
    """A torn line before its repetition, a block of zeros, bytes that are no text."""
    whole = c.text_of([c.meta(), c.user("go"), c.said("made")])
    head, prompt, answer = whole.splitlines(keepends=True)
    content = head + prompt[:40] + b"\n" + prompt + b"\0" * 600 + b"\n" + answer[:-1]
    made = bring(home, c.put(tmp_path / "codex", content))
    assert sent(home, made.session) == [c.user("go"), c.said("made")]
    assert any("can't be read" in note for note in made.notes)


def test_same_file_makes_one_session_until_it_grows(home: Path, tmp_path: Path) -> None:
    """`again` makes another one; a file that has grown does, and says so."""
    codex = tmp_path / "codex"
    path = c.write(codex, [c.user("go")])
    first = bring(home, path)
    second = bring(home, path)
    assert (second.session, second.new) == (first.session, False)
    assert bring(home, path, again=True).new
    path = c.write(codex, [c.user("go"), c.said("made")])
    third = bring(home, path)
    assert third.new
    assert any(first.session in note or "changed" in note for note in third.notes)
    assert len(list_sessions(PosixDisk(), str(home))) == 3


def test_import_that_was_killed_does_not_count(home: Path, tmp_path: Path) -> None:
    """A session without its last record is not taken for all of the file."""
    path = c.write(tmp_path / "codex", [c.user("go"), c.said("made")])
    first = bring(home, path)
    journal = Path(journal_path(find(PosixDisk(), str(home), first.session)))
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    assert bring(home, path).new


def test_nothing_is_written_to_the_other_agents_folder(home: Path, tmp_path: Path) -> None:
    """Not a byte, not a time."""
    codex = tmp_path / "codex"
    path = c.write(codex, TURN)
    before = files(codex)
    bring(home, path, codex)
    assert files(codex) == before


def test_file_without_a_conversation_is_refused(home: Path, tmp_path: Path) -> None:
    """And leaves nothing behind; a file that is not there is named."""
    with pytest.raises(EmptySession, match="no conversation"):
        bring(home, c.write(tmp_path / "codex", [c.event("token_count")]))
    ghost = {"type": "ghost_snapshot", "ghost_commit": {"id": "abc"}}
    with pytest.raises(EmptySession, match="no conversation"):
        bring(home, c.write(tmp_path / "codex", [ghost]))
    with pytest.raises(StorageError, match="no file"):
        bring(home, tmp_path / "nothing.jsonl")
    assert list_sessions(PosixDisk(), str(home)) == []


def test_title_is_kept(home: Path, tmp_path: Path) -> None:
    """The newest name that the thread was given."""
    names = [c.event("thread_name_updated", thread_name=name) for name in ("a", "Fix it")]
    bring(home, c.write(tmp_path / "codex", [c.user("go"), *names]))
    assert list_sessions(PosixDisk(), str(home))[0].title == "Fix it"

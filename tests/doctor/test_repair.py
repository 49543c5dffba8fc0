"""Repaired rollouts: sound, the rest byte for byte, the original kept, twice as good as once."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from backstay.core.pairing import problems
from backstay.doctor.checks import examine
from backstay.doctor.repair import repair, repaired_name
from backstay.errors import SessionHeld, StorageError
from tests.doctor.rollouts import (
    ID,
    NAME,
    call,
    ended,
    event,
    item,
    items,
    meta,
    numbered,
    out,
    put,
    said,
    text,
)
from tests.doctor.test_checks import FOUND, SOUND, with_number, without

BEYOND = {"empty-file", "unknown-format", "two-writers"}
"""What no repair can deal with."""


@pytest.mark.parametrize("name", FOUND)
def test_every_damage_is_repaired(name: str, tmp_path: Path) -> None:
    """What is written is sound, its items are paired, and there is nothing more to repair in it."""
    code, _, body = FOUND[name]
    path = put(tmp_path, body)
    if code in BEYOND:
        assert repair(path).target == ""
        return
    done = repair(path)
    if name == "an output in a compaction":
        assert done.target == ""  # Codex itself leaves it out
        return
    assert done.words
    assert Path(path).read_bytes() == body
    again = examine(done.target)
    assert not again.findings.damaged
    assert not again.repairable
    written = Path(done.target).read_bytes()
    if code != "compaction-cut-pair":
        assert problems(items(written)) == []
    assert repair(path).words == done.words
    assert Path(done.target).read_bytes() == written


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound_is_left_alone(name: str, tmp_path: Path) -> None:
    """Nothing is written."""
    path = put(tmp_path, SOUND[name])
    assert repair(path, in_place=True).target == ""
    assert os.listdir(tmp_path) == [NAME]


def test_an_append_is_all_that_a_killed_session_needs(tmp_path: Path) -> None:
    """What Codex wrote is the beginning of the repaired file, byte for byte; numbers go on."""
    body = text(
        *numbered([meta(), said("x"), call("a"), call("b"), ended("a", "A"), ended("b", "B")])
    )
    done = repair(put(tmp_path, body))
    written = Path(done.target).read_bytes()
    assert written.startswith(body)
    added = [json.loads(line) for line in written[len(body) :].splitlines()]
    assert [one["ordinal"] for one in added] == [6, 7]
    assert [one["payload"]["call_id"] for one in added] == ["a", "b"]
    assert [one["payload"]["output"][-1] for one in added] == ["A", "B"]
    assert all("true output" in words for words in done.words)


def test_an_output_stands_in_its_step(tmp_path: Path) -> None:
    """The session went on meanwhile: the output goes behind its call, later numbers rise by one."""
    records = [
        meta(),
        call("a"),
        event("task_started", turn_id="t"),
        said("on"),
        call("b"),
        out("b"),
    ]
    body = text(*numbered(records))
    done = repair(put(tmp_path, body))
    written = [json.loads(line) for line in Path(done.target).read_bytes().splitlines()]
    assert [one["payload"].get("type") for one in written[1:4]] == [
        "function_call",
        "function_call_output",
        "task_started",
    ]
    assert [one["ordinal"] for one in written] == list(range(7))
    plain = text(
        *(
            {k: v for k, v in one.items() if k != "ordinal"}
            for one in written
            if one["payload"].get("output", "")[:3] != "The"
        )
    )
    assert [json.loads(line)["payload"] for line in plain.splitlines()] == [
        json.loads(line)["payload"] for line in body.splitlines()
    ]


def test_outputs_of_other_kinds_of_call(tmp_path: Path) -> None:
    """Each is answered by the item that its kind demands."""
    body = text(
        meta(),
        item("custom_tool_call", call_id="a", name="apply_patch", input="x"),
        item("local_shell_call", call_id="b", action={}),
        item("tool_search_call", call_id="c", execution="client", arguments={}),
    )
    kinds = {
        one["call_id"]: one["type"]
        for one in items(Path(repair(put(tmp_path, body)).target).read_bytes())[3:]
    }
    assert kinds == {
        "a": "custom_tool_call_output",
        "b": "function_call_output",
        "c": "tool_search_output",
    }


def test_the_oldest_shape_is_kept(tmp_path: Path) -> None:
    """A file without envelopes gets an output without one."""
    bare = b'{"id":"x","timestamp":"t"}\n{"type":"function_call","name":"shell","arguments":"{}","call_id":"c"}\n'
    written = Path(repair(put(tmp_path, bare)).target).read_bytes()
    assert written.startswith(bare)
    assert json.loads(written[len(bare) :])["type"] == "function_call_output"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_in_place(mode: int, tmp_path: Path) -> None:
    """The original is kept, beside it and once; mode bits stay; the second time nothing is done."""
    body = text(meta(), call("c"))
    path = put(tmp_path, body)
    os.chmod(path, mode)
    done = repair(path, in_place=True)
    assert (done.target, done.backup) == (path, f"{path}.before-repair")
    assert Path(done.backup).read_bytes() == body
    assert os.stat(path).st_mode & 0o777 == mode
    repaired = Path(path).read_bytes()
    assert repair(path, in_place=True).target == ""
    assert sorted(os.listdir(tmp_path)) == [NAME, f"{NAME}.before-repair"]
    Path(path).write_bytes(repaired + text(call("d")))
    assert repair(path, in_place=True).backup == f"{path}.before-repair.2"
    assert Path(f"{path}.before-repair").read_bytes() == body


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="only Linux tells who holds a lock")
def test_a_file_that_codex_writes_is_not_replaced(tmp_path: Path) -> None:
    """Codex holds a lock of the thread; beside it a repaired copy can be written all the same."""
    folder = tmp_path / "sessions/2026/01/02"
    locks = tmp_path / "thread-writer-locks"
    folder.mkdir(parents=True)
    locks.mkdir()
    path = put(folder, text(meta(), call("c")))
    with (locks / f"{ID}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SessionHeld, match="being written"):
            repair(path, in_place=True)
        assert repair(path).target == repaired_name(path)
    assert repair(path, in_place=True).target == path


def test_nothing_is_left_where_the_disk_refuses(tmp_path: Path) -> None:
    """One line, the original as it was, and no temporary file."""
    body = text(meta(), call("c"))
    path = put(tmp_path, body)
    os.mkdir(repaired_name(path))
    with pytest.raises(StorageError, match="can't be repaired"):
        repair(path)
    assert Path(path).read_bytes() == body
    assert len(os.listdir(tmp_path)) == 2


def test_numbers_change_alone(tmp_path: Path) -> None:
    """A line that gets another number differs in nothing else; gaps stay."""
    records = with_number(numbered([meta(), said("a"), said("b"), said("c"), said("d")]), 2, 1)
    body = text(*with_number(with_number(records, 3, 2), 4, 40)).replace(
        b'"text":"b"', b'"text": "\\u0062"'
    )
    written = Path(repair(put(tmp_path, body)).target).read_bytes()
    assert [json.loads(line)["ordinal"] for line in written.splitlines()] == [0, 1, 2, 3, 40]
    before, after = body.splitlines(), written.splitlines()
    assert after[2] == before[2].replace(b'"ordinal":1', b'"ordinal":2')
    assert (after[:2], after[4]) == (before[:2], before[4])


def test_a_missing_number_is_given(tmp_path: Path) -> None:
    """Behind the time, where Codex writes it."""
    body = text(*without(numbered([meta(), said("a")]), 1))
    written = Path(repair(put(tmp_path, body)).target).read_bytes()
    assert written.splitlines()[1].startswith(
        b'{"timestamp":"2026-01-02T03:04:00.000Z","ordinal":1,'
    )


def test_a_lost_header_is_made_up(tmp_path: Path) -> None:
    """Of the name of the file and of what the records say."""
    body = text(*numbered([said("a"), call("c")], 1))
    path = put(tmp_path, body)
    first = json.loads(Path(repair(path).target).read_bytes().splitlines()[0])
    assert first["type"] == "session_meta"
    assert first["payload"]["id"] == ID
    assert (first["ordinal"], first["payload"]["history_mode"]) == (0, "paginated")


def test_every_cut_of_a_recorded_session(data_dir: Path, tmp_path: Path) -> None:
    """Cut at any byte: the repaired file is sound and begins with all whole lines of it."""
    folder = data_dir / "rollouts" / "agentcmd"
    whole = min(folder.glob("rollout-*.jsonl"), key=lambda p: p.stat().st_size).read_bytes()
    for end in range(9_000, len(whole), len(whole) // 60):
        body = whole[:end]
        done = repair(put(tmp_path, body))
        if not done.target:
            assert examine(done.path).findings.counts == {}
            continue
        again = examine(done.target)
        assert not again.findings.damaged
        assert Path(done.target).read_bytes().startswith(body[: body.rindex(b"\n") + 1][:8_000])
        os.unlink(done.target)


def test_a_number_from_nowhere_is_not_gone_on_from(tmp_path: Path) -> None:
    """One flipped digit does not push all that follow out of range."""
    records = with_number(numbered([meta(), said("a"), said("b")]), 1, 10**15)
    written = Path(repair(put(tmp_path, text(*records))).target).read_bytes()
    assert [json.loads(line)["ordinal"] for line in written.splitlines()] == [0, 1, 2]

"""What is found in a rollout: a file for each code, with its line and byte; and what is sound."""

from pathlib import Path

import pytest

from backstay.doctor.checks import examine
from backstay.doctor.findings import CODES
from tests.doctor.rollouts import (
    PNG,
    Record,
    call,
    compacted,
    event,
    image,
    item,
    meta,
    numbered,
    out,
    put,
    record,
    said,
    text,
)

ASKED = said("do it")
THOUGHT = item("reasoning", id="rs_1", summary=[], encrypted_content="x")


def turn(name: str) -> Record:
    """The mark of a turn."""
    return record("turn_context", {"turn_id": name, "cwd": "/place"})


def without(records: list[Record], place: int) -> list[Record]:
    """The records with the number of one taken away."""
    del records[place]["ordinal"]
    return records


def with_number(records: list[Record], place: int, number: int) -> list[Record]:
    """The records with another number at a place."""
    records[place]["ordinal"] = number
    return records


SOUND = {
    "a turn": text(meta(), ASKED, call("c"), out("c"), said("done", "assistant")),
    "numbers with gaps": text(
        *with_number(numbered([meta(), ASKED, said("x", "assistant")]), 2, 9)
    ),
    "numbers that nobody promised": text(meta(), {**ASKED, "ordinal": 5}, {**ASKED, "ordinal": 5}),
    "calls side by side": text(meta(), ASKED, call("a"), call("b"), out("b"), out("a")),
    "an id that a later response uses again": text(
        meta(), call("c", "ls"), out("c"), call("c", "pwd"), out("c")
    ),
    "reasoning before its call": text(meta(), ASKED, THOUGHT, THOUGHT, call("c"), out("c")),
    "a call that the provider ran": text(meta(), item("web_search_call", id="ws_1")),
    "an image": text(meta(), image(PNG)),
    "a blank line": text(meta()) + b"\n" + text(ASKED),
    "a pair that a compaction kept": text(meta(), compacted(ASKED, call("c"), out("c"))),
    "a pair with its call in a compaction": text(meta(), compacted(call("c")), out("c")),
    "a fork": text(meta(forked_from_id="y"), meta(id="y"), ASKED),
    "the oldest shape": b'{"id":"x","timestamp":"t"}\n{"type":"message","role":"user","content":[]}\n',
}
FOUND: dict[str, tuple[str, int, bytes]] = {
    "a call at the end": ("call-without-output", 3, text(meta(), ASKED, call("c"))),
    "a call that was killed": (
        "call-without-output",
        3,
        text(meta(), ASKED, call("c"), said("go on"), said("ok", "assistant")),
    ),
    "an output alone": ("output-without-call", 3, text(meta(), ASKED, out("c"))),
    "a call twice": ("duplicate-call", 4, text(meta(), ASKED, call("c"), call("c"), out("c"))),
    "a pair twice": (
        "duplicate-call",
        4,
        text(meta(), call("c", id="fc"), out("c"), call("c", id="fc"), out("c")),
    ),
    "an output twice": ("duplicate-output", 4, text(meta(), call("c"), out("c"), out("c"))),
    "a line cut off": ("torn-line", 2, text(meta()) + text(ASKED)[:50] + b"\n"),
    "a line cut off before another": (
        "torn-line",
        2,
        text(meta()) + text(ASKED)[:50] + text(ASKED),
    ),
    "no newline between two": ("torn-line", 2, text(meta()) + text(ASKED)[:-1] + text(ASKED)),
    "no newline at the end": ("torn-line", 2, text(meta(), ASKED)[:-1]),
    "zeros": ("nul-block", 2, text(meta()) + b"\0" * 999 + b"\n" + text(ASKED)),
    "a NUL in a name": ("nul-block", 2, text(meta(), call("c", name="exec\0"), out("c"))),
    "no JSON": ("invalid-json", 2, text(meta()) + b"what is this\n" + text(ASKED)),
    "no text": ("invalid-utf8", 2, text(meta(), ASKED).replace(b"do it", b"do \xff")),
    "no header": ("missing-header", 1, text(ASKED)),
    "a number too small": (
        "out-of-order",
        3,
        text(*with_number(numbered([meta(), ASKED, ASKED]), 2, 0)),
    ),
    "a number from nowhere": (
        "out-of-order",
        2,
        text(*with_number(numbered([meta(), ASKED, ASKED]), 1, 10**12)),
    ),
    "a number twice": (
        "reused-ordinal",
        3,
        text(*with_number(numbered([meta(), ASKED, ASKED]), 2, 1)),
    ),
    "no number at the end": (
        "missing-ordinal",
        3,
        text(*without(numbered([meta(), ASKED, ASKED]), 2)),
    ),
    "no number between": (
        "missing-ordinal",
        2,
        text(*without(numbered([meta(), ASKED, ASKED]), 1)),
    ),
    "two turns mingled": (
        "two-writers",
        4,
        text(meta(), turn("a"), turn("b"), turn("a"), turn("b"), turn("a")),
    ),
    "another session's header": ("two-writers", 2, text(meta(), meta(id="other"))),
    "reasoning at the end": ("reasoning-without-follower", 3, text(meta(), ASKED, THOUGHT)),
    "reasoning before a message": ("reasoning-without-follower", 2, text(meta(), THOUGHT, ASKED)),
    "arguments cut off": (
        "truncated-arguments",
        2,
        text(meta(), call("c", arguments='{"cmd": "l'), out("c")),
    ),
    "an image that is none": (
        "unreadable-image",
        2,
        text(meta(), image("data:image/png;base64,aGVsbG8=")),
    ),
    "an image cut off": ("unreadable-image", 2, text(meta(), image(PNG[:-5]))),
    "an output whose call was compacted": (
        "compaction-cut-pair",
        4,
        text(meta(), call("c"), compacted(ASKED), out("c")),
    ),
    "an output in a compaction": ("compaction-cut-pair", 2, text(meta(), compacted(out("c")))),
    "nothing": ("empty-file", 0, b""),
    "nothing but zeros": ("empty-file", 0, b"\0" * 4096),
    "something else": ("unknown-format", 0, b'{"type":"thread.started"}\n'),
}
NOTES: dict[str, tuple[str, bytes]] = {
    "a call that was compacted away": (
        "call-without-output",
        text(meta(), call("c"), compacted(ASKED)),
    ),
    "a double that was compacted away": (
        "duplicate-output",
        text(meta(), call("c"), out("c"), out("c"), compacted(ASKED)),
    ),
    "an output of a turn that was taken back": (
        "duplicate-output",
        text(
            meta(), ASKED, call("c"), out("c"), out("c"), event("thread_rolled_back", num_turns=1)
        ),
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound(name: str, tmp_path: Path) -> None:
    """Nothing is found, and a repair would change nothing."""
    made = examine(put(tmp_path, SOUND[name]))
    assert made.findings.counts == {}
    assert not made.repairable


@pytest.mark.parametrize("name", FOUND)
def test_what_is_damaged(name: str, tmp_path: Path) -> None:
    """The code, the line, and the byte at which that line begins."""
    code, number, body = FOUND[name]
    found = examine(put(tmp_path, body)).findings
    first = next(one for one in found.kept if one.code == code)
    assert first.line == number
    assert first.offset >= len(b"".join(body.splitlines(keepends=True)[: number - 1]))
    assert first.offset < max(len(b"".join(body.splitlines(keepends=True)[:number])), 1)
    assert found.damaged
    assert first.severity == CODES[code].severity
    assert "\n" not in first.text


@pytest.mark.parametrize("name", NOTES)
def test_what_no_request_holds_any_more(name: str, tmp_path: Path) -> None:
    """It is told, as a note; nothing is repaired."""
    code, body = NOTES[name]
    made = examine(put(tmp_path, body))
    assert made.findings.counts == {code: 1}
    assert not made.findings.damaged
    assert not made.repairable


def test_a_turn_taken_back_owes_nothing(tmp_path: Path) -> None:
    """The call of a rolled back turn is not missed, the one of the turn before is."""
    records = [meta(), ASKED, call("a"), said("more"), call("b")]
    rolled = event("thread_rolled_back", num_turns=1)
    made = examine(put(tmp_path, text(*records, rolled)))
    assert [one.call_id for one in made.calls] == ["a"]


def test_findings_are_bounded(tmp_path: Path) -> None:
    """A hundred of a code are kept, all are counted."""
    made = examine(put(tmp_path, text(meta()) + b"junk\n" * 1000))
    assert made.findings.counts == {"invalid-json": 1000}
    assert len(made.findings.kept) == 100


def test_images_and_copies_are_weighed(tmp_path: Path) -> None:
    """The classes add up to the file's size."""
    body = text(meta(), image(PNG), call("c"), out("c", "x" * 500), compacted(image(PNG), ASKED))
    made = examine(put(tmp_path, body))
    weight = made.weight
    assert weight.images == 2 * len(PNG)
    assert weight.outputs > 500
    assert weight.compaction_copies > 0
    parts = (weight.images, weight.outputs, weight.outputs_again, weight.compaction_copies)
    assert sum(parts) + weight.messages + weight.other + weight.unreadable == len(body)


def test_recorded_sessions_are_sound(data_dir: Path) -> None:
    """Nothing is wrong with what Codex wrote and nobody touched."""
    recorded = sorted((data_dir / "rollouts" / "agentcmd").glob("rollout-*.jsonl"))
    assert recorded
    for path in recorded:
        made = examine(str(path))
        assert made.findings.counts == {}, path.name
        assert made.bytes == path.stat().st_size


def test_a_cut_at_every_call_is_found(data_dir: Path, tmp_path: Path) -> None:
    """A recorded session that ends behind each of its calls lacks just that one's output."""
    path = min(
        (data_dir / "rollouts" / "agentcmd").glob("rollout-*.jsonl"), key=lambda p: p.stat().st_size
    )
    kept = b""
    for line in path.read_bytes().splitlines(keepends=True):
        kept += line
        if b'"type":"function_call",' in line:
            made = examine(put(tmp_path, kept))
            assert made.findings.counts == {"call-without-output": 1}


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """A file that is gone, and a folder: a finding, no exception."""
    assert examine(str(tmp_path / "gone.jsonl")).findings.counts == {"unreadable-file": 1}
    assert examine(str(tmp_path)).findings.counts == {"unreadable-file": 1}

"""Sessions of ours as rollouts: Codex's shapes, and nothing is lost on the way there and back."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backstay.core.dialect import Dialect
from backstay.core.history import History
from backstay.core.items import OUTPUTS, call_id, is_call, kind
from backstay.core.pairing import problems
from backstay.core.record import Compaction, Imported, Note, Output, Repair
from backstay.core.view import view
from backstay.doctor.carry import Carrier
from backstay.doctor.export.rollout import Thread, file_name, rollout
from backstay.errors import BackstayError
from tests.doctor import codexfile as c
from tests.doctor import mutate
from tests.doctor.carried import bring, records, sent

THREAD = Thread("01a20332-806c-7c93-b05e-8903a252ddde", "/work")


def lines_of(home: Path, session: str) -> list[dict[str, Any]]:
    """The lines of its rollout."""
    return [json.loads(line) for line in rollout(THREAD, records(home, session))]


def again(home: Path, tmp_path: Path, session: str) -> str:
    """The session that its rollout becomes."""
    content = b"".join(rollout(THREAD, records(home, session)))
    return bring(home, c.put(tmp_path / "back", content)).session


def bare(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without ids, which are the provider's."""
    return [{name: one for name, one in item.items() if name != "id"} for item in items]


def test_lines_have_the_shape_of_codex(home: Path, tmp_path: Path) -> None:
    """Ordinals without a gap, a header, turns that begin and end, events beside the items."""
    steps = [c.user("go"), c.call("c1"), c.out("c1"), c.said("made"), c.event("task_complete")]
    made = bring(home, c.write(tmp_path / "codex", [*steps, c.user("and")]))
    lines = lines_of(home, made.session)
    assert [line["ordinal"] for line in lines] == list(range(len(lines)))
    names = [line["payload"].get("type", line["type"]) for line in lines]
    assert names == [
        "session_meta",
        *("task_started", "turn_context", "message", "item_completed", "function_call"),
        *("function_call_output", "message", "item_completed", "task_complete"),
        *("task_started", "turn_context", "message", "item_completed", "turn_aborted"),
    ]
    assert lines[0]["payload"]["id"] == THREAD.id
    assert "model_provider" not in lines[0]["payload"], "Codex would resume on no other"
    assert lines[9]["payload"]["last_agent_message"] == "made"
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_compactions_stay_with_what_was_before(home: Path, tmp_path: Path) -> None:
    """As `compacted` with its items, in the middle of the turn that goes on."""
    kept = [c.user("go"), c.user("summary")]
    steps = [c.user("go"), c.call("c1"), c.out("c1"), c.compacted(kept), c.said("on")]
    made = bring(home, c.write(tmp_path / "codex", steps))
    lines = lines_of(home, made.session)
    at = next(at for at, line in enumerate(lines) if line["type"] == "compacted")
    assert lines[at]["payload"]["replacement_history"] == kept
    assert lines[at]["payload"]["message"] == "summary"
    items = [line["payload"] for line in lines if line["type"] == "response_item"]
    assert items == [*steps[:3], c.said("on")]
    assert sum(line["payload"].get("type") == "task_started" for line in lines) == 1


def test_call_without_output_is_settled_in_the_file(home: Path, tmp_path: Path) -> None:
    """A session that was cut in a call is exported paired, and its journal stays as it is."""
    source = Imported("codex", "x", "0")
    carrier = Carrier(THREAD.id, "/work", source, "0")
    for item in (c.user("go"), c.call("c1")):
        carrier.item(item)
    found = carrier.take()
    lines = [json.loads(line) for line in rollout(THREAD, found)]
    items = [line["payload"] for line in lines if line["type"] == "response_item"]
    assert problems(items) == []
    assert "never started" in items[-1]["output"]
    assert not any(isinstance(one, Output) for one in found)


def test_what_a_retry_superseded_is_left_out() -> None:
    """The rollout holds what a request would: a repair of the history counts, too."""
    carrier = Carrier(THREAD.id, "/work", Imported("codex", "x", "0"), "0")
    for item in (c.user("go"), c.thought(), c.said("made")):
        carrier.item(item)
    carrier.end({})
    found = carrier.take()
    repair = Repair(n=100, action="drop_reasoning", reason="refused")
    lines = [json.loads(line) for line in rollout(THREAD, [*found, repair])]
    items = [line["payload"] for line in lines if line["type"] == "response_item"]
    assert items == [c.user("go"), c.said("made")]


def test_what_codex_kept_for_itself_is_there_again() -> None:
    """In its place; but no second output for a call, which Codex would send."""
    ghost = {"type": "ghost_snapshot", "ghost_commit": {"id": "abc"}}
    carrier = Carrier(THREAD.id, "/work", Imported("codex", "x", "0"), "0")
    carrier.item(c.user("go"))
    carrier.keep(ghost)
    for item in (c.call("c1"), c.out("c1"), c.out("c1", "twice"), c.out("c9", "whose")):
        carrier.item(item)
    carrier.keep(ghost | {"last": True})
    carrier.end({})
    lines = [json.loads(line) for line in rollout(THREAD, carrier.take())]
    items = [line["payload"] for line in lines if line["type"] == "response_item"]
    wanted = [c.user("go"), ghost, c.call("c1"), c.out("c1"), c.out("c9", "whose")]
    assert items == [*wanted, ghost | {"last": True}]


def test_file_stands_where_codex_looks_for_it() -> None:
    """By day and time of the id, in local time."""
    name = file_name(THREAD.id)
    assert name.startswith("sessions/2026/11/2")
    assert os.path.basename(name).startswith("rollout-2026-11-2")
    assert name.endswith(f"-{THREAD.id}.jsonl")


def test_recorded_sessions_come_back_whole(data_dir: Path, home: Path, tmp_path: Path) -> None:
    """Of every recorded rollout that holds a conversation: the same request after there and back,
    paired, and nothing else in it than the file holds.
    """
    carried = 0
    for path in sorted((data_dir / "rollouts").rglob("*.jsonl")):
        try:
            made = bring(home, path)
        except BackstayError:
            continue
        first = sent(home, made.session)
        assert problems(first) == [], path
        if first:
            assert bare(sent(home, again(home, tmp_path, made.session))) == bare(first), path
            carried += 1
    assert carried >= 15


# Generated sessions


@st.composite
def conversations(draw: st.DrawFn) -> list[c.Step]:
    """Turns as Codex writes them: responses with their outputs behind, compactions, rollbacks."""
    steps: list[c.Step] = [c.told()] if draw(st.booleans()) else []
    number = 0
    for _ in range(draw(st.integers(1, 4))):
        steps += [c.event("task_started"), c.user(f"prompt {number}")]
        for _ in range(draw(st.integers(0, 3))):
            calls: list[c.JSON] = []
            if draw(st.booleans()):
                steps.append(c.thought(f"S{number}"))
            for _ in range(draw(st.integers(1, 3))):
                number += 1
                made = c.patch_call if draw(st.booleans()) else c.call
                calls.append(made(f"c{number}"))
            outputs = [
                (c.out if one["type"] == "function_call" else c.patch_out)(one["call_id"])
                for one in calls
            ]
            steps += [*calls, *outputs]
            if draw(st.integers(0, 9)) == 0:
                steps.append(c.compacted([c.user(f"prompt {number}"), c.user("summary")]))
        match draw(st.integers(0, 3)):
            case 0:
                number += 1
                steps.append(c.call(f"c{number}"))
            case 1:
                steps += [c.told("<turn_aborted>"), c.event("turn_aborted")]
            case _:
                steps += [c.said(f"answer {number}"), c.event("task_complete")]
        if draw(st.integers(0, 5)) == 0:
            steps.append(c.event("thread_rolled_back", num_turns=draw(st.integers(1, 2))))
    return steps


def codex_sends(steps: list[c.Step]) -> list[c.JSON]:
    """What Codex makes of these steps: the newest compaction that counts, then what came behind."""
    live: list[c.Step] = []
    for step in steps:
        if isinstance(step, tuple) and step[1].get("type") == "thread_rolled_back":
            prompts = [at for at, one in enumerate(live) if _is_prompt(one)]
            if prompts:
                cut = prompts[-min(step[1]["num_turns"], len(prompts))]
                while cut > prompts[0] and _is_told(live[cut - 1]):
                    cut -= 1
                live = live[:cut]
        elif not isinstance(step, tuple) or step[0] == "compacted":
            live.append(step)
    found: list[c.JSON] = []
    for one in live:
        found = list(one[1]["replacement_history"]) if isinstance(one, tuple) else [*found, one]
    return found


def _is_prompt(step: c.Step) -> bool:
    return not isinstance(step, tuple) and step.get("role") == "user" and not _is_told(step)


def _is_told(step: c.Step) -> bool:
    if isinstance(step, tuple) or step.get("role") != "user":
        return False
    return str(step["content"][0]["text"]).startswith("<")


def carry(steps: list[c.Step], folder: Path) -> list[Any]:
    """The records of these steps, without a disk for the journal."""
    path = str(c.write(folder, steps))
    return records_of(path)


def records_of(path: str) -> list[Any]:
    """The records that a rollout becomes, written nowhere."""
    from backstay.doctor import codex
    from backstay.doctor.endings import endings

    found = codex.about(path, lambda _: "")
    carrier = Carrier(THREAD.id, "/work", Imported("codex", "x", "0"), "0")
    for _ in codex.carry(path, lambda _: "", found, carrier):
        pass
    carrier.end(endings(path, carrier.open_calls(), "/work"))
    return list(carrier.take())


def view_of(found: list[Any]) -> list[c.JSON]:
    """What a request would hold of them."""
    made = History()
    for record in found:
        made.apply(record)
    assert made.open_calls() == []
    return view(made, Dialect())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversations())
def test_generated_sessions_are_sent_as_codex_would(tmp_path: Path, steps: list[c.Step]) -> None:
    """Item by item, but for the outputs that no file holds; there and back nothing is lost."""
    first = carry(steps, tmp_path)
    found = view_of(first)
    assert problems(found) == []
    answered = {call_id(one) for one in codex_sends(steps) if kind(one) in OUTPUTS}
    expected = codex_sends(steps)
    without = [one for one in found if kind(one) not in OUTPUTS or call_id(one) in answered]
    assert without == expected
    lost = [one for one in found if is_call(one) and call_id(one) not in answered]
    made_up = [one for one in found if kind(one) in OUTPUTS and call_id(one) not in answered]
    assert [call_id(one) for one in lost] == [call_id(one) for one in made_up]
    back = c.put(tmp_path / "back", b"".join(rollout(THREAD, first)))
    second = records_of(str(back))
    assert view_of(second) == found
    assert _everything(second) == _everything(first)


def _everything(found: list[Any]) -> list[c.JSON]:
    """All items on record, what was before compactions and what is only kept included."""
    items: list[c.JSON] = []
    for record in found:
        if isinstance(record, Note) and record.item is None and record.text.startswith("{"):
            items.append(json.loads(record.text))
        items += getattr(record, "items", [])
        item = getattr(record, "item", None)
        items += [item] if item else []
        items += [{"compaction": len(record.items)}] if isinstance(record, Compaction) else []
    return sorted(items, key=json.dumps)


def _damaged(count: int) -> Iterator[bytes]:
    steps = [
        *(c.user("go"), c.thought(), c.call("c1"), c.patch_call("c2"), c.out("c1")),
        *(c.patch_out("c2"), c.said("made"), c.compacted([c.user("s"), c.call("x")]), c.user("b")),
        *(c.call("c3"), c.ended("c3", "hi"), c.event("thread_rolled_back", num_turns=1)),
    ]
    whole = c.text_of([c.meta(), c.context(), *steps])
    for seed in range(count):
        yield mutate.mutated(random.Random(seed), whole)


def test_whatever_a_file_holds_what_is_sent_is_paired(tmp_path: Path) -> None:
    """Mutations of a rollout: no exception, a paired request, and again after there and back."""
    for content in _damaged(3000 if os.environ.get("BACKSTAY_DEEP") else 300):
        path = c.put(tmp_path, content)
        found = records_of(str(path))
        assert problems(view_of(found)) == [], content
        back = c.put(tmp_path / "back", b"".join(rollout(THREAD, found)))
        assert problems(view_of(records_of(str(back)))) == [], content

"""Transcripts of Claude Code become sessions: the last branch, paired, whatever is broken."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from backstay.core.pairing import problems
from backstay.core.record import Compaction
from backstay.doctor.bringing import Brought, Home, from_claude
from backstay.doctor.claude import transcripts
from backstay.errors import EmptySession
from backstay.journal import PosixDisk
from backstay.journal.sessions import list_sessions
from tests.doctor import mutate
from tests.doctor.carried import NOW, files, history, records, sent

JSON = dict[str, Any]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def line(uuid: str, parent: Any, content: Any, **more: Any) -> JSON:
    """A line of the user's, or with `id` (a response's) of the model's."""
    response = more.pop("id", "")
    said: JSON = {"role": "assistant" if response else "user", "content": content}
    if response:
        usage = {"input_tokens": 1, "cache_read_input_tokens": 10, "output_tokens": 2}
        said |= {"id": response, "model": "claude-x", "usage": usage}
    made = {"type": said["role"], "uuid": uuid, "parentUuid": parent, "message": said}
    stamp = {"timestamp": "2026-02-01T10:00:00.000Z", "cwd": "/w", "isSidechain": False}
    return made | stamp | more


def use(ident: str, name: str = "Bash", **given: Any) -> JSON:
    """A call."""
    return {"type": "tool_use", "id": ident, "name": name, "input": given or {"command": "ls"}}


def result(ident: str, content: Any = "a.txt", **more: Any) -> JSON:
    """Its output."""
    return {"type": "tool_result", "tool_use_id": ident, "content": content} | more


def text(words: str) -> JSON:
    """A text block."""
    return {"type": "text", "text": words}


def write(folder: Path, lines: list[JSON]) -> Path:
    """A transcript where Claude Code keeps them."""
    project = folder / "projects" / "-w"
    project.mkdir(parents=True, exist_ok=True)
    path = project / "0205f437-f816-4704-b6f3-9cf7b060888c.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def bring(home: Path, tmp_path: Path, lines: list[JSON]) -> Brought:
    """Carry a transcript of these lines over."""
    path = write(tmp_path / "claude", lines)
    return Home(PosixDisk(), str(home), "/here", "0", now=NOW).bring(from_claude(str(path)))


def shape(items: list[JSON]) -> list[str]:
    """Who said what, in short."""
    found = []
    for item in items:
        content = item.get("content")
        words = content[0].get("text", content[0]["type"]) if isinstance(content, list) else ""
        who = str(item.get("role", item["type"]))
        found.append(f"{who}: {words}" if words else who)
    return found


PLAIN: list[JSON] = [
    {"type": "summary", "summary": "Listing files", "leafUuid": "5"},
    {"type": "file-history-snapshot", "messageId": "1", "snapshot": {}},
    line("1", None, "list them"),
    line("2", "1", [{"type": "thinking", "thinking": "hm", "signature": "s"}], id="m1"),
    line("3", "2", [text("I look.")], id="m1"),
    line("4", "3", [use("t1")], id="m1"),
    line("5", "4", [result("t1")]),
    line("6", "5", [text("One.")], id="m2"),
]


def test_conversation_is_carried_over(home: Path, tmp_path: Path) -> None:
    """Text, calls and results in their order; thinking is left out, the title is kept."""
    made = bring(home, tmp_path, PLAIN)
    found = sent(home, made.session)
    assert shape(found) == [
        "user: list them",
        "assistant: I look.",
        "function_call",
        "function_call_output",
        "assistant: One.",
    ]
    assert json.loads(found[2]["arguments"]) == {"command": "ls"}
    assert (found[2]["name"], found[3]["output"]) == ("Bash", "a.txt")
    listed = list_sessions(PosixDisk(), str(home))[0]
    assert (listed.title, listed.cwd, listed.ended) == ("Listing files", "/w", "completed")
    attempts = history(home, made.session).attempts.values()
    usage = [one.end.usage for one in attempts if one.end is not None]
    assert usage[0] is not None
    assert usage[0]["input_tokens"] == 11


def test_only_the_last_branch_counts(home: Path, tmp_path: Path) -> None:
    """What was said before the user went back is left out, and so are side chains."""
    lines = [
        *PLAIN,
        line("7", "6", "wrong way"),
        line("8", "7", [text("Going there.")], id="m3"),
        line("s", "8", "sub-agent", isSidechain=True),
        line("9", "6", "right way"),
        line("10", "9", [text("Going here.")], id="m4"),
    ]
    made = bring(home, tmp_path, lines)
    assert shape(sent(home, made.session))[-2:] == ["user: right way", "assistant: Going here."]
    assert "wrong way" not in str(sent(home, made.session))
    assert "sub-agent" not in str(sent(home, made.session))
    assert len(made.notes) == 2


def test_parallel_calls_find_their_results(home: Path, tmp_path: Path) -> None:
    """Also where these hang beside the branch."""
    lines = [
        line("1", None, "go"),
        line("2", "1", [use("t1")], id="m1"),
        line("3", "2", [use("t2")], id="m1"),
        line("4", "2", [result("t1", "one")]),
        line("5", "3", [result("t2", "two")]),
        line("6", "5", [text("done")], id="m2"),
    ]
    found = sent(home, bring(home, tmp_path, lines).session)
    assert problems(found) == []
    assert [one["output"] for one in found if "output" in one] == ["one", "two"]


def test_blocks_of_one_answer_stay_together(home: Path, tmp_path: Path) -> None:
    """Also where a block hangs beside the branch."""
    lines = [
        line("1", None, "go"),
        line("2", "1", [use("t1")], id="m1"),
        line("3", "1", [use("t2")], id="m1"),
        line("4", "2", [result("t1", "one")]),
        line("5", "3", [result("t2", "two")]),
        line("6", "5", [text("done")], id="m2"),
    ]
    found = sent(home, bring(home, tmp_path, lines).session)
    assert [one["output"] for one in found if "output" in one] == ["one", "two"]


def test_broken_pairs_are_put_right(home: Path, tmp_path: Path) -> None:
    """A call without a result, a result twice, a result without a call, a lost parent."""
    lines = [
        line("1", None, "go"),
        line("2", "1", [use("t1"), use("t2", "mcp.odd name")], id="m1"),
        line("3", "2", [result("t1", "one"), result("t1", "twice"), result("t9", "whose?")]),
        line("4", "gone", "and now"),
        line("5", "4", [text("done")], id="m2"),
    ]
    found = sent(home, bring(home, tmp_path, lines).session)
    assert problems(found) == []
    assert next(one["output"] for one in found if "output" in one) == "one"
    assert "unknown" in next(
        one["output"] for one in found if one.get("call_id") == "t2" and "output" in one
    )
    assert "whose?" not in str(found)
    assert next(one["name"] for one in found if one.get("call_id") == "t2") == "mcp_odd_name"


def test_compaction_becomes_one(home: Path, tmp_path: Path) -> None:
    """What was before stays readable; the summary is what is sent."""
    boundary = {"type": "system", "subtype": "compact_boundary", "uuid": "b", "parentUuid": None}
    lines = [
        *PLAIN,
        boundary | {"logicalParentUuid": "6"},
        line("7", "b", "This session is being continued. Summary.", isCompactSummary=True),
        line("8", "7", "go on"),
        line("9", "8", [text("on")], id="m3"),
    ]
    made = bring(home, tmp_path, lines)
    assert shape(sent(home, made.session)) == [
        "user: This session is being continued. Summary.",
        "user: go on",
        "assistant: on",
    ]
    found = records(home, made.session)
    at = next(at for at, one in enumerate(found) if isinstance(one, Compaction))
    assert "list them" in str(found[:at])


def test_images_are_kept_where_they_are_valid(home: Path, tmp_path: Path) -> None:
    """In prompts and results; what can't be read is told."""
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
    }
    broken = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "é"}}
    lines = [
        line("1", None, [text("see"), image, broken]),
        line("2", "1", [use("t1")], id="m1"),
        line("3", "2", [result("t1", [text("here"), image], is_error=True)]),
    ]
    found = sent(home, bring(home, tmp_path, lines).session)
    assert found[0]["content"][1]["image_url"] == f"data:image/png;base64,{PIXEL}"
    assert "can't be read" in found[0]["content"][2]["text"]
    assert found[2]["output"][1]["type"] == "input_image"


def test_errors_of_the_service_are_not_carried(home: Path, tmp_path: Path) -> None:
    """They were never the model's words; a tool's error is told as one."""
    lines = [
        line("1", None, "go"),
        line("2", "1", [use("t1")], id="m1"),
        line("3", "2", [result("t1", "no such file", is_error=True)]),
        line("4", "3", [text("API Error: 529")], id="m2", isApiErrorMessage=True),
    ]
    found = sent(home, bring(home, tmp_path, lines).session)
    assert found[2]["output"] == "Error: no such file"
    assert "529" not in str(found)


def test_transcripts_are_found_and_only_read(home: Path, tmp_path: Path) -> None:
    """Without those of sub-agents; nothing is written beside them."""
    path = write(tmp_path / "claude", PLAIN)
    (path.parent / "agent-1.jsonl").write_text("{}\n")
    nested = path.parent / "x" / "subagents"
    nested.mkdir(parents=True)
    (nested / "one.jsonl").write_text("{}\n")
    before = files(tmp_path / "claude")
    assert transcripts(str(tmp_path / "claude")) == [str(path)]
    bring(home, tmp_path, PLAIN)
    assert files(tmp_path / "claude").keys() == before.keys()
    with pytest.raises(EmptySession):
        from_claude(str(nested / "one.jsonl"))


def test_whatever_a_transcript_holds_what_is_sent_is_paired(home: Path, tmp_path: Path) -> None:
    """Mutations of a transcript: a session, or a clear refusal."""
    whole = write(tmp_path / "claude", PLAIN).read_bytes()
    target = Home(PosixDisk(), str(home), "/here", "0", now=NOW)
    carried = 0
    for seed in range(60):
        path = tmp_path / "mutated.jsonl"
        path.write_bytes(mutate.mutated(random.Random(seed), whole))
        try:
            made = target.bring(from_claude(str(path)), again=True)
        except EmptySession:
            continue
        assert problems(sent(home, made.session)) == []
        carried += 1
    assert carried > 30

"""What became of calls without an output: from events, from the files of the folder, or unknown."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from backstay.doctor.checks import examine
from backstay.doctor.patches import look
from backstay.doctor.salvage import MOST, Salvaged, salvage
from tests.doctor.rollouts import Record, call, ended, event, item, meta, out, put, said, text

PATCH = """\
*** Begin Patch
*** Add File: new.txt
+new
*** Update File: sub/a.txt
@@
 one
-two
+zwei
 three
*** Delete File: old.txt
*** End Patch"""


def told(folder: Path, *records: Record) -> Salvaged:
    """What is told of the one open call of these records."""
    path = put(folder, text(meta(cwd=str(folder)), *records))
    (found,) = salvage(path, examine(path).calls)
    return found


EVENTS: dict[str, tuple[Record, str]] = {
    "an item of today": (ended("c", "hi\n", 3), "Process exited with code 3\nOutput:\nhi\n"),
    "an event of before": (
        event("exec_command_end", call_id="c", stdout="o", stderr="e", exit_code=0,
              duration={"secs": 1, "nanos": 500_000_000}),
        "Wall time: 1.5000 seconds\nProcess exited with code 0\nOutput:\noe",
    ),
    "a patch": (
        event("patch_apply_end", call_id="c", success=True, stdout="Success.\n", stderr=""),
        "Success.\n",
    ),
    "a patch without a word": (
        event("item_completed", item={"type": "FileChange", "id": "c", "status": "completed",
                                      "changes": {"/a": {}}}),
        "Success. Updated the following files:\n/a",
    ),
    "a patch that failed": (
        event("patch_apply_end", call_id="c", success=False), "The patch was not applied.",
    ),
    "a tool of a server": (
        event("mcp_tool_call_end", call_id="c", result={"Ok": {"content": [{"type": "text", "text": "42"}]}}),
        "42",
    ),
    "a tool of a server that failed": (
        event("mcp_tool_call_end", call_id="c", result={"Err": "no such tool"}), "no such tool",
    ),
    "a tool of a server, today": (
        event("item_completed", item={"type": "McpToolCall", "id": "c", "error": {"message": "off"}}),
        "off",
    ),
    "a tool of a client": (
        event("dynamic_tool_call_response", call_id="c", content_items=[{"type": "inputText", "text": "yes"}]),
        "yes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EVENTS)
def test_the_true_output(name: str, tmp_path: Path) -> None:
    """It is taken from the event that the agent wrote the moment the tool ended."""
    record, output = EVENTS[name]
    found = told(tmp_path, call("other"), out("other"), call("c"), record)
    assert (found.text, found.source, found.line) == (output, "event", 5)


def test_an_event_belongs_to_the_call_before_it(tmp_path: Path) -> None:
    """An id that was used before: the older call's event says nothing of the newer call."""
    found = told(tmp_path, call("c", "a"), ended("c", "old"), out("c"), call("c", "b"))
    assert found.source == "none"
    assert "old" not in found.text


def test_what_had_been_printed(tmp_path: Path) -> None:
    """A command that never ended: unknown, with its output until then."""
    printed = [
        event("exec_command_output_delta", call_id="c", chunk=b64encode(part).decode())
        for part in (b"compiling\n", b"linking\n")
    ]
    found = told(tmp_path, call("c", "make"), event("exec_command_begin", call_id="c"), *printed)
    assert found.source == "partial"
    assert "unknown" in found.text
    assert found.text.endswith("compiling\nlinking\n")


@pytest.mark.parametrize(
    "open_call, words",
    [
        (call("c"), "The outcome of this call is unknown"),
        (call("c", arguments='{"cmd": "rm'), "This call was never started"),
    ],
)
def test_what_nobody_knows(open_call: Record, words: str, tmp_path: Path) -> None:
    """It is said to be unknown; a call whose arguments were cut can't have run."""
    assert told(tmp_path, open_call, said("go on")).text.startswith(words)


def test_a_long_output_keeps_head_and_tail(tmp_path: Path) -> None:
    """It is as long as what a model is given, and says what is left out."""
    found = told(tmp_path, call("c"), ended("c", "a" * MOST + "b" * MOST))
    assert len(found.text) < MOST + 100
    assert "characters are left out here" in found.text
    assert found.text.endswith("bbb")


@pytest.mark.parametrize("value", [None, 3, [], {}, "x", {"Ok": 3}, {"Ok": {"content": 5}}])
def test_events_of_any_shape(value: Any, tmp_path: Path) -> None:
    """Wrong types are no output, and no failure."""
    for name in ("aggregated_output", "duration", "exit_code", "result", "changes", "chunk"):
        for kind in ("exec_command_end", "mcp_tool_call_end", "patch_apply_end",
                     "exec_command_output_delta"):  # fmt: skip
            told(tmp_path, call("c"), event(kind, call_id="c", **{name: value}))


# Patches


def place(folder: Path, *, added: bool, updated: bool, deleted: bool) -> None:
    """The files as they are when so much of the patch is applied."""
    (folder / "sub").mkdir(exist_ok=True)
    middle = "zwei" if updated else "two"
    (folder / "sub/a.txt").write_text(f"zero\none\n{middle}\nthree\nfour\n")
    if added:
        (folder / "new.txt").write_text("new\n")
    if not deleted:
        (folder / "old.txt").write_text("old\n")


@pytest.mark.parametrize(
    "added, updated, deleted, state",
    [
        (True, True, True, "applied"),
        (False, False, False, "not applied"),
        (True, False, False, "partly"),
        (True, True, False, "partly"),
    ],
)
def test_the_files_tell_of_a_patch(
    added: bool, updated: bool, deleted: bool, state: str, tmp_path: Path
) -> None:
    """Applied, not applied, partly; file by file, in words for the model; nothing is changed."""
    place(tmp_path, added=added, updated=updated, deleted=deleted)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    found = look(PATCH, str(tmp_path))
    assert found is not None
    assert found.state == state
    assert f"{'applied' if added else 'not applied'}: new.txt" in found.text
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_lines_that_are_only_added(tmp_path: Path) -> None:
    """Both the patch and its reverse fit: the added line stands there, so it was applied."""
    (tmp_path / "a.txt").write_text("one\nnew\n")
    patch = "*** Begin Patch\n*** Update File: a.txt\n@@\n one\n+new\n*** End Patch"
    found = look(patch, str(tmp_path))
    assert found is not None
    assert found.state == "applied"


@pytest.mark.parametrize(
    "patch, folder",
    [
        (PATCH, "/nowhere"),
        (PATCH, "relative"),
        (PATCH, "/a\0b"),
        ("no patch", "."),
        (
            "*** Begin Patch\n*** Update File: ../../etc/passwd\n@@\n-root\n+toor\n*** End Patch",
            ".",
        ),
    ],
)
def test_where_files_tell_nothing(patch: str, folder: str, tmp_path: Path) -> None:
    """No folder, no patch, a way out of the folder: nothing is said."""
    assert look(patch, str(tmp_path) if folder == "." else folder) is None


def test_a_patch_in_a_rollout(tmp_path: Path) -> None:
    """The session's folder is where its files are looked for."""
    place(tmp_path, added=True, updated=True, deleted=True)
    open_call = item("custom_tool_call", name="apply_patch", call_id="c", input=PATCH)
    found = told(tmp_path, open_call)
    assert found.source == "files"
    assert "show that the patch was applied" in found.text

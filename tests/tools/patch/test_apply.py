"""What a patch leaves on disk, and what it answers, when nothing crashes."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backstay.tools.patch import Outcome, execute, prepare, recover


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    old = os.umask(0o027)
    yield
    os.umask(old)


def run(root: Path, *operations: str, effect_id: str = "e1") -> Outcome:
    """Prepare and execute a patch of these operations in one root."""
    text = "\n".join(["*** Begin Patch", *operations, "*** End Patch"])
    return execute(prepare(text, str(root), [str(root)]), effect_id)


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return path.stat().st_mode & 0o7777


def test_the_answer_lists_added_then_modified_then_deleted(tmp_path: Path) -> None:
    """The text is that of the recorded answers; a move is listed once, by its new path."""
    for name in ("m", "d", "from"):
        (tmp_path / name).write_text("x\n")
    outcome = run(
        tmp_path,
        "*** Delete File: d",
        "*** Update File: m\n@@\n-x\n+y",
        "*** Update File: from\n*** Move to: to/here now\n@@\n-x\n+y",
        "*** Add File: a\n+x",
    )
    assert outcome.ok
    assert outcome.state == "applied"
    assert outcome.output == (
        "Success. Updated the following files:\nA a\nM m\nM to/here now\nD d\n"
    )
    assert {(c.path, c.kind) for c in outcome.changes} == {
        ("a", "add"),
        ("m", "update"),
        ("to/here now", "update"),
        ("d", "delete"),
    }
    assert {c.target for c in outcome.changes} == {
        str(tmp_path.resolve() / c.path) for c in outcome.changes
    }


def test_modes_are_kept_and_new_files_follow_the_umask(tmp_path: Path) -> None:
    """An updated, replaced or moved file keeps its bits."""
    for name, bits in (("up", 0o755), ("over", 0o600), ("src", 0o711), ("dst", 0o644)):
        (tmp_path / name).write_text("x\n")
        (tmp_path / name).chmod(bits)
    assert run(
        tmp_path,
        "*** Update File: up\n@@\n-x\n+y",
        "*** Add File: over\n+y",
        "*** Update File: src\n*** Move to: dst\n@@\n-x\n+y",
        "*** Add File: fresh\n+y",
    ).ok
    found = {path.name: mode(path) for path in tmp_path.iterdir()}
    assert found == {"up": 0o755, "over": 0o600, "dst": 0o711, "fresh": 0o640}
    assert {path.read_text() for path in tmp_path.iterdir()} == {"y\n"}


SEQUENCES: list[tuple[list[str], dict[str, str]]] = [
    (["*** Update File: f\n@@\n-x\n+y", "*** Update File: f\n@@\n-y\n+z"], {"f": "z\n"}),
    (["*** Add File: n\n+1", "*** Update File: n\n@@\n-1\n+2"], {"f": "x\n", "n": "2\n"}),
    (["*** Delete File: f", "*** Add File: f\n+new"], {"f": "new\n"}),
    (["*** Add File: n\n+1", "*** Delete File: n"], {"f": "x\n"}),
    (["*** Delete File: f", "*** Add File: f\n+x"], {"f": "x\n"}),
    (["*** Update File: f\n*** Move to: g"], {"g": "x\n"}),
    (["*** Update File: f\n*** Move to: g", "*** Update File: g\n*** Move to: h"], {"h": "x\n"}),
    (["*** Update File: f\n*** Move to: g", "*** Add File: f\n+new"], {"f": "new\n", "g": "x\n"}),
    (["*** Update File: f\n*** Move to: g", "*** Update File: g\n*** Move to: f"], {"f": "x\n"}),
    (["*** Update File: f\n*** Move to: f\n@@\n-x\n+y"], {"f": "y\n"}),
    (["*** Update File: f\n*** Move to: ./f\n@@\n-x\n+y"], {"f": "y\n"}),
    (["*** Add File: e"], {"f": "x\n", "e": ""}),
    (["*** Add File: d/a b/é.txt\n+ü"], {"f": "x\n", "d/a b/é.txt": "ü\n"}),
    (["*** Update File: f\n@@\n x"], {"f": "x\n"}),
]


@pytest.mark.parametrize("operations,expected", SEQUENCES)
def test_operations_see_what_those_before_them_did(
    operations: list[str], expected: dict[str, str], tmp_path: Path
) -> None:
    """Each case starts from one file `f` that holds the line x; nothing else is left behind."""
    (tmp_path / "f").write_text("x\n")
    outcome = run(tmp_path, *operations)
    assert outcome.ok, outcome.output
    assert outcome.output.count("\n") == 1 + len(operations)
    files = (path for path in tmp_path.rglob("*") if path.is_file())
    assert {str(p.relative_to(tmp_path)): p.read_text() for p in files} == expected


def test_a_failing_operation_keeps_those_before_it(tmp_path: Path) -> None:
    """The answer says which failed and why, what was changed before it, and what was not tried."""
    outcome = run(
        tmp_path,
        "*** Add File: a\n+x",
        "*** Update File: a\n@@\n-nope\n+y",
        "*** Add File: b\n+x",
        "*** Add File: c\n+x",
    )
    assert not outcome.ok
    assert outcome.state == "applied"
    assert outcome.output == (
        "Operation 2 of 4 failed: *** Update File: a\n"
        "the file does not hold these lines; read it again and copy them exactly:\n"
        "nope\n"
        "2 later operations were not tried.\n"
        "These files were changed by the operations before it and stay changed:\n"
        "A a\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [(c.path, c.kind) for c in outcome.changes] == [("a", "add")]


def test_a_first_operation_that_fails_changes_nothing(tmp_path: Path) -> None:
    """No file is named as changed when none was."""
    outcome = run(tmp_path, "*** Delete File: nowhere")
    assert not outcome.ok
    assert outcome.output.endswith("the file does not exist\nNo files were changed.\n")
    assert outcome.changes == ()


def test_a_very_long_name_has_room_for_its_temporary_file(tmp_path: Path) -> None:
    """Names at the limit of the file system, multi-byte ones too, can be added and updated."""
    name = "é" * 127
    assert run(tmp_path, f"*** Add File: {name}\n+x", effect_id="e" * 64).ok
    assert run(tmp_path, f"*** Update File: {name}\n@@\n-x\n+y", effect_id="f" * 64).ok
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "y\n")]


def test_temporary_files_stand_beside_their_targets_and_carry_the_effect_id(
    tmp_path: Path,
) -> None:
    """They can be told apart from the user's files, and each target has its own."""
    seen: set[str] = set()

    def watch(name: str) -> None:
        if name.startswith("rename"):
            seen.update(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*backstay*"))

    text = "*** Begin Patch\n*** Add File: d/a\n+x\n*** Add File: b\n+x\n*** End Patch"
    assert execute(prepare(text, str(tmp_path), [str(tmp_path)]), "effect7", watch).ok
    assert seen == {"d/.a.backstay-effect7-0.tmp", ".b.backstay-effect7-1.tmp"}


def test_a_file_edited_between_plan_and_write_is_left_alone(tmp_path: Path) -> None:
    """The patch is refused as a whole: it was made for other contents."""
    (tmp_path / "f").write_text("x\n")
    text = "*** Begin Patch\n*** Add File: a\n+x\n*** Update File: f\n@@\n-x\n+y\n*** End Patch"
    prepared = prepare(text, str(tmp_path), [str(tmp_path)])
    (tmp_path / "f").write_text("mine\n")
    outcome = execute(prepared, "e1")
    assert outcome.state == "not applied"
    assert "M f" in outcome.output
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("f", "mine\n")]


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    """When one temporary file can't be written all are removed, with the folders made for them."""

    def fail_at_second(name: str) -> None:
        if name.startswith("write") and ".b." in name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    text = "*** Begin Patch\n*** Add File: d/a\n+x\n*** Add File: b\n+x\n*** End Patch"
    prepared = prepare(text, str(tmp_path), [str(tmp_path)])
    outcome = execute(prepared, "e1", fail_at_second)
    assert outcome.state == "not applied"
    assert "No space left on device" in outcome.output
    assert list(tmp_path.iterdir()) == []


def test_a_refused_rename_stops_and_says_what_is_done(tmp_path: Path) -> None:
    """Files before the refused one are changed, those after it are not, and both are named."""

    def fail_at_second(name: str) -> None:
        if name.startswith("rename") and name.endswith("/b"):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    text = (
        "*** Begin Patch\n*** Add File: a\n+x\n*** Add File: b\n+x\n*** Add File: c\n+x\n"
        "*** End Patch"
    )
    outcome = execute(prepare(text, str(tmp_path), [str(tmp_path)]), "e1", fail_at_second)
    assert not outcome.ok
    assert outcome.state == "partly"
    assert "Reason: b: Operation not permitted" in outcome.output
    assert "Changed:\nA a\nNot changed:\nA b\nA c\n" in outcome.output
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_plan_goes_through_json_and_holds_no_contents(tmp_path: Path) -> None:
    """What is journaled names hashes; the contents live in the temporary files alone."""
    (tmp_path / "f").write_text("private before\n")
    text = "*** Begin Patch\n*** Update File: f\n@@\n-private before\n+private after\n*** End Patch"
    prepared = prepare(text, str(tmp_path), [str(tmp_path)])
    journaled = json.dumps(prepared.plan_data)
    assert "private" not in journaled
    assert json.loads(journaled) == prepared.plan_data
    assert execute(prepared, "e1").ok
    assert recover(json.loads(journaled), "e1").output == (
        "Success. Updated the following files:\nM f\n"
    )


def test_a_plan_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    """A damaged record gives PatchError, not a type error."""
    with pytest.raises(ValueError, match="cannot be read"):
        recover({"changes": 3}, "e1")


@pytest.mark.parametrize("effect_id", ["", "a/b", "x" * 101])
def test_an_effect_id_must_fit_in_a_name(effect_id: str, tmp_path: Path) -> None:
    """An id that could lead elsewhere is a mistake of the caller."""
    with pytest.raises(ValueError, match="effect id"):
        run(tmp_path, "*** Add File: a\n+x", effect_id=effect_id)

"""A patch that is killed at any step, and a recovery that is killed at any step.

Each case runs in a forked process that kills itself with SIGKILL; what is on disk afterwards is all
that the recovery sees.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from backstay.tools.patch import Outcome, Prepared, execute, prepare, recover

EFFECT = "0197-effect"
PATCH = """*** Begin Patch
*** Update File: a.txt
@@
-one
+two
*** Add File: new/deep/b.txt
+hello
*** Add File: empty
*** Update File: old.sh
*** Move to: new/moved.sh
@@
-echo old
+echo new
*** Delete File: gone.txt
*** Update File: emptied.sh
@@
-x
*** Update File: a.txt
@@
 two
+three
*** End Patch
"""
BEFORE = {
    "a.txt": (b"one\n", 0o640),
    "old.sh": (b"echo old\n", 0o755),
    "gone.txt": (b"bye\n", 0o600),
    "emptied.sh": (b"x\n", 0o755),
    "other": (b"untouched\n", 0o644),
}
AFTER = {
    "a.txt": (b"two\nthree\n", 0o640),
    "new/deep/b.txt": (b"hello\n", 0o644),
    "empty": (b"", 0o644),
    "emptied.sh": (b"", 0o755),
    "new/moved.sh": (b"echo new\n", 0o755),
    "other": (b"untouched\n", 0o644),
}
SUCCESS = (
    "Success. Updated the following files:\n"
    "A new/deep/b.txt\nA empty\nM a.txt\nM new/moved.sh\nM emptied.sh\nM a.txt\nD gone.txt\n"
)
Tree = dict[str, tuple[bytes, int]]


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    old = os.umask(0o022)
    yield
    os.umask(old)


def plant(folder: Path) -> Path:
    """A fresh workspace as it is before the patch."""
    folder.mkdir()
    for name, (contents, mode) in BEFORE.items():
        (folder / name).write_bytes(contents)
        (folder / name).chmod(mode)
    return folder


def tree(folder: Path) -> Tree:
    """Every file below a folder, with its permission bits."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o7777)
        for path in files
    }


def planned(folder: Path, text: str = PATCH) -> Prepared:
    """The patch, prepared on a workspace, its plan through JSON as the journal keeps it."""
    prepared = prepare(text, str(folder), [str(folder)])
    return Prepared(prepared.plan, prepared.contents, json.loads(json.dumps(prepared.plan_data)))


def killed_at(step: int, work: Callable[[Callable[[str], None]], object]) -> bool:
    """Run `work` in a child that is killed before its step number `step`; False if it got through."""
    pid = os.fork()
    if pid == 0:
        left = step

        def count(name: str) -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        code = 1
        try:
            work(count)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def assert_whole(folder: Path, outcome: Outcome) -> None:
    """The tree is all as before or all as after, and the outcome says which."""
    if outcome.state == "applied":
        assert tree(folder) == AFTER
        assert outcome.ok
        assert outcome.output == SUCCESS
    else:
        assert outcome.state == "not applied"
        assert tree(folder) == BEFORE
        assert not (folder / "new").exists()
        assert not outcome.ok
        assert "not applied" in outcome.output


def test_without_a_crash_the_patch_is_applied(tmp_path: Path) -> None:
    """The patch of these tests does what they expect of it, and a recovery has nothing to add."""
    folder = plant(tmp_path / "w")
    prepared = planned(folder)
    assert execute(prepared, EFFECT).output == SUCCESS
    assert tree(folder) == AFTER
    recovery = recover(prepared.plan_data, EFFECT)
    assert_whole(folder, recovery)
    assert {s.status for s in recovery.statuses} == {"already"}


def test_killed_at_every_step_it_is_all_or_nothing(tmp_path: Path) -> None:
    """After a kill at any step a recovery leaves all or nothing, and a second one changes nothing."""
    ends = []
    step = 0
    while True:
        folder = plant(tmp_path / f"w{step}")
        prepared = planned(folder)
        killed = killed_at(step, partial(execute, prepared, EFFECT))
        first = recover(prepared.plan_data, EFFECT)
        assert_whole(folder, first)
        second = recover(prepared.plan_data, EFFECT)
        assert_whole(folder, second)
        assert second.output == first.output
        if not killed:
            break
        ends.append(first.state)
        step += 1
    assert len(ends) > 20
    turn = ends.index("applied")
    assert turn > 0
    assert ends[turn:] == ["applied"] * (len(ends) - turn), "once applied, later kills stay applied"


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.deep)])
def test_killed_recoveries_are_recovered_too(tmp_path: Path, stride: int) -> None:
    """A recovery killed at any step, after a patch killed at any step, ends all or nothing."""
    step, deaths = 0, 0
    first_killed = True
    while first_killed:
        inner = 0
        again = True
        while again:
            folder = plant(tmp_path / f"w{step}-{inner}")
            prepared = planned(folder)
            first_killed = killed_at(step, partial(execute, prepared, EFFECT))
            again = killed_at(inner, partial(recover, prepared.plan_data, EFFECT))
            deaths += again
            assert_whole(folder, recover(prepared.plan_data, EFFECT))
            inner += 1
        step += stride
    assert deaths > 100 // stride


def test_a_kill_between_renames_with_an_edit_by_somebody_else(tmp_path: Path) -> None:
    """A file that was edited after the kill is left alone and named; the others go forward."""
    conflicts = 0
    step = 0
    while True:
        folder = plant(tmp_path / f"w{step}")
        prepared = planned(folder)
        killed = killed_at(step, partial(execute, prepared, EFFECT))
        (folder / "a.txt").write_bytes(b"mine\n")
        first = recover(prepared.plan_data, EFFECT)
        files = tree(folder)
        assert files.pop("a.txt")[0] == b"mine\n"
        wanted = AFTER if first.state == "partly" else BEFORE
        assert files == {name: file for name, file in wanted.items() if name != "a.txt"}
        assert "left alone" in first.output
        assert "M a.txt" in first.output
        assert recover(prepared.plan_data, EFFECT).state == first.state
        assert tree(folder) == files | {"a.txt": (b"mine\n", tree(folder)["a.txt"][1])}
        conflicts += first.state == "partly"
        if not killed:
            break
        step += 1
    assert 0 < conflicts < step


def test_a_patch_that_fails_midway_keeps_its_prefix_through_a_kill(tmp_path: Path) -> None:
    """The prefix before a failing operation is as crash-atomic as a whole patch."""
    text = PATCH.replace(
        "*** End Patch", "*** Delete File: nowhere\n*** Add File: c\n*** End Patch"
    )
    states = set()
    step = 0
    killed = True
    while killed:
        folder = plant(tmp_path / f"w{step}")
        prepared = planned(folder, text)
        killed = killed_at(step, partial(execute, prepared, EFFECT))
        outcome = recover(prepared.plan_data, EFFECT)
        assert not outcome.ok
        assert "Operation 8 of 9 failed: *** Delete File: nowhere" in outcome.output
        assert tree(folder) == (AFTER if outcome.state == "applied" else BEFORE)
        states.add(outcome.state)
        step += 1
    assert states == {"applied", "not applied"}


def stopped_at(start: str, number: int, prepared: Prepared) -> None:
    """Execute up to the `number`th step whose name begins with `start`, as a crash would leave it."""
    seen: list[str] = []

    def stop(name: str) -> None:
        seen.append(name)
        if sum(step.startswith(start) for step in seen) == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(prepared, EFFECT, stop)


def test_an_edit_of_a_file_that_was_already_renamed_stops_nobody_else(tmp_path: Path) -> None:
    """The first file is in place and edited again: the rest still goes forward."""
    folder = plant(tmp_path / "w")
    prepared = planned(folder)
    assert prepared.plan.changes[0].path == "a.txt"
    stopped_at("rename ", 2, prepared)
    (folder / "a.txt").write_bytes(b"mine\n")
    outcome = recover(prepared.plan_data, EFFECT)
    assert outcome.state == "partly"
    assert tree(folder) == AFTER | {"a.txt": (b"mine\n", 0o640)}


def test_new_contents_are_synced_before_the_first_rename(tmp_path: Path) -> None:
    """Temporary files, then their folders, then renames, then removals, then the folders again."""
    folder = plant(tmp_path / "w")
    steps: list[str] = []
    assert execute(planned(folder), EFFECT, steps.append).ok
    kinds = ["folder" if s.startswith("sync folder") else s.split()[0] for s in steps]
    renames = [at for at, kind in enumerate(kinds) if kind == "rename"]
    removals = [at for at, kind in enumerate(kinds) if kind == "unlink"]
    assert len(renames) == 5
    assert len(removals) == 2
    assert max(at for at, kind in enumerate(kinds) if kind == "sync") < renames[0]
    assert kinds[renames[0] - 3 : renames[0]] == ["folder"] * 3
    assert renames[-1] < removals[0]
    assert kinds[removals[-1] + 1 :] == ["folder"] * 3


def test_a_torn_temporary_file_is_never_renamed(tmp_path: Path) -> None:
    """A temporary file without the planned contents counts as missing: the patch is dropped."""
    folder = plant(tmp_path / "w")
    prepared = planned(folder)
    stopped_at("rename ", 1, prepared)
    torn = next(path for path in folder.rglob("*.tmp") if ".b.txt." in path.name)
    torn.write_bytes(torn.read_bytes()[:-1])
    assert_whole(folder, recover(prepared.plan_data, EFFECT))
    assert tree(folder) == BEFORE


def test_a_lost_temporary_file_after_the_first_rename_is_named(tmp_path: Path) -> None:
    """When the new contents of a file are gone after others are in place, the answer names it."""
    folder = plant(tmp_path / "w")
    prepared = planned(folder)
    stopped_at("rename ", 2, prepared)
    next(path for path in folder.rglob("*.tmp") if ".b.txt." in path.name).unlink()
    outcome = recover(prepared.plan_data, EFFECT)
    assert outcome.state == "partly"
    assert "Reason: it was interrupted\n" in outcome.output
    assert "Not changed:\nA new/deep/b.txt" in outcome.output
    assert tree(folder) == {k: v for k, v in AFTER.items() if k != "new/deep/b.txt"}


def test_a_plan_that_only_removes_goes_forward(tmp_path: Path) -> None:
    """Removals need no temporary file, so once started they are carried out."""
    folder = plant(tmp_path / "w")
    prepared = planned(folder, "*** Begin Patch\n*** Delete File: gone.txt\n*** End Patch\n")
    assert killed_at(0, partial(execute, prepared, EFFECT))
    assert recover(prepared.plan_data, EFFECT).ok
    assert not (folder / "gone.txt").exists()

"""No path of a patch leaves the writable folders, and only files are touched."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backstay.tools.patch import Outcome, PatchError, execute, prepare


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A writable folder beside one that isn't, with links from the first into the second."""
    folder = tmp_path / "root"
    outside = tmp_path / "outside"
    for path in (folder / "sub", outside):
        path.mkdir(parents=True)
    (outside / "f").write_text("secret\n")
    (folder / "in").write_text("one\n")
    (folder / "link_folder").symlink_to(outside)
    (folder / "link_file").symlink_to(outside / "f")
    (folder / "link_new").symlink_to(outside / "new")
    (folder / "link_in").symlink_to("in")
    (folder / "link_sub").symlink_to("sub")
    (folder / "loop").symlink_to("loop")
    return folder


def patch(*operations: str) -> str:
    """The operations between the markers."""
    return "\n".join(["*** Begin Patch", *operations, "*** End Patch"])


def run(root: Path, *operations: str) -> Outcome:
    """Prepare and execute on a workspace with one root."""
    return execute(prepare(patch(*operations), str(root), [str(root)]), "e1")


def everything(folder: Path) -> dict[str, str]:
    """Every entry below a folder with what it is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        text = os.readlink(path) if path.is_symlink() else ""
        found[str(path)] = text or ("/" if path.is_dir() else path.read_text())
    return found


ESCAPES = [
    "../outside/f",
    "../outside/new",
    "sub/../../outside/f",
    "nowhere/../../outside/f",
    "link_folder/f",
    "link_folder/new",
    "link_folder/../outside/new",
    "link_file",
    "link_new",
    "/etc/hosts",
    "..",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize(
    "operation",
    [
        "*** Add File: {}\n+x",
        "*** Delete File: {}",
        "*** Update File: {}\n@@\n-secret\n+x",
        "*** Update File: {}\n*** Move to: here\n@@\n-secret\n+x",
        "*** Update File: in\n*** Move to: {}\n@@\n-one\n+x",
    ],
)
def test_a_path_that_leads_outside_refuses_the_whole_patch(
    path: str, operation: str, root: Path
) -> None:
    """`..`, absolute paths and links in any part: one line that names the path, nothing touched."""
    before = everything(root.parent)
    with pytest.raises(PatchError) as caught:
        run(root, "*** Add File: first\n+x", operation.format(path))
    assert f"'{path}' leads outside" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert everything(root.parent) == before


def test_absolute_paths_and_dots_inside_are_fine(root: Path) -> None:
    """What matters is where a path leads, not how it is written."""
    outcome = run(
        root,
        f"*** Add File: {root}/abs\n+x",
        "*** Add File: sub/../dots\n+x",
        "*** Add File: ../root/up\n+x",
    )
    assert outcome.ok
    assert all((root / name).read_text() == "x\n" for name in ("abs", "dots", "up"))
    assert f"A {root}/abs\n" in outcome.output


def test_a_second_root_is_writable_too(root: Path) -> None:
    """Every given root counts, also for moves between them."""
    outside = root.parent / "outside"
    text = patch("*** Update File: link_file\n@@\n-secret\n+open")
    assert execute(prepare(text, str(root), [str(root), str(outside)]), "e1").ok
    assert (outside / "f").read_text() == "open\n"
    assert (root / "link_file").is_symlink()


def test_a_name_that_starts_like_the_root_is_outside(root: Path) -> None:
    """Roots end at a folder boundary."""
    with pytest.raises(PatchError):
        run(root, f"*** Add File: {root}2/x\n+x")
    with pytest.raises(PatchError):
        run(root, "*** Add File: ../root2/x\n+x")


def test_a_root_that_is_a_link_holds_its_files(root: Path) -> None:
    """Roots and the working folder are resolved as paths are."""
    link = root.parent / "link_to_root"
    link.symlink_to(root)
    text = patch("*** Update File: in\n@@\n-one\n+two")
    assert execute(prepare(text, str(link), [str(link)]), "e1").ok
    assert (root / "in").read_text() == "two\n"


def test_a_link_inside_updates_the_file_it_points_to(root: Path) -> None:
    """The link stays a link."""
    assert run(root, "*** Update File: link_in\n@@\n-one\n+two").ok
    assert (root / "in").read_text() == "two\n"
    assert (root / "link_in").is_symlink()


def test_a_linked_folder_inside_is_written_through(root: Path) -> None:
    """A link to a folder of the workspace is as good as the folder."""
    assert run(root, "*** Add File: link_sub/x/y\n+x").ok
    assert (root / "sub/x/y").read_text() == "x\n"


def test_deleting_a_link_leaves_the_file(root: Path) -> None:
    """Delete removes the entry that was named, and a file added under its name is a plain file."""
    assert run(root, "*** Delete File: link_in").ok
    assert not (root / "link_in").is_symlink()
    assert (root / "in").read_text() == "one\n"
    (root / "link_in").symlink_to("in")
    assert run(root, "*** Delete File: link_in", "*** Add File: link_in\n+plain").ok
    assert not (root / "link_in").is_symlink()
    assert (root / "link_in").read_text() == "plain\n"
    assert (root / "in").read_text() == "one\n"


def test_moving_a_link_moves_the_contents(root: Path) -> None:
    """A moved link leaves the file that it pointed to where it is."""
    assert run(root, "*** Update File: link_in\n*** Move to: moved\n@@\n-one\n+two").ok
    assert (root / "moved").read_text() == "two\n"
    assert (root / "in").read_text() == "one\n"
    assert not (root / "link_in").is_symlink()


def test_a_link_swapped_in_after_planning_is_not_followed(root: Path) -> None:
    """A folder that becomes a link between plan and write is a conflict; nothing lands outside."""
    prepared = prepare(patch("*** Add File: sub/new\n+x"), str(root), [str(root)])
    (root / "sub").rmdir()
    (root / "sub").symlink_to(root.parent / "outside")
    outcome = execute(prepared, "e1")
    assert outcome.state == "not applied"
    assert sorted(os.listdir(root.parent / "outside")) == ["f"]


@pytest.mark.parametrize("kind", ["folder", "fifo", "loop"])
@pytest.mark.parametrize(
    "operation",
    ["*** Add File: {}\n+x", "*** Update File: {}\n@@\n+x", "*** Update File: in\n*** Move to: {}"],
)
def test_only_files_are_written(kind: str, operation: str, root: Path) -> None:
    """Folders, pipes and circular links are errors of the operation, never replaced."""
    path = root / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    before = {p.name: p.lstat().st_mode for p in root.iterdir()}
    outcome = run(root, operation.format(kind))
    assert not outcome.ok
    assert "Operation 1 of 1 failed" in outcome.output
    assert {p.name: p.lstat().st_mode for p in root.iterdir()} == before


def test_a_file_in_the_way_of_a_folder_is_named(root: Path) -> None:
    """Nothing can be put below a file, on disk or made earlier in the patch."""
    assert "is a file" in run(root, "*** Add File: in/x\n+x").output
    outcome = run(root, "*** Add File: a\n+x", "*** Add File: a/b\n+x")
    assert "'a' is a file" in outcome.output
    outcome = run(root, "*** Add File: c/d\n+x", "*** Add File: c\n+x")
    assert "'c' is a folder" in outcome.output
    assert (root / "c/d").is_file()


@pytest.mark.parametrize("path", ["x" * 300, "y/" * 3000 + "z"])
def test_a_path_that_is_too_long_fails_its_operation(path: str, root: Path) -> None:
    """What the file system refuses is an error in words."""
    try:
        outcome = run(root, f"*** Add File: {path}\n+x")
    except PatchError:
        return
    assert not outcome.ok
    assert "too long" in outcome.output


def test_a_link_outside_that_leads_back_in_is_outside(root: Path) -> None:
    """What a patch may remove is the entry that it names, so that has to be inside as well."""
    back = root.parent / "outside" / "back"
    back.symlink_to(root / "in")
    with pytest.raises(PatchError):
        run(root, "*** Delete File: ../outside/back")
    assert back.is_symlink()


def test_a_move_onto_another_name_of_the_file_is_refused(root: Path) -> None:
    """Removing the source after writing the target must not remove the only copy."""
    (root / "twin").hardlink_to(root / "in")
    outcome = run(root, "*** Update File: in\n*** Move to: twin")
    assert "another name of the same file" in outcome.output
    assert (root / "in").read_text() == (root / "twin").read_text() == "one\n"


def as_nobody(work: Callable[[], bool]) -> bool:
    """What `work` returns when it runs without root's rights."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            code = 0 if work() else 2
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 2)
    return code == 0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that anybody may reach and write, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name).resolve()


def test_a_read_only_file_stays(open_folder: Path) -> None:
    """A file without write permission is not replaced behind its owner's back."""
    path = open_folder / "f"
    path.write_text("one\n")
    path.chmod(0o444)
    assert as_nobody(
        lambda: "'f' is read-only" in run(open_folder, "*** Update File: f\n@@\n+two").output
    )
    assert path.read_text() == "one\n"


def test_a_folder_without_permission_changes_nothing(open_folder: Path) -> None:
    """When one file can't be written none is, and the system's reason is in the answer."""
    (open_folder / "locked").mkdir(mode=0o555)
    assert as_nobody(
        lambda: (
            "Permission denied"
            in run(open_folder, "*** Add File: a\n+x", "*** Add File: locked/b\n+x").output
        )
    )
    assert [path.name for path in open_folder.iterdir()] == ["locked"]


def test_a_file_that_cannot_be_read_fails_its_operation(open_folder: Path) -> None:
    """The reason is the system's."""
    path = open_folder / "f"
    path.write_text("one\n")
    path.chmod(0)
    assert as_nobody(
        lambda: "cannot be read: Permission denied" in run(open_folder, "*** Delete File: f").output
    )
    assert path.exists()

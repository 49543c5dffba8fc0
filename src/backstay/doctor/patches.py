"""Whether a patch was applied, told by the files of its working folder; reads only.

An update was applied where the patch turned round would apply and the patch itself would not.
"""

import os
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from backstay.tools.patch import disk
from backstay.tools.patch.disk import Workspace
from backstay.tools.patch.parse import (
    AddFile,
    Chunk,
    DeleteFile,
    Line,
    Operation,
    PatchError,
    UpdateFile,
    parse,
)
from backstay.tools.patch.plan import plan_patch

State = Literal["applied", "not applied", "unclear"]
_TURNED: Final = {"+": "-", "-": "+", " ": " "}
_MOST_FILES: Final = 1000


class Verdict(msgspec.Struct, frozen=True):
    """What the files say of a patch."""

    state: Literal["applied", "not applied", "partly"]
    text: str
    """For the model."""
    says: str
    """For people, one sentence."""


def look(patch: str, cwd: str) -> Verdict | None:
    """Compare a patch with the files of a folder; None where that tells nothing. Never raises."""
    folder = cwd.removeprefix("file://")
    if not os.path.isabs(folder) or "\0" in folder or not os.path.isdir(folder):
        return None
    try:
        operations = parse(patch)[:_MOST_FILES]
        tree = Workspace(folder, [folder])
        states = [(one, _state(one, tree)) for one in operations]
    except (PatchError, OSError, ValueError, RecursionError):
        return None
    return _verdict(states, folder)


def _state(one: Operation, tree: Workspace) -> State:
    try:
        place = tree.place(one.path)
        if isinstance(one, AddFile):
            return _added(one, place.target)
        if isinstance(one, DeleteFile):
            return "not applied" if os.path.lexists(place.entry) else "applied"
        return _updated(one, tree)
    except (PatchError, OSError):
        return "unclear"


def _added(one: AddFile, target: str) -> State:
    found = disk.look(target)
    if found.kind == "absent":
        return "not applied"
    wanted = "".join(f"{line}\n" for line in one.lines).encode()
    return "applied" if found.contents == wanted else "unclear"


def _updated(one: UpdateFile, tree: Workspace) -> State:
    if not one.chunks:  # a file that is only moved
        there = os.path.lexists(tree.place(one.path).entry)
        return "not applied" if there else "applied"
    forward, backward = _applies(one, tree), _applies(turned(one), tree)
    if forward == backward:
        return "unclear" if not forward else _nested(one)
    return "not applied" if forward else "applied"


def _nested(one: UpdateFile) -> State:
    """Both ways apply: lines were only added at an edge (it was), or only removed there (not)."""
    signs = {line.sign for chunk in one.chunks for line in chunk.lines} - {" "}
    if signs == {"+"}:
        return "applied"
    return "not applied" if signs == {"-"} else "unclear"


def _applies(one: UpdateFile, tree: Workspace) -> bool:
    try:
        plan, _ = plan_patch((one,), tree)
    except PatchError:
        return False
    return plan.failure is None


def turned(one: UpdateFile) -> UpdateFile:
    """The update that takes this one back."""
    chunks = tuple(
        Chunk(
            chunk.sections,
            tuple(_turned_line(line) for line in chunk.lines),
            chunk.end_of_file,
        )
        for chunk in one.chunks
    )
    if one.move_to is None:
        return UpdateFile(one.path, chunks)
    return UpdateFile(one.move_to, chunks, one.path)


def _turned_line(line: Line) -> Line:
    return msgspec.convert({"sign": _TURNED[line.sign], "text": line.text}, Line)


def _verdict(states: Sequence[tuple[Operation, State]], folder: str) -> Verdict | None:
    kinds = {state for _, state in states}
    if not kinds or kinds == {"unclear"}:
        return None
    listed = "\n".join(f"{state}: {one.path}" for one, state in states)
    known = "The output of this call was not recorded. "
    if kinds == {"applied"}:
        text = f"{known}The files in {folder} show that the patch was applied:\n{listed}"
        return Verdict("applied", text, "the files show that the patch was applied")
    if kinds == {"not applied"}:
        text = (
            f"{known}The files in {folder} show that the patch was not applied; "
            f"it is safe to apply it again:\n{listed}"
        )
        return Verdict("not applied", text, "the files show that the patch was not applied")
    how = "was applied in part"
    if "unclear" in kinds and len(kinds) == 2:
        how = "was applied at least in part" if "applied" in kinds else "was not applied in full"
    text = (
        f"{known}The files in {folder} show that the patch {how}; "
        f"look at the files before going on:\n{listed}"
    )
    return Verdict("partly", text, f"the files show that the patch {how}")

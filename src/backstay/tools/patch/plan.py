"""Computes what a patch will change, as the longest prefix of its operations that succeeds.

Pure given a `Tree` to read files from. The plan holds hashes and no contents, so that it can be
journaled before the effect; doing it, and finishing it after a crash, is `apply`'s concern.
"""

import posixpath
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Literal, Protocol

import msgspec

from backstay.tools.patch.locate import patched
from backstay.tools.patch.parse import AddFile, DeleteFile, Operation, PatchError, UpdateFile

Kind = Literal["add", "update", "delete", "move"]


class Place(msgspec.Struct, frozen=True):
    """Where a path of the patch leads: absolute, inside a root, without symbolic links in the parents.

    `entry` names the directory entry itself, `target` the file behind it should it be a symbolic link.
    """

    entry: str
    target: str


class Found(msgspec.Struct, frozen=True):
    """What stands at an absolute path; `contents` of a symbolic link is the text it holds."""

    kind: Literal["absent", "file", "symlink", "folder", "special"]
    contents: bytes = b""
    mode: int | None = None
    writable: bool = True
    identity: tuple[int, int] | None = None


class Tree(Protocol):
    """The reads that planning needs; each raises `PatchError` with the reason."""

    @property
    def roots(self) -> tuple[str, ...]:
        """The writable folders, absolute and without symbolic links."""

    def place(self, path: str) -> Place:
        """Where `path` leads; refuses one that leaves the roots."""

    def look(self, target: str) -> Found:
        """What stands at an absolute path, without following a symbolic link."""

    def missing_folders(self, target: str) -> tuple[str, ...]:
        """The folders above `target` that don't exist, outermost first."""


class FileChange(msgspec.Struct, frozen=True):
    """The net change of one path.

    `before` and `after` are fingerprints (see `fingerprint`), None when absent. `mode` is the
    permission bits that the written file gets, None for the default of a new file. `source` is where
    a moved file came from; the removal of the source is a change of its own.
    """

    path: str
    target: str
    kind: Kind
    before: str | None
    after: str | None
    mode: int | None = None
    source: str | None = None


class Listed(msgspec.Struct, frozen=True):
    """One operation as the answer lists it: `A`, `M` or `D` and the path as written."""

    sign: Literal["A", "M", "D"]
    path: str


class Failure(msgspec.Struct, frozen=True):
    """The first operation that failed: its number from 1, its header line, and why."""

    number: int
    header: str
    reason: str


class Plan(msgspec.Struct, frozen=True):
    """What the patch does to the files as they are: writes first, then removals."""

    roots: tuple[str, ...]
    changes: tuple[FileChange, ...]
    new_folders: tuple[str, ...]
    listed: tuple[Listed, ...]
    operations: int
    failure: Failure | None = None


def fingerprint(found: Found) -> str | None:
    """The SHA-256 of a file's contents in hex, marked for a symbolic link; None when absent.

    Folders and special files get a mark that no plan holds.
    """
    if found.kind == "absent":
        return None
    if found.kind == "file":
        return sha256(found.contents).hexdigest()
    if found.kind == "symlink":
        return "symlink:" + sha256(found.contents).hexdigest()
    return found.kind


def plan_patch(operations: Sequence[Operation], tree: Tree) -> tuple[Plan, dict[str, bytes]]:
    """The plan and the new contents by target path.

    Raises `PatchError` when any path of any operation may not be touched: then nothing is done at all.
    """
    for operation in operations:
        tree.place(operation.path)
        if isinstance(operation, UpdateFile) and operation.move_to is not None:
            tree.place(operation.move_to)
    draft = _Draft(tree)
    listed: list[Listed] = []
    failure = None
    for number, operation in enumerate(operations, 1):
        try:
            listed.append(draft.apply(operation))
        except PatchError as error:
            failure = Failure(number, operation.header, str(error))
            break
    changes = draft.changes()
    plan = Plan(
        roots=tree.roots,
        changes=changes,
        new_folders=_new_folders(changes, tree),
        listed=tuple(listed),
        operations=len(operations),
        failure=failure,
    )
    return plan, {c.target: draft.contents(c.target) for c in changes if c.after is not None}


def _new_folders(changes: Sequence[FileChange], tree: Tree) -> tuple[str, ...]:
    folders: dict[str, None] = {}
    for change in changes:
        if change.after is not None:
            folders.update(dict.fromkeys(tree.missing_folders(change.target)))
    return tuple(folders)


class _Draft:
    """The tree with the operations so far applied in memory."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._first: dict[str, Found] = {}
        self._now: dict[str, Found] = {}
        self._paths: dict[str, str] = {}
        self._sources: dict[str, str] = {}

    def apply(self, operation: Operation) -> Listed:
        """Apply one operation, or raise `PatchError` and leave the draft as it was."""
        if isinstance(operation, AddFile):
            target = self._writable_target(operation.path)
            contents = "".join(line + "\n" for line in operation.lines).encode()
            self._write(target, operation.path, contents, self._look(target).mode)
            return Listed("A", operation.path)
        if isinstance(operation, DeleteFile):
            self._remove(self._removable_entry(operation.path), operation.path)
            return Listed("D", operation.path)
        return self._update(operation)

    def _update(self, operation: UpdateFile) -> Listed:
        source = self._target(operation.path)
        found = self._existing(source)
        if found.kind != "file":
            raise PatchError("is a symbolic link that leads nowhere")
        new = patched(found.contents, operation.chunks)
        target = source if operation.move_to is None else self._target(operation.move_to)
        if target == source:
            self._writable_target(operation.path)
            self._write(source, operation.path, new, found.mode)
            return Listed("M", operation.path)
        path = operation.move_to or operation.path
        self._writable_target(path)
        entry = self._removable_entry(operation.path)
        replaced = self._look(target).identity
        if replaced is not None and replaced == found.identity:
            raise PatchError(f"'{path}' is another name of the same file")
        self._write(target, path, new, found.mode)
        self._sources[target] = self._sources.get(source, source)
        self._remove(entry, operation.path)
        return Listed("M", path)

    def changes(self) -> tuple[FileChange, ...]:
        """The net changes: what is written in order of first touch, then what is removed."""
        all_changes = [self._change(target) for target in self._now]
        changes = [change for change in all_changes if change.before != change.after]
        return tuple(sorted(changes, key=lambda change: change.after is None))

    def contents(self, target: str) -> bytes:
        """The contents that `target` ends up with."""
        return self._now[target].contents

    def _change(self, target: str) -> FileChange:
        before, after = fingerprint(self._first[target]), fingerprint(self._now[target])
        source = self._sources.get(target) if after is not None else None
        kind: Kind = "update"
        if after is None:
            kind = "delete"
        elif source is not None:
            kind = "move"
        elif before is None:
            kind = "add"
        mode = self._now[target].mode if after is not None else None
        return FileChange(self._paths[target], target, kind, before, after, mode, source)

    def _look(self, target: str) -> Found:
        if target not in self._first:
            self._first[target] = self._tree.look(target)
        return self._now.get(target, self._first[target])

    def _target(self, path: str) -> str:
        place = self._tree.place(path)
        return place.entry if place.entry in self._now else place.target

    def _existing(self, target: str) -> Found:
        found = self._look(target)
        if found.kind == "absent":
            raise PatchError("the file does not exist")
        _refuse_other_kinds(found)
        return found

    def _removable_entry(self, path: str) -> str:
        entry = self._tree.place(path).entry
        self._existing(entry)
        return entry

    def _writable_target(self, path: str) -> str:
        target = self._target(path)
        found = self._look(target)
        _refuse_other_kinds(found)
        if found.kind == "symlink":
            raise PatchError(f"'{path}' is a symbolic link that leads in a circle")
        if not found.writable:
            raise PatchError(f"'{path}' is read-only")
        if any(other.startswith(target + "/") and self._lives(other) for other in self._now):
            raise PatchError(f"'{path}' is a folder, made earlier in this patch")
        self._tree.missing_folders(target)
        above = posixpath.dirname(target)
        while above not in self._tree.roots and above != posixpath.dirname(above):
            if self._lives(above):
                raise PatchError(f"'{self._paths[above]}' is a file, made earlier in this patch")
            above = posixpath.dirname(above)
        return target

    def _lives(self, target: str) -> bool:
        return target in self._now and self._now[target].kind != "absent"

    def _write(self, target: str, path: str, contents: bytes, mode: int | None) -> None:
        self._now[target] = Found("file", contents, mode)
        self._paths[target] = path
        self._sources.pop(target, None)

    def _remove(self, target: str, path: str) -> None:
        self._now[target] = Found("absent", mode=self._look(target).mode)
        self._paths[target] = path


def _refuse_other_kinds(found: Found) -> None:
    if found.kind == "folder":
        raise PatchError("is a folder, not a file")
    if found.kind == "special":
        raise PatchError("is a device, pipe or socket, not a file")


def encode_plan(plan: Plan) -> dict[str, object]:
    """The plan as JSON-able values, for the journal."""
    encoded: dict[str, object] = msgspec.json.decode(msgspec.json.encode(plan))
    return encoded


def decode_plan(encoded: Mapping[str, object]) -> Plan:
    """The plan of `encode_plan`; raises `PatchError` when it isn't one."""
    try:
        return msgspec.convert(encoded, Plan)
    except msgspec.ValidationError as error:
        raise PatchError(f"the recorded plan of the patch cannot be read: {error}") from error

"""Carries out a plan so that a crash at any point can be finished or undone.

Every new file is first written and synced under a temporary name beside its target, then all are
renamed into place in the plan's order. As long as one temporary file is missing nothing was renamed,
so the patch can be dropped; once all are there it can be finished. Owns all writing to the workspace.
"""

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from errno import EINVAL

from backstay.tools.patch.disk import look
from backstay.tools.patch.plan import FileChange, Plan, fingerprint
from backstay.tools.patch.report import Outcome, PathStatus, Status, outcome

Step = Callable[[str], object]
_datasync = getattr(os, "fdatasync", os.fsync)
_NAME_BYTES = 80


def no_step(name: str) -> None:
    """The default `step`: nobody watches."""


def temporary_paths(plan: Plan, effect_id: str) -> list[str]:
    """The temporary file of each change, beside its target; also named for changes that need none.

    Raises ValueError for an effect id that can't be part of a file's name.
    """
    if not effect_id or len(effect_id.encode()) > 100 or set(effect_id) & set("/\0"):
        raise ValueError(f"effect id {effect_id!r} can't be part of a file's name")
    paths = []
    for number, change in enumerate(plan.changes):
        folder, name = os.path.split(change.target)
        short = name.encode()[:_NAME_BYTES].decode(errors="ignore")
        paths.append(os.path.join(folder, f".{short}.backstay-{effect_id}-{number}.tmp"))
    return paths


def execute(
    plan: Plan, contents: Mapping[str, bytes], effect_id: str, step: Step = no_step
) -> Outcome:
    """Apply the plan; `contents` by target as `plan_patch` gave them.

    Never raises OSError: what the disk refuses is part of the outcome. `step` is called with a name
    before each step that another process could see.
    """
    work = _Work(plan, temporary_paths(plan, effect_id), step)
    states = work.states()
    if any(state != "before" for state in states):
        return outcome(plan, work.untouched(states), "a file changed after the patch was prepared")
    try:
        work.stage(contents)
    except OSError as error:
        with suppress(OSError):
            work.discard()
        return outcome(plan, work.untouched(states), _reason(error))
    return work.commit()


def recover(plan: Plan, effect_id: str, step: Step = no_step) -> Outcome:
    """Finish or drop a plan that a crash may have cut, from what is on disk.

    Idempotent, and may itself be cut at any point and called again. Never raises OSError.
    """
    work = _Work(plan, temporary_paths(plan, effect_id), step)
    states = work.states()
    try:
        if work.never_began(states):
            work.discard()
            return outcome(
                plan, work.untouched(states), "it was interrupted before it changed anything"
            )
        work.settle_temporary_files()
    except OSError as error:
        return outcome(plan, work.untouched(states), _reason(error))
    return work.commit("it was interrupted")


class _Work:
    """One plan, its temporary files, and the steps on them."""

    def __init__(self, plan: Plan, temporary: Sequence[str], step: Step) -> None:
        self._plan = plan
        self._step = step
        self._pairs = list(zip(plan.changes, temporary, strict=True))

    def states(self) -> list[str]:
        """Per change: is the file as it was `before`, as it will be `after`, or `neither`."""
        return [_state(change) for change in self._plan.changes]

    def untouched(self, states: Sequence[str]) -> list[PathStatus]:
        """The statuses when this process changes nothing."""
        words: dict[str, Status] = {
            "before": "not applied",
            "after": "already",
            "neither": "conflicting",
        }
        pairs = zip(self._plan.changes, states, strict=True)
        return [PathStatus(change, words[state]) for change, state in pairs]

    def never_began(self, states: Sequence[str]) -> bool:
        """True when no rename can have happened: a temporary file is missing, no file is `after`.

        Renames go in order, so a file that something else changed needs its temporary file only when
        it comes behind one that is still as before.
        """
        if "after" in states or "before" not in states:
            return False
        first = states.index("before")
        return any(
            change.after is not None and not _is_whole(temporary, change)
            for change, temporary in self._pairs[first:]
        )

    def stage(self, contents: Mapping[str, bytes]) -> None:
        """Make the new folders and write every temporary file, all synced."""
        for folder in self._plan.new_folders:
            self._step(f"mkdir {folder}")
            with suppress(FileExistsError):
                os.mkdir(folder)
            self._sync_folder(os.path.dirname(folder))
        for change, temporary in self._writes():
            self._write(change, temporary, contents[change.target])
        self._sync_folders(temporary for _, temporary in self._writes())

    def settle_temporary_files(self) -> None:
        """Sync the temporary files that a crash may have left unsynced."""
        whole = [pair for pair in self._writes() if _is_whole(pair[1], pair[0])]
        for change, temporary in whole:
            self._step(f"sync {temporary}")
            descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _keep_owner_and_mode(descriptor, change)
                _sync(descriptor)
            finally:
                os.close(descriptor)
        self._sync_folders(temporary for _, temporary in whole)

    def commit(self, reason: str | None = None) -> Outcome:
        """Rename and remove in order what is still `before`, then clean up.

        `reason` says why something is missing when nothing fails now.
        """
        problem = None
        statuses: list[PathStatus] = []
        for change, temporary in self._pairs:
            status: Status = "not applied"
            if problem is None:
                try:
                    status = self._commit_one(change, temporary)
                except OSError as error:
                    problem = f"{change.path}: {_reason(error)}"
            statuses.append(PathStatus(change, status))
        try:
            self._sync_folders(change.target for change in self._plan.changes)
            self._remove_temporary_files()
        except OSError as error:
            problem = problem or f"the changes could not be synced to disk: {_reason(error)}"
        if problem is None and any(s.status == "not applied" for s in statuses):
            problem = reason
        return outcome(self._plan, statuses, problem)

    def discard(self) -> None:
        """Remove the temporary files and the folders made for them."""
        self._remove_temporary_files()
        for folder in reversed(self._plan.new_folders):
            self._step(f"rmdir {folder}")
            with suppress(OSError):  # not empty: something else lives there now
                os.rmdir(folder)

    def _commit_one(self, change: FileChange, temporary: str) -> Status:
        state = _state(change)
        if state == "after":
            return "already"
        if state == "neither":
            return "conflicting"
        if change.after is None:
            self._step(f"unlink {change.target}")
            os.unlink(change.target)
            return "applied"
        if not _is_whole(temporary, change):
            return "not applied"
        self._step(f"rename {change.target}")
        os.rename(temporary, change.target)
        return "applied"

    def _writes(self) -> list[tuple[FileChange, str]]:
        return [pair for pair in self._pairs if pair[0].after is not None]

    def _write(self, change: FileChange, temporary: str, contents: bytes) -> None:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        self._step(f"create {temporary}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o666 if change.mode is None else 0o600)
        try:
            self._step(f"mode {temporary}")
            _keep_owner_and_mode(descriptor, change)
            self._step(f"write {temporary}")
            left = memoryview(contents)
            while left:
                left = left[os.write(descriptor, left) :]
            self._step(f"sync {temporary}")
            _sync(descriptor)
        finally:
            os.close(descriptor)

    def _remove_temporary_files(self) -> None:
        for _, temporary in self._writes():
            if os.path.lexists(temporary):
                self._step(f"discard {temporary}")
                with suppress(FileNotFoundError):
                    os.unlink(temporary)

    def _sync_folders(self, paths: Iterable[str]) -> None:
        for folder in dict.fromkeys(os.path.dirname(path) for path in paths):
            if os.path.isdir(folder):
                self._sync_folder(folder)

    def _sync_folder(self, folder: str) -> None:
        self._step(f"sync folder {folder}")
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != EINVAL:  # some filesystems have no sync for folders
                raise
        finally:
            os.close(descriptor)


def _state(change: FileChange) -> str:
    parent = os.path.dirname(change.target)
    if os.path.realpath(parent) != parent:
        return "neither"  # a symbolic link came in between
    try:
        found = fingerprint(look(change.target))
    except OSError:
        return "neither"
    if found == change.after:
        return "after"
    return "before" if found == change.before else "neither"


def _is_whole(temporary: str, change: FileChange) -> bool:
    try:
        return fingerprint(look(temporary)) == change.after
    except OSError:
        return False


def _keep_owner_and_mode(descriptor: int, change: FileChange) -> None:
    """Give a replacing file the mode of the one it replaces, and its owner where that is allowed."""
    if change.mode is None:
        return
    with suppress(OSError):
        old = os.stat(change.source or change.target, follow_symlinks=False)
        new = os.fstat(descriptor)
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != change.mode:
        os.fchmod(descriptor, change.mode)


def _sync(descriptor: int) -> None:
    """To the medium: macOS needs F_FULLFSYNC for that."""
    import fcntl

    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        _datasync(descriptor)
    else:
        fcntl.fcntl(descriptor, full)


def _reason(error: OSError) -> str:
    name = f" ({error.filename})" if isinstance(error.filename, str) else ""
    return f"{error.strerror or error}{name}"

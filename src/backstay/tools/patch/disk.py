"""Reads the workspace for planning and recovery: resolves paths, refuses those outside of the roots.

Reads only; what writes is `apply`.
"""

import os
import stat
from collections.abc import Sequence

from backstay.tools.patch.parse import PatchError
from backstay.tools.patch.plan import Found, Place

MAX_BYTES = 256 << 20


class Workspace:
    """The `Tree` of real files: paths are relative to `cwd` and must stay inside the `roots`."""

    def __init__(self, cwd: str, roots: Sequence[str]) -> None:
        self._cwd = _resolved(cwd)
        self._roots = tuple(dict.fromkeys(_resolved(os.path.join(cwd, root)) for root in roots))

    @property
    def roots(self) -> tuple[str, ...]:
        """The writable folders, absolute and without symbolic links."""
        return self._roots

    def place(self, path: str) -> Place:
        """Where `path` leads; raises `PatchError` when its entry or target is outside of the roots."""
        full = os.path.join(self._cwd, path)
        target = _resolved(full)
        parent, name = os.path.split(full)
        entry = target if name in ("", ".", "..") else os.path.join(_resolved(parent), name)
        for found in (entry, target):
            if not any(_inside(found, root) for root in self._roots):
                raise PatchError(
                    f"'{path}' leads outside of the writable folders; nothing was changed"
                )
        return Place(entry, target)

    def look(self, target: str) -> Found:
        """What stands at `target`; raises `PatchError` when it can't be read."""
        try:
            return look(target)
        except OSError as error:
            raise PatchError(f"cannot be read: {error.strerror}") from error

    def missing_folders(self, target: str) -> tuple[str, ...]:
        """The folders above `target` to be made; raises `PatchError` when a file is in their way."""
        missing: list[str] = []
        folder = os.path.dirname(target)
        while not os.path.lexists(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        if not os.path.isdir(folder):
            raise PatchError(f"'{folder}' is a file, so nothing can be put below it")
        return tuple(reversed(missing))


def look(target: str) -> Found:
    """What stands at `target`, a symbolic link not followed; raises OSError when it can't be read."""
    try:
        status = os.lstat(target)
    except (FileNotFoundError, NotADirectoryError):
        return Found("absent")
    if stat.S_ISLNK(status.st_mode):
        return Found("symlink", os.fsencode(os.readlink(target)))
    if stat.S_ISDIR(status.st_mode):
        return Found("folder")
    if not stat.S_ISREG(status.st_mode):
        return Found("special")
    if status.st_size > MAX_BYTES:
        raise OSError(0, f"larger than {MAX_BYTES >> 20} MiB")
    return Found(
        "file",
        _contents(target),
        stat.S_IMODE(status.st_mode),
        os.access(target, os.W_OK),
        (status.st_dev, status.st_ino),
    )


def _contents(target: str) -> bytes:
    descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return file.read()


def _resolved(path: str) -> str:
    try:
        resolved = os.path.realpath(path)
        resolved.encode()
    except UnicodeEncodeError as error:
        raise PatchError(f"the folder {path!r} has a name that is not UTF-8") from error
    except (OSError, ValueError) as error:
        raise PatchError(f"{path!r} cannot be resolved: {error}") from error
    return resolved


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")

"""AGENTS.md files: where they are looked for, which counts, and the text that is made of them.

A project's files are somebody else's text: no path leads out of the project, and only regular files
are read.
"""

import os
import stat
from collections.abc import Sequence
from typing import Final, NamedTuple

from backstay.core.told import DOCUMENTS, OPENINGS

NAMES: Final = ("AGENTS.override.md", "AGENTS.md")
"""In a folder the first of these that is there counts, then the configured names."""
OWN_LIMIT: Final = 32 * 1024
"""Bytes of the personal file in BACKSTAY_HOME."""

LEADS_OUT: Final = "it leads out of the project"
_ORDER: Final = (
    "These hold from here on, in place of any that were given before. Where two files disagree, "
    "the later one counts."
)
GONE: Final = "no such file applies any more; what earlier ones said no longer holds."


class Text(NamedTuple):
    """What a file holds, bounded."""

    path: str
    text: str
    left_out: int
    """Bytes that are not in the text."""


def repository(cwd: str) -> str:
    """The nearest folder from `cwd` upward that holds `.git`, links resolved; "" if none."""
    folder = os.path.realpath(cwd)
    while not os.path.exists(os.path.join(folder, ".git")):
        parent = os.path.dirname(folder)
        if parent == folder:
            return ""
        folder = parent
    return folder


def folders(cwd: str) -> list[str]:
    """The project's folders from its root down to `cwd`: only `cwd` outside of a repository."""
    here = os.path.realpath(cwd)
    root = repository(cwd)
    found = [here]
    while root and found[0] != root:
        found.insert(0, os.path.dirname(found[0]))
    return found


def leads_out(path: str, root: str) -> bool:
    """Whether a path, its links resolved, is outside of a folder; "" is no folder to stay in."""
    return bool(root) and os.path.commonpath([os.path.realpath(path), root]) != root


def read_text(path: str, limit: int, root: str = "") -> Text:
    """At most `limit` bytes of a regular file, undecodable ones replaced.

    With a `root` a path that leads out of it, by whatever link, is refused. Raises `OSError`, whose
    `strerror` says why.
    """
    if leads_out(path, root):
        raise PermissionError(0, LEADS_OUT, path)
    fd = os.open(os.path.realpath(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise PermissionError(0, "it is not a regular file", path)
    with open(fd, "rb") as file:
        content = file.read(limit + 1)
    whole = max(status.st_size, len(content))
    text = content[:limit].decode("utf-8", "replace")
    if len(content) > limit:
        text = text.rstrip("\ufffd")  # the cut may have split the last character
    return Text(path, text, whole - min(len(content), limit))


class Documents:
    """What the AGENTS.md files of a folder say."""

    def __init__(self, home: str, cwd: str, limit: int, fallbacks: Sequence[str] = ()) -> None:
        """`limit`: bytes of a project's files together. `fallbacks`: further names to look for."""
        self.warnings: list[str] = []
        self._limit = limit
        self._names = (*NAMES, *fallbacks)
        parts = self._own(home)
        if limit:
            parts += self._project(folders(cwd))
        opening = f"{OPENINGS[DOCUMENTS]}{cwd}"
        inside = "\n\n".join(parts).replace("</INSTRUCTIONS>", "</ INSTRUCTIONS>")
        self.text = (
            f"{opening}\n\n{_ORDER}\n\n<INSTRUCTIONS>\n{inside}\n</INSTRUCTIONS>" if parts else ""
        )
        """The message, or "" where there is nothing to say."""
        self.gone = f"{opening}: {GONE}"
        """The message where there was something to say before."""

    def _own(self, home: str) -> list[str]:
        found = self._read(home, NAMES, OWN_LIMIT, "")
        if found is None or not found.text.strip():
            return []
        cut = self._cut(found, f"it is longer than {OWN_LIMIT} bytes")
        return [f"From {found.path}, the user's own:\n\n{found.text.strip()}{cut}"]

    def _project(self, within: list[str]) -> list[str]:
        """The parts of the folders' files, in order; the limit is shared by all."""
        parts = []
        left = self._limit
        for folder in within:
            found = self._read(folder, self._names, left, within[0])
            if found is None or not (found.text.strip() or found.left_out):
                continue
            left -= len(found.text.encode())
            why = f"the files are longer than {self._limit} bytes together (project_doc_max_bytes)"
            cut = self._cut(found, why)
            parts.append(f"From {found.path}:\n\n{found.text.strip()}{cut}")
        return parts

    def _read(self, folder: str, names: Sequence[str], limit: int, root: str) -> Text | None:
        for name in names:
            path = os.path.join(folder, name)
            if os.path.lexists(path):
                try:
                    return read_text(path, max(limit, 0), root)
                except OSError as error:
                    self.warnings.append(f"{path} is not read: {error.strerror}")
                    return None
        return None

    def _cut(self, found: Text, why: str) -> str:
        """The line that ends a text of which not all is there; "" where all is."""
        if not found.left_out:
            return ""
        self.warnings.append(f"{found.path}: {found.left_out} bytes are left out: {why}")
        return f"\n\n[{found.left_out} more bytes of this file are left out here: {why}]"

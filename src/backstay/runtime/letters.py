"""The letters of a session's inbox: looked for while it is open, taken out once they are on record.

Owns when to look and what was taken; what a letter asks for is the session's to do.
"""

import asyncio
import os
import time
from collections.abc import Callable, Container
from typing import Final

from backstay.errors import StorageError
from backstay.journal import PosixDisk
from backstay.journal.inbox import Letter, discard, inbox_folder, waiting

EVERY: Final = 0.25
"""Seconds between two looks: one `stat` of a folder each."""
_TICK: Final = 1_000_000_000
"""Nanoseconds: more than a file system's clock takes between two ticks."""


class Letters:
    """The inbox of one open session."""

    def __init__(
        self, folder: str, take: Callable[[Letter], None], notice: Callable[[str], None]
    ) -> None:
        """`take` gets each letter once; `notice` a warning, one line."""
        self._folder = folder
        self._take = take
        self._notice = notice
        self._changed = 0
        self._taken: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def watched(self) -> bool:
        """Whether somebody looks already: what is found now came while the session was open."""
        return self._timer is not None

    def waits(self, known: Container[str] = ()) -> bool:
        """Whether a prompt lies there that is none of those `known`."""
        return bool(self.prompts(known))

    def prompts(self, known: Container[str] = ()) -> int:
        """How many prompts lie there; none, with a notice, where the inbox can't be read."""
        letters = [one for one in self._waiting() if one.kind == "prompt"]
        return sum(one.id not in known for one in letters)

    def _waiting(self) -> list[Letter]:
        try:
            return waiting(PosixDisk(), self._folder)
        except StorageError as error:
            self._notice(f"the inbox can't be read: {error}")
            return []

    def watch(self) -> None:
        """Look now and from now on, every so often; harmless when repeated."""
        if self._timer is None:
            self.look()
            self._again()

    def _again(self) -> None:
        if self._timer is not None:
            self.look()
        self._timer = asyncio.get_running_loop().call_later(EVERY, self._again)

    def look(self) -> None:
        """Take what has come since the last look."""
        try:
            changed = os.stat(inbox_folder(self._folder)).st_mtime_ns
        except OSError:
            return
        if changed == self._changed:
            return
        letters = self._waiting()
        # What comes within the same tick of the clock would not change the folder's time.
        self._changed = changed if time.time_ns() - changed > _TICK else 0
        for letter in letters:
            if letter.id not in self._taken:
                self._taken.add(letter.id)
                self._take(letter)

    def done(self, letter: str) -> None:
        """What it asked for is on record, or nobody wants it any more."""
        try:
            discard(PosixDisk(), self._folder, letter)
        except StorageError as error:
            self._notice(f"a letter of the inbox can't be removed: {error}")

    def close(self) -> None:
        """Look no more. What lies in the inbox is for whoever opens the session next."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

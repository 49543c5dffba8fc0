"""What a turn's output has in common, for people and for programs."""

from typing import Protocol

from backstay.runtime.watch import Finished, WatchEvent


class Face(Protocol):
    """A watcher of a session that tells of it."""

    answer: str
    """The last message that was settled as kept."""

    def opened(self, session: str, folder: str, headline: str) -> None:
        """The session is there; nothing of a turn has happened."""
        ...

    def __call__(self, event: WatchEvent) -> None:
        """Take what happened."""
        ...

    def tick(self) -> None:
        """Time has passed."""
        ...

    def ended(self, ended: Finished, lines: list[str], again: str) -> None:
        """The turn is over, and commands that it left are ended (`lines`); `again`: how to go on."""
        ...

    def next_turn(self) -> None:
        """Another turn begins behind the one that has ended: a prompt had been queued."""
        ...

    def failed(self, message: str) -> None:
        """Something ended the run outside of a turn; stderr says what it was."""
        ...

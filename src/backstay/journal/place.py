"""Which sessions a listing asks for."""

import msgspec

from backstay.journal.sessions import Entry


class Place(msgspec.Struct, frozen=True):
    """Those of a folder (None: of all), the archived ones or the others."""

    cwd: str | None = None
    archived: bool = False

    def holds(self, entry: Entry) -> bool:
        """Whether a session is one of them."""
        return entry.archived == self.archived and self.cwd in (None, entry.cwd)

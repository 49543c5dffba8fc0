"""Group commit: which of the waiting records go into the next write. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec

from backstay.core.record import ItemRecord, Known

LARGEST: Final = 1024
"""Records in one write; the rest waits for the next."""


class Batch(msgspec.Struct, frozen=True):
    """What goes into the next write."""

    records: tuple[Known, ...]
    sync: bool
    """Somebody waits for it: commit it. Otherwise writing it is enough for now."""


class Waiting:
    """Records on their way to the disk, in order, each given once."""

    def __init__(self) -> None:
        self._records: list[Known] = []

    def add(self, records: Sequence[Known]) -> None:
        """These come after all that were added before."""
        self._records += records

    def take(self) -> Batch | None:
        """The next write, or None. Ask when the one before has ended, not sooner.

        An item that needs no output is not waited for by anybody: the sync of the record that
        follows it (a call, the end of the attempt) covers it.
        """
        if not self._records:
            return None
        records = tuple(self._records[:LARGEST])
        del self._records[:LARGEST]
        return Batch(records, any(not isinstance(record, ItemRecord) for record in records))

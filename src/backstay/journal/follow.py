"""Follows a journal that another process writes: its records as they come, without a lock."""

from backstay.core.record import AnyRecord
from backstay.journal.disk import Disk
from backstay.journal.folders import journal_path
from backstay.journal.lines import Found, parts


class Follower:
    """Reads on from where it was; a line that is not whole yet is read once it is."""

    def __init__(self, disk: Disk, folder: str, offset: int) -> None:
        """`offset`: where to begin, at the beginning of a line."""
        self._disk = disk
        self._path = journal_path(folder)
        self._offset = offset

    def news(self) -> list[AnyRecord]:
        """The whole records since the last time; damage is passed over. Raises `StorageError`."""
        with self._disk.open(self._path) as file:
            end = file.size()
            if end <= self._offset:
                return []
            tail = file.read(self._offset, end - self._offset)
            end = self._offset + tail.rfind(b"\n") + 1
            found = [one for one in parts(file, self._offset, end) if isinstance(one, Found)]
        self._offset = end
        return [one.record for one in found]

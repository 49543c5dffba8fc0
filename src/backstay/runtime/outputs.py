"""The whole of outputs that were cut: blobs that the model can read as files, from any thread."""

import os
import threading

from backstay.journal import Blobs, PosixDisk


class Outputs:
    """Where a session's tools keep what a request has no room for."""

    def __init__(self, home: str, session: str) -> None:
        self._blobs = Blobs(PosixDisk(), os.path.abspath(home), f"{session}-output")
        self._lock = threading.Lock()

    def keep(self, content: bytes) -> str:
        """Store the bytes durably; the path of their file. Blocks. Raises `StorageError`."""
        with self._lock:
            digest = self._blobs.put(content)
        return self._blobs.path(digest)

"""Cutting a stream's bytes into events as they come.

Pure. `stream.split` is the same for a whole recording.
"""

from backstay.chaos.stream import Frame, frame_of, split


class Splitter:
    """Bytes in, whole events out; their bytes together are the stream's."""

    def __init__(self) -> None:
        self._block: list[bytes] = []
        self._partial: list[bytes] = []

    def feed(self, piece: bytes) -> list[Frame]:
        """The events that these bytes complete."""
        self._partial.append(piece)
        if b"\n" not in piece and not self._partial[0].endswith(b"\r") and b"\r" not in piece:
            return []
        lines = b"".join(self._partial).splitlines(keepends=True)
        whole = lines[-1].endswith(b"\n")  # a CR at the end may be half of a CRLF
        self._partial = [] if whole else [lines.pop()]
        frames = []
        for line in lines:
            self._block.append(line)
            if not line.strip(b"\r\n"):
                frames.append(frame_of(self._block))
                self._block = []
        return frames

    def rest(self) -> list[Frame]:
        """What stands behind the last complete event, when the stream has ended."""
        return split(self.raw())

    def raw(self) -> bytes:
        """The bytes of the event that is not complete; it begins anew."""
        raw = b"".join([*self._block, *self._partial])
        self._block, self._partial = [], []
        return raw

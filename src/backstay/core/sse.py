"""Server-sent events from bytes, in whatever pieces they arrive. Knows nothing of JSON.

Only LF, CRLF and CR end a line (FACTS 5); comments, ids and retry fields are skipped.
"""

from typing import Final, NamedTuple

LONGEST_EVENT: Final = 64 * 1024 * 1024
"""Bytes. What is longer is given up, so that a broken server can't fill the memory."""


class ServerEvent(NamedTuple):
    """One event: the name of its `event:` line ("" without one) and its data, lines joined by LF."""

    name: bytes
    data: bytes


class EventDecoder:
    """An incremental decoder: `feed` what came, `finish` once at the end."""

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self._begun = False
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that are complete with these bytes."""
        if not data:
            return []
        text = self._normal(data)
        if b"\n" not in text:
            self._rest += text
            if len(self._rest) > LONGEST_EVENT:
                self._rest = b""
            return []
        lines = (self._rest + text).split(b"\n")
        self._rest = lines.pop()
        found: list[ServerEvent] = []
        for line in lines:
            if not line:
                if self._data:
                    found.append(self._take())
                self._name = b""
            else:
                self._line(line)
        return found

    def finish(self) -> list[ServerEvent]:
        """What is pending at the end of the body: some gateways leave the last blank line out.

        The data may be half an event; whoever decodes it will see.
        """
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        return [self._take()] if self._data else []

    def _normal(self, data: bytes) -> bytes:
        """The bytes with every line end as LF; a CR at the end of a piece may be half a CRLF."""
        if self._after_cr:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" not in data:
            return data
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _line(self, line: bytes) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._size += len(value)
            if self._size <= LONGEST_EVENT:
                self._data.append(value)
        elif field == b"event":
            self._name = value

    def _take(self) -> ServerEvent:
        event = ServerEvent(self._name, b"\n".join(self._data))
        self._data = []
        self._size = 0
        self._name = b""
        return event

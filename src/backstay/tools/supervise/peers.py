"""One client's connection: lines of JSON in, lines of JSON out, never blocking.

Owns the socket and its buffers; what the lines mean is the server's.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

LINE_BYTES = 16 << 20
BACKLOG_BYTES = 8 << 20
"""A client that lets more than this pile up is dropped."""


class Peer:
    """A connected client; `owner` is true for the agent, false for one that only looks."""

    def __init__(self, sock: socket.socket, *, owner: bool) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.owner = owner
        self.gone = False
        self._in = bytearray()
        self._out = bytearray()

    def receive(self) -> list[bytes]:
        """The whole lines that have come; sets `gone` at the end of the connection."""
        try:
            chunk = self.sock.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            chunk = b""
        self.gone = self.gone or not chunk
        self._in += chunk
        if b"\n" not in chunk:
            self.gone = self.gone or len(self._in) > LINE_BYTES
            return []
        *lines, rest = bytes(self._in).split(b"\n")
        self._in = bytearray(rest)
        return [line for line in lines if line.strip()]

    def send(self, message: dict[str, object]) -> None:
        """Queue `message` and write what the socket takes."""
        if not self.gone:
            self._out += json.dumps(message).encode() + b"\n"
            self.flush()

    def flush(self) -> None:
        """Write what the socket takes; sets `gone` when nobody is there or nobody reads."""
        try:
            while self._out:
                del self._out[: self.sock.send(self._out)]
        except BlockingIOError:
            self.gone = self.gone or len(self._out) > BACKLOG_BYTES
        except OSError:
            self.gone = True

    @property
    def waiting(self) -> bool:
        """Whether output waits for the socket to take it."""
        return bool(self._out) and not self.gone


def parse(line: bytes) -> dict[str, object] | None:
    """The request on a line, None if it is garbage."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None

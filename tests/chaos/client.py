"""A client on a bare socket that reports what arrived and how the connection ended."""

import json
import socket
import threading
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

REQUEST = {"model": "test", "input": "hello", "stream": True}


class Answer(msgspec.Struct):
    """What came back: `ending` is "complete", "fin" (in the middle) or "rst"."""

    status: int
    headers: dict[str, str]
    body: bytes
    ending: str
    chunks: list[bytes]
    partial: bytes = b""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events whose data is a JSON object."""
        return [event for event in map(parsed, blocks(self.body)) if event]

    @property
    def types(self) -> list[str]:
        """The types of the events."""
        return [event["type"] for event in self.events]

    @property
    def json(self) -> Any:
        """The body as one JSON document."""
        return json.loads(self.body)


class Client:
    """One connection to a server; `with Client(server.url) as client:`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.base = parts.path
        self.sock = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)
        self.buffer = b""
        self.ended = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()

    def ask(self, body: Any = None, *, method: str = "POST", path: str = "/responses") -> Answer:
        """Send a request and read its answer."""
        self.send(body, method=method, path=path)
        return self.answer()

    def send(self, body: Any = None, *, method: str = "POST", path: str = "/responses") -> None:
        """Send a request."""
        content = b""
        if method == "POST":
            value = REQUEST if body is None else body
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
        head = (
            f"{method} {self.base}{path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer sesame\r\n"
        )
        self.sock.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)

    def more(self) -> bool:
        """Receive; false when the connection has ended."""
        try:
            received = self.sock.recv(65536)
        except ConnectionResetError:
            self.ended = "rst"
            return False
        if not received:
            self.ended = "fin"
        self.buffer += received
        return bool(received)

    def answer(self) -> Answer:
        """Read an answer to its end."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return Answer(0, {}, b"", self.ended, [], self.buffer)
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        answer = Answer(int(first.split()[1]), headers, b"", "complete", [])
        if "transfer-encoding" in headers:
            self._read_chunks(answer)
        else:
            self._read_length(answer)
        return answer

    def _read_length(self, answer: Answer) -> None:
        size = int(answer.headers.get("content-length", 1 << 40))
        while len(self.buffer) < size:
            if not self.more():
                answer.ending = self.ended
                break
        answer.body, self.buffer = self.buffer[:size], self.buffer[size:]

    def _read_chunks(self, answer: Answer) -> None:
        while True:
            line, newline, rest = self.buffer.partition(b"\r\n")
            if newline and len(rest) >= int(line, 16) + 2:
                size = int(line, 16)
                self.buffer = rest[size + 2 :]
                if size == 0:
                    break
                answer.chunks.append(rest[:size])
            elif not self.more():
                answer.ending, answer.partial = self.ended, self.buffer
                break
        answer.body = b"".join(answer.chunks)


def fetch(url: str, body: Any = None) -> Answer:
    """The answer to one request on a connection of its own."""
    with Client(url) as client:
        return client.ask(body)


def blocks(body: bytes) -> list[bytes]:
    """The events of a stream as they stand."""
    return [block for block in body.split(b"\n\n") if block.strip()]


def parsed(block: bytes) -> dict[str, Any]:
    """The JSON object in an event's data; empty if there is none."""
    data = b"\n".join(x[5:].strip() for x in block.splitlines() if x.startswith(b"data:"))
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def poll(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, for at most ten seconds."""
    wait = threading.Event()
    for _ in range(1000):
        if condition():
            return
        wait.wait(0.01)
    raise AssertionError("it did not come true")

"""Raw servers on loopback: each connection is played by a function of the test, in a thread."""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
END: Final = b"0\r\n\r\n"


class Connection:
    """One accepted connection, with the requests that came on it."""

    def __init__(self, sock: socket.socket, server: "RawServer") -> None:
        self.sock = sock
        self.server = server
        self._rest = b""

    def request(self) -> bytes:
        """The next request's head (its body is read too), or b"" when the client has left."""
        while b"\r\n\r\n" not in self._rest:
            try:
                came = self.sock.recv(65536)
            except OSError:
                came = b""
            if not came:
                self.server.gone.set()
                return b""
            self._rest += came
        head, _, rest = self._rest.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(rest) < length:
            rest += self.sock.recv(65536)
        self._rest = rest[length:]
        self.server.requests.append(head)
        self.server.bodies.append(rest[:length])
        return head

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def answer(self, body: bytes, status: str = "200 OK", headers: str = "") -> None:
        """A whole answer with its length."""
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.send(head.encode() + body)

    def reset(self) -> None:
        """End the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def until_left(self) -> None:
        """Return when the client has closed its side."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass
        self.server.left.set()


Play = Callable[[Connection], None]


class RawServer:
    """Accepts connections on loopback and plays `play` on each; a context manager."""

    def __init__(self, play: Play, tls: ssl.SSLContext | None = None) -> None:
        self._play = play
        self._tls = tls
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.port = self._sock.getsockname()[1]
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.left = threading.Event()
        self.gone = threading.Event()

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}/v1/responses"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for sock in self._open:
            sock.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            self._play(Connection(sock, self))
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


@contextlib.contextmanager
def unanswered_port() -> Iterator[int]:
    """A port that accepts nothing: it is bound, but nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def pipe(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side ends."""

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=carry, args=(other, one), daemon=True)
    back.start()
    carry(one, other)
    back.join(10)


def forwarding(connection: Connection) -> None:
    """A small proxy: CONNECT, and forwarding of absolute URLs."""
    head = connection.request()
    method, target, _ = head.split(b"\r\n")[0].split(b" ")
    authority = target if method == b"CONNECT" else target.split(b"/")[2]
    host, _, port = authority.decode().partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as onward:
        if method == b"CONNECT":
            connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            onward.sendall(head + b"\r\n\r\n" + connection.server.bodies[-1])
        pipe(connection.sock, onward)


def wait_until(found: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what another thread does; fail when it doesn't."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


CERTIFICATES: Final = Path(__file__).parent / "certificates"


def tls() -> ssl.SSLContext:
    """A server's context with the certificate for 127.0.0.1 of our test authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    return context

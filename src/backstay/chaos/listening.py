"""Listening on loopback: the socket, a task for each connection, a thread around it for tests."""

import asyncio
import socket
import threading
from types import TracebackType
from typing import Any, Protocol, Self

from backstay.chaos.entry import Request
from backstay.chaos.script import ScriptError

JSON = dict[str, Any]
LOOPBACK = "127.0.0.1"


class Attends(Protocol):
    """Whoever answers connections."""

    async def attend(self, sock: socket.socket) -> None:
        """Answer the requests of one connection until it ends, and close it."""


def listen(port: int = 0) -> socket.socket:
    """A listening socket on loopback. Raises ScriptError if the port can't be had."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LOOPBACK, port))
        sock.listen(128)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ScriptError(f"cannot listen on {LOOPBACK}:{port}: {error.strerror}") from None
    return sock


async def serve(house: Attends, listener: socket.socket) -> None:
    """Accept connections until cancelled; then end them all."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    try:
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(house.attend(sock))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Background:
    """Serves in a background thread: `with ...:`; `url` is the base URL, ending in /v1."""

    def __init__(self, house: Attends, log: list[Request], port: int) -> None:
        self._house = house
        self._log = log
        self._port = port
        self._arrived = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    @property
    def log(self) -> list[Request]:
        """All requests in the order in which they came, those to other paths too."""
        return list(self._log)

    @property
    def requests(self) -> list[Request]:
        """The requests for responses (POST /v1/responses), in order."""
        return [r for r in self.log if r.method == "POST" and r.path.rstrip("/") == "/v1/responses"]

    @property
    def bodies(self) -> list[JSON]:
        """The parsed bodies of `requests`."""
        return [r.body for r in self.requests]

    def wait(self, count: int, seconds: float = 10.0) -> list[Request]:
        """Wait until so many requests for responses came; raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, seconds):
                raise TimeoutError(f"{len(self.requests)} of {count} requests after {seconds:g} s")
        return self.requests

    def on_request(self, request: Request) -> None:
        """A request came: wake who waits for it."""
        with self._arrived:
            self._arrived.notify_all()

    def start(self) -> None:
        """Listen and serve; `url` is set when this returns."""
        listener = listen(self._port)
        self.url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/v1"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop, listener), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End all connections and the thread."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop_serving)
            self._thread.join()
            self._loop = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        self._serving = loop.create_task(serve(self._house, listener))
        try:
            loop.run_until_complete(self._serving)
        except asyncio.CancelledError:
            pass
        finally:
            loop.close()

    def _stop_serving(self) -> None:
        self._serving.cancel()

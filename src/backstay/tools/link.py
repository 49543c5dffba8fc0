"""The connection to a session's supervisor: starting one, finding one, requests and replies.

Owns the socket and the supervisor's process as its parent. What requests mean is `commands`'.
"""

import asyncio
import os
import signal
import socket
import struct
import sys
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

import msgspec

from backstay.errors import BackstayError
from backstay.tools.supervise import layout, processes

_PROGRAM = os.path.dirname(os.path.abspath(layout.__file__))
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", layout.MARKER)
"""All of the environment that the supervisor gets: a command could read it."""

ANSWER_SECONDS: Final = 30.0
"""How long a reply is waited for. A supervisor does nothing that takes longer, unless stopped."""

_unreaped: set[int] = set()
_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class SupervisorGone(BackstayError):
    """The supervisor has died or left; what it ran is settled from its files."""


class SupervisorSilent(SupervisorGone):
    """The supervisor lives, as far as can be seen, and does not answer; what it runs may go on."""

    def __init__(self, pid: int, seconds: float) -> None:
        super().__init__(
            f"the command supervisor (pid {pid}) has not answered for {seconds:g} s: if it was "
            f"stopped, `kill -CONT {pid}` lets it go on, else `kill -9 {pid}` ends it"
        )


class Link(asyncio.Protocol):
    """One connection. Every pending reply fails with SupervisorGone when it ends."""

    heard: ClassVar[Callable[[str, dict[str, Any]], None] | None] = None
    """Told of every message of this process's connections, where somebody debugs them."""

    def __init__(
        self, on_event: Callable[[dict[str, Any]], None], patience: float = ANSWER_SECONDS
    ) -> None:
        loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._on_event = on_event
        self._patience = patience
        self._transport: asyncio.Transport | None = None
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._in = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._in += data
        if b"\n" not in data:
            return
        *lines, rest = bytes(self._in).split(b"\n")
        self._in = bytearray(rest)
        for line in lines:
            self._received(msgspec.json.decode(line))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.closed.set_result(None)
        pending = [self.hello, *self._pending.values()]
        self._pending.clear()
        for future in pending:
            if not future.done():
                future.set_exception(SupervisorGone("the command supervisor is gone"))
                future.exception()  # nobody may be waiting for it any more

    async def request(self, *, within: float | None = None, **message: Any) -> dict[str, Any]:
        """Send a request; its reply. Raises SupervisorGone, and ValueError if it is refused.

        `within`: seconds; SupervisorSilent after that, and a later reply is dropped.
        """
        if self._transport is None:
            raise SupervisorGone("the command supervisor is gone")
        self._number += 1
        number = self._number
        reply = asyncio.get_running_loop().create_future()
        self._pending[number] = reply
        if Link.heard is not None:
            Link.heard("is asked", {"id": number, **message})
        self._transport.write(msgspec.json.encode({"id": number, **message}) + b"\n")
        seconds = self._patience if within is None else within
        try:
            async with asyncio.timeout(seconds):
                answer: dict[str, Any] = await reply
        except TimeoutError:
            raise SupervisorSilent(self.pid, seconds) from None
        finally:
            self._pending.pop(number, None)
        if not answer.get("ok"):
            if answer.get("error") == layout.ENDING:
                raise SupervisorGone("the command supervisor is ending")
            raise ValueError(f"the command supervisor refused: {answer.get('error')}")
        return answer

    @property
    def pid(self) -> int:
        """The supervisor's pid, 0 before its greeting."""
        return int(self.hello.result().get("pid", 0)) if self._greeted else 0

    @property
    def _greeted(self) -> bool:
        done = self.hello.done() and not self.hello.cancelled()
        return done and self.hello.exception() is None

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _received(self, message: dict[str, Any]) -> None:
        if Link.heard is not None:
            Link.heard("says", message)
        if "event" in message:
            if message["event"] in ("hello", "taken") and not self.hello.done():
                self.hello.set_result(message)
            else:
                self._on_event(message)
            return
        reply = self._pending.get(message["id"])
        if reply is not None and not reply.done():
            reply.set_result(message)


def connect(folder: str) -> socket.socket | None:
    """A connection to the supervisor of the session in `folder`, None if there is none.

    The path of a Unix socket is limited to 108 bytes; the folder's descriptor stands in for it.
    """
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        base = f"/proc/self/fd/{place}" if sys.platform == "linux" else folder
        sock.connect(os.path.join(base, layout.SOCKET))
    except OSError:
        sock.close()
        return None
    finally:
        os.close(place)
    _sockets.add(sock)
    return sock


def listener(sock: socket.socket) -> int:
    """The pid of the supervisor that `connect` led to; 0 where that can't be told (macOS)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0
    size = struct.calcsize("3i")
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid = int(struct.unpack("3i", found)[0])
    return 0 if pid == os.getpid() else pid


def spawn(folder: str, grace: float) -> tuple[int, socket.socket]:
    """Start a supervisor without waiting for it: its pid and a connection to it.

    It gets no descriptor but its end of the connection and its log. Raises SupervisorGone if it
    can't be started.
    """
    reap()
    near, far = socket.socketpair()
    near.setblocking(False)
    _sockets.add(near)
    log = os.path.join(folder, layout.LOG)
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    actions = [
        (os.POSIX_SPAWN_DUP2, far.fileno(), 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, log, log_flags, 0o600),
    ]
    argv = [
        sys.executable,
        "-I",
        "-S",
        "-X",
        "utf8",
        _PROGRAM,
        os.path.abspath(folder),
        f"{grace:g}",
    ]
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        pid = _posix_spawn(argv, env, actions)
    except OSError as error:
        near.close()
        reason = error.strerror or str(error)
        raise SupervisorGone(f"the command supervisor can't be started: {reason}") from error
    finally:
        far.close()
    _unreaped.add(pid)
    return pid, near


def reap() -> None:
    """Take the exit status of supervisors of ours that have ended."""
    for pid in list(_unreaped):
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                _unreaped.discard(pid)
        except ChildProcessError:
            _unreaped.discard(pid)


async def reap_one(pid: int | None, seconds: float) -> None:
    """Wait for the supervisor's exit, at most `seconds`; of one that was taken over, too."""
    until = asyncio.get_running_loop().time() + seconds
    reap()
    while pid and asyncio.get_running_loop().time() < until:
        if pid not in _unreaped and processes.look(pid) is None:
            return
        await asyncio.sleep(0.005)
        reap()


def _let_go_in_child() -> None:
    """A forked child must not look like the agent: it would keep the dead-man line from firing."""
    for sock in _sockets:
        if sock.fileno() >= 0:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, sock.fileno(), inheritable=False)
            os.close(null)


os.register_at_fork(after_in_child=_let_go_in_child)


def _posix_spawn(argv: list[str], env: dict[str, str], actions: list[Any]) -> int:
    ignored = [signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE]
    try:
        return os.posix_spawn(
            argv[0], argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=ignored
        )
    except NotImplementedError:  # macOS before 10.15, untested: the program does it itself
        return os.posix_spawn(
            argv[0], argv, env, file_actions=actions, setsigmask=(), setsigdef=ignored
        )

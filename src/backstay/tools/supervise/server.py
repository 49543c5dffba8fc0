"""The supervisor's loop: one session, one socket, one thread.

Owns the lock, the socket, the clients, the dead-man line and the supervisor's own end. What
effects are and how they run is `running`'s.
"""

from __future__ import annotations

import binascii
import fcntl
import os
import selectors
import signal
import socket

from . import layout, processes
from .child import SPARE, Order, few_left
from .peers import Peer, parse
from .running import Running, log
from .timers import Timer, Timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    Message = dict[str, object]

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
STDIN_SECONDS = 5.0


class Server:
    """Serves the session whose folder is the working directory."""

    def __init__(self, grace: float, *, complete: bool) -> None:
        self.done = False
        self._grace = grace
        self._selector = selectors.DefaultSelector()
        self._timers = Timers()
        self._running = Running(self._selector, self._timers, self._say, complete=complete)
        self._peers: list[Peer] = []
        self._dead_man: Timer | None = None
        self._ending = False
        self._ended: list[str] = []
        self._enders: list[tuple[Peer, object]] = []
        self._listener = _listen()
        self._wake = _wake_on_signals()
        self._listen_again()
        self._selector.register(self._wake, READ, self._signalled)

    def adopt(self, sock: socket.socket) -> None:
        """Serve the client that is connected by `sock`, the one that started this program."""
        self._add(Peer(sock, owner=True))

    def run(self) -> None:
        """Serve until the session ends."""
        self._watch_owners()
        while not self.done:
            for key, mask in self._selector.select(self._timers.wait()):
                now = self._selector.get_map().get(key.fd)
                if now is not None and now.data == key.data:  # not closed by one before it
                    key.data(mask)
            self._timers.run_due()
        self._running.close()
        for peer in self._peers:
            peer.sock.settimeout(1.0)
            peer.flush()
            peer.sock.close()

    def end(self, why: str) -> None:
        """End all commands, record them, then leave; clients that asked are answered last."""
        if not self._ending:
            self._ending = True
            self._stop_listening()
            self._ended = self._running.stop_all(why, self._finish)

    def _finish(self) -> None:
        for peer, number in self._enders:
            ended = [{"effect": effect, **self._running.state(effect)} for effect in self._ended]
            peer.send({"id": number, "ok": True, "ended": ended})
        self.done = True

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            if listener in self._selector.get_map():
                self._selector.unregister(listener)
            listener.close()
            if os.path.lexists(layout.SOCKET):
                os.unlink(layout.SOCKET)

    def _accept(self, _mask: int) -> None:
        if self._listener is None:
            return
        try:
            sock, _address = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # out of descriptors: look again when some may be free
            log(f"a client could not be accepted: {error}")
            self._selector.unregister(self._listener)
            self._timers.after(1.0, self._listen_again)
            return
        if few_left(sock.fileno() + SPARE // 2):
            log("a client was turned away: out of descriptors")
            sock.close()
            return
        self._add(Peer(sock, owner=False))

    def _listen_again(self) -> None:
        if self._listener is not None:
            self._selector.register(self._listener, READ, self._accept)

    def _add(self, peer: Peer) -> None:
        self._peers.append(peer)
        self._selector.register(peer.sock, READ, lambda mask: self._serve(peer, mask))
        self._send(
            peer,
            {
                "event": "hello",
                "protocol": layout.PROTOCOL,
                "pid": os.getpid(),
                "start": self._running.start,
                "boot": self._running.boot,
            },
        )

    def _serve(self, peer: Peer, mask: int) -> None:
        if mask & WRITE:
            peer.flush()
        if mask & READ:
            for line in peer.receive():
                message = parse(line)
                try:
                    self._answer(peer, message)
                except _Malformed as error:
                    number = message.get("id") if message else None
                    self._send(peer, {"id": number, "ok": False, "error": str(error)})
        self._settle(peer)

    def _send(self, peer: Peer, message: Message) -> None:
        peer.send(message)
        self._settle(peer)

    def _settle(self, peer: Peer) -> None:
        """Bring what is watched in line with what the peer waits for; let it go if it is gone."""
        if peer not in self._peers:
            return
        if peer.gone:
            self._peers.remove(peer)
            self._selector.unregister(peer.sock)
            peer.sock.close()
            self._watch_owners()
            return
        events = READ | WRITE if peer.waiting else READ
        key = self._selector.get_key(peer.sock)
        if key.events != events:
            self._selector.modify(peer.sock, events, key.data)

    def _say(self, message: Message) -> None:
        for peer in list(self._peers):
            if peer.owner:
                self._send(peer, message)
        if message.get("event") == "exited":
            self._timers.after(0, self._watch_owners)

    def _watch_owners(self) -> None:
        """Without an owner: leave if nothing is alive, else arm the dead-man line."""
        owned = any(peer.owner for peer in self._peers)
        if owned or self._ending:
            if self._dead_man is not None:
                self._dead_man.cancel()
                self._dead_man = None
        elif not self._running.anything_alive():
            self.end("dead-man")
        elif self._dead_man is None:
            log(f"no client any more: commands are ended in {self._grace:g} s")
            self._dead_man = self._timers.after(self._grace, lambda: self.end("dead-man"))

    def _signalled(self, _mask: int) -> None:
        numbers = self._wake.recv(4096)
        self._running.reap()
        if signal.SIGTERM in numbers:
            self.end("session-end")
        if self._dead_man is not None:
            self._watch_owners()

    def _answer(self, peer: Peer, message: Message | None) -> None:
        if message is None:
            raise _Malformed("the line is not a JSON object")
        number = message.get("id")
        act = _text(message, "do")
        if act == "list":
            self._reply(peer, number, {"commands": self._running.listing()})
        elif act == "attach":
            peer.owner = True
            self._watch_owners()
            self._reply(peer, number, {})
        elif act == "end-one":
            found = self._running.stop(_effect(message, "effect"), "user")
            self._reply(peer, number, {"found": found})
        elif not peer.owner:
            raise _Malformed("attach first")
        elif act == "end":
            self._enders.append((peer, number))
            self.end("session-end")
        elif self._ending:
            raise _Malformed(layout.ENDING)
        else:
            self._act(peer, number, act, message)

    def _act(self, peer: Peer, number: object, act: str, message: Message) -> None:
        effect = _effect(message, "effect")
        if act == "start":
            order, limit = _order(message), _number(message, "limit")
            self._reply(peer, number, self._running.begin(effect, order, limit))
        elif act == "state":
            self._reply(peer, number, self._running.state(effect))
        elif act == "stop":
            self._reply(peer, number, {"found": self._running.stop(effect, "stop")})
        elif act == "stdin":
            limit = _number(message, "limit")
            self._running.write(
                effect,
                _effect(message, "target"),
                _bytes(message, "text"),
                STDIN_SECONDS if limit is None else limit,
                lambda reply: self._reply(peer, number, reply),
            )
        else:
            raise _Malformed(f"unknown request: {act[:40]}")

    def _reply(self, peer: Peer, number: object, reply: Message) -> None:
        self._send(peer, {"id": number, "ok": True, **reply})


class _Malformed(Exception):
    """A request that can't be understood or is out of place."""


def _text(message: Message, key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise _Malformed(f"{key} is not a string")
    return value


def _effect(message: Message, key: str) -> str:
    value = _text(message, key)
    if not layout.is_effect_id(value):
        raise _Malformed(f"{key} is no effect id: 1 to 128 of A-Z a-z 0-9 . _ -")
    return value


def _number(message: Message, key: str) -> float | None:
    value = message.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise _Malformed(f"{key} is not a number of seconds")
    return float(value)


def _bytes(message: Message, key: str) -> bytes:
    try:
        return binascii.a2b_base64(_text(message, key), strict_mode=True)
    except ValueError:
        raise _Malformed(f"{key} is not base64") from None


def _order(message: Message) -> Order:
    """The command; its strings are bytes written as latin-1, so that none is lost in decoding."""
    argv, env, cwd = message.get("argv"), message.get("env"), _text(message, "cwd")
    try:
        if isinstance(argv, list) and argv and isinstance(env, dict):
            words = [word.encode("latin-1") for word in argv]
            names = {k.encode("latin-1"): v.encode("latin-1") for k, v in env.items()}
            if not any(b"\0" in word for word in (*words, *names, *names.values())):
                place = cwd.encode("latin-1")
                return Order(words, place, names, message.get("tty") is True)
    except (AttributeError, ValueError):
        pass
    raise _Malformed("argv, env and cwd are not latin-1 texts without NUL")


def _listen() -> socket.socket | None:
    """The socket for later clients; without one only the client that started this is served."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        if os.path.lexists(layout.SOCKET):
            os.unlink(layout.SOCKET)  # a dead supervisor's: the lock is ours
        sock.bind(layout.SOCKET)
    except OSError as error:
        log(f"no socket can be made here, nobody will be able to attach: {error}")
        sock.close()
        return None
    finally:
        os.umask(before)
    sock.setblocking(False)
    sock.listen(16)
    return sock


def _wake_on_signals() -> socket.socket:
    """Ignore INT, HUP and PIPE; have CHLD and TERM wake the loop through the socket returned."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    signal.set_wakeup_fd(far.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, _nothing)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return near


def _nothing(_number: int, _frame: object) -> None:
    """The wake-up descriptor has said it already."""


def _lock() -> bool:
    fd = os.open(layout.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    return True  # held by the open descriptor until this process is gone


def _take_stdin() -> socket.socket | None:
    """The first client, if stdin is its socket; descriptor 0 becomes /dev/null."""
    try:
        sock = socket.socket(fileno=os.dup(0))
    except OSError:
        sock = None
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return sock


def _begin(folder: str) -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    try:
        os.setsid()
    except OSError:
        pass  # started in a session of its own
    os.closerange(3, 1 << 16)
    os.chdir(folder)


def main(arguments: list[str]) -> int:
    """`FOLDER [GRACE]`: supervise the session in FOLDER; 0, or 75 if another one does already."""
    _begin(arguments[0])
    grace = float(arguments[1]) if len(arguments) > 1 else 60.0
    sock = _take_stdin()
    if not _lock():
        if sock is not None:
            sock.sendall(b'{"event":"taken"}\n')
        return os.EX_TEMPFAIL
    if os.fstat(2).st_size > 1 << 18:
        os.ftruncate(2, 0)
    os.makedirs(layout.EFFECTS, 0o700, exist_ok=True)
    complete = processes.become_subreaper()
    if not complete:
        log("orphans can't be followed on this platform: process groups only")
    server = Server(grace, complete=complete)
    if sock is not None:
        server.adopt(sock)
    server.run()
    return 0

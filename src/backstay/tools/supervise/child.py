"""Fork, wait at a gate, exec: how one command comes to life.

Owns what happens between fork and exec. The claim before it and the records around it are the
caller's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import struct
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_SIGNALS = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
_ERROR_BYTES = 512
"""Fits the exit's room even if every byte of it is escaped."""


ROWS, COLUMNS = 40, 120
"""The size of every terminal."""


class Order:
    """What is to be run: argv and environment as bytes, `tty` asks for a terminal."""

    __slots__ = ("argv", "cwd", "env", "tty")

    def __init__(self, argv: list[bytes], cwd: bytes, env: dict[bytes, bytes], tty: bool) -> None:  # noqa: FBT001
        self.argv = argv
        self.cwd = cwd
        self.env = env
        self.tty = tty


SPARE = 32
"""Descriptors that commands leave to the supervisor, for records, clients and /proc."""


def few_left(fd: int) -> bool:
    """Whether `fd`, being the lowest that was free, shows that only the spare ones are left."""
    return fd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE


class Pipes:
    """The ends of one command's pipes, or of its terminal; all are close-on-exec.

    A terminal's far end stays open here until the command has exited, so that one that closes and
    reopens its terminal keeps it. Raises OSError when there are no descriptors or no terminals.
    """

    def __init__(self, *, tty: bool) -> None:
        self._open: list[int] = []
        self.tty = tty
        self.input = -1
        try:
            self.errors, self.errors_far = self._pipe()
            self.gate_far, self.gate = self._pipe()
            if tty:
                self.output, self.output_far = self._terminal()
                self.input_far = self.output_far
                self.input = os.dup(self.output)  # watched apart from the reading end
                self._open.append(self.input)
            else:
                self.output, self.output_far = self._pipe()
                self.input_far = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                self._open.append(self.input_far)
            if few_left(max(self._open)):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        except OSError:
            self.close()
            raise

    def close_far(self) -> None:
        """Close the child's ends, in the parent; not those of a terminal, see `hang_up`."""
        for fd in (self.errors_far, self.gate_far):
            self.close_one(fd)
        if not self.tty:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the far ends of input and output: the end comes when nobody else holds them."""
        self.close_one(self.output_far)
        self.close_one(self.input_far)

    def close_one(self, fd: int) -> None:
        """Close `fd` if it is still open."""
        if fd in self._open:
            self._open.remove(fd)
            os.close(fd)

    def close(self) -> None:
        """Close all that is still open."""
        for fd in list(self._open):
            self.close_one(fd)

    def _terminal(self) -> tuple[int, int]:
        try:
            ends = os.openpty()
        except OSError as error:
            reason = f"there is no terminal for it: {error.strerror or error}"
            raise OSError(error.errno, reason) from error
        self._open += ends
        fcntl.ioctl(ends[1], termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
        return ends

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._open += ends
        return ends


def fork(order: Order, pipes: Pipes) -> int:
    """Fork a child that waits at the gate; its pid.

    It leads a process group of its own; with a terminal also a session, whose terminal that is.

    It runs once `b"g"` is written to `pipes.gate`, and exits without a trace if that is closed.
    """
    before = signal.pthread_sigmask(signal.SIG_SETMASK, _SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _child(order, pipes)
        if not order.tty:  # a group's leader could not begin a session
            try:
                os.setpgid(pid, pid)
            except OSError:
                pass  # the child was faster, or is gone
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def exec_error(pipes: Pipes) -> tuple[int, str] | None:
    """Exit code and text of an exec that failed, None if it went well."""
    os.set_blocking(pipes.errors, False)
    try:
        text = os.read(pipes.errors, _ERROR_BYTES)
    except BlockingIOError:  # a vfork-like child still holds it: it was exec'ed
        return None
    if not text:
        return None
    number, _, what = text.partition(b" ")
    reason = f"{os.strerror(int(number))}: {what.decode(errors='replace')}"
    return (127 if int(number) == errno.ENOENT else 126), reason


def _child(order: Order, pipes: Pipes) -> NoReturn:
    about: bytes = b""
    try:
        if order.tty:
            os.setsid()
            fcntl.ioctl(pipes.input_far, termios.TIOCSCTTY, 0)
        else:
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(pipes.input_far, 0)
        os.dup2(pipes.output_far, 1)
        os.dup2(pipes.output_far, 2)
        _close_all_but(pipes.gate_far, pipes.errors_far)
        if os.read(pipes.gate_far, 1) == b"g":
            about = order.cwd
            os.chdir(about)
            about = order.argv[0]
            _exec(order)
    except (OSError, ValueError) as error:
        code = getattr(error, "errno", None) or errno.EINVAL
        os.write(pipes.errors_far, b"%d %s" % (code, about[: _ERROR_BYTES - 32]))
    finally:
        os._exit(127)


def _exec(order: Order) -> None:
    name = order.argv[0]
    folders = [b""] if b"/" in name else order.env.get(b"PATH", b"/usr/bin:/bin").split(b":")
    last = OSError(errno.ENOENT, "not found")
    for folder in folders:
        try:
            os.execve(os.path.join(folder, name), order.argv, order.env)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                last = error
            if len(folders) == 1:
                last = error
    raise last


def _close_all_but(*keep: int) -> None:
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 16)  # descriptors beyond are close-on-exec, as these are

"""Fork, wait at a gate, exec: how one command comes to life.

Owns what happens between fork and exec. The claim before it and the records around it are the
caller's.
"""

from __future__ import annotations

import errno
import os
import resource
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_SIGNALS = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
_ERROR_BYTES = 512
"""Fits the exit's room even if every byte of it is escaped."""


class Order:
    """What is to be run: argv and environment as bytes, `stdin` asks for an open pipe."""

    __slots__ = ("argv", "cwd", "env", "stdin")

    def __init__(self, argv: list[bytes], cwd: bytes, env: dict[bytes, bytes], stdin: bool) -> None:  # noqa: FBT001
        self.argv = argv
        self.cwd = cwd
        self.env = env
        self.stdin = stdin


SPARE = 32
"""Descriptors that commands leave to the supervisor, for records, clients and /proc."""


def few_left(fd: int) -> bool:
    """Whether `fd`, being the lowest that was free, shows that only the spare ones are left."""
    return fd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE


class Pipes:
    """The ends of one command's pipes; all are close-on-exec. Raises OSError when there are none."""

    def __init__(self, *, stdin: bool) -> None:
        self._open: list[int] = []
        try:
            self.output, self.output_far = self._pipe()
            self.errors, self.errors_far = self._pipe()
            self.gate_far, self.gate = self._pipe()
            if stdin:
                self.input_far, self.input = self._pipe()
            else:
                self.input_far, self.input = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), -1
                self._open.append(self.input_far)
            if few_left(max(self._open)):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        except OSError:
            self.close()
            raise

    def close_far(self) -> None:
        """Close the child's ends, in the parent."""
        for fd in (self.output_far, self.errors_far, self.gate_far, self.input_far):
            self.close_one(fd)

    def close_one(self, fd: int) -> None:
        """Close `fd` if it is still open."""
        if fd in self._open:
            self._open.remove(fd)
            os.close(fd)

    def close(self) -> None:
        """Close all that is still open."""
        for fd in list(self._open):
            self.close_one(fd)

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._open += ends
        return ends


def fork(order: Order, pipes: Pipes) -> int:
    """Fork a child that leads its own process group and waits at the gate; its pid.

    It runs once `b"g"` is written to `pipes.gate`, and exits without a trace if that is closed.
    """
    before = signal.pthread_sigmask(signal.SIG_SETMASK, _SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _child(order, pipes)
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

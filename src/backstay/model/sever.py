"""Ends the connection of a request that nobody waits for any more.

The HTTP library only forgets a request that is given up before its answer began: the request runs
on, and a model with it. So its socket is found by a mark and shut down. Linux only; elsewhere such
a request ends with its answer's head, or at the client's own read deadline.
"""

import itertools
import os
import socket
from collections.abc import Iterator
from typing import Final

_FIRST: Final = 30_001
_MARKS: Final = itertools.cycle(range(_FIRST, _FIRST + 20_000))


def mark() -> int:
    """A value for TCP_USER_TIMEOUT (milliseconds) that no other client of this process has."""
    return next(_MARKS)


def sever(marked: int) -> None:
    """Shut down this process's sockets that bear the mark."""
    for descriptor in _descriptors():
        try:
            copy = os.dup(descriptor)
        except OSError:
            continue
        try:
            # The copy keeps the socket, whatever becomes of the descriptor meanwhile.
            with socket.socket(fileno=copy) as found:
                if found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == marked:
                    found.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


def _descriptors() -> Iterator[int]:
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return
    for name in names:
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                yield int(name)
        except OSError:
            continue

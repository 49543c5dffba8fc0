"""The prompt: as an argument, on stdin, or both."""

import os
import select
import sys

from backstay.errors import UsageError
from backstay.runtime.skills import BESIDE

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_PATIENCE = 1.0
"""Seconds of silence on stdin before a person is told what is being waited for."""


def read_prompt(argument: str | None, *, optional: bool) -> str:
    """The prompt's text; "" only where it is `optional` and there is none.

    Without an argument, or with "-", it is what stands on stdin; beside an argument what stands
    there is appended as a `<stdin>` block. A terminal is read only for "-". Raises `UsageError`.
    """
    terminal = os.isatty(0)
    if argument is None or argument == "-":
        if terminal and argument is None:
            if optional:
                return ""
            raise UsageError("no prompt: give one as an argument, or on stdin")
        text = _stdin("the prompt")
        if not text.strip() and not (optional and argument is None):
            raise UsageError("the prompt on stdin is empty")
        return text if text.strip() else ""
    if not argument.strip():
        raise UsageError("the prompt is empty: say what is to be done")
    beside = "" if terminal else _stdin("more input")
    if not beside.strip():
        return argument
    return f"{argument}{BESIDE}{beside.rstrip()}\n</stdin>"


def _stdin(what: str) -> str:
    chunks = []
    told = False
    try:
        while True:
            if not told and not select.select([0], [], [], _PATIENCE)[0]:
                print(f"reading {what} from stdin until it ends...", file=sys.stderr, flush=True)
                told = True
            chunk = os.read(0, 1 << 16)
            if not chunk:
                break
            chunks.append(chunk)
    except OSError as error:
        raise UsageError(f"stdin can't be read: {error.strerror}") from None
    raw = b"".join(chunks)
    if b"\0" in raw and not raw.startswith(_UTF16):
        raise UsageError(f"{what} on stdin is no text: it holds NUL bytes")
    return _decoded(raw)


def _decoded(raw: bytes) -> str:
    if raw.startswith(_UTF16):
        return raw.decode("utf-16", "replace")
    return raw.decode("utf-8-sig", "replace")

"""How a command's result reads, for the model and for people: bounded, decoded, and honest.

Shared by `exec_command` and `write_stdin`. Shapes follow Codex 0.169.0, which models are trained on.
"""

import os
import signal
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from backstay.core.events import Result
from backstay.core.record import SpoolRange
from backstay.tools import effects
from backstay.tools.commands import Commands
from backstay.tools.effects import Exit, Piece, Spooled
from backstay.tools.whole import Keep, Whole, whole

DEFAULT_YIELD: Final = 10_000
SHORTEST_YIELD: Final = 250
LONGEST_YIELD: Final = 30_000
WRITE_YIELD: Final = 250
"""After a write: what answers a keystroke comes at once."""
LONGEST_POLL: Final = 300_000
"""Milliseconds (FACTS: tools that models are trained on)."""
DEFAULT_TOKENS: Final = 10_000
MOST_TOKENS: Final = 50_000
BYTES_PER_TOKEN: Final = 4
"""A rough measure, good enough for a bound."""

QUIET: Final = {
    "NO_COLOR": "1",
    "TERM": "dumb",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "GH_PAGER": "cat",
}
"""What makes programs print for a reader that is no terminal, and for one that has no pager."""
_TERMINAL: Final = {"TERM": "xterm-256color"}
"""What a program may expect of a terminal of ours; nobody answers what it asks it."""
_OF_THE_USERS: Final = ("LINES", "COLUMNS")
"""The size of the terminal that the agent runs in, where a shell exports it."""

_NO_TERMINAL: Final = (
    "not a terminal",
    "not to a terminal",
    "not a tty",
    "not a TTY",
    "failed tty get",
    "EOF when reading a line",
)
"""How programs say that they lack one: tmux, vim, git, docker, top, Python's `input`."""
_NEAR: Final = 500
"""Characters from the beginning or the end of an output in which a program says what it lacks."""

ENDED_BY: Final = {
    "itself": "",
    "stop": " (it was stopped)",
    "deadline": " (its time limit passed)",
    "dead-man": " (it was ended because the agent that ran it had died)",
    "session-end": " (it was ended with the session)",
    "user": " (the user ended it)",
}


def environment(inherited: Mapping[str, str], hidden: frozenset[str]) -> dict[str, str]:
    """What a command inherits: everything but the provider's keys, and quiet output."""
    kept = {name: value for name, value in inherited.items() if name not in hidden}
    return kept | QUIET


def with_terminal(environ: Mapping[str, str]) -> dict[str, str]:
    """The same for a command that has a terminal of its own, whose size it can ask for."""
    kept = {name: value for name, value in environ.items() if name not in _OF_THE_USERS}
    return kept | _TERMINAL


def milliseconds(value: Any, default: int = DEFAULT_YIELD, longest: int = LONGEST_YIELD) -> float:
    """A model's `yield_time_ms` as seconds, within its bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        value = default
    return float(min(max(value, SHORTEST_YIELD), longest)) / 1000


def tokens(value: Any) -> int:
    """A model's `max_output_tokens`, within its bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1:
        return DEFAULT_TOKENS
    return min(int(value), MOST_TOKENS)


def shell_of(environ: Mapping[str, str], wanted: Any = None) -> str:
    """The shell to use: the model's wish, else the user's if it is a POSIX one, else sh."""
    for shell in (wanted, environ.get("SHELL")):
        name = os.path.basename(shell) if isinstance(shell, str) else ""
        if name in ("bash", "zsh", "sh", "dash", "ksh", "ash"):
            return str(shell)
    return "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


class Excerpt(msgspec.Struct, frozen=True):
    """What is shown of an output: its text, its size in bytes, and where the whole is, if not here."""

    text: str
    size: int
    whole: Whole


def excerpt(spooled: Spooled, most: int, *, tty: bool = False, keep: Keep | None = None) -> Excerpt:
    """Head and tail of an output within `most` bytes; what lies between them is counted.

    With `keep` the whole of what was cut here is kept; blocks then. `tty`: it was written to a
    terminal, and is shown as text.
    """
    data = _joined(spooled)
    if tty:
        from backstay.tools.screen import plain  # late: it needs `re`

        data = plain(data).encode()
    size = max(len(data), 0 if tty else spooled.end - spooled.begin)
    if len(data) <= most:
        return Excerpt(data.decode("utf-8", "replace"), size, Whole())
    head, tail = _ends(data, max(most // 2, 1))
    between = f"\n… {size - len(head) - len(tail)} bytes left out …\n"
    text = head.decode("utf-8", "replace") + between + tail.decode("utf-8", "replace")
    return Excerpt(text, size, whole(data, keep, spooled.omitted))


def _ends(data: bytes, most: int) -> tuple[bytes, bytes]:
    """The first and the last `most` bytes, without characters that are cut in two."""
    head, tail = data[:most], data[-most:]
    torn = _torn(head)
    inside = next((at for at, byte in enumerate(tail[:3]) if byte & 0xC0 != 0x80), 0)
    return head[:-torn] if torn else head, tail[inside:]


def _joined(spooled: Spooled) -> bytes:
    """What is kept, each gap in it marked by a line."""
    parts, end = [], spooled.begin
    for offset, data in [*((one.offset, one.data) for one in spooled.pieces), (spooled.end, b"")]:
        if offset > end:
            parts.append(f"\n… {offset - end} bytes were not kept …\n".encode())
        parts.append(data)
        end = offset + len(data)
    return b"".join(parts)


def without_torn_end(spooled: Spooled, *, tty: bool = False) -> Spooled:
    """Without the first bytes of a character or a control sequence whose last are still to come."""
    if not spooled.pieces:
        return spooled
    *before, last = spooled.pieces
    torn = _torn(last.data)
    if tty:
        from backstay.tools.screen import unfinished

        torn = torn or unfinished(last.data)
    if not torn or last.offset + len(last.data) != spooled.end:
        return spooled
    kept = [Piece(last.offset, last.data[:-torn])] if len(last.data) > torn else []
    return Spooled(spooled.begin, spooled.end - torn, (*before, *kept))


def _torn(data: bytes) -> int:
    for back, byte in enumerate(reversed(data[-3:]), 1):
        if byte & 0xC0 != 0x80:  # the first byte of a character; it says how many there are
            length = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4
            return back if byte >= 0xC0 and length > back else 0
    return 0


def outcome_line(found: Exit | None, session: int) -> str:
    """One line: how the command ended, or the number under which it goes on."""
    if found is None:
        return f"Process running with session ID {session}"
    if found.error is not None:
        return f"The command could not be run: {found.error}"
    if found.signal is not None:
        return f"Process ended by {_signal(found.signal)}{ENDED_BY[found.ended_by]}"
    return f"Process exited with code {found.code}{ENDED_BY[found.ended_by]}"


def result(
    commands: Commands,
    effect: str,
    found: Exit | None,
    *,
    session: int,
    seconds: float,
    begin: int,
    most: int,
    note: str = "",
    keep: Keep | None = None,
) -> Result:
    """The result of waiting for a command: what it printed from `begin` on, and how it stands.

    Blocks: what is cut is kept with `keep`.
    """
    tty = effects.has_terminal(commands.folder_of(effect))
    end = found.total if found is not None else None
    spooled = commands.read(effect, begin, end)
    if found is None:
        spooled = without_torn_end(spooled, tty=tty)
    shown = excerpt(spooled, most * BYTES_PER_TOKEN, tty=tty, keep=keep)
    lines = [f"Wall time: {seconds:.1f} seconds", outcome_line(found, session)]
    if shown.size > most * BYTES_PER_TOKEN:
        lines.append(f"Original token count: {shown.size // BYTES_PER_TOKEN}")
    if found is not None and found.spool_error:
        lines.append(f"Some of its output was lost: {found.spool_error}")
    if not tty and exit_code(found) != 0 and lacks_terminal(shown.text):
        lines.append("It seems to need a terminal: tty=true gives it one.")
    lines += [line for line in (note, shown.whole.line) if line]
    return Result(
        content="\n".join([*lines, "Output:", shown.text]),
        status=_status(found),
        spool=SpoolRange(effect, spooled.begin, spooled.end),
        show={"exit_code": exit_code(found)} if found is not None else {"session_id": session},
        whole=shown.whole.digests,
    )


def lacks_terminal(text: str) -> bool:
    """Whether a command says at the beginning or at the end of its output that it has none."""
    return any(sign in part for part in (text[:_NEAR], text[-_NEAR:]) for sign in _NO_TERMINAL)


def exit_code(found: Exit | None) -> int | None:
    """The code as a shell would say it: 128 + n for a signal; None while it runs."""
    if found is None:
        return None
    if found.code is not None:
        return found.code
    return 128 + found.signal if found.signal is not None else 127


def _status(found: Exit | None) -> Any:
    if found is None:
        return "yielded"
    return {"stop": "interrupted", "deadline": "deadline"}.get(found.ended_by, "done")


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"

"""`sessions fork`: makes a new session behind a turn of another one, and runs nothing."""

from backstay.errors import UsageError
from backstay.runtime.forking import make_fork


def fork(home: str, name: str, turn: str) -> int:
    """Make it and print its id. `turn` is as it was given. Raises `BackstayError`."""
    print(make_fork(home, name, turn_of(turn)).id)
    return 0


def turn_of(text: str) -> int | None:
    """The number of a turn as it was given; None for none. Raises `UsageError`."""
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise UsageError(f"--turn {text}: it takes a number, 1 for the first turn")
    return int(text)

"""Homes with sessions that tests make up, on the real disk."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backstay.core.items import message
from backstay.core.record import (
    Attempt,
    AttemptEnd,
    Call,
    ItemRecord,
    Known,
    Output,
    Prompt,
    Session,
    Start,
    TurnEnd,
)
from backstay.journal import session_folder, uuid7
from tests.journal.sample import BASIS, lines

FIRST = 1_760_000_000.0


def put(home: Path, records: Sequence[Known], seed: int = 0, made: float = FIRST) -> Path:
    """A session that holds these records; its folder. Later seeds were active later."""
    session = uuid7(made + seed, bytes([seed] * 10))
    folder = Path(session_folder(str(home), session))
    folder.mkdir(parents=True)
    journal = folder / "journal.jsonl"
    journal.write_bytes(b"".join(lines(records)))
    journal.chmod(0o600)
    os.utime(journal, (made + seed, made + seed))
    return folder


def head(cwd: str = "/place") -> Session:
    """The header."""
    return Session(n=1, t=FIRST, id="x", cwd=cwd, basis=BASIS)


def command(n: int, attempt: int, cmd: str) -> Call:
    """A call of `exec_command`."""
    item = {"type": "function_call", "call_id": f"c{n}", "name": "exec_command"}
    return Call(n=n, attempt=attempt, index=0, item=item | {"arguments": f'{{"cmd": "{cmd}"}}'})


def patch(n: int, attempt: int, text: str) -> Call:
    """A call of `apply_patch`."""
    item = {"type": "custom_tool_call", "call_id": f"c{n}", "name": "apply_patch", "input": text}
    return Call(n=n, attempt=attempt, index=0, item=item)


def done(n: int, call: int, **more: Any) -> Output:
    """The output of a call."""
    item = {"type": "function_call_output", "call_id": f"c{call}", "output": "fine"}
    return Output(n=n, call=call, item=item, **more)


def turn(
    first: int,
    asked: str,
    answer: str = "done",
    cmd: str = "ls",
    *,
    model: str = "m",
    effect: str = "",
    usage: dict[str, Any] | None = None,
) -> list[Known]:
    """A turn of eight records with one command, numbered from `first`."""
    said = message("assistant", answer)
    return [
        Prompt(
            n=first, t=FIRST, id="x", cwd="/place", basis=BASIS, items=[message("user", asked)],
            model=model,
        ),
        Attempt(n=first + 1, turn=first, step=1, model=model),
        command(first + 2, first + 1, cmd),
        Start(n=first + 3, call=first + 2, effect=effect or f"x-{first + 2}"),
        done(first + 4, first + 2),
        ItemRecord(n=first + 5, attempt=first + 1, index=1, item=said),
        AttemptEnd(n=first + 6, attempt=first + 1, outcome="completed", usage=usage),
        TurnEnd(n=first + 7, turn=first, outcome="completed"),
    ]  # fmt: skip

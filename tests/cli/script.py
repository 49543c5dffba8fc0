"""Watch events made by hand: short names for the records that a turn is made of."""

from typing import Any

from backstay.core.commands import Wait
from backstay.core.events import Outcome
from backstay.core.items import Item
from backstay.core.items import message as message_item
from backstay.core.record import (
    Attempt,
    AttemptEnd,
    Basis,
    Call,
    ItemRecord,
    Known,
    Output,
    Prompt,
    TurnEnd,
)
from backstay.runtime.watch import Finished, Recorded, Waiting


def prompt(n: int = 2) -> Recorded:
    """A prompt."""
    items = [message_item("user", "p")]
    return Recorded(Prompt(n=n, id="ID", cwd="/", basis=Basis("", ""), items=items, model="m"))


def attempt(n: int, superseded: list[int] | None = None, why: str = "", turn: int = 2) -> Recorded:
    """An attempt of step 1."""
    return Recorded(Attempt(n=n, turn=turn, step=1, superseded=superseded or [], why=why))


def message(n: int, of: int, index: int, text: str, **more: Any) -> Recorded:
    """A message of the model."""
    item = message_item("assistant", text) | more
    return Recorded(ItemRecord(n=n, attempt=of, index=index, item=item))


def thought(n: int, of: int, index: int, text: str) -> Recorded:
    """Reasoning with a summary."""
    item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}
    return Recorded(ItemRecord(n=n, attempt=of, index=index, item=item))


def call_item(name: str, arguments: str) -> Item:
    """A function call."""
    return {"type": "function_call", "name": name, "arguments": arguments, "call_id": "c"}


def call(
    n: int, of: int, index: int, name: str = "exec_command", arguments: str = '{"cmd":"ls"}'
) -> Recorded:
    """A call."""
    return Recorded(Call(n=n, attempt=of, index=index, item=call_item(name, arguments)))


def output(n: int, of: int, text: str = "out", **more: Any) -> Recorded:
    """A call's output."""
    item = {"type": "function_call_output", "call_id": "c", "output": text}
    return Recorded(Output(n=n, call=of, item=item, **more))


def end(n: int, of: int, outcome: str, usage: dict[str, Any] | None = None) -> Recorded:
    """How an attempt ended."""
    return Recorded(AttemptEnd(n=n, attempt=of, outcome=outcome, usage=usage))


def turn_end(n: int, outcome: Any = "completed", reason: str = "", turn: int = 2) -> Recorded:
    """How the turn ended."""
    return Recorded(TurnEnd(n=n, turn=turn, outcome=outcome, reason=reason))


def waiting(tries: int = 1, seconds: float = 0.2) -> Waiting:
    """A wait before a retry."""
    return Waiting(Wait(3, seconds, Outcome(kind="cut", reason="closed"), tries, 5))


def finished(outcome: Any = "completed", reason: str = "", turn: int = 2) -> Finished:
    """The end."""
    return Finished(turn, outcome, reason)


def records(*events: Recorded) -> list[Known]:
    """The records of events."""
    return [event.record for event in events]

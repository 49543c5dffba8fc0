"""Journals in the making: records in short words, numbered as they come."""

from typing import Any

from backstay.core.dialect import Dialect
from backstay.core.history import History
from backstay.core.items import Item, message
from backstay.core.pairing import output_item
from backstay.core.record import (
    Attempt,
    AttemptEnd,
    Basis,
    Call,
    ItemRecord,
    Known,
    Output,
    Prompt,
    Session,
    Start,
    TurnEnd,
)
from backstay.core.summary import is_summary
from backstay.core.view import view

BASIS = Basis("i", "t")


class Past:
    """The records of a session, written down one after the other; each method gives a number."""

    def __init__(self) -> None:
        self.records: list[Known] = []
        self.add(Session, id="s", cwd="/w", basis=BASIS)

    def add(self, kind: type[Known], **fields: Any) -> int:
        """One more record of that kind."""
        record = kind(n=len(self.records) + 1, **fields)
        self.records.append(record)
        return record.n

    def prompt(self, text: str = "go", **fields: Any) -> int:
        """An accepted prompt."""
        items = [message("user", text)]
        fields = {"model": "m", **fields}
        return self.add(Prompt, id="s", cwd="/w", basis=BASIS, items=items, **fields)

    def attempt(self, turn: int, step: int = 1, drop: list[int] | None = None) -> int:
        """An attempt of a turn's step, which supersedes these records."""
        return self.add(Attempt, turn=turn, step=step, superseded=drop or [], model="m")

    def item(self, attempt: int, index: int, item: Item) -> int:
        """An item that needs no output."""
        return self.add(ItemRecord, attempt=attempt, index=index, item=item)

    def call(self, attempt: int, index: int, item: Item) -> int:
        """A call."""
        return self.add(Call, attempt=attempt, index=index, item=item)

    def start(self, call: int) -> int:
        """The start of a call's effect."""
        return self.add(Start, call=call, effect=f"s-{call}")

    def output(self, call: int, text: str = "done") -> int:
        """A call's output."""
        record = self.records[call - 1]
        assert isinstance(record, Call)
        return self.add(Output, call=call, item=output_item(record.item, text))

    def answered(self, attempt: int, index: int, item: Item, text: str = "done") -> int:
        """A call and its output."""
        call = self.call(attempt, index, item)
        self.output(call, text)
        return call

    def ended(self, attempt: int, outcome: str = "completed", **fields: Any) -> int:
        """The end of an attempt."""
        return self.add(AttemptEnd, attempt=attempt, outcome=outcome, **fields)

    def closed(self, turn: int, outcome: str, item: Item | None = None) -> int:
        """The end of a turn."""
        return self.add(TurnEnd, turn=turn, outcome=outcome, item=item)

    def history(self) -> History:
        """What the records add up to."""
        history = History()
        for record in self.records:
            history.apply(record)
        return history

    def view(self, **dialect: Any) -> list[Item]:
        """The input that a request made now would have."""
        return view(self.history(), Dialect(**dialect))


def shape(items: list[Item]) -> list[str]:
    """The items in a word each: what a message says, a call's id, `=` and an output's id."""
    return [_word(item) for item in items]


def _word(item: Item) -> str:
    match item["type"]:
        case "message":
            content = item["content"]
            if is_summary(item):
                return "<summary>"
            return content if isinstance(content, str) else str(content[0]["text"])
        case "reasoning":
            return f"~{item['encrypted_content']}"
        case kind if "output" in kind:
            return f"={item['call_id']}"
        case kind:
            return str(item.get("call_id", kind))

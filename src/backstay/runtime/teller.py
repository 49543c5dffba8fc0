"""Tells a turn in the words of `story`: what a watcher of a session sees, as public events.

Owns no order and no time: each event of the session is taken at once and gives what it means.
"""

import codecs
from collections.abc import Callable
from typing import Any

from backstay.core.compact import compacted
from backstay.core.history import REOPENED, History
from backstay.core.items import Item, arguments, message_text, tool_name
from backstay.core.kept import Kept, is_answer, last_message
from backstay.core.mend import said
from backstay.core.record import (
    Attempt,
    Call,
    Compaction,
    Known,
    Late,
    Note,
    Output,
    Prompt,
    Repair,
)
from backstay.core.retry import explain
from backstay.core.usage import Usage
from backstay.runtime import story, watch


def given(item: Item) -> dict[str, Any]:
    """What a call was given: its arguments, or as `input` the text of one that takes a text."""
    if "input" in item:
        return {"input": str(item["input"])}
    return arguments(item) or {}


class Teller:
    """Translates for one session."""

    def __init__(self, session: str, history: Callable[[], History]) -> None:
        """`history`: that of the session, as it is at any moment."""
        self._session = session
        self._history = history
        self._kept = Kept()
        self._begun: set[int] = set()
        self._printed: dict[int, codecs.IncrementalDecoder] = {}

    def take(self, event: watch.WatchEvent) -> list[story.TurnEvent]:
        """What that means for the caller; often nothing."""
        match event:
            case watch.Recorded(record):
                return self._record(record)
            case watch.Streamed(attempt, index, "text", text):
                return [story.TextDelta(text=text, attempt=attempt, index=index)]
            case watch.Streamed(attempt, index, "reasoning", text):
                return [story.ReasoningDelta(text=text, attempt=attempt, index=index)]
            case watch.Started(call, item, adopted):
                started = story.ToolStarted(
                    call=call, name=tool_name(item), arguments=given(item), adopted=adopted
                )
                return [started]
            case watch.Printed(call, data):
                text = self._decoder(call).decode(data)
                return [story.ToolOutput(call=call, text=text)] if text else []
            case watch.Waiting(wait):
                retried = story.AttemptRetried(
                    attempt=wait.attempt,
                    reason=explain(wait.outcome),
                    seconds=wait.seconds,
                    retry=wait.tries,
                    limit=wait.limit,
                )
                return [retried]
            case watch.Noticed(text, level):
                return [story.Notice(text=text, level=level)]
            case _:
                return []

    def end(self, ended: watch.Finished) -> story.TurnCompleted | story.TurnFailed:
        """How the turn ended, with its answer and with what all its attempts used."""
        turn = self._history().turns.get(ended.turn)
        attempts = turn.attempts if turn is not None else []
        before = Usage.of(turn.carried.usage if turn is not None else None)
        usage = sum((Usage.of(one.end.usage) for one in attempts if one.end), before)
        text = last_message(turn) if turn is not None else ""
        if ended.outcome == "completed" or ended.outcome == "compacted":  # noqa: PLR1714 - mypy
            return story.TurnCompleted(
                session_id=self._session,
                turn=ended.turn,
                text=text,
                usage=usage,
                mismatch=ended.mismatch,
            )
        return story.TurnFailed(
            session_id=self._session,
            turn=ended.turn,
            outcome=ended.outcome,
            reason=ended.reason,
            code=ended.code,
            text=text,
            usage=usage,
        )

    def _record(self, record: Known) -> list[story.TurnEvent]:
        told: list[story.TurnEvent] = []
        match record:
            case Prompt():
                told += self._began(record.n)
            case Note(topic=topic, turn=turn) if topic == REOPENED:
                told += self._began(turn)
            case Attempt():
                told += self._began(record.turn)
            case Output():
                told += self._output(record)
            case Late():
                told.append(story.Notice(text=message_text(record.item)))
            case Compaction():
                told.append(story.Notice(text=compacted(record)))
            case Repair() if said(record):
                told.append(story.Notice(text=said(record), level="warning"))
            case _:
                pass
        return told + [
            story.MessageCompleted(
                text=message_text(one.item), attempt=one.attempt, index=one.index, record=one.n
            )
            for one in self._kept.take(record)
            if is_answer(one)
        ]

    def _began(self, turn: int) -> list[story.TurnEvent]:
        """Once a turn; one that goes on begins with its first attempt here."""
        if turn in self._begun:
            return []
        self._begun.add(turn)
        return [story.TurnStarted(session_id=self._session, turn=turn)]

    def _output(self, record: Output) -> list[story.TurnEvent]:
        self._printed.pop(record.call, None)
        state = self._history().calls.get(record.call)
        call: Call | None = state.record if state is not None else None
        finished = story.ToolFinished(
            call=record.call,
            name=tool_name(call.item) if call is not None else "",
            arguments=given(call.item) if call is not None else {},
            output=message_text(record.item),
            status=record.status,
        )
        return [finished]

    def _decoder(self, call: int) -> codecs.IncrementalDecoder:
        """Characters may be cut between two pieces of output."""
        if call not in self._printed:
            self._printed[call] = codecs.getincrementaldecoder("utf-8")("replace")
        return self._printed[call]

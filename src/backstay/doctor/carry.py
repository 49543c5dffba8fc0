"""A conversation of another agent as the records of a session of ours: pure, in the order it came.

Takes items, ends of turns and compactions one by one; gives records. Which line of which format
means what is `codex`, `claude` and `agents_sdk`'s business, writing is `landing`'s.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from backstay.core.events import Result
from backstay.core.items import OUTPUTS, Item, arguments, call_id, is_call, kind
from backstay.core.record import (
    NO_BASIS,
    Attempt,
    AttemptEnd,
    Call,
    Compaction,
    Imported,
    ItemRecord,
    Known,
    Note,
    Output,
    Prompt,
    Session,
    Tally,
    TurnEnd,
)
from backstay.core.settle import never_started, output, unknown
from backstay.doctor.tidy import answer_to, is_prompt, same_call, tidy

IMPORTED: Final = "imported"
"""The `note` topic for what the other agent told its model, and for what it only kept."""
OUTCOME_LOST: Final = "the agent that made it ended before its output was recorded"
BROKEN: Final = "its arguments are no whole JSON"
_LARGEST_KEPT: Final = 16 * 1024 * 1024

End = Literal["completed", "failed", "interrupted", "superseded"]


class Place(msgspec.Struct):
    """Model, provider and effort, as far as they are known so far."""

    model: str = ""
    provider: str = ""
    effort: str = ""


class Carrier:
    """Makes the records of one session. `take` gives those that were made since it was asked last."""

    def __init__(self, session: str, cwd: str, source: Imported, version: str) -> None:
        self.place = Place()
        self.items = 0
        """How many items of the conversation were taken."""
        self.settled: list[Output] = []
        """The outputs that were made here, for calls that had none."""
        self.session = session
        self.source = source
        self._cwd = cwd
        self._n = 0
        self._made: list[Known] = []
        self._inputs: list[Item] = []
        self._prompt: Prompt | None = None
        self._turn = 0
        self._over = True
        self._attempt = 0
        self._step = 0
        self._index = 0
        self._answered = False
        self._spoken = False
        self._open: list[Call] = []
        self._counts: tuple[str, dict[str, Any] | None] = ("", None)
        self._seen: dict[str, int] = {}
        """By id the items that came since the last compaction: what is repeated is taken once."""
        self._record(
            Session(
                n=self._next(),
                id=session,
                cwd=cwd,
                basis=NO_BASIS,
                version=version,
                imported=source,
            )
        )

    def take(self) -> list[Known]:
        """The records that are new."""
        made, self._made = self._made, []
        return made

    # What a conversation is made of

    def item(self, item: Item) -> None:
        """The next item: a message, what a response held, or the output of a call."""
        if self._is_repeated(item):
            return
        self.items += 1
        if kind(item) == "message" and item.get("role") != "assistant":
            self._inputs.append(item)
        elif kind(item) in OUTPUTS and self._answers(item):
            pass
        elif kind(item) in OUTPUTS and not _is_hosted_output(item):
            self.keep(item)
        else:
            self._respond(item)

    def keep(self, item: Item) -> None:
        """An item that no request held: it stays readable, and the model is not told."""
        text = msgspec.json.encode(item).decode()
        if len(text) <= _LARGEST_KEPT:
            self._flush()
            self._record(Note(n=self._next(), topic=IMPORTED, text=text))

    def begun(self) -> None:
        """A turn begins here: what comes next is its prompt's."""
        self._flush()

    def over(self, outcome: End, reason: str = "") -> None:
        """The turn is over; messages that came last and are no prompt tell the model of that."""
        item = None
        if outcome != "completed" and len(self._inputs) == 1 and not is_prompt(self._inputs[0]):
            item = self._inputs.pop()
        self._flush()
        if self._turn and not self._over:
            self._end_turn(outcome, reason, item)
        elif item is not None:
            self._tell(item)

    def counted(self, response: str, usage: dict[str, Any] | None) -> None:
        """A response has ended, and used so much; its calls' outputs come behind."""
        if self._attempt:
            self._counts = (response, usage)

    def compacted(self, items: list[Item], reason: str) -> None:
        """These items replace all before."""
        self._flush()
        self.settle({})
        self._end_attempt("completed")
        self._seen.clear()
        going = bool(self._turn) and not self._over
        n = self._next()
        place = self.place
        self._record(
            Compaction(
                n=n,
                id=self.session,
                cwd=self._cwd,
                basis=NO_BASIS,
                items=tidy(items, n),
                turn=self._turn if going else 0,
                model=place.model,
                provider=place.provider,
                effort=place.effort,
                tally=Tally(steps=self._step if going else 0),
                prompt=self._prompt if going else None,
                reason=reason,
            )
        )
        if not going:
            self._turn, self._prompt = 0, None

    def open_calls(self) -> list[Item]:
        """The calls that have no output yet, in order."""
        return [call.item for call in self._open]

    def settle(self, found: Mapping[str, Result]) -> None:
        """Give every open call an output: what `found` has by call id, else what can be said."""
        for call in self._open:
            known = found.get(call_id(call.item))
            if known is not None:
                result = known
            elif kind(call.item) == "function_call" and arguments(call.item) is None:
                result = never_started(BROKEN)
            else:
                result = unknown(OUTCOME_LOST, "")
            made = output(self._next(), call, result)
            self.settled.append(made)
            self._record(made)
        if self._open:
            self._answered = True
        self._open = []

    def end(self, found: Mapping[str, Result]) -> None:
        """The conversation ends here; `found` as for `settle`."""
        cut = bool(self._open)
        self._flush()
        self.settle(found)
        if self._turn and not self._over:
            done = self._spoken and not cut
            self._end_turn(
                "completed" if done else "interrupted", "" if done else "it was cut", None
            )

    def mark(self, text: str) -> None:
        """A note that says nothing to the model."""
        self._record(Note(n=self._next(), topic=IMPORTED, text=text))

    # How it becomes records

    def _next(self) -> int:
        self._n += 1
        return self._n

    def _record(self, record: Known) -> None:
        self._made.append(record)

    def _tell(self, item: Item) -> None:
        if self._turn and not self._over and not self._step:
            self._leave_turn()  # a prompt has its place in a request once its turn has begun
        self._answered = True  # what comes next stands behind it, in an attempt of its own
        self._record(Note(n=self._next(), topic=IMPORTED, item=item))

    def _flush(self) -> None:
        """The messages that wait become a prompt; what an agent told before it, notes."""
        inputs, self._inputs = self._inputs, []
        first = next((at for at, item in enumerate(inputs) if is_prompt(item)), len(inputs))
        if first < len(inputs):
            self._leave_turn()
        for item in inputs[:first]:
            self._tell(item)
        if first < len(inputs):
            self._begin(inputs[first:])

    def _leave_turn(self) -> None:
        """End the turn that nobody said the end of."""
        if self._turn and not self._over:
            done = self._spoken and not self._open
            outcome: End = "completed" if done else "superseded"
            self._end_turn(outcome, "" if done else "a new prompt was given", None)
        self._end_attempt("completed")

    def _begin(self, items: list[Item]) -> None:
        place = self.place
        self._prompt = Prompt(
            n=self._next(),
            id=self.session,
            cwd=self._cwd,
            basis=NO_BASIS,
            items=items,
            model=place.model,
            provider=place.provider,
            effort=place.effort,
        )
        self._record(self._prompt)
        self._turn, self._over, self._step, self._spoken = self._prompt.n, False, 0, False

    def _respond(self, item: Item) -> None:
        self._flush()
        if not self._turn:
            self._begin([])
        if not self._attempt or self._answered:
            self._end_attempt("completed")
            self._start_attempt()
        place = {"n": self._next(), "attempt": self._attempt, "index": self._index}
        self._index += 1
        self._spoken = kind(item) == "message"
        if is_call(item):
            call = Call(**place, item=item)
            self._record(call)
            self._open.append(call)
        else:
            self._record(ItemRecord(**place, item=item))

    def _start_attempt(self) -> None:
        self._step += 1
        place = self.place
        self._attempt, self._index, self._answered = self._next(), 0, False
        self._counts = ("", None)
        self._record(
            Attempt(
                n=self._attempt,
                turn=self._turn,
                step=self._step,
                model=place.model,
                provider=place.provider,
                effort=place.effort,
            )
        )

    def _is_repeated(self, item: Item) -> bool:
        """Whether it is the same item once more: torn lines are written again, histories merged."""
        ident = item.get("id")
        if isinstance(ident, str) and ident:
            print_ = hash(msgspec.json.encode(item))
            if self._seen.get(ident) == print_:
                return True
            self._seen[ident] = print_
        return is_call(item) and any(same_call(one.item, item) for one in self._open)

    def _answers(self, item: Item) -> bool:
        """Record an output with the newest open call of its id; False where there is none."""
        ident = call_id(item)
        for call in reversed(self._open):
            if call_id(call.item) == ident:
                self._open.remove(call)
                self._record(Output(n=self._next(), call=call.n, item=answer_to(call.item, item)))
                self._answered = self._answered or call.attempt == self._attempt
                return True
        return False

    def _end_attempt(self, outcome: str) -> None:
        if not self._attempt:
            return
        response, usage = self._counts
        self._record(
            AttemptEnd(
                n=self._next(),
                attempt=self._attempt,
                outcome=outcome,
                response=response,
                usage=usage,
            )
        )
        self._attempt = 0

    def _end_turn(self, outcome: End, reason: str, item: Item | None) -> None:
        self._end_attempt("interrupted" if outcome == "interrupted" else "completed")
        self._record(
            TurnEnd(n=self._next(), turn=self._turn, outcome=outcome, reason=reason, item=item)
        )
        self._over = True


def _is_hosted_output(item: Item) -> bool:
    """Whether it answers a call that the provider ran, and stands in the response itself."""
    return kind(item) == "tool_search_output" and item.get("execution") != "client"

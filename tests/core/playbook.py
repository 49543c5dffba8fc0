"""Playbooks: a script of what happens and what the machine does about it, in short lines.

    playbook() >> prompt("go") << "append prompt 2; attempt 3" >> SYNCED << "send 3: go"

`>>` is an event, `<<` one command; `check` runs the script, and a mismatch prints a diff. A
playbook that was never checked fails its test (the fixture sees to it).
"""

from difflib import ndiff
from typing import Any, Final, Literal, Self

import msgspec

from backstay.core import commands as c
from backstay.core import events as e
from backstay.core.budget import Budget
from backstay.core.dialect import Dialect
from backstay.core.items import Item, call_id, message
from backstay.core.record import (
    Attempt,
    AttemptEnd,
    Known,
    Note,
    Output,
    Repair,
    Start,
    TurnEnd,
)
from backstay.core.retry import Policy
from backstay.core.rules import Rules, Traits
from backstay.core.table import Phase
from tests.core.past import BASIS, shape
from tests.core.watch import Watched, World

TOOLS: Final = {
    "look": Traits(),
    "edit": Traits(parallel=False, prepares=True),
    "alone": Traits(parallel=False),
    "safe": Traits(replay="safe"),
}


class Synced(msgspec.Struct):
    """All records that were issued so far are on disk."""


SYNCED: Final = Synced()


class Playbook:
    """One script; see the module's docstring."""

    def __init__(
        self,
        records: list[Known] | None = None,
        *,
        policy: Policy | None = None,
        dialect: Dialect | None = None,
        budget: Budget | None = None,
        damage: str = "",
        compact_at: int | None = None,
    ) -> None:
        world = World()
        world.records = list(records or [])
        world.durable = world.records[-1].n if world.records else 0
        rules = Rules(
            tools=TOOLS,
            policy=policy or Policy(),
            dialect=dialect or Dialect(),
            budget=budget or Budget(),
            compact_at=compact_at,
        )
        self.machine = Watched(rules, world)
        self.checked = False
        self._script: list[e.Event | Synced | str] = []
        if records is None:
            self._script += [e.Created(id="s", cwd="/w", basis=BASIS), "append session", SYNCED]
        else:
            self._script.append(e.Opened(list(records), "s", "/w", BASIS, damage=damage))

    def __rshift__(self, event: e.Event | Synced) -> Self:
        self._script.append(event)
        return self

    def __lshift__(self, command: str) -> Self:
        self._script.append(command)
        return self

    def check(self, phase: Phase | None = None) -> Watched:
        """Run the script; the machine as it is afterwards, in this phase if one is named."""
        self.checked = True
        wanted: list[str] = []
        found: list[str] = []
        for step in self._script:
            if isinstance(step, str):
                wanted.append(f"   << {step}")
                continue
            wanted.append(f">> {step}")
            found.append(f">> {step}")
            event = e.Appended(self.machine.issued()) if isinstance(step, Synced) else step
            found += [f"   << {told(command)}" for command in self.machine.handle(event)]
            self.machine.check_replay()
        if wanted != found:
            raise AssertionError("the playbook says otherwise:\n" + "\n".join(ndiff(wanted, found)))
        assert phase is None or self.machine.turn.phase is phase
        return self.machine


def told(command: c.Command) -> str:
    """A command in one line."""
    match command:
        case c.Append(records):
            return f"append {'; '.join(map(noted, records))}"
        case c.Send(attempt, request):
            return f"send {attempt}: {' '.join(shape(request.input))}"
        case c.Summarize(request):
            if request.compact:
                return f"endpoint: {' '.join(shape(request.input))}"
            asked = request.input[:-1]
            return f"summarize: {' '.join(shape(asked)) if asked else 'text'}"
        case c.AbortSummary():
            return "abort summary"
        case c.StartCall(call, item, start):
            return f"start {call} {call_id(item)}{' planned' if start.plan else ''}"
        case c.StopCall(call, why):
            return f"stop {call} {why}"
        case c.Wait(attempt, seconds, _, tries, limit):
            return f"wait {attempt}: {seconds:.1f} s {tries}/{limit}"
        case c.Finish(turn, outcome):
            return f"finish {turn} {outcome}"
        case c.Abort(attempt):
            return f"abort {attempt}"
        case c.Prepare(call) | c.Probe(call) | c.Adopt(call):
            return f"{type(command).__name__.lower()} {call}"


def noted(record: Known) -> str:
    """A record in a few words."""
    match record:
        case Attempt(n=n, superseded=superseded):
            return f"attempt {n}" + (f" without {superseded}" if superseded else "")
        case Start(call=call):
            return f"start of {call}"
        case Output(call=call, status=status):
            return f"output of {call} {status}"
        case AttemptEnd(attempt=attempt, outcome=outcome):
            return f"end of {attempt} {outcome}"
        case TurnEnd(turn=turn, outcome=outcome):
            return f"turn {turn} {outcome}"
        case Repair(action=action):
            return f"repair {action}"
        case Note(topic=topic):
            return f"note {topic}"
        case _:
            tag = record.__struct_config__.tag
            return str(tag) if tag == "session" else f"{tag} {record.n}"


def prompt(text: str = "go", model: str = "m") -> e.PromptGiven:
    """The user says something."""
    return e.PromptGiven([message("user", text)], BASIS, model)


def done(attempt: int, index: int, item: Item) -> e.ItemDone:
    """The provider says that an item is done."""
    return e.ItemDone(attempt, index, item)


def ended(attempt: int, kind: e.OutcomeKind = "completed", **fields: Any) -> e.AttemptEnded:
    """The stream ends."""
    return e.AttemptEnded(attempt, e.Outcome(kind=kind, **fields))


def finished(
    call: int, text: str = "done", status: Literal["done", "failed", "interrupted"] = "done"
) -> e.CallFinished:
    """A tool has its result."""
    return e.CallFinished(call, e.Result(content=text, status=status))


def settled(
    call: int,
    found: Literal["unstarted", "recovered", "running", "unknown", "answered"],
    text: str | None = None,
) -> e.Settled:
    """The evidence about an open call."""
    result = None if text is None else e.Result(content=text)
    return e.Settled(call, e.Evidence(found=found, result=result))

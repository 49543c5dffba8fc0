"""Journals that real runs leave, and what a session that is opened from a damaged one still does.

The runs hold what is hard to come back from: parallel calls, a patch, cut streams, a command that
yields, an interrupt, a tool that is given up and answers late.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backstay import chaos
from backstay.chaos import call, custom_call, message, reasoning, response
from backstay.core import commands as c
from backstay.core import events as e
from backstay.core.dialect import Dialect
from backstay.core.history import History
from backstay.core.items import Item, message_text
from backstay.core.items import message as said
from backstay.core.pairing import problems
from backstay.core.record import Basis, Late, Output, Prompt
from backstay.core.rules import Rules
from backstay.core.table import Phase
from backstay.core.turn import Turn
from backstay.core.view import view
from backstay.journal import Journal, Reading, read, statement
from backstay.journal.disk import Disk
from backstay.runtime import watch
from backstay.runtime.session import Session
from backstay.tools.tool import Invocation, Plain
from tests.journal.sample import ID, clock
from tests.runtime.bench import Bench

JSON = dict[str, Any]
NEW_PROMPT = "what now?"


class Deaf(Plain):
    """A tool that does not react to being stopped, and answers when it is let."""

    name = "deaf"
    timeout: float | None = 0.1

    def __init__(self) -> None:
        self.let = asyncio.Event()

    def spec(self, dialect: Dialect) -> JSON:
        return {"type": "function", "name": self.name, "parameters": {"type": "object"}}

    async def run(self, invocation: Invocation) -> e.Result:
        while not self.let.is_set():
            try:
                await self.let.wait()
            except asyncio.CancelledError:
                continue
        return e.Result(content=f"the true result of call {invocation.call}")


def _round(number: int) -> list[JSON]:
    """Five responses: cut behind calls and a patch, yielded, given up, interrupted; and an end."""
    patch = f"*** Begin Patch\n*** Add File: new{number}\n+by the patch\n*** End Patch"
    behind_all = chaos.at("response.output_item.done", nth=5)
    return [
        response(
            reasoning(),
            call("exec_command", {"cmd": "echo one; exit 3"}),
            call("exec_command", {"cmd": "echo zwölf 🙂"}),
            custom_call("apply_patch", patch),
            message("half"),
            fault=chaos.cut(after=behind_all),
        ),
        response(
            message("on"), call("exec_command", {"cmd": "echo x; sleep 60", "yield_time_ms": 250})
        ),
        response(call("deaf", {})),
        response(call("exec_command", {"cmd": f"touch running{number}; sleep 60"})),
        response(message("done")),
    ]


def record(folder: Path, home: Path, rounds: int) -> tuple[bytes, str]:
    """Run so many rounds of two turns each; the journal's bytes and the session's folder."""
    script = [one for number in range(rounds) for one in _round(number)]
    bench = Bench(folder, home, script)
    tool = Deaf()

    async def work(session: Session) -> None:
        for number in range(rounds):
            await _two_turns(bench, session, tool, number)

    bench.run(work, tools=[tool])
    bench.check()
    return (Path(bench.folder) / "journal.jsonl").read_bytes(), bench.folder


async def _two_turns(bench: Bench, session: Session, tool: Deaf, number: int) -> None:
    tool.let.clear()
    turn = asyncio.ensure_future(session.prompt(f"go {number}"))
    while not (bench.cwd / f"running{number}").exists():
        await asyncio.sleep(0.005)
    session.interrupt()
    await turn
    tool.let.set()
    while len(_lates(bench)) <= number:
        await asyncio.sleep(0.005)
    await session.prompt(f"go on {number}")


def _lates(bench: Bench) -> list[watch.Recorded]:
    found = [one for one in bench.events if isinstance(one, watch.Recorded)]
    return [one for one in found if isinstance(one.record, Late)]


class Resumed:
    """A machine over a journal that was just opened; its open calls are settled as unknown."""

    def __init__(self, disk: Disk, journal: Journal, reading: Reading) -> None:
        self.requests: list[list[Item]] = []
        self.finished: list[c.Finish] = []
        self.machine = Turn(Rules(tools={}))
        self._disk = disk
        self._journal = journal
        self._last = 0
        self._handle(
            e.Opened(
                reading.records,
                ID,
                "/place",
                Basis("i", "t"),
                next=reading.next_n,
                damage=statement(reading.news),
            )
        )
        assert self.machine.phase is Phase.IDLE
        assert all(call.output for call in self.machine.history.calls.values())
        assert self.machine.history.open_attempts() == []
        assert problems(view(self.machine.history, Dialect())) == []

    def _handle(self, event: e.Event) -> None:
        events = [event]
        while events:
            for command in self.machine.handle(events.pop(0)):
                events += self._carry_out(command)

    def _carry_out(self, command: c.Command) -> list[e.Event]:
        match command:
            case c.Append(records):
                return [e.Appended(self._journal.commit(records))]
            case c.Probe(number):
                return [e.Settled(number, e.Evidence(found="unknown", detail="damage"))]
            case c.Send(attempt, request):
                self.requests.append(request.input)
                self._last = attempt
                return []
            case c.Finish():
                self.finished.append(command)
                return []
        raise AssertionError(f"nothing was asked for that needs {command}")

    def prompt(self) -> None:
        """A new prompt is sent, once the turns of prompts that waited have completed."""
        item = said("user", NEW_PROMPT)
        self._handle(e.PromptGiven([item], Basis("i", "t"), "m"))
        while not self.requests or self.requests[-1][-1] != item:
            assert self.machine.history.queued, "a prompt that waits is sent in its turn"
            self._answer()
        self._judge()
        self._answer()
        assert self.machine.phase is Phase.IDLE
        assert self.finished[-1].outcome == "completed"

    def go_on(self) -> None:
        """A cut turn is finished without a new prompt, or it is said that there is nothing to do."""
        self._handle(e.Continued("m"))
        while self.requests and self.machine.phase is not Phase.IDLE:
            self._answer()
        if self.requests:
            self._judge()
            assert self.finished[-1].outcome == "completed"
        else:  # there is none, or all that was left of it was to say that it is complete
            assert self.finished[-1].outcome in ("nothing", "completed")

    def _answer(self) -> None:
        """The response to the last request says nothing at all."""
        self._handle(e.AttemptEnded(self._last, e.Outcome(kind="completed")))

    def _judge(self) -> None:
        """Each request is paired and extends the one before; the journal holds what it is made of."""
        before: list[Item] = []
        for request in self.requests:
            assert problems(request) == []
            assert request[: len(before)] == before
            before = request
        again = read(self._disk, self._journal.path)
        assert again.news == [], "what was stated is stated once"
        history = History()
        for one in again.records:
            if one.n <= self._last:
                history.apply(one)
        assert view(history, Dialect()) == self.requests[-1]

    def denied(self) -> set[int]:
        """The calls that opening has closed as never started."""
        calls = self.machine.history.calls.values()
        outputs = [one.output for one in calls if one.output is not None]
        return {one.call for one in outputs if one.status == "never_started"}

    def missing(self, reading: Reading) -> list[int]:
        """The outputs, late results and prompts that were read and that the last request lacks."""
        texts = "\0".join(map(message_text, self.requests[-1]))
        return [
            one.n
            for one in reading.records
            if isinstance(one, Output | Late | Prompt) and not _told(one, texts)
        ]


def _told(one: Output | Late | Prompt, texts: str) -> bool:
    items: Sequence[Item] = one.items if isinstance(one, Prompt) else [one.item]
    return all(message_text(item) in texts for item in items)


def opened(disk: Disk, folder: str) -> tuple[Journal, Reading]:
    """The session in this folder, open for writing. Raises what opening may."""
    return Journal.open(disk, folder, clock)

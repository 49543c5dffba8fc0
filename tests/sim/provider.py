"""A simulated provider: what it answers is drawn by seed, every ending and every oddity included.

It is strict: a request that a real one would refuse for its history is refused here too.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import msgspec

from backstay.core.commands import Request
from backstay.core.compact import tokens
from backstay.core.events import Outcome
from backstay.core.items import Item, kind, message, message_text
from tests.sim.effects import CUSTOM, TALK, TELL, TOOLS, YIELDING
from tests.sim.grudges import Grudge, drawn, refusal
from tests.sim.wire import Wire

Said = tuple[int, Item]
"""An item that is said to be done, with its index."""


class Reply(msgspec.Struct):
    """One answer: the items still to come, then how it ends."""

    attempt: int
    items: list[Said]
    outcome: Outcome
    wire: Wire | None = None
    """Its bytes; without it the machine is told directly, repetitions and all."""


ENDINGS: Final = (
    Outcome(kind="incomplete", reason="max_output_tokens", code="max_output_tokens"),
    Outcome(kind="failed", reason="try again", code="server_error"),
    Outcome(kind="failed", reason="too many", code="rate_limit_exceeded"),
    Outcome(kind="failed", reason="no more", code="insufficient_quota"),
    Outcome(kind="failed", reason="an error event", code=""),
    Outcome(kind="cut", reason="the connection was reset"),
    Outcome(kind="cut", reason="the stream ended without a terminal event"),
    Outcome(kind="cut", reason="half an event"),
    Outcome(kind="stalled", reason="silence for 300 s"),
)
REFUSALS: Final = (
    Outcome(kind="refused", reason="slow down", status=429, retry_after=30.0),
    Outcome(kind="refused", reason="slow down", status=429, retry_after=900.0),
    Outcome(kind="refused", reason="bad gateway", status=502),
    Outcome(kind="refused", reason="overloaded", status=503),
    Outcome(kind="refused", reason="wrong key", status=401),
    Outcome(kind="refused", reason="pay first", status=402, code="insufficient_quota"),
    Outcome(kind="unreachable", reason="connection refused"),
)
_TOO_LONG: Final = (
    Outcome(
        kind="refused",
        reason="This model's maximum context length is 900 tokens.",
        status=400,
        code="context_length_exceeded",
    ),
    Outcome(kind="refused", reason="too long", status=413),
    Outcome(kind="failed", reason="prompt is too long", code="invalid_request_error"),
)
_SUMMARIES: Final = (
    Outcome(kind="cut", reason="the connection was reset"),
    Outcome(kind="stalled", reason="silence for 300 s"),
    Outcome(kind="refused", reason="overloaded", status=503),
    Outcome(kind="refused", reason="not found", status=404),
    Outcome(kind="refused", reason="a bad request", status=400),
    Outcome(kind="refused", reason="wrong key", status=401),
    Outcome(kind="incomplete", reason="max_output_tokens"),
    *_TOO_LONG,
)
"""How a request for a summary can end badly."""
_BAD_REASONING: Final = Outcome(
    kind="refused", reason="can't be verified", status=400, code="invalid_encrypted_content"
)


class Provider:
    """Answers requests; remembers what it refused."""

    def __init__(self, rng: Random, kinds: frozenset[str], most: int) -> None:
        """`kinds` are the sorts of fault that it may commit; so many responses hold calls."""
        self.most = most
        self.rng = rng
        self.kinds = kinds
        self.refused: set[str] = set()
        """Encrypted reasoning that it never takes again."""
        self.faults: Counter[str] = Counter()
        self.calm = False
        self.grudges: list[Grudge] = []
        """What it refuses of a history, until the history has changed."""
        self.tools = tuple(one for one in TOOLS if one not in YIELDING)
        if "yields" in kinds:
            self.tools += (TALK,) * 10
        self._running: set[int] = set()
        """Numbers of commands that were said to go on."""
        self._steps = 0
        self._count = 0
        self._call_ids: list[str] = []

    def answer(self, attempt: int, request: Request) -> Reply:
        """The answer to a request."""
        sent = {str(one.get("encrypted_content")) for one in request.input if _reasons(one)}
        if sent & self.refused:
            return Reply(attempt, [], _BAD_REASONING)
        if found := self._refusal(request):
            return Reply(attempt, [], found)
        if not self.calm and "refusals" in self.kinds and self.rng.random() < 0.2:
            self.faults["refusal"] += 1
            if sent and self.rng.random() < 0.4:
                self.refused |= sent
                return Reply(attempt, [], _BAD_REASONING)
            return Reply(attempt, [], self.rng.choice(REFUSALS))
        items = self._items(request)
        usage = {"input_tokens": tokens(request.input)} if "lengths" in self.kinds else None
        outcome = Outcome(kind="completed", response=f"resp_{attempt}", usage=usage)
        if not self.calm and "endings" in self.kinds and self.rng.random() < 0.45:
            self.faults["ending"] += 1
            outcome = self.rng.choice(ENDINGS)
            items = items[: self.rng.randint(0, len(items))]
        if not self.calm and "repeats" in self.kinds and items and self.rng.random() < 0.25:
            self.faults["repeat"] += 1
            items = self._repeated(items)
        wire = Wire(self.rng) if self.rng.random() < 0.4 else None
        return Reply(attempt, items, outcome, wire)

    def _refusal(self, request: Request) -> Outcome | None:
        """What it says against the history or its length, now or as it did before."""
        rng = self.rng
        if "histories" in self.kinds:
            if not self.calm and rng.random() < 0.15:
                grudge = drawn(rng, request)
                self.grudges += [grudge] if grudge is not None else []
            if found := refusal(self.grudges, request):
                self.faults["refused history"] += 1
                return found
        if "lengths" in self.kinds and not self.calm and rng.random() < 0.12:
            self.faults["refused length"] += 1
            return rng.choice(_TOO_LONG)
        return None

    def forgive(self) -> None:
        """It takes everything once more."""
        self.grudges.clear()

    def summary(self, request: Request) -> tuple[list[Item], Outcome]:
        """The answer to a request for a summary, or from the endpoint that makes one."""
        rng = self.rng
        said = [message("assistant", f"summary {self._word()}")]
        if request.compact:
            word = self._word()
            users = [one for one in request.input if one.get("role") == "user"]
            said = [*users, {"type": "compaction", "encrypted_content": word}]
        faulty = bool(self.kinds & {"endings", "refusals", "lengths"}) and not self.calm
        if faulty and rng.random() < 0.5:
            self.faults["summary"] += 1
            if rng.random() < 0.2:
                said = [self._call()]
            else:
                outcome = rng.choice(_SUMMARIES)
                return said if outcome.kind in ("cut", "incomplete") else [], outcome
        usage = {"input_tokens": tokens(request.input), "output_tokens": 5}
        return said, Outcome(kind="completed", usage=usage)

    def _word(self) -> str:
        self._count += 1
        return f"k{self._count}"

    def _items(self, request: Request) -> list[Said]:
        groups: list[list[Item]] = []
        rng = self.rng
        self._steps += 1
        calls = 0
        if not self.calm and self._steps <= self.most:
            calls = rng.choice((0, 1, 1, 2, 3, 4))
            calls = max(calls, 1) if self._running else calls
        if "yields" in self.kinds:
            self._running |= _running(request)
        running = sorted(self._running)
        groups += [[self._call(running)] for _ in range(calls)]
        if not calls or rng.random() < 0.3:
            said = message("assistant", self._word())
            if "histories" in self.kinds and rng.random() < 0.5:
                said["phase"] = "commentary"
            groups.insert(rng.randint(0, len(groups)), [said])
        if rng.random() < 0.1:
            groups.append([{"type": "web_search_call", "id": self._word(), "status": "completed"}])
        for group in groups:
            if rng.random() < 0.3:
                group.insert(0, self._reasoning())
        if "endings" in self.kinds and rng.random() < 0.05:
            groups.append([self._reasoning()])
        return list(enumerate(item for group in groups for item in group))

    def _reasoning(self) -> Item:
        word = self._word()
        return {"type": "reasoning", "id": f"rs_{word}", "summary": [], "encrypted_content": word}

    def _call(self, running: Sequence[int] = ()) -> Item:
        """A call of any tool; `running` are commands that may be told something."""
        rng, word = self.rng, self._word()
        name = TELL if running and rng.random() < 0.6 else rng.choice(self.tools)
        given: dict[str, Any] = {"token": word}
        if name == TELL:
            given["target"] = rng.choice(running) if running else 1
        call_id = f"call_{word}"
        if "repeats" in self.kinds and self._call_ids and rng.random() < 0.15:
            call_id = rng.choice(self._call_ids)
        self._call_ids.append(call_id)
        if name == CUSTOM:
            item: Item = {"type": "custom_tool_call", "name": name, "input": word}
        else:
            encoded = msgspec.json.encode(given).decode()
            item = {"type": "function_call", "name": name, "arguments": encoded}
        item |= {"call_id": call_id, "id": f"fc_{word}", "status": "completed"}
        if "broken" in self.kinds and rng.random() < 0.15:
            self.faults["broken call"] += 1
            item |= self._breakage(item)
        return item

    def _breakage(self, item: Item) -> dict[str, Any]:
        """Fields that make it a call that can't be run."""
        if item["type"] == "custom_tool_call":
            return {"status": "incomplete"}
        return self.rng.choice(
            (
                {"name": "no_such_tool"},
                {"arguments": '{"token": "k'},
                {"arguments": "[1]"},
                {"arguments": '{"tok', "status": "incomplete"},
                {"type": "shell_call", "name": "", "action": {"commands": ["ls"]}},
            )
        )

    def _repeated(self, items: list[Said]) -> list[Said]:
        """The same with one done event twice; the second one may say something else."""
        at = self.rng.randrange(len(items))
        index, item = items[at]
        again = dict(item)
        if self.rng.random() < 0.5:
            again |= {"id": "another"}
            if "arguments" in again:
                again |= {"arguments": msgspec.json.encode({"token": self._word()}).decode()}
        place = self.rng.randint(at + 1, len(items))
        return [*items[:place], (index, again), *items[place:]]


def _reasons(item: Item) -> bool:
    return item.get("type") in ("reasoning", "compaction") and bool(item.get("encrypted_content"))


def _running(request: Request) -> set[int]:
    """The numbers of commands of which an output says that they go on."""
    found: set[int] = set()
    for item in request.input:
        if kind(item) in ("function_call_output", "message"):
            _, said, number = message_text(item).partition("; session ID ")
            if said and number.split()[0].isdecimal():
                found.add(int(number.split()[0]))
    return found

"""Simulated effects: what tools do to the world, and what a settler finds of it after a crash.

The log of starts is the truth that promises are judged by; it survives everything. The store models
the folders of effects as the supervisor keeps them: a claim that one side wins, and an exit record.
"""

from collections import Counter
from functools import lru_cache
from random import Random
from typing import Final, Literal

import msgspec

from backstay.core.events import Evidence, Result
from backstay.core.items import Item, arguments
from backstay.core.record import SpoolRange, Start
from backstay.core.rules import Traits

Traces = Literal["folder", "plan", "check", "none"]
"""What an effect leaves behind it: the supervisor's folder, a plan that can be rolled forward, an
answer to the tool's own check, nothing."""
Stage = Literal["asked", "claimed", "started", "done", "recorded", "gone"]
Manner = Literal["fast", "slow", "failing", "hanging", "stubborn"]


class Nature(msgspec.Struct, frozen=True):
    """What a simulated tool is like."""

    traits: Traits
    traces: Traces


TOOLS: Final = {
    "run": Nature(Traits(), "folder"),
    "patch": Nature(Traits(parallel=False, prepares=True), "plan"),
    "fetch": Nature(Traits(replay="safe"), "none"),
    "post": Nature(Traits(), "none"),
    "alone": Nature(Traits(parallel=False), "none"),
    "pay": Nature(Traits(), "check"),
    "talk": Nature(Traits(), "folder"),
    "tell": Nature(Traits(parallel=False), "folder"),
}
TALK: Final = "talk"
"""A command that may answer before it has ended, and goes on."""
TELL: Final = "tell"
"""Writes to such a command, and answers with what that has printed since."""
YIELDING: Final = frozenset({TALK, TELL})
LARGE: Final = 25_000
"""Words of an output that is too large for a record: its text goes to a blob."""
CUSTOM: Final = "patch"
"""The tool that the provider calls by `custom_tool_call`."""


def token(item: Item) -> str:
    """The word that tells this call from every other one the provider made; "" without one."""
    if item.get("type") == "custom_tool_call":
        return str(item.get("input", ""))
    raw = item.get("arguments")
    return _token_in(raw) if isinstance(raw, str) else ""


@lru_cache(maxsize=256)
def _token_in(raw: str) -> str:
    given = arguments({"arguments": raw}) or {}
    return str(given.get("token", given.get("input", "")))  # a custom tool's, sent as a function's


class Effect(msgspec.Struct, eq=False):
    """One effect and how far it has come."""

    call: int
    id: str
    tool: str
    token: str
    boot: int
    manner: Manner
    patience: int
    stage: Stage = "asked"
    claim: Literal["", "supervisor", "settler"] = ""
    truth: Result | None = None
    """The result that it really had."""
    stop: bool = False
    given_up: bool = False
    attached: bool = True
    """A living agent waits for it."""
    target: str = ""
    """The command that it tells something."""
    printed: int = 0
    """Bytes of output so far."""
    yielded: bool = False
    """Its call was answered while it went on."""

    @property
    def session(self) -> str:
        """The session whose supervisor watches over it."""
        return self.id.rpartition("-")[0]

    @property
    def traces(self) -> Traces:
        return TOOLS[self.tool].traces

    @property
    def ends_by_itself(self) -> bool:
        return self.manner not in ("hanging", "stubborn") or self.given_up


class Effects:
    """All effects of a world, those of dead agents and earlier boots included."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.boot = 1
        self.started: list[tuple[str, str, str]] = []
        """The log: effect id, token and tool of every start, in order."""
        self._starts: Counter[str] = Counter()
        self.all: dict[str, Effect] = {}
        self.hung = 0
        self.images = False
        """Whether some results hold an image."""
        self.yields = 0
        self.shown: dict[str, int] = {}
        """Bytes of each command's output that the living agent has shown."""

    def starts(self, word: str) -> int:
        """How often the effect of the call with this token was started."""
        return self._starts[word]

    def ask(self, call: int, item: Item, start: Start, *, hangs: bool) -> Effect | None:
        """An agent asks for an effect; None where the claim on it is taken already."""
        found = self.all.get(start.effect)
        if found is not None and found.claim:
            return None
        manners: list[Manner] = ["fast", "fast", "slow", "failing"]
        if hangs:
            manners += ["hanging", "stubborn", "stubborn"]
        manner = self.rng.choice(manners)
        self.hung += manner in ("hanging", "stubborn")
        effect = Effect(
            call=call,
            id=start.effect,
            tool=str(item["name"]),
            token=token(item),
            boot=self.boot,
            manner=manner,
            patience=self.rng.randrange(6) if manner == "slow" else 0,
        )
        if effect.tool in YIELDING:
            effect.patience = self.rng.randrange(80 if effect.tool == TALK else 3)
            effect.manner = "fast" if effect.tool == TELL else manner
            number = (arguments(item) or {}).get("target", 0)
            effect.target = f"{effect.session}-{number}" if effect.tool == TELL else ""
        self.all[effect.id] = effect
        return effect

    def under_way(self) -> list[Effect]:
        """The effects that can take a step now."""
        return [one for one in self.all.values() if one.stage != "gone" and _can_step(one)]

    def step(self, effect: Effect) -> Result | None:
        """Let it come one step further; a result is what its agent is told."""
        match effect.stage:
            case "asked":
                return self._begin(effect)
            case "claimed":
                self._start(effect)
            case "started":
                return self._go_on(effect)
            case "done" if effect.traces == "folder":
                effect.stage = "recorded"
            case _:
                return self._report(effect)
        return None

    def _begin(self, effect: Effect) -> Result | None:
        target = self.all.get(effect.target)
        if effect.tool == TELL and (
            target is None or target.stage != "started" or not target.yielded
        ):
            effect.stage, effect.attached, effect.claim = "gone", False, "settler"
            return Result(
                content=f"Nothing was written: no command {effect.target}.", status="failed"
            )
        if effect.stop:
            effect.stage, effect.attached = "gone", False
            effect.claim = "settler" if effect.traces == "folder" else ""
            return Result(content="It was stopped before it began.", status="interrupted")
        if effect.traces == "folder":
            effect.stage, effect.claim = "claimed", "supervisor"
        else:
            self._start(effect)
        return None

    def _start(self, effect: Effect) -> None:
        effect.stage = "started"
        self.started.append((effect.id, effect.token, effect.tool))
        self._starts[effect.token] += 1

    def _go_on(self, effect: Effect) -> Result | None:
        if effect.stop and effect.manner == "stubborn" and not effect.given_up:
            effect.given_up = True
            return Result(content="It did not react to being stopped.", status="interrupted")
        if effect.tool == TALK:
            effect.printed += self.rng.randint(1, 20)
            if effect.attached and not effect.stop and self.rng.random() < 0.5:
                effect.yielded, effect.attached = True, False
                return self._told(effect, effect, f"talk {effect.token}")
        if effect.patience > 0 and not effect.stop:
            effect.patience -= 1
            return None
        if effect.tool == TELL:
            return self._heard(effect)
        stopped = effect.stop and not effect.given_up
        ended = stopped or not effect.ends_by_itself
        word = "was ended" if ended else "failed" if effect.manner == "failing" else "is done"
        content = f"{effect.tool} {effect.token} {word} ({self.starts(effect.token)})"
        if self.rng.random() < 0.02:
            content += f" {effect.token}" * LARGE
        status: Literal["done", "failed"] = "done" if word == "is done" else "failed"
        effect.truth = Result(content=content, status=status)
        if effect.tool == TALK:
            effect.truth.spool = SpoolRange(effect.id, 0, effect.printed)
        if self.images and effect.tool == "fetch" and self.rng.random() < 0.5:
            image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
            effect.truth.content = [{"type": "input_text", "text": content}, image]
        effect.stage = "done"
        return None

    def _told(self, effect: Effect, command: Effect, text: str) -> Result:
        """What a command has printed since it was shown last, for the call of `effect`."""
        begin = self.shown.get(command.id, 0)
        spool = SpoolRange(command.id, begin, command.printed)
        self.shown[command.id] = command.printed
        content = f"{text} printed {begin} to {command.printed}"
        if command.stage in ("claimed", "started"):
            self.yields += 1
            number = command.id.rpartition("-")[2]
            content += f"; session ID {number} goes on"
            return Result(content=content, status="yielded", spool=spool)
        return Result(content=f"{content} and has ended", spool=spool)

    def _heard(self, effect: Effect) -> Result:
        """Something was written: what the command says to it; nobody hears where nobody waits."""
        heard, effect.stage, effect.attached = effect.attached, "recorded", False
        text = f"tell {effect.token}"
        if heard:
            effect.truth = self._told(effect, self.all[effect.target], text)
        else:
            effect.truth = Result(content=text)  # told when somebody asks
        return effect.truth

    def _report(self, effect: Effect) -> Result | None:
        effect.stage, effect.attached = "recorded", False
        result = effect.truth
        if effect.tool == TALK:
            self.shown[effect.id] = effect.printed
        if result is not None and effect.stop and not effect.given_up and result.status != "done":
            return msgspec.structs.replace(result, status="interrupted")
        return result

    def agent_died(self, *, supervisor: bool, session: str = "") -> None:
        """The agent is gone, with the supervisor or without; what each kept running stops."""
        self.shown = {}
        for effect in self.all.values():
            if session and effect.session != session:
                continue
            effect.attached = False
            if effect.traces == "folder":
                if supervisor and effect.stage != "recorded":
                    effect.stage = "gone"
            elif effect.traces != "none" and effect.stage == "done":
                effect.stage = "recorded"
            elif effect.stage != "recorded":
                effect.stage = "gone"

    def power_lost(self) -> None:
        """Nothing runs any more; a claim that was taken lately may be lost as well."""
        self.agent_died(supervisor=True)
        self.boot += 1
        for effect in self.all.values():
            if effect.claim and effect.truth is None and self.rng.random() < 0.5:
                effect.claim = ""

    def supervisor_died(self, session: str) -> list[Effect]:
        """Those whose end nobody will ever record."""
        lost = [
            one
            for one in self.all.values()
            if one.traces == "folder" and _in_supervision(one) and one.session == session
        ]
        for one in lost:
            one.stage = "gone"
        return lost

    def evidence(self, item: Item, start: Start) -> Evidence:
        """What is found of an effect whose agent has died; claims it where nobody has."""
        effect = self.all.get(start.effect)
        if effect is not None and effect.token != token(item):
            effect = None
        traces = TOOLS[str(item["name"])].traces
        if traces == "folder":
            return self._folder(effect, item, start)
        if traces == "none":
            return Evidence(found="unknown", detail="the agent ended while it ran")
        if effect is None or effect.stage == "asked" or not self.starts(effect.token):
            self._claim(effect, item, start)
            return Evidence(found="unstarted", detail="there is no trace of it")
        if effect.truth is None and traces == "plan":
            effect.truth, effect.stage = (
                Result(content=f"rolled forward {effect.token}"),
                "recorded",
            )
        if effect.truth is None:
            return Evidence(found="unknown", detail="the check does not know")
        return Evidence(found="recovered" if traces == "plan" else "answered", result=effect.truth)

    def _folder(self, effect: Effect | None, item: Item, start: Start) -> Evidence:
        if effect is not None and effect.stage == "recorded" and effect.truth is not None:
            if effect.tool == TELL:
                told = f"tell {effect.token}"
                effect.truth = self._told(effect, self.all[effect.target], told)
            elif effect.tool == TALK:
                self.shown[effect.id] = effect.printed
            return Evidence(found="recovered", result=effect.truth)
        if effect is None or not effect.claim:
            if start.boot != str(self.boot):
                return Evidence(found="unknown", detail="the machine was restarted")
            self._claim(effect, item, start)
            return Evidence(found="unstarted", detail="the agent ended before it began")
        if effect.claim == "settler":
            return Evidence(found="unstarted", detail="it was claimed")
        if effect.boot != self.boot:
            return Evidence(found="unknown", detail="the machine was restarted")
        if effect.tool == TELL:
            return Evidence(found="unknown", detail="the agent ended while it was written")
        if effect.stage in ("claimed", "started", "done"):
            return Evidence(found="running")
        if not self.starts(effect.token):
            return Evidence(found="unstarted", detail="its supervisor died before it began")
        return Evidence(found="unknown", detail="its supervisor has died", partial="half of it")

    def at_work(self, session: str) -> bool:
        """Whether a command of this session is alive."""
        return any(one.session == session and _in_supervision(one) for one in self.all.values())

    def lives(self, ident: str) -> bool:
        """Whether that command still runs under its supervisor."""
        effect = self.all.get(ident)
        return effect is not None and effect.boot == self.boot and _in_supervision(effect)

    def _claim(self, effect: Effect | None, item: Item, start: Start) -> None:
        """The settler wins: this effect will never start."""
        if effect is None:
            effect = self.ask(start.call, item, start, hangs=False)
        if effect is not None:
            effect.claim, effect.stage, effect.attached = "settler", "gone", False


def _in_supervision(effect: Effect) -> bool:
    return effect.stage in ("asked", "claimed", "started", "done")


def _can_step(effect: Effect) -> bool:
    if effect.stage == "started":
        return effect.ends_by_itself or effect.stop or not effect.attached
    if effect.stage == "recorded":
        return effect.attached
    return effect.stage != "gone"

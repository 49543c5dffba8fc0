"""A simulated world: one session, its agents one after the other, a disk, a provider, tools, a user.

One `Random(seed)` decides everything: what happens next among all that can, and how it turns out.
After so many steps the world becomes calm, and then every turn has to come to its end (P8).
"""

import errno
from bisect import bisect
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

import msgspec

from backstay.core import events as e
from backstay.core.dialect import Dialect
from backstay.core.items import message
from backstay.core.table import Phase
from backstay.core.turn import Turn
from backstay.errors import SessionError, SessionHeld, StorageError
from backstay.journal import Journal, Reading, look, session_folder, statement, uuid7
from backstay.journal.fork import fork, release
from backstay.journal.simulated import Fault, SimulatedDisk
from tests.sim import nature, others
from tests.sim.agent import BASIS, Agent, Row
from tests.sim.effects import Effect, Effects
from tests.sim.others import HOME, Branch, Forking, Releasing
from tests.sim.promises import Ledger, Violation
from tests.sim.provider import Provider

MOST_CALM_STEPS: Final = 3000
SHORT: Final = 20.0
"""Seconds; a longer wait outlasts much of what else happens."""

PACED: Final = (
    "effect", "deadline", "wake", "prompt", "interrupt", "note", "kill",
)  # fmt: skip
"""Steps that are rare in one world and frequent in another, so that all meet in some."""

Step = tuple[float, str, Callable[[], str]]
"""Its weight, its name, and what does it and says what came of it."""


class Plan(msgspec.Struct, frozen=True):
    """What makes a run: the same plan, the same run."""

    seed: int
    steps: int | None = None
    """Before the world becomes calm; drawn if None."""
    faults: frozenset[str] | None = None
    """Which of `nature.FAULTS` may happen; drawn if None."""


class Parts(msgspec.Struct, frozen=True):
    """What is under test; a mutant replaces one of them."""

    turn: type[Turn] = Turn
    journal: type[Journal] = Journal
    agent: type[Agent] = Agent
    fork: Forking = fork
    release: Releasing = release


class World:
    """All of it. `run` raises `Violation` where a promise is not kept."""

    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.rng = Random(plan.seed)
        self.parts = parts
        kinds = plan.faults if plan.faults is not None else nature.kinds(plan.seed, self.rng)
        self._kinds = kinds
        self.steps = plan.steps if plan.steps is not None else self.rng.randint(40, 150)
        if plan.steps is None and "yields" in kinds:
            self.steps += 100  # a command that goes on has to be told something before it ends
        self.pace = {name: self.rng.choice((0.2, 1, 1, 5)) for name in PACED}
        self.rules = nature.rules(plan.seed, kinds)
        self.effects = Effects(self.rng)
        self.effects.images = "histories" in kinds
        self.provider = Provider(self.rng, self._kinds, most=2 + self.steps // 8)
        self.ledger = Ledger(self.effects, self.rules)
        self.now = 1_760_000_000.0
        self.disk = SimulatedDisk(self.clock)
        self.disk.mkdir(HOME)
        self.disk.sync_directory("/")
        self.agent: Agent | None = None
        self.session = ""
        self.calm = False
        self.faults: Counter[str] = Counter()
        self.events = 0
        self.rows: set[Row] = set()
        self.trace: list[tuple[str, str]] = []
        self.family: list[Branch] = []
        """The other sessions."""
        self._settings = ("m", "")
        self._lost = False
        self._prompts = 0
        self._posts = 0
        self._forks = 0
        if self.rules.dialect != Dialect():
            self.faults["dialect"] += 1

    def clock(self) -> float:
        """Unix seconds; they pass step by step."""
        return self.now

    def run(self) -> None:
        """All steps, then calm, then the end."""
        for _ in range(self.steps):
            self._step()
        self.calm = self.provider.calm = True
        if self.agent is not None:
            self.agent.hangs = False
        self._end_well()
        while self.family:
            self._turn_to(len(self.family) - 1)
            self.family.pop()
            self._end_well()

    def _end_well(self) -> None:
        """All that was asked of the session comes to its end, and one more prompt does."""
        self._settle_down()
        self.provider.forgive()
        last = self._last_prompt()
        self._settle_down()
        self._judge_end(last)

    def _step(self) -> bool:
        """One of the steps that can be taken; False if there is none."""
        steps = self._possible()
        if not steps:
            return False
        name, take = self._chosen(steps)
        self.now += 0.25
        self.events += 1
        self.trace.append((name, ""))
        self.trace[-1] = (name, take())
        return True

    def _chosen(self, steps: list[Step]) -> tuple[str, Callable[[], str]]:
        """One of them, drawn by weight and pace."""
        total, sums, pace = 0.0, [], self.pace
        for weight, name, _ in steps:
            total += weight * pace[name] if name in pace else weight
            sums.append(total)
        _, name, take = steps[bisect(sums, self.rng.random() * total, 0, len(sums) - 1)]
        return name, take

    def _possible(self) -> list[Step]:
        agent = self.agent
        if agent is None:
            steps: list[Step] = [(2, "open", self._open), *self._of_family()]
        else:
            steps = self._of_agent(agent)
            if agent.machine.phase is Phase.BROKEN and not agent.inbox:
                steps.append((3, "exit", self._exit))
        steps += [(2, "effect", partial(self._effect, one)) for one in self.effects.under_way()]
        if not steps and agent and agent.machine.phase is not Phase.IDLE:
            raise Violation("P8", f"the session is {agent.machine.phase} for ever")
        if not self.calm:
            steps += self._of_user(agent) if agent else []
            steps += self._of_fate(agent)
            steps += self._of_others(agent)
        return steps

    # What an agent can do next

    def _of_agent(self, agent: Agent) -> list[Step]:
        steps: list[Step] = []
        if agent.inbox:
            steps.append((6, "handle", agent.handle))
        if agent.writable == "write":
            steps.append((4, "write", agent.write))
        elif agent.writable == "sync":
            steps.append((4, "sync", agent.sync))
        if agent.reply is not None:
            steps.append((4, "stream", lambda: agent.stream(self.rng.random())))
        if agent.summary is not None:
            steps.append((3, "summary", lambda: agent.summarized(self.rng.random())))
        if agent.done:
            steps.append((2, "discard", lambda: agent.discard(self.disk)))
        if agent.looked != self._posts and agent.machine.phase not in (Phase.CLOSED, Phase.BROKEN):
            steps.append((1, "look", lambda: agent.look(self.disk, self._posts)))
        if agent.preparing:
            fails = not self.calm and self.rng.random() < 0.1
            steps.append((3, "prepared", lambda: agent.prepared(0, fails=fails)))
        if agent.probing:
            at = self.rng.randrange(len(agent.probing))
            steps.append((3, "settled", lambda: agent.settled(at)))
        for at, wait in enumerate(agent.waits):
            stray = agent.machine.phase not in (Phase.WAITING, Phase.COMPACTING)
            weight = 0.5 if stray else 1 if wait.seconds < SHORT else 0.1
            steps.append((weight, "wake", partial(agent.wake, at)))
        return steps + self._of_deadlines(agent)

    def _of_deadlines(self, agent: Agent) -> list[Step]:
        steps: list[Step] = []
        for call in sorted(agent.deadlines):
            hangs = call in agent.calls and self._hangs(agent.calls[call])
            if hangs or not self.calm:
                stray = call not in agent.calls or agent.calls[call].given_up
                rests = agent.machine.phase in (Phase.WAITING, Phase.IDLE)
                weight = 0.3 if hangs else (2 if rests else 0.1) if stray else 0.1
                steps.append((weight, "deadline", partial(agent.deadline, call)))
        return steps

    def _hangs(self, effect: Effect) -> bool:
        return effect.stage == "started" and not effect.ends_by_itself

    def _effect(self, effect: Effect) -> str:
        starts, attached = len(self.effects.started), effect.attached
        result = self.effects.step(effect)
        if len(self.effects.started) > starts:
            for branch in [self._here(), *self.family]:
                if branch.session == effect.session:
                    branch.ledger.start(effect)
        if result is not None and attached and self.agent is not None:
            self.agent.report(effect, result)
        return f"{effect.id[-4:]} {effect.tool} {effect.token} {effect.manner} {effect.stage}"

    # What the user does

    def _of_user(self, agent: Agent) -> list[Step]:
        phase = agent.machine.phase
        if phase in (Phase.CLOSED, Phase.BROKEN):
            return []
        idle = phase is Phase.IDLE
        steps: list[Step] = [(0.3 if phase is Phase.COMPACTING else 0.05, "note", self._note)]
        if self._prompts < 4 + self.steps // 20 and (idle or "prompts" in self._kinds):
            steps.append((2 if idle else 0.1, "prompt", self._prompt))
        quiet = not agent.inbox and not agent.asked
        if quiet and phase in (Phase.IDLE, Phase.SETTLING):
            steps.append((0.7, "continue", self._continue))
        if "lengths" in self._kinds and not agent.inbox and phase in (Phase.IDLE, Phase.SETTLING):
            steps.append((0.3, "compact", self._compact))
        if "interrupts" in self._kinds:
            waits = phase in (Phase.WAITING, Phase.DRAINING)  # where people lose their patience
            weight = 1 if waits else 0.05 if idle else 0.2
            steps.append((weight, "interrupt", self._interrupt))
        return steps

    def _prompt(self) -> str:
        self._prompts += 1
        text = f"prompt {self._prompts}"
        model, provider = self._choice()
        self._post(e.PromptGiven([message("user", text)], BASIS, model, provider))
        return text

    def _choice(self) -> tuple[str, str]:
        """The model and the provider that the user wants now."""
        if "dialects" in self._kinds and self.rng.random() < 0.1:
            self._settings = self.rng.choice((("m", ""), ("other", "p"), ("m", "q")))
        return self._settings

    def _continue(self) -> str:
        if self.agent is not None:
            self.agent.asked += 1
        self._post(e.Continued(*self._choice()))
        return ""

    def _compact(self) -> str:
        self._post(e.CompactionAsked())
        return ""

    def _interrupt(self) -> str:
        self.faults["interrupt"] += 1
        self._post(e.Interrupted())
        return ""

    def _note(self) -> str:
        item = message("developer", f"a note {self.events}") if self.rng.random() < 0.5 else None
        self._post(e.Noted("told", "by the driver", item))
        return "with an item" if item else ""

    def _post(self, event: e.Event) -> None:
        if self.agent is not None:
            self.agent.inbox.append(event)

    # What fate does

    def _of_fate(self, agent: Agent | None) -> list[Step]:
        steps: list[Step] = []
        if "losses" in self._kinds:
            steps.append((0.12, "power loss", self._lose_power))
        if "disk" in self._kinds:
            steps += self._of_disk(agent)
        if agent is None:
            return steps
        if "kills" in self._kinds:
            steps.append((0.12, "kill", self._kill))
        if "rivals" in self._kinds:
            steps.append((0.1, "rival", self._rival))
        if "supervisor" in self._kinds:
            steps.append((0.25, "supervisor dies", self._kill_supervisor))
        if agent.machine.phase is Phase.IDLE and not self._of_agent(agent):
            steps.append((0.3, "close", self._close))
        return steps

    def _of_disk(self, agent: Agent | None) -> list[Step]:
        if agent is None:
            return [(0.3, "open", self._fail_to_open)]
        if agent.writable == "write":
            return [(0.2, "write", self._fail_to_write)]
        if agent.writable == "sync":
            return [(0.2, "sync", self._fail_to_sync)]
        return []

    def _fail_to_write(self) -> str:
        agent = self._living()
        code = self.rng.choice((errno.ENOSPC, errno.EIO, errno.EDQUOT))
        at = len(self.disk.calls)
        self.disk.faults[at] = Fault(code, written=self.rng.choice((0, 1, 40, 300, 100_000)))
        if self.rng.random() < 0.3:
            self.disk.faults[at + 1] = Fault(errno.EIO)
        self.faults["disk"] += 1
        told = agent.write()
        self.disk.faults.clear()
        return told

    def _fail_to_sync(self) -> str:
        at = len(self.disk.calls)
        self.disk.faults[at + self.rng.choice((0, 0, 1))] = Fault(errno.EIO)
        self.faults["disk"] += 1
        told = self._living().sync()
        self.disk.faults.clear()
        return told

    def _fail_to_open(self) -> str:
        self.disk.faults[len(self.disk.calls) + self.rng.randrange(4)] = Fault(errno.EIO)
        self.faults["disk"] += 1
        try:
            return self._open()
        finally:
            self.disk.faults.clear()

    def _kill(self) -> str:
        self.faults["kill"] += 1
        return self._exit()

    def _exit(self) -> str:
        """The process ends at once; what it had written is there."""
        supervisor = self.rng.random() < 0.3
        self.effects.agent_died(supervisor=supervisor, session=self.session)
        self.disk = self.disk.kill()
        self.agent = None
        return "with its supervisor" if supervisor else ""

    def _lose_power(self) -> str:
        self.faults["loss"] += 1
        self.effects.power_lost()
        self.disk = self.disk.crash(self.rng)
        self.agent, self._lost = None, True
        for branch in self.family:
            branch.lost = True
        return ""

    def _kill_supervisor(self) -> str:
        lost = self.effects.supervisor_died(self.session)
        for effect in lost:
            if effect.attached:
                effect.attached = False
                result = e.Result(content="Its supervisor has died.", status="unknown")
                self._living().report(effect, result)
        self.faults["supervisor"] += len(lost) > 0
        return f"{len(lost)} effects lost"

    def _rival(self) -> str:
        """P9: a second process that opens the session is refused, and changes nothing."""
        self.faults["rival"] += 1
        path = self._living().journal.path
        size = self.disk.stat(path).size
        try:
            journal, _ = self.parts.journal.open(self.disk, self._folder(), self.clock)
        except SessionHeld:
            if self.disk.stat(path).size != size:
                raise Violation("P9", "a refused rival changed the journal") from None
            return "is refused"
        journal.close()
        raise Violation("P9", "two processes write one session")

    def _close(self) -> str:
        """The user ends the agent in order; the lock is given up."""
        self._living().journal.close()
        self.effects.agent_died(supervisor=True, session=self.session)
        self.agent = None
        return ""

    # What other processes do

    def _of_others(self, agent: Agent | None) -> list[Step]:
        if not self.session or not self.ledger.durable:
            return []
        steps: list[Step] = []
        if "letters" in self._kinds and self._posts < 3 + self.steps // 25:
            steps.append((0.25, "letter", self._letter))
        if "forks" in self._kinds and self._forks < 4:
            steps.append((0.15, "fork", self._fork))
            if agent is None and self.family and not self.effects.at_work(self.session):
                steps.append((0.4, "delete", self._delete))
        return steps

    def _of_family(self) -> list[Step]:
        if not self.family or self.calm:
            return []
        return [(1, "turn to", lambda: self._turn_to(self.rng.randrange(len(self.family))))]

    def _here(self) -> Branch:
        return Branch(self.session, self.ledger, self._lost)

    def _letter(self) -> str:
        self.faults["letter"] += 1
        self._posts += 1
        return others.letter(self.disk, self._here(), f"letter {self._posts}", self.now, self.rng)

    def _fork(self) -> str:
        if self._lost:
            try:
                reading = look(self.disk, self._folder())
            except SessionError as error:
                return f"nothing: {error}"
            records, damaged = reading.records, bool(reading.damage)
            self.ledger.open(records, records, power_lost=True, damaged=damaged)
            self._lost = False
        made = others.fork(self.parts.fork, self.disk, self._here(), self.now, self.rng)
        if made is None:
            return "no turn has ended"
        self.faults["fork"] += 1
        self._forks += 1
        self.family.append(made)
        return made.session

    def _turn_to(self, at: int) -> str:
        """The user goes on with another session."""
        here, there = self._here(), self.family[at]
        self.session, self.ledger, self._lost = there.session, there.ledger, there.lost
        self.family[at] = here
        return self.session

    def _delete(self) -> str:
        """The session that nobody writes is deleted; its forks go on."""
        self.faults["deletion"] += 1
        gone = self.session
        forks = others.delete(self.parts.release, self.disk, self._here(), self.now)
        self._turn_to(self.rng.randrange(len(self.family)))
        self.family = [one for one in self.family if one.session != gone]
        return f"{gone}, with {len(forks)} forks"

    def _living(self) -> Agent:
        assert self.agent is not None
        return self.agent

    # Beginning

    def _folder(self) -> str:
        return session_folder(HOME, self.session)

    def _open(self) -> str:
        """P7: whatever happened, the session opens; only what was never there may be missing."""
        if not self.session:
            return self._create()
        failing = bool(self.disk.faults)
        try:
            journal, reading = self.parts.journal.open(self.disk, self._folder(), self.clock)
        except StorageError as error:
            if failing:
                return f"fails: {error}"
            return self._nothing_to_open(error)
        except SessionError as error:
            return self._nothing_to_open(error)
        self.disk.faults.clear()
        whole = reading if reading.whole else look(self.disk, self._folder())
        damaged = bool(reading.damage or whole.damage)
        self.ledger.open(whole.records, reading.records, power_lost=self._lost, damaged=damaged)
        self._lost = False
        opened = e.Opened(
            reading.records,
            self.session,
            "/place",
            BASIS,
            next=reading.next_n,
            damage=statement(reading.news),
        )
        self._begin(journal, opened, reading)
        return f"{len(reading.records)} records; {statement(reading.news)[:80]}"

    def _nothing_to_open(self, error: Exception) -> str:
        if isinstance(error, SessionHeld) or self.ledger.must_open(power_lost=self._lost):
            raise Violation("P7", f"the session does not open: {error!r}") from error
        self.session = ""
        return f"nothing: {type(error).__name__}"

    def _create(self) -> str:
        self.session = uuid7(self.now, self.rng.randbytes(10))
        self.ledger = Ledger(self.effects, self.rules)
        self._lost = False
        try:
            journal = self.parts.journal.create(self.disk, HOME, self.session, self.clock)
        except StorageError as error:
            self.session = ""
            if not self.disk.faults:
                raise Violation("P7", f"a session can't be made: {error}") from error
            return f"fails: {error}"
        self._begin(journal, e.Created(self.session, "/place", BASIS))
        return self.session

    def _begin(self, journal: Journal, event: e.Event, reading: Reading | None = None) -> None:
        machine = self.parts.turn(self.rules)
        agent = self.parts.agent(machine, journal, self.ledger, self.effects, self.provider)
        agent.rows = self.rows
        agent.hangs = not self.calm and "hangs" in self._kinds
        agent.inbox.append(event)
        self.agent = agent
        agent.handle()
        if reading is not None:
            agent.know_commands(reading.records, self.session)

    # The end

    def _settle_down(self) -> None:
        """Nothing goes wrong any more: every turn ends."""
        for _ in range(MOST_CALM_STEPS):
            if not self._step():
                return
        raise Violation("P8", f"after {MOST_CALM_STEPS} calm steps there is no end")

    def _last_prompt(self) -> str:
        text = self._prompt()
        self.trace.append(("prompt", f"{text}, the last one"))
        return text

    def _judge_end(self, last: str) -> None:
        """The last prompt's turn completed, and all that was acknowledged is there once more."""
        agent = self._living()
        prompt = max(self.ledger.prompts, key=lambda one: one.n)
        ends = [one.outcome for one in agent.finished if one.turn == prompt.n]
        if ends != ["completed"]:
            raise Violation("P8", f"{last} ended as {ends}")
        agent.journal.close()
        self.agent = None
        self._open()
        self.ledger.end()
        self._living().journal.close()
        self.agent = None

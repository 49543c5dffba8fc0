"""One scenario's stage: a fresh folder, a fault server with its model, the agent, and what is seen.

What is seen is seen from outside: what the server was sent, what the ledger holds, how the agent
ended. A finding is one line that says what did not hold.
"""

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Self

from msgspec import Struct

from backstay.chaos.judge import items_of, judge
from backstay.chaos.server import ChaosServer, Request
from backstay.chaos.trial import processes
from backstay.chaos.trial.agent import Agent, Ended, Recipe, Run, wait_for
from backstay.chaos.trial.commands import Bench, Command
from backstay.chaos.trial.model import Model, Step, answers, holds
from backstay.chaos.trial.shape import Shape, offered

JSON = dict[str, Any]
PROMPT: Final = "Run the commands that you need, then say that all is done."
GO_ON: Final = "Go on."
ELSEWHERE: Final = ("changed_prefix", "changed_instructions", "changed_tools", "item_id")
"""What has a scenario of its own, and is not held against the agent in every other one."""


class Skipped(Exception):
    """The agent is made so that the scenario can't happen to it; the message says how."""


class Broken(Exception):
    """The scenario can't go on, because of what the agent did; the message is the finding."""


class Traits(Struct, frozen=True):
    """What the first run, without a fault, taught about the agent."""

    shape: Shape
    streams: bool
    """It runs a command while the response that asks for it is still open."""


class Stage:
    """Used as a context: on leaving, everything that was started is ended."""

    def __init__(self, recipe: Recipe, traits: Traits, root: str) -> None:
        self.mark = os.path.basename(root)
        self.traits = traits
        self.timeout = recipe.timeout
        self.agent = Agent(recipe, root, self.mark)
        self.bench = Bench(os.path.join(self.agent.cwd, "trial"))
        self.server = ChaosServer([])
        self.model = Model(traits.shape)
        self.never = os.path.join(root, "never")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.agent.close()
        self.server.stop()

    def play(
        self,
        *steps: Step,
        opening: Sequence[JSON] = (),
        asides: Sequence[str] = (),
        strict: bool = True,
    ) -> None:
        """Let the model ask for these steps, and serve it."""
        self.serve(Model(self.traits.shape, steps, opening, asides), strict=strict)

    def serve(self, model: Any, *, strict: bool = True) -> None:
        """Serve any model."""
        self.model = model
        self.server = ChaosServer(model, strict=strict)
        self.server.start()
        self.agent.url = self.server.url

    # What is done

    def run(self) -> Ended:
        """The agent on the prompt, to its end."""
        return self.agent.start(PROMPT).end(self.timeout)

    def resumed(self, prompt: str = GO_ON) -> Ended:
        """The same session once more, to its end."""
        return self.agent.resume(prompt).end(self.timeout)

    def started(self, until: Callable[[], Any], what: str) -> Run:
        """The agent on the prompt, once `until` holds; `what` says what that is. Raises Broken."""
        run = self.agent.start(PROMPT)
        wait_for(lambda: until() or not run.running, self.timeout)
        if not until():
            raise Broken(f"{what}: did not happen; {run.end(0).last_words}")
        wait_for(lambda: self.agent.can_name_session or not run.running, 3)
        if not self.agent.can_name_session:
            raise Skipped("it names its session only at its end: see --session-from")
        return run

    def kill(self, run: Run) -> None:
        """`kill -9` the agent, and none of the processes that run the model's commands."""
        run.kill(self.mark, self.bench.folder)

    # What is seen

    @property
    def requests(self) -> list[Request]:
        """The requests that offer tools, in order."""
        return [one for one in self.server.requests if offered(_body(one))]

    @property
    def inputs(self) -> list[list[JSON]]:
        """Their inputs, item by item."""
        return [items_of(_body(one)) for one in self.requests]

    def told(self, command: Command) -> list[str]:
        """What the last request says became of a command."""
        return answers(self.inputs[-1], command) if self.requests else []

    def tools_alive(self) -> list[processes.Running]:
        """The processes that still run a command of the model's."""
        return [one for one in processes.marked(self.mark) if self.bench.folder in one.words]

    def found(self, ended: Ended, *once: Command, ignore: Collection[str] = ()) -> list[str]:
        """What did not hold, where the turn should have come to its end and each command run once."""
        return [
            *self.how_ended(ended),
            *self.how_often(*once),
            *self.lost(*once),
            *self.judged(ignore),
        ]

    def how_ended(self, ended: Ended) -> list[str]:
        """Findings about a run that should have completed its turn."""
        count = f"{len(self.requests)} request{'s' * (len(self.requests) != 1)}"
        if ended.code is None:
            return [f"it did not end within {self.timeout:g} s, after {count}: {ended.last_words}"]
        if ended.code:
            return [f"it gave up with exit code {ended.code} after {count}: {ended.last_words}"]
        if not self.model.concluded:
            return [f"it ended after {count}, before the model's last word: {ended.last_words}"]
        return []

    def how_often(self, *once: Command) -> list[str]:
        """Findings about commands that should have run once."""
        counts = [(one.name, self.bench.begun(one)) for one in once]
        return [
            f"{name} ran {count} times" if count else f"{name} never ran"
            for name, count in counts
            if count != 1
        ]

    def lost(self, *commands: Command) -> list[str]:
        """Findings about commands that ran and whose own output the last request lacks."""
        last = self.inputs[-1] if self.requests else []
        return [
            f"the output of {one.name} is lost: {_said(answers(last, one))}"
            for one in commands
            if self.bench.begun(one) and not holds(last, one)
        ]

    def judged(self, ignore: Collection[str] = ()) -> list[str]:
        """Findings about the requests themselves."""
        refused = [f"refused: {one.refusal}" for one in self.requests if one.refusal]
        verdict = judge(self.requests, ignore={*ELSEWHERE, *ignore})
        wrong = [
            f"request {one.request}: {one.text} ({one.code})"
            for one in verdict.findings
            if one.level == "error"
        ]
        return [*dict.fromkeys(refused), *wrong[:5]]

    def judged_prefix(self) -> list[str]:
        """Findings about requests that do not extend the one before."""
        codes = ("changed_prefix", "changed_instructions", "changed_tools")
        found = judge(self.requests).findings
        return [f"request {one.request}: {one.text}" for one in found if one.code in codes]


def _said(texts: list[str]) -> str:
    if not texts:
        return "the last request has no word of it"
    return f"the model is told {' '.join(texts[-1].split())[:160]!r}"


def _body(request: Request) -> JSON:
    return request.body if isinstance(request.body, dict) else {}

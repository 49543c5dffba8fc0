"""The first run, without a fault: what the agent is like, and whether it can be tried at all.

An agent that can't be run, does not reach the server, or does not run the command that it is asked
for is no finding about faults: it is told as a mistake in how the trial was set up.
"""

from typing import Any

from backstay.chaos import build
from backstay.chaos.script import ScriptError
from backstay.chaos.trial.agent import Ended, Recipe
from backstay.chaos.trial.model import Model, Step, holds
from backstay.chaos.trial.shape import Shape, found, offered
from backstay.chaos.trial.stage import GO_ON, Stage, Traits

JSON = dict[str, Any]
OPEN_SECONDS = 4
"""How long the first response stays open, to see whether its command runs meanwhile; an event every
second shows that it is alive."""
_ALIVE: JSON = {
    "type": "response.in_progress",
    "sequence_number": 2,
    "response": {
        "id": "resp_probe",
        "object": "response",
        "created_at": 0,
        "status": "in_progress",
        "model": "probe",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    },
}


class _Probe:
    """A model that learns the shape of the agent's tool from its first request."""

    def __init__(self, stage: Stage, tool: str | None, template: Any) -> None:
        self.command = stage.bench.command("probe")
        self.tool, self.template = tool, template
        when = {"file": self.command.done, "seconds": 1.0}
        self.waits = [build.unknown(_ALIVE, before="terminal", when=when)] * OPEN_SECONDS
        self.model: Model | None = None
        self.problem: ScriptError | None = None

    def __call__(self, body: JSON) -> JSON:
        if self.model is None and (offered(body) or self.tool):
            self._learn(body)
        if self.model is None:
            return build.response(build.message("A trial"))
        return self.model(body)

    def _learn(self, body: JSON) -> None:
        try:
            shape = found(body, self.tool, self.template)
        except ScriptError as error:
            self.problem = error
            return
        waits = self.waits
        step = Step([self.command], lambda *calls: build.response(*calls, fault=waits))
        self.model = Model(shape, [step])

    @property
    def concluded(self) -> int:
        return self.model.concluded if self.model else 0


def probe(recipe: Recipe, tool: str | None, template: Any, root: str) -> Traits:
    """What the agent is like. Raises ScriptError with what to do if it can't be tried."""
    with Stage(recipe, Traits(Shape("", {}), streams=False), root) as stage:
        model = _Probe(stage, tool, template)
        stage.serve(model)
        _check(stage, model, stage.run())
        if recipe.resume:
            _check_resume(stage, model)
        assert model.model is not None  # noqa: S101  checked by _check
        return Traits(model.model.shape, streams=len(stage.server.problems) < OPEN_SECONDS)


def _check(stage: Stage, model: _Probe, ended: Ended) -> None:
    """Raise ScriptError unless the agent did what it was asked for."""
    if model.problem:
        raise model.problem
    if not stage.server.requests:
        raise ScriptError(
            f"the command sent no request to {stage.server.url} (OPENAI_BASE_URL, or {{url}}); "
            f"{_how(stage, ended)}"
        )
    if not stage.requests:
        raise ScriptError("the command's requests offer no tools, so it can't be asked to run one")
    if not stage.bench.begun(model.command):
        said = stage.told(model.command)
        answer = f"it answered {said[-1][:200]!r}" if said else _how(stage, ended)
        raise ScriptError(f"the agent ran no command: {answer}; see --tool and --tool-shape")
    if not holds(stage.inputs[-1], model.command) or stage.how_ended(ended):
        raise ScriptError(f"the turn did not complete without any fault: {_how(stage, ended)}")


def _check_resume(stage: Stage, model: _Probe) -> None:
    if not stage.agent.can_name_session:
        raise ScriptError("no session id was found in what the agent printed; see --session-from")
    before = len(stage.requests)
    ended = stage.resumed(GO_ON)
    if len(stage.requests) == before:
        raise ScriptError(f"the --resume command sent no request: {_how(stage, ended)}")
    if not holds(stage.inputs[before], model.command):
        raise ScriptError(
            f"the --resume command does not go on with the session {stage.agent.session}: its "
            "request lacks what was said before"
        )


def _how(stage: Stage, ended: Ended) -> str:
    if ended.code is None:
        return f"it did not end within {stage.timeout:g} s: {ended.last_words}"
    return f"it ended with exit code {ended.code}: {ended.last_words}"

"""`backstay chaos test`: an agent's own command against a matrix of faults.

`scenario` says what a scenario is, `streams` and `kills` are the scenarios; `stage` is what one of
them plays on: `agent` (the process), `model` (what the server says), `commands` (what the model asks
for, and the ledger). `probe` finds out how to speak to the agent, `report` tells the result.
"""

import os
import shutil
import sys
import tempfile
import time

from backstay.chaos.script import ScriptError
from backstay.chaos.trial import kills, streams  # noqa: F401  their import fills the list
from backstay.chaos.trial.options import USAGE, Options, parse
from backstay.chaos.trial.probe import probe
from backstay.chaos.trial.report import Result, Trial, about, line, to_json, to_junit
from backstay.chaos.trial.scenario import SCENARIOS, Scenario
from backstay.chaos.trial.stage import Broken, Skipped, Stage, Traits

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Run a trial; returns the exit code (0 all held, 1 something did not, 2 usage)."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    if "-h" in own or "--help" in own:
        print(USAGE, end="")
        return 0
    try:
        options = parse(argv)
        wanted = _wanted(options)
        if options.listed:
            print("\n".join(f"{one.name:<26} {one.says}" for one in wanted))
            return 0
        return _try(options, wanted)
    except ScriptError as error:
        print(f"backstay chaos test: {error}", file=sys.stderr)
        return 2


def _wanted(options: Options) -> list[Scenario]:
    names = [one.name for one in SCENARIOS]
    for pattern in (*options.only, *options.skip):
        if not any(Options(recipe=options.recipe, only=[pattern]).wants(name) for name in names):
            raise ScriptError(f"no scenario is called {pattern}; --list names them")
    ordered = sorted(SCENARIOS, key=lambda one: one.needs != "")
    return [one for one in ordered if options.wants(one.name)]


def _try(options: Options, wanted: list[Scenario]) -> int:
    root = os.path.realpath(tempfile.mkdtemp(prefix="backstay-chaos-"))
    out = sys.stderr if options.json else sys.stdout
    try:
        traits = probe(options.recipe, options.tool, options.template, _folder(root, "probe"))
        print(f"{about(traits)}\n", file=out, flush=True)
        trial = Trial(
            command=options.recipe.command,
            resume=options.recipe.resume,
            traits=traits,
            results=[],
        )
        for one in wanted:
            trial.results.append(_played(one, options, traits, root))
            print(line(trial.results[-1]), file=out, flush=True)
    finally:
        if not options.keep:
            shutil.rmtree(root, ignore_errors=True)
    print(f"\n{trial.summary}", file=out)
    if options.json:
        print(to_json(trial))
    if options.junit:
        _write(options.junit, to_junit(trial))
    return 1 if trial.count("broken") else 0


def _played(scenario: Scenario, options: Options, traits: Traits, root: str) -> Result:
    """A scenario as often as it was asked for; it held if it held every time."""
    result = Result(
        name=scenario.name,
        says=scenario.says,
        verdict="held",
        findings=[],
        held=0,
        runs=0,
        requests=0,
        seconds=0.0,
    )
    began = time.monotonic()
    impossible = _impossible(scenario, options, traits)
    if impossible:
        return _ended(result, "skipped", [impossible])
    for _ in range(options.repeat):
        folder = _folder(root, scenario.name)
        if options.keep:
            result.folders.append(folder)
        result.runs += 1
        with Stage(options.recipe, traits, folder) as stage:
            try:
                found = scenario.play(stage)
            except Broken as finding:
                found = [str(finding)]
            except Skipped as reason:
                return _ended(result, "skipped", [str(reason)])
            result.requests += len(stage.server.requests)
        result.held += not found
        result.findings += [text for text in found if text not in result.findings]
        result.seconds = time.monotonic() - began
    return _ended(result, "broken" if result.findings else "held", result.findings)


def _impossible(scenario: Scenario, options: Options, traits: Traits) -> str:
    """Why a scenario can't happen to this agent; empty if it can."""
    if scenario.needs and not options.recipe.resume:
        return "it was not told how to resume: see --resume"
    if scenario.needs == "streaming" and not traits.streams:
        return "it runs its commands only once the response is complete"
    return ""


def _ended(result: Result, verdict: str, findings: list[str]) -> Result:
    result.verdict = "held" if verdict == "held" else "broken" if verdict == "broken" else "skipped"
    result.findings = findings
    return result


def _folder(root: str, name: str) -> str:
    """A fresh folder, whose name is also the mark of what runs in it."""
    return tempfile.mkdtemp(prefix=f"trial-{name}-", dir=root)


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ScriptError(f"--junit {path}: {error.strerror}") from None

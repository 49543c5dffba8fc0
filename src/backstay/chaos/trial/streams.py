"""Scenarios in which the provider misbehaves and the agent lives: streams, events, statuses, sizes."""

from typing import Any

from backstay.chaos import build
from backstay.chaos.trial.commands import Command
from backstay.chaos.trial.model import How, Step, holds
from backstay.chaos.trial.scenario import SCENARIOS, Scenario, scenario
from backstay.chaos.trial.stage import Skipped, Stage

JSON = dict[str, Any]
BIG = 8_000_000
BOUND = 1_000_000
"""Bytes of a request that holds a big output: far more than any bound that makes sense."""
_THIRD_CALL = build.at("call", nth=3)


def _cut(name: str, what: str, kind: str, **options: Any) -> None:
    """A scenario in which the response ends early, behind a call whose command is done."""

    def play(stage: Stage) -> list[str]:
        command = stage.bench.command("work")
        when = {"file": command.done, "seconds": 10 if stage.traits.streams else 0.1}
        fault = build.fault(kind, after="call", when=when, **options)
        stage.play(Step([command], lambda *calls: build.response(*calls, fault=fault)))
        ended = stage.run()
        if kind == "stall" and ended.code is None and len(stage.requests) == 1:
            raise Skipped(
                f"it waits for a silent stream longer than {stage.timeout:g} s (--timeout)"
            )
        return [*stage.found(ended, command), *_not_in_retry(stage, command)]

    says = f"{what} behind a call whose command is done: it ran once, its output is in the retry."
    SCENARIOS.append(Scenario(name, says, play))


def _not_in_retry(stage: Stage, command: Command) -> list[str]:
    """Whether the request right behind the cut lacks what was done before it."""
    done_before = stage.traits.streams and not stage.server.problems
    if done_before and len(stage.inputs) > 1 and not holds(stage.inputs[1], command):
        return ["the retry was sent without the output, though the command was done before the cut"]
    return []


_cut("cut-close", "The connection closes", "close")
_cut("cut-reset", "The connection is reset", "reset")
_cut("cut-half-event", "The connection closes within an event", "half_event")
_cut("cut-half-chunk", "The connection closes within an HTTP chunk", "close", partial_chunk=True)
_cut("cut-clean-end", "The body ends properly but without a terminal event", "clean_end")
_cut("cut-stall", "The stream falls silent", "stall")
_cut("ends-failed", "The response ends as failed (server_error)", "failed")
_cut("error-nested", "The stream ends with an error event", "error", shape="nested")
_cut("error-flat", "The stream ends with an error event of the flat shape", "error", shape="flat")


@scenario(
    "cut-at-once",
    "The connection closes at once behind a call, its command still running: it runs once, and its "
    "output reaches the model.",
)
def _cut_at_once(stage: Stage) -> list[str]:
    command = stage.bench.command("work", seconds=1.5)
    fault = build.cut(after="call")
    stage.play(Step([command], lambda *calls: build.response(*calls, fault=fault)))
    return stage.found(stage.run(), command)


@scenario(
    "three-parallel-cut",
    "Three calls at once, one slow, and the connection closes behind the third: each runs once, and "
    "all three outputs reach the model.",
)
def _three_parallel(stage: Stage) -> list[str]:
    commands = [stage.bench.command(name) for name in ("first", "second")]
    commands.append(stage.bench.command("slow", seconds=1.5))
    fault = build.cut(after=_THIRD_CALL)
    stage.play(Step(commands, lambda *calls: build.response(*calls, fault=fault)))
    return stage.found(stage.run(), *commands)


@scenario(
    "cut-before-headers",
    "The connection closes before the answer begins: the request is made again.",
)
def _before_headers(stage: Stage) -> list[str]:
    command = stage.bench.command("work")
    fault = build.cut(before="headers")
    stage.play(Step([command], lambda *calls: build.response(*calls, fault=fault)))
    return stage.found(stage.run(), command)


@scenario(
    "truncated-call",
    "A call whose arguments were cut by the token limit does not run, and is not sent back broken.",
)
def _truncated(stage: Stage) -> list[str]:
    command = stage.bench.command("work")
    call = stage.traits.shape.call(command.line, "call_truncated")
    stage.play(opening=[build.response(call, fault=build.truncated_call())])
    ended = stage.run()
    count = stage.bench.begun(command)
    ran = [f"the truncated command ran {count} times"] if count else []
    endless = stage.how_ended(ended) if ended.code is None else []
    return [*ran, *endless, *stage.judged()]


@scenario(
    "repeated-event",
    "The provider sends the event that ends a call twice: the command runs once.",
)
def _repeated(stage: Stage) -> list[str]:
    command = stage.bench.command("work")
    fault = build.repeat(after="call")
    stage.play(Step([command], lambda *calls: build.response(*calls, fault=fault)))
    return stage.found(stage.run(), command)


@scenario(
    "repeated-call-id",
    "A later response uses the same call_id for another command: both run, both outputs reach the "
    "model.",
)
def _repeated_call_id(stage: Stage) -> list[str]:
    commands = [stage.bench.command(name) for name in ("first", "second")]
    stage.play(*(Step([one], call_id="call_same") for one in commands), strict=False)
    twice = ("duplicate_call", "duplicate_output")  # such a provider takes them as they are
    return stage.found(stage.run(), *commands, ignore=twice)


@scenario(
    "unknown-events",
    "Events of unknown types, the first one before anything else, are ignored: no request more.",
)
def _unknown(stage: Stage) -> list[str]:
    command = stage.bench.command("work")
    faults = [build.unknown(before=0), build.unknown(after="call")]
    stage.play(Step([command], lambda *calls: build.response(*calls, fault=faults)))
    ended = stage.run()
    count = len(stage.requests)
    more = [f"{count} requests were made for two responses"] if count > 2 else []
    return [*stage.found(ended, command), *more]


@scenario(
    "garbage-event",
    "An event whose data is not JSON does not lose the call before it: it runs once, and its output "
    "reaches the model.",
)
def _garbage(stage: Stage) -> list[str]:
    command = stage.bench.command("work")
    fault = build.garbage(after="call")
    stage.play(Step([command], lambda *calls: build.response(*calls, fault=fault)))
    return stage.found(stage.run(), command)


def _styled(name: str, style: str, says: str) -> None:
    """A scenario in which the provider streams in its own manner."""

    def play(stage: Stage) -> list[str]:
        commands = [stage.bench.command(name) for name in ("first", "second")]
        how: How = lambda *calls: build.response(*calls, style=style)  # noqa: E731  as for a step
        stage.play(Step(commands, how))
        return stage.found(stage.run(), *commands)

    SCENARIOS.append(Scenario(name, says, play))


_styled(
    "empty-final-output",
    "chatgpt",
    "The final response's output is empty, as the ChatGPT backend sends it: two calls made in the "
    "stream run.",
)
_styled(
    "no-indexes",
    "llamacpp",
    "No event has an output_index or a sequence_number, as llama.cpp sends them: two calls run.",
)
_styled(
    "changing-ids",
    "copilot",
    "The item's id is another in every event, as GitHub Copilot sends it: two calls run once each.",
)
_styled(
    "comments-and-done",
    "openrouter",
    "Comment lines, no event lines and a [DONE], as OpenRouter sends them: two calls run.",
)


@scenario(
    "rate-limit",
    "HTTP 429 with Retry-After: 2 is waited for, not hammered, and the turn goes on.",
)
def _rate_limit(stage: Stage) -> list[str]:
    command = stage.bench.command("work")
    refusal = build.http_error(429, headers={"Retry-After": "2"})
    stage.play(Step([command]), opening=[refusal])
    ended = stage.run()
    times = [one.time for one in stage.server.requests[:2]]
    early = len(times) == 2 and times[1] - times[0] < 1.9
    hammered = [f"it asked again after {times[1] - times[0]:.1f} s"] if early else []
    return [*stage.found(ended, command), *hammered]


@scenario("server-error", "HTTP 500 once, in the middle of a turn: the turn goes on.")
def _server_error(stage: Stage) -> list[str]:
    commands = [stage.bench.command(name) for name in ("first", "second")]
    error = build.http_error(500)
    stage.play(Step(commands[:1]), Step(commands[1:], lambda *_: error))
    return stage.found(stage.run(), *commands)


@scenario(
    "wrong-key", "A refused key (HTTP 401) is asked with once, and the agent ends with an error."
)
def _wrong_key(stage: Stage) -> list[str]:
    stage.serve(lambda _: build.http_error(401))
    ended = stage.run()
    count = len(stage.server.requests)
    again = [f"{count} requests were made"] if count != 1 else []
    if ended.code is None:
        return [*again, f"it did not end within {stage.timeout:g} s: {ended.last_words}"]
    return again if ended.code else [*again, "it ended with exit code 0, as if all were well"]


@scenario(
    "big-output",
    "8 MB of binary output are bounded: the next request is valid, below 1 MB, and tells of it.",
)
def _big(stage: Stage) -> list[str]:
    command = stage.bench.command("big")
    with open(command.path, encoding="utf-8") as file:
        script = file.read()
    flood = f"echo {command.token}\nhead -c {BIG} /dev/urandom\necho\n"
    with open(command.path, "w", encoding="utf-8") as file:
        file.write(flood + script)  # the token at both ends: whichever of them is kept
    stage.play(Step([command]))
    ended = stage.run()
    biggest = max((len(one.raw) for one in stage.requests), default=0)
    huge = [f"a request of {biggest:,} bytes was sent"] if biggest > BOUND else []
    return [*stage.found(ended, command), *huge]


@scenario(
    "prefix-kept",
    "Without a fault each request extends the one before, item for item, with the same tools and "
    "instructions: prompt caches hit.",
)
def _prefix(stage: Stage) -> list[str]:
    commands = [stage.bench.command(name) for name in ("first", "second", "third")]
    stage.play(*(Step([one]) for one in commands))
    ended = stage.run()
    changed = stage.judged_prefix()
    return [*stage.found(ended, *commands), *changed]

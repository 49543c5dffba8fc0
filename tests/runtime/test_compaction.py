"""Compaction in whole turns: the real runtime, and a provider that holds only so much."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstay import chaos
from backstay.chaos import ChaosServer, call, http_error, judge, message, response
from backstay.core.dialect import Dialect
from backstay.core.items import message_text
from backstay.core.record import Compaction, Output, Prompt, TurnEnd
from backstay.errors import UsageError
from backstay.journal import PosixDisk, journal_path, read
from backstay.runtime import watch
from backstay.runtime.session import Session
from backstay.tools.function import tool
from tests.runtime.bench import Bench

JSON = dict[str, Any]
WINDOW = 32_000
ASKED = "about to be replaced by a summary"
MADE_BY_HAND = "made without a model"


@tool
def look(step: int) -> str:
    """Look at something.

    step: which of them
    """
    return f"output {step} " + "x" * 3900


def asks_for_summary(body: JSON) -> bool:
    """Whether a request is one for a summary."""
    return ASKED in message_text(body["input"][-1])


def too_long(words: str = "Your input exceeds the context window of this model.") -> JSON:
    """A refusal for length."""
    error = {"message": words, "type": "invalid_request_error"}
    return http_error(400, body={"error": error | {"code": "context_length_exceeded"}})


def summary(body: JSON) -> JSON:
    """What a model says when it is asked for one."""
    del body
    return response(message("Summary: some steps were made."))


class Model:
    """Makes so many calls, each with a thousand tokens of output, and holds only so much."""

    def __init__(self, steps: int, window: int = WINDOW) -> None:
        self.steps = steps
        self.window = window
        self.step = 0
        self.summaries = 0
        self.refused = 0
        self.refusal: Callable[[], JSON] = too_long
        self.summary: Callable[[JSON], JSON] = summary

    def __call__(self, body: JSON) -> JSON:
        """The response to a request."""
        if len(msgspec.json.encode(body["input"])) // 4 > self.window:
            self.refused += 1
            return self.refusal()
        if asks_for_summary(body):
            self.summaries += 1
            return self.summary(body)
        self.step += 1
        if self.step > self.steps:
            return response(message("done"))
        return response(call("look", {"step": self.step}))


async def go(session: Session) -> watch.Finished:
    """Work that gives one prompt."""
    return await session.prompt("the prompt")


def bench_of(tmp_path: Path, home: Path, model: Callable[[JSON], JSON]) -> Bench:
    """A bench whose provider is this model."""
    return Bench(tmp_path, home, model)


def compactions(bench: Bench) -> list[Compaction]:
    """The compaction records."""
    return [one for one in bench.records() if isinstance(one, Compaction)]


def texts(items: list[JSON]) -> list[str]:
    """The texts of the messages among these items."""
    return [message_text(item) for item in items if item["type"] == "message"]


def check(bench: Bench) -> None:
    """P1 in every request, and P6 and P2 between any two that no compaction lies between."""
    bodies = bench.server.bodies
    changes = [
        number
        for number in range(1, len(bodies))
        if bodies[number]["input"][: len(bodies[number - 1]["input"])]
        != bodies[number - 1]["input"]
    ]
    verdict = judge(bench.server.requests, changes=changes)
    assert verdict.ok, verdict.table()
    allowed = sum(1 for body in bodies if asks_for_summary(body)) * 2 + len(compactions(bench))
    assert len(changes) <= allowed
    assert not bench.server.problems


@pytest.mark.parametrize("known", [True, False], ids=["window known", "window unknown"])
def test_a_long_session_ends_well_in_a_small_window(
    tmp_path: Path, home: Path, known: bool
) -> None:
    """Of 120 steps each is made once; with a known window nothing is ever refused."""
    ends_well(tmp_path, home, 120, known=known)


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("known", [True, False], ids=["window known", "window unknown"])
def test_two_thousand_steps_end_well_in_a_small_window(
    tmp_path: Path, home: Path, known: bool
) -> None:
    """The same, for a day's work."""
    ends_well(tmp_path, home, 2000, known=known)


def ends_well(tmp_path: Path, home: Path, steps: int, *, known: bool) -> None:
    """Run so many steps, then look at what was sent, recorded and read again."""
    model = Model(steps)
    bench = bench_of(tmp_path, home, model)
    ended = bench.run(go, tools=[look], context_window=WINDOW if known else None)
    assert ended.outcome == "completed"
    assert model.step == steps + 1
    assert sum(isinstance(one, Output) for one in bench.records()) == steps
    made = compactions(bench)
    assert len(made) >= steps // 40
    assert bool(model.refused) is not known
    assert all(one.after < one.before // 4 for one in made)
    assert all("the prompt" in texts(one.items) for one in made)
    assert [one.tally.steps for one in made] == sorted({one.tally.steps for one in made})
    tail = read(PosixDisk(), journal_path(bench.folder))
    assert not tail.whole
    assert tail.records[0] == made[-1]
    check(bench)


REFUSALS = {
    "code": too_long(),
    "words": http_error(
        400, body={"error": {"message": "This model's maximum context length is 32,000 tokens."}}
    ),
    "llama.cpp": http_error(
        400,
        body={
            "error": {
                "code": 400,
                "message": "request (35000 tokens) exceeds the available context size "
                "(32000 tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_ctx": 32000,
            }
        },
    ),
    "too large": http_error(413, body="Payload Too Large"),
    "in the stream": response(
        message("half"), fault=chaos.failed(code="context_length_exceeded", before="terminal")
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_for_length_in_whatever_words_leads_to_a_shorter_view(
    tmp_path: Path, home: Path, refusal: str
) -> None:
    """The step is tried again behind the compaction, and the turn ends well."""
    model = Model(45)
    model.refusal = lambda: REFUSALS[refusal]
    bench = bench_of(tmp_path, home, model)
    assert bench.run(go, tools=[look]).outcome == "completed"
    (made,) = compactions(bench)
    assert made.reason == "the provider refused its length"
    assert model.refused == 1
    after = texts(bench.inputs()[-1])
    assert "Summary: some steps were made." in after[2]
    check(bench)


def test_the_provider_shortens_the_conversation_itself_where_it_can(
    tmp_path: Path, home: Path
) -> None:
    """Its items become the view, what the model was told and the prompt among them."""

    def model(body: JSON) -> JSON:
        if "stream" not in body:
            assert body.keys() == {"model", "instructions", "input"}
            sealed = {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}
            return response(chaos.raw(sealed))
        return ordinary(body)

    ordinary = Model(40)
    bench = bench_of(tmp_path, home, model)
    bench.dialect = Dialect(compact_endpoint=True)
    bench.server = ChaosServer(model, strict=True, compact=True)
    assert bench.run(go, tools=[look], compact_at=25_000).outcome == "completed"
    made = compactions(bench)[0]
    assert made.items[-1]["encrypted_content"] == "sealed"
    assert texts(made.items)[-1] == "the prompt"
    assert made.plain is not None
    paths = [one.path for one in bench.server.log]
    assert paths.count("/v1/responses/compact") == len(compactions(bench))
    assert ordinary.summaries == 0
    sent = bench.inputs()[-1]
    assert {"type": "compaction", "encrypted_content": "sealed"} in sent

    # Another provider can't read it: it is told what was run instead.
    bench.provider = "other"
    bench.dialect = Dialect()
    bench.server = ChaosServer([response(message("I see."))], strict=True)
    assert bench.run(go, name=bench.id, tools=[look]).outcome == "completed"
    (sent,) = bench.inputs()
    assert "compaction" not in {item["type"] for item in sent}
    (told,) = [text for text in texts(sent) if MADE_BY_HAND in text or "own summary" in text]
    assert 'look: {"step":' in told


@pytest.mark.parametrize("status", [404, 400])
def test_where_the_endpoint_fails_a_summary_is_asked_for(
    tmp_path: Path, home: Path, status: int
) -> None:
    """An endpoint that is not there, or does not work, costs a request or some."""
    ordinary = Model(60)

    def model(body: JSON) -> JSON:
        if "stream" in body:
            return ordinary(body)
        return http_error(status)

    bench = bench_of(tmp_path, home, model)
    bench.dialect = Dialect(compact_endpoint=True)
    bench.server = ChaosServer(model, strict=True, compact=status != 404)
    assert bench.run(go, tools=[look], compact_at=25_000).outcome == "completed"
    assert ordinary.summaries == len(compactions(bench)) == 2
    asked = [one for one in bench.server.log if one.path == "/v1/responses/compact"]
    assert len(asked) == {404: 1, 400: 2}[status]


def test_a_summary_that_is_cut_is_asked_for_again(tmp_path: Path, home: Path) -> None:
    """As an attempt would be, with a wait that is seen; half a summary is never used."""
    model = Model(30)

    def cut_at_first(body: JSON) -> JSON:
        del body
        fault = chaos.cut(before="terminal") if model.summaries == 1 else None
        return response(message(f"summary {model.summaries}"), fault=fault)

    model.summary = cut_at_first
    bench = bench_of(tmp_path, home, model)
    assert bench.run(go, tools=[look], compact_at=25_000).outcome == "completed"
    (made,) = compactions(bench)
    assert "summary 2" in message_text(made.items[-1])
    (waited,) = [one.wait for one in bench.events if isinstance(one, watch.Waiting)]
    assert (waited.attempt, waited.tries) == (0, 1)
    check(bench)


NO_SUMMARY: dict[str, Callable[[JSON], JSON]] = {
    "only a call": lambda body: response(call("look", {"step": 0})),
    "nothing": lambda body: response(),
    "refused": lambda body: http_error(400),
    "filtered": lambda body: response(
        message("no"), fault=chaos.failed(code="content_filter", before="terminal")
    ),
    "too long": lambda body: too_long(),
}


@pytest.mark.parametrize("how", NO_SUMMARY)
def test_without_any_summary_a_list_is_made(tmp_path: Path, home: Path, how: str) -> None:
    """A model that gives none does not end the session; no call of such an answer runs."""
    model = Model(30)
    model.summary = NO_SUMMARY[how]
    bench = bench_of(tmp_path, home, model)
    assert bench.run(go, tools=[look], compact_at=25_000).outcome == "completed"
    (made,) = compactions(bench)
    text = message_text(made.items[-1])
    assert MADE_BY_HAND in text
    assert '- look: {"step":' in text
    assert sum(isinstance(one, Output) for one in bench.records()) == 30
    assert 2 <= model.summaries <= 6


def test_a_summary_that_is_too_long_to_ask_for_is_asked_for_in_a_shorter_text(
    tmp_path: Path, home: Path
) -> None:
    """The oldest outputs are shortened until the provider takes it."""
    model = Model(30)
    asked: list[int] = []

    def small(body: JSON) -> JSON:
        asked.append(len(msgspec.json.encode(body["input"])))
        return too_long() if asked[-1] > 30_000 else summary(body)

    model.summary = small
    bench = bench_of(tmp_path, home, model)
    assert bench.run(go, tools=[look], compact_at=25_000).outcome == "completed"
    assert asked == sorted(asked, reverse=True)
    assert len(asked) > 2
    (made,) = compactions(bench)
    assert MADE_BY_HAND not in message_text(made.items[-1])


def test_a_provider_that_gives_no_summary_fails_the_turn_and_loses_nothing(
    tmp_path: Path, home: Path
) -> None:
    """With a wrong key for example: the turn goes on later."""
    model = Model(30)
    model.summary = lambda body: http_error(401)
    bench = bench_of(tmp_path, home, model)
    ended = bench.run(go, tools=[look], compact_at=25_000)
    assert ended.outcome == "failed"
    assert "being compacted" in ended.reason
    assert compactions(bench) == []

    async def resume(session: Session) -> watch.Finished:
        return await session.resume()

    model.summary = summary
    bench.server = ChaosServer(model, strict=True)
    ended = bench.run(resume, tools=[look], compact_at=25_000, name=bench.id)
    assert ended.outcome == "completed"
    assert len(compactions(bench)) == 1
    assert model.step == 31


def test_a_prompt_that_is_too_long_fails_its_turn_and_the_next_one_does_not(
    tmp_path: Path, home: Path
) -> None:
    """It is tried once more behind a compaction, never again; later it is shortened."""
    model = Model(0, window=10_000)
    bench = bench_of(tmp_path, home, model)

    async def work(session: Session) -> list[watch.Finished]:
        long = await session.prompt("word " * 20_000)
        again = await session.resume()
        return [long, again, await session.prompt("short")]

    long, again, short = bench.run(work, tools=[look])
    for ended in (long, again):
        assert (ended.outcome, ended.code) == ("failed", "context_length_exceeded")
        assert "compacted for this step already" in ended.reason
    assert short.outcome == "completed"
    last = bench.inputs()[-1]
    assert any("bytes left out" in text for text in texts(last))
    assert texts(last)[-1] == "short"
    assert len(bench.server.requests) < 12


def test_what_comes_while_a_summary_is_made_waits_and_is_kept(tmp_path: Path, home: Path) -> None:
    """A prompt is recorded at once and has its turn; what the model is told meanwhile is sent."""
    model = Model(30)
    model.summary = lambda body: response(
        message("Summary."), hold=chaos.hold(tmp_path / "go", before="terminal")
    )
    bench = bench_of(tmp_path, home, model)

    async def work(session: Session) -> list[watch.Finished]:
        first = asyncio.ensure_future(session.prompt("the prompt"))
        while not any(isinstance(one, watch.Compacting) for one in bench.events):
            await asyncio.sleep(0.01)
        second = asyncio.ensure_future(session.prompt("the second"))
        while sum(isinstance(one, watch.Recorded) and isinstance(one.record, Prompt)
                  for one in bench.events) < 2:  # fmt: skip
            await asyncio.sleep(0.01)
        with pytest.raises(UsageError, match="a turn is running"):
            await session.compact()
        (tmp_path / "go").touch()
        return [await first, await second]

    ends = bench.run(work, tools=[look], compact_at=25_000)
    assert [one.outcome for one in ends] == ["completed", "completed"]
    (made,) = compactions(bench)
    (carried,) = made.carried
    assert isinstance(carried, Prompt)
    assert texts(bench.inputs()[-1])[-1] == "the second"
    check(bench)


def test_an_interrupt_ends_a_summary(tmp_path: Path, home: Path) -> None:
    """The turn is interrupted at once, nothing of the summary is recorded, and it goes on later."""
    model = Model(30)
    model.summary = lambda body: response(
        message("Summary."), hold=chaos.hold(tmp_path / "never", before="terminal")
    )
    bench = bench_of(tmp_path, home, model)

    async def work(session: Session) -> watch.Finished:
        turn = asyncio.ensure_future(session.prompt("the prompt"))
        while not any(isinstance(one, watch.Compacting) for one in bench.events):
            await asyncio.sleep(0.01)
        session.interrupt()
        return await asyncio.wait_for(turn, 10)

    assert bench.run(work, tools=[look], compact_at=25_000).outcome == "interrupted"
    assert compactions(bench) == []
    assert [one.outcome for one in bench.records() if isinstance(one, TurnEnd)] == ["interrupted"]


def test_a_session_is_compacted_when_somebody_says_so(tmp_path: Path, home: Path) -> None:
    """Between turns, also one that was just opened; where there is nothing it says that."""
    model = Model(3)
    bench = bench_of(tmp_path, home, model)

    async def work(session: Session) -> list[str]:
        said: list[str] = [(await session.compact()).outcome]
        await session.prompt("one")
        said.append((await session.compact()).outcome)
        said.append((await session.compact()).outcome)
        return said

    assert bench.run(work, tools=[look]) == ["nothing", "compacted", "nothing"]

    async def again(session: Session) -> list[str]:
        await session.prompt("two")
        return [(await session.compact()).outcome, (await session.prompt("three")).outcome]

    bench.server = ChaosServer(model, strict=True)
    assert bench.run(again, tools=[look], name=bench.id) == ["compacted", "completed"]
    _, made = compactions(bench)
    assert (made.turn, made.reason) == (0, "it was asked for")
    sent = texts(bench.inputs()[-1])
    assert sent[0].startswith("<environment_context>")
    assert sent[1:3] == ["one", "two"]
    assert sent[-1] == "three"


def test_a_command_that_goes_on_over_a_compaction(tmp_path: Path, home: Path) -> None:
    """A reader from the tail knows what was shown of it, and whether it still runs."""
    command = (
        f"echo first; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo second; sleep 60"
    )
    begin = call("exec_command", {"cmd": command, "yield_time_ms": 300})
    script = [response(begin), response(message("It runs."))]
    bench = Bench(tmp_path, home, script)

    async def crash(session: Session) -> None:
        """End without a close, as a process that is killed."""
        await session.prompt("go")
        await session.compact()
        await session._abandon()  # noqa: SLF001
        session._closed = True  # noqa: SLF001

    bench.server = ChaosServer([*script, response(message("Summary."))], strict=True)
    bench.run(crash)
    (output,) = bench.outputs()
    number = output.call
    (made,) = compactions(bench)
    assert list(made.shown.values()) == [len("first\n")]
    assert list(made.running) == [f"{bench.id}-{number}"]
    (tmp_path / "go").touch()
    poll = call("write_stdin", {"session_id": number, "chars": "", "yield_time_ms": 1000})
    bench.server = ChaosServer([response(poll), response(message("done"))], strict=True)
    assert bench.run(go, name=bench.id).outcome == "completed"
    text = message_text(bench.outputs()[-1].item)
    assert "second" in text
    assert "first" not in text

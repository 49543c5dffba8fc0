"""Taking up a stream that was cut, where the provider keeps it (`background`, FACTS 11)."""

from pathlib import Path
from typing import Any

from backstay import chaos
from backstay.chaos import at, call, cut, fault, message, response
from backstay.core.dialect import Dialect
from backstay.core.record import Attempt, AttemptEnd
from backstay.runtime import watch
from backstay.runtime.session import Session
from tests.runtime.bench import JSON, Bench

WORDS = "one two three four five six seven eight nine ten eleven twelve"
CALL = call("exec_command", {"cmd": "echo x >> runs"})


def bench_of(tmp_path: Path, home: Path, script: list[JSON], **dialect: bool) -> Bench:
    """A bench whose provider keeps its streams."""
    bench = Bench(tmp_path, home, script)
    bench.dialect = Dialect(**({"background": True} | dialect))
    return bench


def asked(bench: Bench) -> list[str]:
    """Methods and paths of all requests, ids left out."""
    paths = []
    for one in bench.server.log:
        path = one.path.removeprefix("/v1/responses").rpartition("/")[2]
        names = [part.partition("=")[0] for part in one.query.split("&") if part]
        paths.append(" ".join([one.method, path[:6], *names]).replace("  ", " ").strip())
    return paths


def attempts(bench: Bench) -> list[tuple[int, str]]:
    """Step and outcome of each attempt."""
    records = bench.records()
    steps = {one.n: one.step for one in records if isinstance(one, Attempt)}
    ends = [one for one in records if isinstance(one, AttemptEnd)]
    return [(steps[one.attempt], one.outcome) for one in ends]


async def go(session: Session) -> Any:
    """One prompt."""
    return await session.prompt("go")


def test_a_cut_stream_is_taken_up_where_it_was(tmp_path: Path, home: Path) -> None:
    """Twice in one response: one attempt, every item once, the call ran once, no text twice."""
    cuts = [cut(after=at(5)), fault("half_event", after=at(12)), cut(before="terminal")]
    first = response(message(WORDS), CALL, fault=cuts)
    bench = bench_of(tmp_path, home, [first, response(message("done"))])
    assert bench.run(go).outcome == "completed"
    assert attempts(bench) == [(1, "completed"), (2, "completed")]
    assert (bench.cwd / "runs").read_text() == "x\n"
    again = "GET resp_0 stream starting_after"
    assert [one[:3] for one in asked(bench)] == ["POS", "GET", "GET", "GET", "POS"]
    assert all(one.endswith("stream starting_after") for one in asked(bench)[1:4]), again
    said = [one.text for one in bench.events if isinstance(one, watch.Streamed)]
    assert "".join(said).startswith(WORDS)
    assert "".join(said).count("seven") == 1
    bench.check()
    body = bench.server.bodies[0]
    assert (body["background"], body["store"]) == (True, True)


def test_a_stream_that_is_gone_is_a_new_attempt(tmp_path: Path, home: Path) -> None:
    """The provider says 404: what was done stays done, and the step is tried again."""
    first = response(CALL, message(WORDS), fault=cut(after="call")) | {"kept": False}
    bench = bench_of(tmp_path, home, [first, response(message("done"))])
    assert bench.run(go).outcome == "completed"
    assert attempts(bench) == [(1, "cut"), (1, "completed")]
    assert (bench.cwd / "runs").read_text() == "x\n"
    assert [one.split()[0] for one in asked(bench)] == ["POST", "GET", "POST", "POST"]
    assert asked(bench)[2] == "POST cancel"
    bench.check()


def test_it_is_off_unless_the_provider_is_said_to_have_it(tmp_path: Path, home: Path) -> None:
    """Neither the request nor a cut says anything of it."""
    first = response(message(WORDS), fault=cut(after=at(5)))
    bench = bench_of(tmp_path, home, [first, response(message("done"))], background=False)
    assert bench.run(go).outcome == "completed"
    assert [one.split()[0] for one in asked(bench)] == ["POST", "POST"]
    assert "background" not in bench.server.bodies[0]


def test_an_interrupt_ends_the_response_at_the_provider(tmp_path: Path, home: Path) -> None:
    """It would go on and cost: it is cancelled when the session is closed."""
    stalled = chaos.response(message(WORDS), fault=chaos.stall(after=at(5)))
    bench = bench_of(tmp_path, home, [stalled])

    async def work(session: Session) -> Any:
        def watching(event: watch.WatchEvent) -> None:
            if isinstance(event, watch.Streamed):
                session.interrupt()

        session._watcher = watching  # noqa: SLF001 - the bench's own watcher only collects
        return await session.prompt("go")

    assert bench.run(work).outcome == "interrupted"
    assert asked(bench) == ["POST", "POST cancel"]

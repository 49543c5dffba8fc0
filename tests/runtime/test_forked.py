"""Forked sessions: their requests extend the parent's, which goes on without them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from backstay import chaos
from backstay.chaos import call, http_error, message, response
from backstay.core.record import Call, Fork, Output
from backstay.errors import UsageError
from backstay.journal import PosixDisk, journal_path, look, read
from backstay.journal.removal import delete
from backstay.runtime import watch
from backstay.runtime.forking import make_fork
from backstay.runtime.session import Session
from tests.runtime.bench import JSON, Bench
from tests.runtime.test_session import outputs_in, prompt


def forked(bench: Bench, text: str, turn: int | None = None) -> str:
    """A fork of the bench's session, and a turn of it; its folder. The bench keeps the parent."""

    async def main() -> str:
        parent = bench.id
        session = await Session.fork(bench.settings(), parent, bench.events.append, turn=turn)
        try:
            assert (await session.prompt(text)).outcome == "completed"
        finally:
            await session.close()
        return session.folder

    with bench.server:
        return asyncio.run(main())


def play(bench: Bench, *script: JSON) -> None:
    """What the provider plays from now on."""
    bench.server = chaos.ChaosServer(list(script), strict=True)


def two_turns(bench: Bench) -> list[list[JSON]]:
    """A parent of two turns, the first with a command; the inputs of its requests."""
    bench.run(prompt("first"))
    inputs = bench.inputs()
    play(bench, response(message("two")))
    bench.run(prompt("second"), name=bench.id)
    return inputs + bench.inputs()


SCRIPT = [response(call("exec_command", {"cmd": "echo shared"})), response(message("one"))]


def test_a_fork_extends_the_view_up_to_its_turn(tmp_path: Path, home: Path) -> None:
    """Item for item, under the same cache key and with the same bytes beside it; then both go on."""
    bench = Bench(tmp_path, home, SCRIPT)
    before = two_turns(bench)
    bodies = [bench.server.bodies[-1]]
    play(bench, response(message("fork's")))
    forked(bench, "other", turn=1)
    bodies += bench.server.bodies
    [first] = bench.inputs()
    assert first[: len(before[1])] == before[1]
    assert [item["content"][0]["text"] for item in first[len(before[1]) :]] == ["one", "other"]
    for field in ("instructions", "tools", "prompt_cache_key"):
        assert bodies[0][field] == bodies[1][field]
    play(bench, response(message("three")))
    bench.run(prompt("third"), name=bench.id)
    assert "other" not in str(bench.inputs())
    assert bench.inputs()[0][: len(before[2])] == before[2]


def test_a_fork_runs_commands_of_its_own(tmp_path: Path, home: Path) -> None:
    """Their effects are in its own folder, under numbers that no shared record has."""
    bench = Bench(tmp_path, home, SCRIPT)
    bench.run(prompt("first"))
    play(bench, response(call("exec_command", {"cmd": "echo own"})), response(message("done")))
    folder = forked(bench, "again")
    assert outputs_in(bench.inputs()[1])[-1].endswith("own\n")
    records = look(PosixDisk(), folder).records
    [fork] = [one for one in records if isinstance(one, Fork)]
    calls = [one.n for one in records if isinstance(one, Call)]
    assert calls[0] < fork.origin.upto < calls[1]
    assert [path.name for path in Path(folder, "effects").iterdir()] == [
        f"{Path(folder).name}-{calls[1]}"
    ]


def test_a_fork_of_a_deleted_parent_asks_the_same(tmp_path: Path, home: Path) -> None:
    """What it shared is its own now, to the byte."""
    bench = Bench(tmp_path, home, SCRIPT)
    two_turns(bench)
    first, second = (make_fork(str(home), bench.id, turn=1).id for _ in range(2))
    play(bench, response(message("a")))
    bench.run(prompt("go on"), name=first)
    one = bench.server.bodies
    parent = f"{Path(bench.folder).parent}/{_parent(bench, first)}"
    assert delete(PosixDisk(), str(home), parent, lambda: 0.0) == [second, first]
    play(bench, response(message("a")))
    bench.run(prompt("go on"), name=second)
    assert bench.server.bodies == one
    assert not any(isinstance(event, watch.Noticed) for event in bench.events)
    play(bench, response(message("b")))
    bench.run(prompt("more"), name=first)
    assert bench.inputs()[0][: len(one[0]["input"])] == one[0]["input"]


def _parent(bench: Bench, fork: str) -> str:
    records = read(PosixDisk(), journal_path(f"{Path(bench.folder).parent}/{fork}")).records
    return next(one.origin.parent for one in records if isinstance(one, Fork))


def test_a_failed_turn_can_be_finished_in_a_fork(tmp_path: Path, home: Path) -> None:
    """`resume` reopens it there; in the parent it stays as it was."""
    bench = Bench(tmp_path, home, [http_error(401)])
    bench.run(prompt("first"))
    fork = make_fork(str(home), bench.id).id
    parent = bench.id
    play(bench, response(message("done")))

    async def resume(session: Session) -> watch.Finished:
        return await session.resume()

    assert bench.run(resume, name=fork).outcome == "completed"
    play(bench, response(message("done")))
    assert bench.run(resume, name=parent).outcome == "completed"


def test_a_command_of_the_parent_cannot_be_reached(tmp_path: Path, home: Path) -> None:
    """The model is told so; asking for it all the same is answered, and nothing is repeated."""
    bench = Bench(tmp_path, home, [*_yielding(), response(message("it runs"))])

    async def work(session: Session) -> Any:
        await session.prompt("start it")
        number = next(one.call for one in bench.records() if isinstance(one, Output))
        script = [call("write_stdin", {"session_id": number, "chars": ""}), message("I see")]
        play(bench, response(script[0]), response(script[1]))
        with bench.server:
            fork = await Session.fork(bench.settings(), session.id, bench.events.append)
            try:
                await fork.prompt("look")
            finally:
                await fork.close()
        return number

    number = bench.run(work)
    told, answered = bench.inputs()
    assert f"(session ID {number}) can't be reached from here" in str(told)
    assert "no command with session ID" in outputs_in(answered)[-1]


def _yielding() -> list[JSON]:
    return [response(call("exec_command", {"cmd": "sleep 60", "yield_time_ms": 250}))]


def test_an_open_call_of_the_parent_is_never_settled_by_its_effect(
    tmp_path: Path, home: Path
) -> None:
    """Where damage took its output the fork says that it is not known, and runs nothing."""
    bench = Bench(
        tmp_path, home, [response(call("exec_command", {"cmd": "echo x >> ran"})), SCRIPT[1]]
    )
    bench.run(prompt("first"))
    fork = make_fork(str(home), bench.id).id
    path = Path(journal_path(bench.folder))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if not line.startswith(b'{"k":"output"')))
    play(bench, response(message("done")))
    bench.run(prompt("go on"), name=fork)
    [output] = outputs_in(bench.inputs()[0])
    assert output.startswith("The outcome of this call is unknown (its output is missing from")
    assert (bench.cwd / "ran").read_text() == "x\n"


def test_a_turn_that_runs_is_left_out_and_that_is_said(tmp_path: Path, home: Path) -> None:
    """By default; nothing has ended yet: a line says so."""
    bench = Bench(tmp_path, home, SCRIPT)
    bench.run(prompt("first"))
    path = Path(journal_path(bench.folder))
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    ends = [at for at, line in enumerate(lines) if line.startswith(b'{"k":"turn_end"')]
    path.write_bytes(b"".join(lines[: ends[0]]))
    with pytest.raises(UsageError, match="has ended yet"):
        make_fork(str(home), bench.id)
    path.write_bytes(content)
    play(bench, response(message("two")))
    bench.run(prompt("second"), name=bench.id)
    lines = path.read_bytes().splitlines(keepends=True)
    ends = [at for at, line in enumerate(lines) if line.startswith(b'{"k":"turn_end"')]
    path.write_bytes(b"".join(lines[: ends[1]]))
    play(bench, response(message("three")))
    forked(bench, "other")
    assert (
        watch.Noticed(
            f"a turn of {bench.id} is not over: the fork begins behind the one before it", "warning"
        )
        in bench.events
    )
    assert "'second'" not in str(bench.inputs())

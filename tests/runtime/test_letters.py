"""Letters of other processes to a session that a program holds open."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import call, message, response
from backstay.core.record import Output, Prompt, TurnEnd
from backstay.errors import UsageError
from backstay.journal import PosixDisk
from backstay.journal.inbox import Letter, inbox_folder, send
from backstay.runtime.session import Session
from backstay.tools.function import tool
from tests.runtime.bench import Bench

SCRIPT = [
    response(message("first")),
    response(call("wait", {})),
    response(message("the letter's answer")),
    response(message("last")),
]


def _post(folder: str, text: str) -> str:
    letter = Letter(kind="prompt", text=text)
    return send(PosixDisk(), folder, letter, time.time(), os.urandom(10))


class _Waiting:
    """A tool that begins, and ends when it is told."""

    def __init__(self) -> None:
        self.began, self.go = asyncio.Event(), asyncio.Event()

        @tool
        async def wait() -> str:
            """Wait."""
            self.began.set()
            await self.go.wait()
            return "waited"

        self.tool = wait


def _with_a_letter(bench: Bench, then: Callable[[Session, _Waiting], Awaitable[Any]]) -> Any:
    """A turn, then a letter whose turn is in the middle of a call, then whatever is asked."""

    async def work() -> Any:
        waiting = _Waiting()
        session = await Session.create(bench.settings(), bench.events.append, [waiting.tool])
        bench.folder = session.folder
        try:
            assert (await session.prompt("first")).outcome == "completed"
            _post(session.folder, "from elsewhere")
            await waiting.began.wait()
            return await then(session, waiting)
        finally:
            await session.close()

    with bench.server:
        return asyncio.run(work())


@pytest.mark.parametrize("what", ["resume", "compact"])
def test_a_letters_turn_is_a_turn_that_runs(tmp_path: Path, home: Path, what: str) -> None:
    """While it runs there is nothing to resume or compact, and being told so breaks nothing."""
    bench = Bench(tmp_path, home, SCRIPT)

    async def then(session: Session, waiting: _Waiting) -> str:
        with pytest.raises(UsageError, match="a turn is running"):
            await getattr(session, what)()
        waiting.go.set()
        return (await session.prompt("last")).outcome

    assert _with_a_letter(bench, then) == "completed"
    ends = [one.outcome for one in bench.records() if isinstance(one, TurnEnd)]
    assert ends == ["completed"] * 3
    bench.check()


def test_closing_interrupts_a_letters_turn(tmp_path: Path, home: Path) -> None:
    """Its call gets an output and its turn an end, as those of any other turn."""
    bench = Bench(tmp_path, home, SCRIPT)

    async def then(session: Session, waiting: _Waiting) -> None:
        await session.close()

    _with_a_letter(bench, then)
    records = bench.records()
    assert [one.status for one in records if isinstance(one, Output)] == ["interrupted"]
    ends = [one.outcome for one in records if isinstance(one, TurnEnd)]
    assert ends == ["completed", "interrupted"]


def test_a_letter_that_is_on_record_is_not_waited_for(tmp_path: Path, home: Path) -> None:
    """A copy that nobody could remove gives no turn, and holds up none."""
    bench = Bench(tmp_path, home, SCRIPT[:1] + SCRIPT[2:])

    async def letters(session: Session) -> str:
        await session.prompt("first")
        _post(session.folder, "once")
        while (ended := await session.next_turn()) is None:
            await asyncio.sleep(0.01)
        return ended.outcome

    assert bench.run(letters) == "completed"
    prompt = [one for one in bench.records() if isinstance(one, Prompt)][-1]
    left = Path(inbox_folder(bench.folder)) / f"{prompt.letter}.json"
    left.write_text('{"kind":"prompt","text":"once"}')
    assert bench.run(lambda session: session.resume(), name=bench.id).outcome == "nothing"
    assert not left.exists()


def test_an_inbox_that_is_none_locks_nobody_out(tmp_path: Path, home: Path) -> None:
    """A link to itself in its place: the session opens, says so, and goes on."""
    bench = Bench(tmp_path, home, SCRIPT[:1] + SCRIPT[3:])
    bench.run(lambda session: session.prompt("first"))
    Path(inbox_folder(bench.folder)).symlink_to("inbox")
    ended = bench.run(lambda session: session.prompt("last"), name=bench.id)
    assert ended.outcome == "completed"
    assert "the inbox can't be read" in str(bench.events)

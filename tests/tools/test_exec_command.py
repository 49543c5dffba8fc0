"""The tools of commands: what polls show, and what is said when an effect can't be claimed."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from backstay.core.events import Result
from backstay.errors import StorageError
from backstay.tools.commands import Commands
from backstay.tools.exec_command import ExecCommand, Shell, WriteStdin
from backstay.tools.supervise import layout
from backstay.tools.tool import Invocation

ENV = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}


def call(number: int, name: str, **arguments: object) -> Invocation:
    """A call of one of the tools."""
    item = {"type": "function_call", "name": name, "arguments": json.dumps(arguments)}
    return Invocation(number, item, f"s-{number}")


def printed(result: Result) -> str:
    """What the command printed, as the result shows it."""
    return str(result.content).partition("Output:\n")[2]


def test_polls_show_each_character_once_and_whole(tmp_path: Path) -> None:
    """A character whose bytes come one by one is not torn by the polls between them."""
    text = "aäb\N{EURO SIGN}c\N{GRINNING FACE}d"
    octal = "".join(f"\\{byte:03o} " for byte in text.encode()).split()
    cmd = "stty -echo; read go; " + "; ".join(f"printf '{one}'; read go" for one in octal)

    async def main() -> str:
        commands = Commands(str(tmp_path))
        shared = Shell(commands, "s", "/", ENV)
        tool, poll = ExecCommand(shared), WriteStdin(shared)
        run = call(4, "exec_command", cmd=cmd, tty=True, yield_time_ms=250)
        shown = printed(await tool.run(run))
        for at in range(len(octal) + 1):
            fed = call(5 + at, "write_stdin", session_id=4, chars="\n", yield_time_ms=250)
            shown += printed(await poll.run(fed))
        await commands.end()
        await commands.close()
        return shown

    assert asyncio.run(main()) == text


def test_parallel_polls_lose_nothing(tmp_path: Path) -> None:
    """Two polls at once: what comes later is shown by a later one, from where the last one ended."""

    async def main() -> list[str]:
        commands = Commands(str(tmp_path))
        shared = Shell(commands, "s", "/", ENV)
        tool, poll = ExecCommand(shared), WriteStdin(shared)
        cmd = "stty -echo; echo 1; read x; echo 2; read x; echo 3; read x"
        run = call(4, "exec_command", cmd=cmd, tty=True, yield_time_ms=250)
        shown = [printed(await tool.run(run))]
        both = await asyncio.gather(
            poll.run(call(5, "write_stdin", session_id=4, chars="\n", yield_time_ms=250)),
            poll.run(call(6, "write_stdin", session_id=4, yield_time_ms=700)),
        )
        shown += [printed(one) for one in both]
        last = call(7, "write_stdin", session_id=4, chars="\n", yield_time_ms=500)
        shown.append(printed(await poll.run(last)))
        await commands.end()
        await commands.close()
        return shown

    first, *_, last = shown = asyncio.run(main())
    assert first == "1\n"
    assert last == "3\n"
    assert "2\n" in shown[1:3]


def test_claim_that_the_disk_refuses_is_a_storage_error(tmp_path: Path) -> None:
    """Without a claim nobody may say that the command never started: the turn ends there (P10)."""
    (tmp_path / layout.EFFECTS).symlink_to(tmp_path / "nowhere")

    async def main() -> None:
        commands = Commands(str(tmp_path))
        tool = ExecCommand(Shell(commands, "s", "/", ENV))
        try:
            with pytest.raises(StorageError, match="can't claim"):
                await tool.run(call(4, "exec_command", cmd="true"))
        finally:
            await commands.close()

    asyncio.run(main())

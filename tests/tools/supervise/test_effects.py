"""The claim and the evidence: who may start an effect, and what is known of it afterwards."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from backstay.errors import StorageError
from backstay.tools import effects
from backstay.tools.commands import AlreadyClaimed, Commands
from backstay.tools.effects import Exited, Gone, NeverStarted, NotClaimed, Running
from tests.tools.supervise.sessions import Session, sh


def test_settler_first(session: Session) -> None:
    """What a settler has claimed is never run, and the evidence says that it never was."""

    async def run() -> None:
        folder, mark = session.path("a"), Path(session.folder, "ran")
        assert effects.evidence(folder, effects.boot_id()) == NotClaimed()
        assert effects.settler_claim(folder)
        commands = Commands(session.folder)
        assert isinstance(await sh(commands, session.effect("a"), f"touch {mark}"), AlreadyClaimed)
        await commands.end()
        assert not mark.exists()
        assert effects.evidence(folder, effects.boot_id()) == NeverStarted("settler")
        assert not effects.settler_claim(folder)

    asyncio.run(run())


def test_supervisor_first(session: Session) -> None:
    """A settler loses against a supervisor, and sees the command run, then its exit."""

    async def run() -> None:
        commands = Commands(session.folder)
        folder = session.path("a")
        await sh(commands, session.effect("a"), "sleep 300")
        assert not effects.settler_claim(folder)
        found = effects.evidence(folder, effects.boot_id())
        assert isinstance(found, Running)
        assert found.child is not None
        assert found.child.marker == f"BACKSTAY_EFFECT={session.effect('a')}"
        (ended,) = await commands.end()
        assert ended.exit is not None
        assert effects.evidence(folder, effects.boot_id()) == Exited(ended.exit)

    asyncio.run(run())


def test_one_of_many_claimers_wins(session: Session) -> None:
    """Of many processes that claim an effect at once exactly one wins, the supervisor included."""
    program = (
        "import sys\nfrom backstay.tools import effects\nprint('ready', flush=True)\nsys.stdin.read()\n"
        "print([effects.settler_claim(folder) for folder in sys.argv[1:]].count(True))"
    )
    names = [str(number) for number in range(20)]
    folders = [session.path(name) for name in names]
    arguments = [sys.executable, "-c", program, *folders]

    async def run() -> list[object]:
        commands = Commands(session.folder)
        await commands.ready()
        claimers = [
            subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={"PYTHONPATH": ":".join(sys.path)},
            )
            for _ in range(3)
        ]
        for claimer in claimers:
            assert claimer.stdout is not None
            assert claimer.stdin is not None
            claimer.stdout.readline()
        for claimer in claimers:
            assert claimer.stdin is not None
            claimer.stdin.close()
        effect_ids = map(session.effect, names)
        started = [await sh(commands, effect, "exit 0") for effect in effect_ids]
        won: list[object] = [one for one in started if not isinstance(one, AlreadyClaimed)]
        for claimer in claimers:
            assert claimer.stdout is not None
            won += [object()] * int(claimer.stdout.read())
            claimer.stdout.close()
            assert claimer.wait() == 0
        await commands.end()
        return won

    assert len(asyncio.run(run())) == len(names)


def test_another_boot(session: Session) -> None:
    """After a restart of the machine nothing can be said of what left no result."""

    async def run() -> None:
        commands = Commands(session.folder)
        await sh(commands, session.effect("a"), "echo out")
        ended = await commands.wait(session.effect("a"), 20)
        assert ended is not None
        await commands.end()
        assert effects.evidence(session.path("a"), "another-boot") == Exited(ended)

    asyncio.run(run())
    assert isinstance(effects.evidence(session.path("b"), "another-boot"), Gone)
    assert effects.settler_claim(session.path("b"))
    assert isinstance(effects.evidence(session.path("b"), "another-boot"), Gone)


@pytest.mark.parametrize("text", ["", "{", "null", '{"kind":"odd"}', "\0" * 4096])
def test_torn_records(session: Session, text: str) -> None:
    """A record that is not whole counts as not written."""
    folder = Path(session.path("a"))
    folder.mkdir(parents=True)
    for name in ("claim", "child.json", "exit.json"):
        (folder / name).write_text(text)
    assert isinstance(effects.evidence(str(folder), effects.boot_id()), Gone)
    assert effects.end_recorded_group(str(folder)) == []


def test_bad_ids_and_folders(session: Session, tmp_path: Path) -> None:
    """An id that could leave the folder is refused; a folder that can't be written is an error."""
    for name in ("", "..", ".x", "a/b", "a b", "x" * 129, "é"):
        with pytest.raises(ValueError, match="effect id"):
            effects.effect_folder(session.folder, name)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="can't claim"):
        effects.settler_claim(str(tmp_path / "file" / "x" / "y"))

"""The spool: what is kept, what is counted, and a disk that is full."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.tools import effects
from backstay.tools.commands import Commands, Refused
from backstay.tools.effects import Exit, Exited
from backstay.tools.supervise import layout
from backstay.tools.supervise.spool import Spool
from tests.tools.supervise.sessions import Session, output, sh, until

MEGABYTE = 1 << 20


def pattern(begin: int, size: int) -> bytes:
    """Bytes that tell their own offset."""
    whole = bytes(range(251))
    first = begin % 251
    return (whole * (size // 251 + 2))[first : first + size]


@given(sizes=st.lists(st.integers(1, 900_000), max_size=12))
def test_every_kept_byte_is_at_its_offset(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    """Whatever the chunks, head and tail are kept, gaps are known, and no byte is misplaced."""
    folder = str(tmp_path_factory.mktemp("spool"))
    spool = Spool(folder)
    for size in sizes:
        spool.append(pattern(spool.total, size))
    spool.pin()
    total = sum(sizes)
    found = effects.read_spool(folder)
    assert (found.begin, found.end, spool.total, spool.error) == (0, total, total, None)
    for piece in found.pieces:
        assert piece.data == pattern(piece.offset, len(piece.data))
    head = min(total, layout.HEAD_BYTES)
    tail = max(head, total - layout.TAIL_BYTES)
    assert effects.read_spool(folder, 0, head).omitted == 0
    assert effects.read_spool(folder, tail, total).omitted == 0
    assert len(os.listdir(folder)) <= 3


def test_pinned_output_is_not_displaced(tmp_path: Path) -> None:
    """What was there at the exit stays, however much follows."""
    spool = Spool(str(tmp_path))
    spool.append(pattern(0, 5 * MEGABYTE))
    before = effects.read_spool(str(tmp_path))
    spool.pin()
    spool.append(pattern(spool.total, 9 * MEGABYTE))
    spool.pin()
    assert effects.read_spool(str(tmp_path), 0, 5 * MEGABYTE) == before
    assert effects.spool_total(str(tmp_path)) == 14 * MEGABYTE


@pytest.fixture
def small_disk(session: Session) -> Iterator[Path]:
    """The session's folder on a file system of 2 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", session.folder]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system can't be mounted: needs root and tmpfs")
    try:
        yield Path(session.folder)
    finally:
        subprocess.run(["umount", "-l", session.folder], check=True)


def test_full_disk_keeps_the_exit(small_disk: Path, session: Session) -> None:
    """On a full disk the command still runs to its end, all its output is counted, and the exit
    is recorded in the room that was reserved.
    """

    async def run() -> None:
        commands = Commands(session.folder)
        await sh(commands, session.effect("a"), f"cat {small_disk}/fifo; head -c 3000000 /dev/zero")
        fill(small_disk / "ballast")
        (small_disk / "fifo").write_bytes(b"")
        found = await commands.wait(session.effect("a"), 20)
        assert found is not None
        assert (found.code, found.total, found.recorded) == (0, 3_000_000, True)
        assert found.spool_error == "No space left on device"
        assert effects.evidence(session.path("a"), effects.boot_id()) == Exited(found)
        assert len(output(session.path("a"))) < found.total
        refused = await sh(commands, session.effect("b"), f"touch {small_disk}/ran")
        assert refused == Refused("No space left on device")
        (small_disk / "ballast").unlink()
        await sh(commands, session.effect("b"), "echo room")
        again = await commands.wait(session.effect("b"), 20)
        assert again is not None
        assert output(session.path("b")) == b"room\n"
        await commands.end()

    os.mkfifo(small_disk / "fifo")
    asyncio.run(run())


def test_spool_goes_on_when_there_is_room_again(small_disk: Path, session: Session) -> None:
    """Output that comes after a full disk has room is kept at its true offset."""

    async def run() -> None:
        commands = Commands(session.folder)
        fifo = small_disk / "fifo"
        text = f"cat {fifo}; head -c 500000 /dev/zero; cat {fifo}2; sleep 1.2; echo after"
        await sh(commands, session.effect("a"), text)
        fill(small_disk / "ballast")
        fifo.write_bytes(b"")
        with (small_disk / "fifo2").open("wb"):
            (small_disk / "ballast").unlink()
        found = await commands.wait(session.effect("a"), 20)
        assert isinstance(found, Exit)
        assert found.total == 500_006
        assert found.spool_error
        (last,) = effects.read_spool(session.path("a"), 500_000).pieces
        assert (last.offset, last.data) == (500_000, b"after\n")
        await commands.end()

    os.mkfifo(small_disk / "fifo")
    os.mkfifo(small_disk / "fifo2")
    asyncio.run(run())


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    until(path.exists)

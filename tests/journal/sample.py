"""A small journal of every kind of record, and disks that count."""

from collections.abc import Sequence

from backstay.core.record import (
    Attempt,
    AttemptEnd,
    Basis,
    Call,
    Codec,
    Compaction,
    ItemRecord,
    Known,
    Note,
    Output,
    Prompt,
    Session,
    Start,
    TurnEnd,
)
from backstay.journal import PosixDisk, session_folder, uuid7
from backstay.journal.disk import Disk
from backstay.journal.folders import make_folder
from backstay.journal.posix import PosixFile
from backstay.journal.simulated import SimulatedDisk

NOW = 1_760_000_000.5
ID = uuid7(NOW, bytes(range(10)))
BASIS = Basis(instructions="1" * 64, tools="2" * 64)
HOME = "/home"


def clock() -> float:
    """A clock that stands still."""
    return NOW


def header(n: int = 1) -> Session:
    """The first record of a session."""
    return Session(n=n, id=ID, cwd="/place", basis=BASIS)


def prompt(n: int, text: str = "fix the bug") -> Prompt:
    """A prompt with one message."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    return Prompt(n=n, id=ID, cwd="/place", basis=BASIS, items=[item], model="m")


def compaction(n: int) -> Compaction:
    """A summary of what stands before."""
    item = {"type": "message", "role": "user", "content": "what went before"}
    return Compaction(n=n, id=ID, cwd="/place", basis=BASIS, items=[item])


def turn(first: int) -> list[Known]:
    """Eight records of a turn with one tool, numbered from `first`."""
    call = {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": '{"k":"v"}'}
    answer = {"type": "function_call_output", "call_id": "c1", "output": 'a\nb "c" \0 ü 🙂'}
    said = {"type": "message", "role": "assistant", "content": [{"text": "done"}]}
    return [
        prompt(first),
        Attempt(n=first + 1, turn=first, step=1),
        Call(n=first + 2, attempt=first + 1, index=0, item=call),
        Start(n=first + 3, call=first + 2, effect="e1"),
        Output(n=first + 4, call=first + 2, item=answer),
        ItemRecord(n=first + 5, attempt=first + 1, index=1, item={"k": {"k": "x", "c": "y"}}),
        AttemptEnd(n=first + 6, attempt=first + 1, outcome="completed"),
        ItemRecord(n=first + 7, attempt=first + 1, index=2, item=said),
        TurnEnd(n=first + 8, turn=first, outcome="completed"),
    ]


def twelve() -> list[Known]:
    """A session of twelve records."""
    return [header(), *turn(2), Note(n=11, topic="a"), Note(n=12, topic="b", text="\0\n")]


def lines(records: Sequence[Known]) -> list[bytes]:
    """The line of each record."""
    codec = Codec()
    return [codec.encode(record) for record in records]


def numbers(records: Sequence[object]) -> list[int]:
    """The number of each record."""
    return [int(record.n) for record in records]  # type: ignore[attr-defined]


def put_journal(disk: Disk, home: str, content: bytes) -> str:
    """A session whose journal holds these bytes, durably; its folder."""
    folder = session_folder(home, ID)
    make_folder(disk, folder)
    with disk.create(f"{folder}/journal.jsonl") as file:
        file.append(content)
        file.datasync()
    disk.sync_directory(folder)
    return folder


def simulated(content: bytes) -> tuple[SimulatedDisk, str]:
    """A simulated disk with one journal of these bytes, and the session's folder."""
    disk = SimulatedDisk(clock)
    return disk, put_journal(disk, HOME, content)


class CountingFile(PosixFile):
    """A real file that counts the bytes that are read from it, and the longest read."""

    read_bytes = 0
    longest_read = 0

    def read(self, offset: int, length: int) -> bytes:
        found = super().read(offset, length)
        type(self).read_bytes += len(found)
        type(self).longest_read = max(self.longest_read, len(found))
        return found


class CountingDisk(PosixDisk):
    """A real disk whose open files count."""

    def __init__(self) -> None:
        class Fresh(CountingFile):
            """Counts for this disk alone."""

        self.file = Fresh

    def open(self, path: str) -> PosixFile:
        import os

        return self.file(path, os.O_RDONLY)

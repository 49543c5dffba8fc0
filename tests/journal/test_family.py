"""Families of sessions at random: turns, compactions, forks, deletions, power cuts between and in them.

Whatever happened, each session that is there reads as the list of records that was written for it.
"""

import errno
from random import Random

import pytest

from backstay.core.record import Compaction, Known, Prompt, TurnEnd
from backstay.errors import BackstayError, EmptySession, UsageError
from backstay.journal import Journal, journal_path, look, read, session_folder, uuid7
from backstay.journal.disk import Absent
from backstay.journal.fork import fork, release
from backstay.journal.simulated import Fault, SimulatedDisk
from tests.journal.sample import HOME, NOW, clock, compaction, header, lines, numbers, turn

STEPS = 40


class Family:
    """Sessions on a simulated disk, and what each of them must read as."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.disk = SimulatedDisk(clock)
        self.written: dict[str, list[Known]] = {}
        self._made = 0
        self.begin()

    def begin(self) -> None:
        """A new session that is no fork."""
        name = self._name()
        first = header()
        first.id = name
        with Journal.create(self.disk, HOME, name, clock) as journal:
            journal.commit([first])
        self.written[name] = [first]

    def _name(self) -> str:
        self._made += 1
        return uuid7(NOW + self._made, bytes(10))

    def any(self) -> str:
        """One of the sessions."""
        return self.rng.choice(sorted(self.written))

    def append(self, name: str, made: list[Known]) -> None:
        """Go on in a session."""
        for record in made:
            if isinstance(record, Prompt | Compaction):
                record.id = name
        journal, reading = Journal.open(self.disk, folder(name), clock)
        with journal:
            assert reading.next_n == made[0].n
            journal.commit(made)
        self.written[name] += made

    def go_on(self) -> None:
        """A turn, whole or cut, or a compaction."""
        name = self.any()
        n = self.written[name][-1].n + 1
        if self.rng.random() < 0.25:
            self.append(name, [compaction(n)])
        else:
            self.append(name, turn(n)[: self.rng.choice([5, 9, 9, 9])])

    def fork(self, *, cut: bool) -> None:
        """A fork behind any turn; a cut one is there as it should be, or not at all."""
        parent, name = self.any(), self._name()
        records = self.written[parent]
        order = list(dict.fromkeys(one.turn for one in records if isinstance(one, TurnEnd)))
        chosen = self.rng.choice([None, *order])
        try:
            if cut:
                self._cut()
            made = fork(self.disk, folder(parent), name, clock, turn=_place(records, chosen))
            assert made.id == name
        except UsageError:
            assert not order
            self.disk.faults.clear()
            return
        except BackstayError:
            assert cut
        if cut:
            self._lose_power()
        if not order:
            return
        wanted = chosen or order[-1]
        last = max(
            at for at, one in enumerate(records) if isinstance(one, TurnEnd) and one.turn == wanted
        )
        try:
            found = look(self.disk, folder(name))
        except EmptySession:
            assert cut
            return
        own = [one for one in found.records if one.n > records[last].n]
        if cut and found.damage:
            self.disk.unlink(journal_path(folder(name)))
            return
        self.written[name] = records[: last + 1] + own  # type: ignore[operator]

    def delete(self, *, cut: bool) -> None:
        """A deletion; a cut one has happened or has not."""
        name = self.any()
        try:
            if cut:
                self._cut()
            release(self.disk, folder(name), clock)
            self.disk.unlink(journal_path(folder(name)))
            self.disk.sync_directory(folder(name))
        except BackstayError:
            assert cut
        if cut:
            self._lose_power()
        try:
            self.disk.stat(journal_path(folder(name)))
        except Absent:
            del self.written[name]
        if not self.written:
            self.begin()

    def _cut(self) -> None:
        """One of the next calls fails, in the middle of what it does."""
        at = len(self.disk.calls) + self.rng.randint(0, 40)
        self.disk.faults[at] = Fault(errno.EIO, written=self.rng.randint(0, 900))

    def _lose_power(self) -> None:
        self.disk = self.disk.kill().crash(self.rng)

    def check(self) -> None:
        """Each session reads as it was written, all of it and from its tail."""
        for name, written in self.written.items():
            whole = look(self.disk, folder(name))
            assert numbers(whole.records) == numbers(written)
            assert (lines(_known(whole.records)), whole.damage) == (lines(written), [])
            anchors = [at for at, one in enumerate(written) if isinstance(one, Compaction)]
            tail = read(self.disk, journal_path(folder(name)))
            assert lines(_known(tail.records)) == lines(written[max(anchors, default=0) :])
            assert tail.damage == []
            assert tail.identity is not None
            assert tail.identity.id == name


def folder(name: str) -> str:
    """Where a session is."""
    return session_folder(HOME, name)


def _known(records: object) -> list[Known]:
    assert isinstance(records, list)
    return [one for one in records if isinstance(one, Known)]


def _place(records: list[Known], chosen: int | None) -> int | None:
    """The turn of this prompt, counted from 1."""
    if chosen is None:
        return None
    seen = [one.turn for one in records if hasattr(one, "turn") and not isinstance(one, Compaction)]
    return list(dict.fromkeys(seen)).index(chosen) + 1


@pytest.mark.parametrize("seed", range(40))
def test_every_session_of_a_family_reads_as_it_was_written(seed: int) -> None:
    """Whichever of its ancestors are gone, and wherever power was lost."""
    family = Family(seed)
    for _ in range(STEPS):
        cut = family.rng.random() < 0.4
        step = family.rng.choice(["on", "on", "on", "fork", "fork", "delete", "begin"])
        if step == "on":
            family.go_on()
        elif step == "fork":
            family.fork(cut=cut)
        elif step == "delete":
            family.delete(cut=cut)
        elif len(family.written) < 3:
            family.begin()
        family.check()

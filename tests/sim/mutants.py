"""Deliberately broken parts: each breaks one rule, and the simulator has to notice.

Subclasses that a world is made with; nothing is patched.
"""

from collections.abc import Sequence
from typing import Any, Final, Self, cast

import msgspec

from backstay.core import commands as c
from backstay.core import events as e
from backstay.core.items import Item, call_id, message
from backstay.core.record import Call, Known, Output, Prompt
from backstay.core.rules import Traits
from backstay.core.settle import output
from backstay.core.table import Phase
from backstay.core.turn import Turn
from backstay.errors import StorageError
from backstay.journal import Blobs, Disk, File, Journal, Reading
from backstay.journal.disk import Lease
from backstay.journal.folders import home_of
from backstay.journal.journal import Clock
from tests.sim.agent import Agent
from tests.sim.world import Parts


class StartsAtOnce(Turn):
    """Starts a call without waiting for its records to be on disk."""

    def _start(self, call: Call, plan: dict[str, Any] | None) -> None:
        super()._start(call, plan)
        _, command = self._held.pop()
        self._live[call.n].stage = "running"
        self._commands.append(command)


class SendsAtOnce(Turn):
    """Sends a request without waiting for what it holds to be on disk."""

    def _try(self, turn: int, *, step: int, why: str, drop: list[int]) -> None:
        super()._try(turn, step=step, why=why, drop=drop)
        _, command = self._held.pop()
        self._commands.append(command)


class RecordsAtTheEnd(Turn):
    """Keeps outputs in memory until the stream has ended: the seed's first defect."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.kept: list[e.CallFinished] = []

    def _finish_call(self, event: e.CallFinished) -> None:
        if self.phase is Phase.STREAMING:
            self.kept.append(event)
        else:
            super()._finish_call(event)

    def _drain(self, event: e.AttemptEnded) -> None:
        kept, self.kept = self.kept, []
        for one in kept:
            super()._finish_call(one)
        super()._drain(event)


class StaleRetry(Turn):
    """Computes the input once a step, not once an attempt: the seed's second defect."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.input: dict[tuple[int, int], list[Item]] = {}

    def _try(self, turn: int, *, step: int, why: str, drop: list[int]) -> None:
        super()._try(turn, step=step, why=why, drop=drop)
        n, command = self._held.pop()
        assert isinstance(command, c.Send)
        stale = self.input.setdefault((turn, step), command.request.input)
        request = msgspec.structs.replace(command.request, input=stale)
        self._held.append((n, c.Send(command.attempt, request)))


class DrainsNot(Turn):
    """Goes on as soon as the stream has ended, while calls still run."""

    def _drained(self) -> None:
        live, self._live = self._live, {}
        super()._drained()
        self._live = live | self._live


class TakesSilenceForNo(Turn):
    """Settles every open call as never started, whatever the evidence says."""

    def _settle(self, event: e.Settled) -> None:
        super()._settle(e.Settled(event.call, e.Evidence(found="unstarted")))


class ForgetsSettlement(Turn):
    """Closes open calls in its own history and does not write it down."""

    def _record(self, record: Known) -> None:
        super()._record(record)
        if self.phase is Phase.SETTLING and isinstance(record, Output):
            self._records.pop()


class RunsRepeats(Turn):
    """Takes an item that the provider repeats for a new one."""

    def _take_item(self, event: e.ItemDone) -> None:
        attempt = self._attempt
        index = event.index
        while attempt and any(one.index == index for one in attempt.items):
            index += 1000
        super()._take_item(e.ItemDone(event.attempt, index, event.item))


class TakesCallIdsForUnique(Turn):
    """Takes a call id that a provider uses again, in a later response, for a repetition."""

    def _take_item(self, event: e.ItemDone) -> None:
        used = {call_id(one.record.item) for one in self.history.calls.values()}
        if "call_id" not in event.item or call_id(event.item) not in used:
            super()._take_item(event)


class IgnoresExclusive(Turn):
    """Runs calls beside each other that must not be."""

    def _traits(self, n: int) -> Traits:
        return msgspec.structs.replace(super()._traits(n), parallel=True)


class KeepsItsQueue(Turn):
    """Starts what is queued behind an exclusive call although the turn was interrupted."""

    def _stop_calls(self) -> None:
        queue, self._queue = self._queue, []
        super()._stop_calls()
        self._queue = queue


class TakesFailureForSuccess(Turn):
    """Goes on when the disk has refused."""

    def _break(self, event: e.AppendFailed) -> None:
        self._release(self.history.next)


class DropsLateResults(Turn):
    """Throws away a result that comes after its call was closed."""

    def _finish_call(self, event: e.CallFinished) -> None:
        if self.history.calls[event.call].output is None:
            super()._finish_call(event)


class RewritesOutputs(Turn):
    """Records a late result as a second output."""

    def _finish_call(self, event: e.CallFinished) -> None:
        state = self.history.calls[event.call]
        if state.output is None:
            super()._finish_call(event)
        else:
            self._record(output(self.history.next, state.record, event.result))


class SupersedesCalls(Turn):
    """Drops a cut attempt as a whole, its completed calls included."""

    def _repeat(self, attempt: Any, why: str) -> None:
        record = attempt.record
        drop = [one.n for one in attempt.items]
        self._try(record.turn, step=record.step, why=why, drop=drop)


class TellsTheTime(Turn):
    """Puts something that changes in front of every request."""

    def _try(self, turn: int, *, step: int, why: str, drop: list[int]) -> None:
        super()._try(turn, step=step, why=why, drop=drop)
        n, command = self._held.pop()
        assert isinstance(command, c.Send)
        now = message("developer", f"the time is {n}")
        request = msgspec.structs.replace(command.request, input=[now, *command.request.input])
        self._held.append((n, c.Send(command.attempt, request)))


class NeverStops(Turn):
    """Lets a call run on when its time is up."""

    def _stop_late_call(self, event: e.DeadlinePassed) -> None:
        self._ignore(event)


class FinishesEarly(Turn):
    """Tells that a turn is over before that is on disk."""

    def _finish(self, finish: c.Finish) -> None:
        self._commands.append(finish)


class TakesWhatWaited(Turn):
    """Takes prompts for its own that waited in the session it was forked from."""

    def _open(self, event: e.Opened) -> None:
        super()._open(event)
        history = self.history
        for one in event.records:
            waited = isinstance(one, Prompt) and one.n < history.shared
            if waited and one.n not in history.turns:
                history.queued.insert(0, cast("Prompt", one))


class SkipsTheSync(Journal):
    """Says that records are durable when they are only written."""

    def commit(self, batch: Sequence[Known]) -> int:
        self.write(batch)
        self.last = self._written
        return self.last


class TriesTheSyncAgain(Journal):
    """Tries a failed datasync again, which succeeds and means nothing."""

    def commit(self, batch: Sequence[Known]) -> int:
        try:
            return super().commit(batch)
        except StorageError:
            self._failure = None
            return super().commit(batch)


class TakesShortForWhole(Journal):
    """Takes a short write for a whole one."""

    def _append(self, content: bytes) -> None:
        try:
            self._file.append(content)
        except StorageError:
            self._size = self._file.size() - len(content)


class TakesNoLock(Journal):
    """Opens a session that another process writes."""

    @classmethod
    def open(cls, disk: Disk, folder: str, clock: Clock) -> tuple[Self, Reading]:
        return super().open(cast("Disk", _Unlocked(disk)), folder, clock)


class _Unlocked:
    """A disk that gives every lock to everybody."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def lock(self, path: str, since: float) -> Lease:
        return _NoLease()


class _NoLease:
    held = True

    def release(self) -> None:
        """Nothing was taken."""


class NamesWhatMayBeLost(Journal):
    """Names a blob whose bytes are not on disk yet."""

    def __init__(self, disk: Disk, *args: Any, **fields: Any) -> None:
        super().__init__(disk, *args, **fields)
        careless = cast("Disk", _Careless(disk))
        self.blobs = Blobs(careless, home_of(self.folder), self.folder.rpartition("/")[2])


class _Careless:
    """A disk whose new files and folders are never made durable."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def create(self, path: str) -> File:
        return cast("File", _CarelessFile(self._disk.create(path)))

    def sync_directory(self, path: str) -> None:
        """Nothing is done."""


class _CarelessFile:
    def __init__(self, file: File) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, content: bytes) -> None:
        self._file.append(content)

    def datasync(self) -> None:
        """Nothing is done."""


class OpensOnlyWhatIsWhole(Journal):
    """Refuses a journal whose tail is damaged."""

    @classmethod
    def open(cls, disk: Disk, folder: str, clock: Clock) -> tuple[Self, Reading]:
        journal, reading = super().open(disk, folder, clock)
        if reading.news:
            journal.close()
            raise StorageError("the journal is damaged")
        return journal, reading


class SaysAppendedEarly(Agent):
    """A driver that takes written for durable."""

    def write(self) -> str:
        told = super().write()
        self.inbox.append(e.Appended(self.journal._written))  # noqa: SLF001 - it is broken on purpose
        return told


class ForgetsToWake(Agent):
    """A driver that loses its timers."""

    def _carry_out(self, command: c.Command) -> None:
        if not isinstance(command, c.Wait):
            super()._carry_out(command)


MUTANTS: Final[dict[str, tuple[Parts, str]]] = {
    "starts at once": (Parts(turn=StartsAtOnce), "P4"),
    "sends at once": (Parts(turn=SendsAtOnce), "P4"),
    "records at the end of the stream": (Parts(turn=RecordsAtTheEnd), "P2"),
    "stale retry": (Parts(turn=StaleRetry), "P2 P5 P6"),
    "drains not": (Parts(turn=DrainsNot), "P2 P4 P6"),
    "takes silence for no": (Parts(turn=TakesSilenceForNo), "P10"),
    "forgets settlement": (Parts(turn=ForgetsSettlement), "P4 P5 P7"),
    "runs repeats": (Parts(turn=RunsRepeats), "P3"),
    "takes call ids for unique": (Parts(turn=TakesCallIdsForUnique), "P2"),
    "ignores exclusive": (Parts(turn=IgnoresExclusive), "exclusive"),
    "keeps its queue": (Parts(turn=KeepsItsQueue), "P10"),
    "takes failure for success": (Parts(turn=TakesFailureForSuccess), "P4 P10"),
    "drops late results": (Parts(turn=DropsLateResults), "P2"),
    "rewrites outputs": (Parts(turn=RewritesOutputs), "P2"),
    "supersedes calls": (Parts(turn=SupersedesCalls), "P2"),
    "tells the time": (Parts(turn=TellsTheTime), "P5 P6"),
    "never stops": (Parts(turn=NeverStops), "P8"),
    "finishes early": (Parts(turn=FinishesEarly), "P4"),
    "takes what waited": (Parts(turn=TakesWhatWaited), "P2 P5"),
    "skips the sync": (Parts(journal=SkipsTheSync), "P7"),
    "tries the sync again": (Parts(journal=TriesTheSyncAgain), "P7"),
    "takes a short write for whole": (Parts(journal=TakesShortForWhole), "P7"),
    "takes no lock": (Parts(journal=TakesNoLock), "P9"),
    "names what may be lost": (Parts(journal=NamesWhatMayBeLost), "P7"),
    "opens only what is whole": (Parts(journal=OpensOnlyWhatIsWhole), "P7"),
    "says appended early": (Parts(agent=SaysAppendedEarly), "P4"),
    "forgets to wake": (Parts(agent=ForgetsToWake), "P8"),
}
"""Each mutant with the promises by which it may be caught."""

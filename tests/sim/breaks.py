"""More broken parts: ladder, compaction, commands that yield, letters and forks.

As in `mutants`, each breaks one rule, and the simulator has to notice.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from backstay.core import commands as c
from backstay.core import events as e
from backstay.core.items import message_text
from backstay.core.ladder import climb
from backstay.core.mend import AS_TEXT, MENDING, UNDO
from backstay.core.record import AnyRecord, Compaction, Fork, Known, Prompt, Repair, Tally
from backstay.core.turn import Turn
from backstay.journal import Disk, Journal, journal_path
from backstay.journal.folders import home_of
from backstay.journal.fork import Forked, _opening, _point, _shared
from backstay.journal.inbox import Letter
from backstay.journal.journal import Clock
from backstay.journal.reader import sheets
from tests.sim.agent import Agent
from tests.sim.effects import TOOLS
from tests.sim.world import Parts


class NeverTakesBack(Turn):
    """Leaves repairs standing that did not help."""

    def _record(self, record: Known) -> None:
        if not (isinstance(record, Repair) and record.action == UNDO):
            super()._record(record)


class ClimbsForEver(Turn):
    """Tries one more repair wherever the ladder has come to its end."""

    def _conclude_cut(self, attempt: Any, outcome: e.Outcome) -> None:
        repair = climb(self.history, self.rules.dialect, outcome, attempt.record.n)
        if repair is None or repair.action != UNDO:
            super()._conclude_cut(attempt, outcome)
            return
        self._record(Repair(n=self.history.next, action=AS_TEXT, reason="", target=repair.n))
        self._repeat(attempt, "again")


class RepairsInSilence(Turn):
    """Changes what is sent and does not write it down."""

    def _record(self, record: Known) -> None:
        super()._record(record)
        if isinstance(record, Repair) and record.action in MENDING:
            self._records.pop()


class _Compacts(Turn):
    """Writes a compaction that is not what it should be."""

    def _record(self, record: Known) -> None:
        if isinstance(record, Compaction):
            self._spoil(record)
        super()._record(record)

    def _spoil(self, record: Compaction) -> None:
        raise NotImplementedError


class DropsTheQueue(_Compacts):
    """Leaves the prompts that wait out of a compaction."""

    def _spoil(self, record: Compaction) -> None:
        record.carried = [one for one in record.carried if not isinstance(one, Prompt)]


class ForgetsTheCounters(_Compacts):
    """Counts the steps of a turn anew behind a compaction."""

    def _spoil(self, record: Compaction) -> None:
        record.tally = Tally()


class ForgetsTheCommands(_Compacts):
    """Leaves the commands that run out of a compaction, and what of them was shown."""

    def _spoil(self, record: Compaction) -> None:
        record.shown, record.running = {}, {}


class ForgetsTheLetters(_Compacts):
    """Leaves the letters that became prompts out of a compaction."""

    def _spoil(self, record: Compaction) -> None:
        record.letters = []


class DropsThePrompt(_Compacts):
    """Leaves the prompt of the turn that goes on to the summary."""

    def _spoil(self, record: Compaction) -> None:
        said = [message_text(item) for item in record.prompt.items] if record.prompt else []
        record.items = [item for item in record.items if message_text(item) not in said]


class DropsWhatCameMeanwhile(Turn):
    """Leaves out of a compaction what came while its summary was made."""

    def _ask(self, making: Any) -> None:
        making._seen = 0  # noqa: SLF001 - it is broken on purpose
        super()._ask(making)


class AsksForSummariesEarly(Turn):
    """Asks for a summary of what is not on disk yet."""

    def _hold(self, command: c.Command) -> None:
        if isinstance(command, c.Summarize):
            self._commands.append(command)
        else:
            super()._hold(command)


class KeepsWhatWasReplaced(Turn):
    """Sends the conversation behind its summary once more."""

    def _record(self, record: Known) -> None:
        before = self.history.segments
        super()._record(record)
        if isinstance(record, Compaction):
            self.history.segments += before


class RunsAgain(Turn):
    """Runs a call again of which nobody knows whether it ran."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        tools = {
            name: msgspec.structs.replace(one.traits, replay="safe") for name, one in TOOLS.items()
        }
        self.rules = msgspec.structs.replace(self.rules, tools=tools)


class TakesLettersTwice(Turn):
    """Takes a letter that is on record for a new one."""

    def _accept(self, event: e.PromptGiven) -> None:
        self.history.letters = []
        super()._accept(event)


class TakesItsParentsName(Turn):
    """Starts the effects of a fork under its parent's name."""

    def _open(self, event: e.Opened) -> None:
        super()._open(event)
        for record in event.records:
            if isinstance(record, Fork):
                self.history.id = record.origin.parent


class ShowsAnew(Agent):
    """A driver that forgets what of a command's output was shown when it opens a session."""

    def know_commands(self, records: Sequence[AnyRecord], session: str) -> None:
        super().know_commands(records, session)
        self.effects.shown = {}


class TellsNoEnds(Agent):
    """A driver that does not tell what became of commands while nobody was there."""

    def know_commands(self, records: Sequence[AnyRecord], session: str) -> None:
        before = list(self.inbox)
        super().know_commands(records, session)
        self.inbox.clear()
        self.inbox += before


class RemovesLettersEarly(Agent):
    """A driver that removes a letter before its prompt is on record."""

    def post_letter(self, letter: Letter) -> None:
        super().post_letter(letter)
        self.done.append(letter.id)


def shares_all(disk: Disk, source: str, session: str, clock: Clock) -> Forked:
    """Forks behind the newest record, whatever is under way there."""
    point = _point(disk, source, None)
    own = sheets(disk, journal_path(source))[0]
    point.session, point.part = own.session, own.kept[-1]
    shared = _shared(disk, home_of(source), session, point)
    with Journal.create(disk, home_of(source), session, clock) as journal:
        journal.commit(_opening(session, shared, point))
    return Forked(session, journal.folder, 0, cut=False)


def refers_beyond(disk: Disk, source: str, session: str, clock: Clock) -> Forked:
    """Forks without what the parent said last."""
    point = _point(disk, source, None)
    shared = _shared(disk, home_of(source), session, point)
    point.part = shared[-2]
    with Journal.create(disk, home_of(source), session, clock) as journal:
        journal.commit(_opening(session, shared[:-1], point))
    return Forked(session, journal.folder, 0, cut=False)


def leaves_nothing(disk: Disk, folder: str, clock: Clock) -> list[str]:
    """Deletes a session without giving its forks what they share with it."""
    del disk, folder, clock
    return []


BREAKS: Final[dict[str, tuple[Parts, str]]] = {
    "never takes back": (Parts(turn=NeverTakesBack), "P6"),
    "climbs for ever": (Parts(turn=ClimbsForEver), "P8"),
    "repairs in silence": (Parts(turn=RepairsInSilence), "P5 P6"),
    "drops the queue": (Parts(turn=DropsTheQueue), "P2"),
    "forgets the counters": (Parts(turn=ForgetsTheCounters), "P8"),
    "forgets the commands": (Parts(turn=ForgetsTheCommands), "P2"),
    "forgets the letters": (Parts(turn=ForgetsTheLetters), "P2"),
    "drops the prompt": (Parts(turn=DropsThePrompt), "P2"),
    "drops what came meanwhile": (Parts(turn=DropsWhatCameMeanwhile), "P2"),
    "asks for summaries early": (Parts(turn=AsksForSummariesEarly), "P4"),
    "keeps what was replaced": (Parts(turn=KeepsWhatWasReplaced), "P5"),
    "runs again": (Parts(turn=RunsAgain), "P3"),
    "shows anew": (Parts(agent=ShowsAnew), "P2"),
    "tells no ends": (Parts(agent=TellsNoEnds), "P2"),
    "takes letters twice": (Parts(turn=TakesLettersTwice), "P2"),
    "removes letters early": (Parts(agent=RemovesLettersEarly), "P2"),
    "takes its parent's name": (Parts(turn=TakesItsParentsName), "P3 P4 P10"),
    "shares all": (Parts(fork=shares_all), "P2"),
    "refers beyond": (Parts(fork=refers_beyond), "P2"),
    "leaves nothing": (Parts(release=leaves_nothing), "P7"),
}
"""Each with the promises by which it may be caught."""

WORLDS: Final[dict[str, frozenset[str]]] = {
    "forgets the commands": frozenset({"yields", "lengths", "kills", "supervisor"}),
    "shows anew": frozenset({"yields", "kills"}),
    "forgets the counters": frozenset({"lengths", "kills"}),
    "never takes back": frozenset({"histories"}),
    "climbs for ever": frozenset({"histories"}),
}
"""Where what is broken comes up often enough for a quick test; all others meet any world."""

"""Commands that outlived the call that started them, as the records and the disk tell of them.

A call that yielded answered with a number; what became of its command afterwards, while nobody was
there, is told to the model once.
"""

from collections.abc import Iterable, Iterator

from backstay.core.events import Noted
from backstay.core.history import COMMAND_ENDED
from backstay.core.items import message
from backstay.core.record import AnyRecord, Compaction, Fork, Note, Output, Start
from backstay.tools import effects, shell
from backstay.tools.effects import Exit, Exited, Running


def shown(records: Iterable[AnyRecord]) -> dict[str, int]:
    """How far the output of each effect has been shown by recorded outputs."""
    ends: dict[str, int] = {}
    for record in records:
        if isinstance(record, Output) and record.spool is not None:
            spool = record.spool
            ends[spool.effect] = max(spool.end, ends.get(spool.effect, 0))
        elif isinstance(record, Compaction):
            ends |= record.shown
    return ends


def running(records: Iterable[AnyRecord]) -> dict[str, str]:
    """The effects that the model takes for running, each with the boot it was started in."""
    boots: dict[str, str] = {}
    believed: dict[str, str] = {}
    for record in records:
        if isinstance(record, Start):
            boots[record.effect] = record.boot
        elif isinstance(record, Output) and record.spool is not None:
            effect = record.spool.effect
            believed.pop(effect, None)
            if record.status == "yielded":
                believed[effect] = boots.get(effect, "")
        elif isinstance(record, Note) and record.topic == COMMAND_ENDED:
            believed.pop(record.text, None)
        elif isinstance(record, Fork):
            believed.clear()
        elif isinstance(record, Compaction):
            boots |= record.running
            believed = dict(record.running)
    return believed


def ended_since(folder: str, session: str, records: Iterable[AnyRecord]) -> Iterator[Noted]:
    """What to tell of commands that are believed to run and don't; leftovers are ended first."""
    for effect, boot in running(records).items():
        if not effect.startswith(session):
            continue
        place = effects.effect_folder(folder, effect)
        found = effects.evidence(place, boot or effects.boot_id())
        if isinstance(found, Running) and found.supervised:
            continue
        number = int(effect.rpartition("-")[2])
        if isinstance(found, Exited) and isinstance(found.result, Exit):
            how = shell.outcome_line(found.result, number)
        else:
            effects.end_recorded_group(place)
            how = "how it ended is unknown, and it does not run any more"
        yield told(effect, f"The command with session ID {number} has ended: {how}")


def told(effect: str, text: str) -> Noted:
    """The event that puts a command's end into the journal and before the model."""
    return Noted(COMMAND_ENDED, effect, message("developer", text))

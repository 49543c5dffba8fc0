"""What the simulator found in the machine, each as a script of its own."""

from backstay.core import commands as c
from backstay.core import events as e
from backstay.core.history import History
from backstay.core.items import message
from backstay.core.record import AnyRecord, Attempt, Basis, Call, Output, Prompt, Session, Start
from backstay.core.rules import Rules, Traits
from backstay.core.table import Phase
from backstay.core.turn import Turn

BASIS = Basis("i", "t")


def settling() -> Turn:
    """A machine that has just asked for the evidence about a call of a tool that may run again."""
    item = {"type": "function_call", "call_id": "c", "name": "fetch", "arguments": "{}"}
    records: list[AnyRecord] = [
        Session(n=1, id="s", cwd="/w", basis=BASIS),
        Prompt(n=2, id="s", cwd="/w", basis=BASIS, items=[message("user", "go")], model="m"),
        Attempt(n=3, turn=2, step=1, model="m"),
        Call(n=4, attempt=3, index=0, item=item),
        Start(n=5, call=4, effect="s-4"),
    ]
    machine = Turn(Rules(tools={"fetch": Traits(replay="safe")}))
    commands = machine.handle(e.Opened(records, "s", "/w", BASIS, next=6))
    assert [type(one) for one in commands] == [c.Probe]
    return machine


def test_a_call_that_runs_again_waits_for_its_start_to_be_on_disk() -> None:
    """The start that was read back may be in the page cache only: a new one is synced first."""
    machine = settling()
    (append,) = machine.handle(e.Settled(4, e.Evidence(found="unknown")))
    assert isinstance(append, c.Append)
    (start,) = append.records
    assert isinstance(start, Start)
    (command,) = machine.handle(e.Appended(start.n))
    assert isinstance(command, c.StartCall)
    assert command.start.effect == "s-4"


def test_an_interrupt_before_it_runs_again_ends_the_settling() -> None:
    """The call is closed as unknown, since it may have run before, and the session is idle."""
    machine = settling()
    machine.handle(e.Settled(4, e.Evidence(found="unknown")))
    (append,) = machine.handle(e.Interrupted())
    assert isinstance(append, c.Append)
    assert isinstance(append.records[0], Output)
    assert append.records[0].status == "unknown"
    assert machine.phase is Phase.IDLE
    later = machine.handle(e.Appended(append.records[-1].n))
    assert not any(isinstance(one, c.StartCall) for one in later)


def test_a_second_start_record_changes_nothing_in_history() -> None:
    """Replay takes the first start of a call: evidence is looked for where that one says."""
    machine = settling()
    machine.handle(e.Settled(4, e.Evidence(found="unknown")))
    history = History()
    history.apply(machine.history.calls[4].record)
    assert machine.history.calls[4].start == Start(n=5, call=4, effect="s-4")

"""The picture of the turn machine in ARCHITECTURE.md is the table that the code runs on."""

from backstay.core.table import TABLE, Phase
from backstay.core.turn import Turn
from tests.core.draw import BEGIN, END, PAGE, drawn, page


def test_the_page_shows_the_table_as_it_is() -> None:
    """`make docs` draws it anew."""
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text == page(text), "run `make docs`"


def test_every_row_is_drawn_and_nothing_beside_the_table_is_touched() -> None:
    """A line for each event that a phase takes; the text around the marks stays."""
    rows = drawn().splitlines()[2:]
    assert len(rows) == sum(len(events) or 1 for events in TABLE.values())
    assert page(f"above\n{BEGIN}old\n{END}below\n") == f"above\n{BEGIN}\n{drawn()}\n{END}below\n"


def test_the_table_names_every_phase_and_what_there_is() -> None:
    """Each phase has its place, each action is a method of the machine, each phase is reached."""
    assert list(TABLE) == list(Phase)
    rows = [row for events in TABLE.values() for row in events.values()]
    assert all(callable(getattr(Turn, f"_{row.action}")) for row in rows)
    reached = {phase for row in rows for phase in row.leads_to}
    assert reached == set(Phase) - {Phase.CLOSED, Phase.BROKEN}

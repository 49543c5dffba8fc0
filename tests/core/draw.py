"""Draws the turn machine's table into ARCHITECTURE.md: `python -m tests.core.draw`."""

from pathlib import Path
from typing import Final

from backstay.core.table import TABLE, Row

PAGE: Final = Path(__file__).resolve().parents[2] / "ARCHITECTURE.md"
BEGIN: Final = "<!-- transitions -->\n"
END: Final = "<!-- /transitions -->\n"


def drawn() -> str:
    """The table as Markdown: a row for each event that a phase takes."""
    lines = ["| phase | event | what is done | next phase |", "|---|---|---|---|"]
    for phase, events in TABLE.items():
        name = f"**{phase}**"
        if not events:
            lines.append(f"| {name} | any | nothing | {phase} |")
        for event, row in events.items():
            lines.append(f"| {name} | `{event.__name__}` | {_words(row)} | {_next(row)} |")
            name = ""
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with the table between its marks drawn anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + drawn() + "\n" + END + after


def _words(row: Row) -> str:
    return row.action.replace("_", " ")


def _next(row: Row) -> str:
    return ", ".join(row.leads_to)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))

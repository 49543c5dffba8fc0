"""Draws the table of mutants into docs/guarantees.md: `python -m tests.sim.draw`."""

from pathlib import Path
from typing import Final

from tests.sim import breaks, mutants
from tests.sim.world import Parts

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"
BEGIN: Final = "<!-- mutants -->\n"
END: Final = "<!-- /mutants -->\n"


def drawn() -> str:
    """The table as Markdown: a row for each mutant."""
    lines = ["| a part that is broken on purpose | caught by |", "|---|---|"]
    for parts, promises in (mutants.MUTANTS | breaks.BREAKS).values():
        lines.append(f"| {_what(parts)} | {', '.join(promises.split())} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with the table between its marks drawn anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + drawn() + "\n" + END + after


def _what(parts: Parts) -> str:
    """What the broken part does, by the first line of its docstring, up to a colon."""
    broken = (parts.turn, parts.journal, parts.agent, parts.fork, parts.release)
    part = next(one for one in broken if one.__module__ in (mutants.__name__, breaks.__name__))
    return (part.__doc__ or "").partition("\n")[0].partition(":")[0].rstrip(".")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))

"""What a docstring says of a function and of its parameters, in Google's or reST's form.

Knows no types and judges nothing: what it does not recognise belongs to the description.
"""

import re
import textwrap
from typing import Final

_GOOGLE: Final = frozenset({"args", "arguments", "parameters", "params"})
_SECTIONS: Final = _GOOGLE | {
    "attributes", "example", "examples", "note", "notes", "raises", "returns", "see also",
    "todo", "warning", "warnings", "yields",
}  # fmt: skip
_ENTRY: Final = re.compile(r"(\*{0,2}\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_FIELD: Final = re.compile(r":(\w+)\s*([^:]*):\s*(.*)")


def parse(text: str | None) -> tuple[str, dict[str, str]]:
    """The description, and that of each parameter by its name.

    The description ends where the first section (`Args:`, `Returns:` …) or field (`:param x:`)
    begins. All on one line each, but paragraphs of the description stay apart.
    """
    lines = _dedented(text or "")
    body: list[str] = []
    found: dict[str, list[str]] = {}
    at = 0
    while at < len(lines) and not _opens(lines[at]):
        body.append(lines[at])
        at += 1
    while at < len(lines):
        line, block = lines[at], []
        at += 1
        while at < len(lines) and not _opens(lines[at]):
            block.append(lines[at])
            at += 1
        field = _FIELD.match(line)
        if field is not None:
            if field[1] in ("param", "parameter", "arg", "argument"):
                name = field[2].split()[-1] if field[2].split() else ""
                found[name] = [field[3], *block]
        elif line.rstrip().rstrip(":").lower() in _GOOGLE:
            found |= _entries(block)
    paragraphs = [" ".join(part.split()) for part in "\n".join(body).split("\n\n")]
    description = "\n\n".join(part for part in paragraphs if part)
    return description, {name: " ".join(" ".join(part).split()) for name, part in found.items()}


def _dedented(text: str) -> list[str]:
    first, _, rest = text.strip().partition("\n")
    return [first, *(line.rstrip() for line in textwrap.dedent(rest).splitlines())]


def _opens(line: str) -> bool:
    """Whether a section or a field begins here."""
    if _FIELD.match(line):
        return True
    return line.endswith(":") and line[:-1].lower() in _SECTIONS


def _entries(block: list[str]) -> dict[str, list[str]]:
    """The entries of a section: `name (type): text`, with deeper lines belonging to it."""
    found: dict[str, list[str]] = {}
    depth, last = -1, ""
    for line in block:
        words = line.strip()
        indent = len(line) - len(words)
        entry = _ENTRY.match(words)
        if entry and (depth < 0 or indent <= depth):
            depth, last = indent, entry[1].lstrip("*")
            found[last] = [entry[2]]
        elif last:
            found[last].append(words)
    return found

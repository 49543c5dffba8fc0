"""The result of a trial as text, as JSON and as JUnit XML."""

import os
import textwrap
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from backstay.chaos.trial.stage import Traits

Verdict = Literal["held", "broken", "skipped"]
_SHOWN: dict[Verdict, str] = {"held": "held", "broken": "BROKEN", "skipped": "skipped"}
_WIDEST: Final = 108
_NARROW: Final = 80
"""Columns below which what is said stands below the name."""


class Result(Struct, kw_only=True):
    """What became of a scenario; `findings` is why it did not hold, or why it was skipped."""

    name: str
    says: str
    verdict: Verdict
    findings: list[str]
    held: int
    runs: int
    requests: int
    seconds: float
    folders: list[str] = []


class Trial(Struct, kw_only=True):
    """A whole trial."""

    command: list[str]
    resume: list[str] | None
    traits: Traits
    results: list[Result]

    def count(self, verdict: Verdict) -> int:
        """How many scenarios ended so."""
        return sum(one.verdict == verdict for one in self.results)

    @property
    def summary(self) -> str:
        """One line."""
        held, broken, skipped = (self.count(one) for one in ("held", "broken", "skipped"))
        return (
            f"{len(self.results)} scenarios: {held} held, {broken} did not hold, {skipped} skipped"
        )


def about(traits: Traits) -> str:
    """What the first run showed, in one line."""
    when = "while the response streams" if traits.streams else "once the response is complete"
    return f"its tool {traits.shape.name} ({traits.shape.kind}) runs {when}"


def line(result: Result) -> str:
    """A scenario's lines in the table: its verdict, its property, and what did not hold."""
    width = _width()
    head = f"{_SHOWN[result.verdict]:<8} {result.name:<26} "
    times = f" [{result.held} of {result.runs}]" if result.runs > 1 else ""
    indent = " " * len(head) if width >= _NARROW else " " * 4
    if width < _NARROW:
        head = f"{head.rstrip()}\n{indent}"
    said = textwrap.fill(
        result.says + times, width, initial_indent=indent, subsequent_indent=indent
    )
    text = head + said[len(indent) :]
    sign = "" if result.verdict == "skipped" else "✗ "
    why = [
        textwrap.fill(f"{sign}{one}", width, initial_indent=indent, subsequent_indent=indent + "  ")
        for one in result.findings
    ]
    kept = [f"{indent}{folder}" for folder in result.folders]
    return "\n".join([text, *why, *kept])


def _width() -> int:
    """Columns of the terminal that the table goes to, at most those that read well."""
    try:
        return min(os.get_terminal_size(1).columns or _WIDEST, _WIDEST)
    except OSError:
        return _WIDEST


def to_json(trial: Trial) -> str:
    """The trial as JSON, indented."""
    value: dict[str, Any] = {
        "command": trial.command,
        "resume": trial.resume,
        "agent": {
            "tool": trial.traits.shape.name,
            "kind": trial.traits.shape.kind,
            "runs_tools_while_streaming": trial.traits.streams,
        },
        "summary": {one: trial.count(one) for one in ("held", "broken", "skipped")},
        "scenarios": trial.results,
    }
    return msgspec.json.format(msgspec.json.encode(value)).decode()


def to_junit(trial: Trial) -> str:
    """The trial as a JUnit test suite: a case for each scenario."""
    from xml.etree import ElementTree as ET

    attributes = {
        "name": "backstay chaos test",
        "tests": str(len(trial.results)),
        "failures": str(trial.count("broken")),
        "skipped": str(trial.count("skipped")),
        "errors": "0",
        "time": f"{sum(one.seconds for one in trial.results):.3f}",
    }
    suite = ET.Element("testsuite", attributes)
    for one in trial.results:
        seconds = f"{one.seconds:.3f}"
        case = ET.SubElement(
            suite, "testcase", classname="backstay.chaos", name=one.name, time=seconds
        )
        if one.verdict != "held":
            tag = "failure" if one.verdict == "broken" else "skipped"
            first = _printable(one.findings[0] if one.findings else "")
            said = ET.SubElement(case, tag, message=first)
            said.text = _printable("\n".join([one.says, *one.findings]))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _printable(text: str) -> str:
    """Text without the characters that XML can't hold."""
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text)

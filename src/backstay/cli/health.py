"""`doctor` without `--provider`: what is wrong with sessions, Backstay's own and Codex's.

Reads only, unless `--repair` is given; then it writes new files and keeps the old ones.
"""

import os
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Final

import msgspec

from backstay.cli.listing import width_of
from backstay.cli.options import Given
from backstay.cli.sessions import Progress, say
from backstay.cli.sink import Sink
from backstay.cli.terminal import BOLD, DIM, RED, YELLOW, Style, harmless, one_line, style
from backstay.doctor.findings import CODES, KEPT
from backstay.doctor.repair import Repaired, repair
from backstay.doctor.survey import Place, Report, named, places, stale_rows, survey
from backstay.errors import BackstayError, UsageError
from backstay.runtime.config import default_home

_TONES: Final = {"error": RED, "warning": YELLOW, "note": DIM}
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def main(given: Given) -> int:
    """Examine, and repair where that is asked for; 0 sound, 1 damaged."""
    limit = given.last("limit", "20")
    if not limit.isdecimal():
        raise UsageError(f"-n {limit}: it takes a number")
    mends, in_place = given.has("repair"), given.has("in-place")
    if in_place and not mends:
        raise UsageError("--in-place goes with --repair")
    if mends and not given.words:
        raise UsageError("say what to repair: backstay doctor --repair PATH or ID ...")
    home, codex_home = default_home(os.environ), codex_home_in(os.environ.get("CODEX_HOME", ""))
    if given.words:
        found = named(given.words, home, codex_home)
    else:
        found = places(home, codex_home)
    if mends:
        return _repair(found, given, in_place=in_place)
    stale = None if given.words else stale_rows(codex_home)
    if given.has("json"):
        return _json(found, stale)
    single = bool(given.words) and len(found) == 1
    reports = _examined(found, detail=single)
    reports += [stale] if stale is not None else []
    if single:
        _detail(reports[0])
    else:
        _table(reports, int(limit), every=given.has("all"), where=(home, codex_home))
    return 0 if all(one.sound for one in reports) else 1


def codex_home_in(value: str) -> str:
    """Where Codex keeps its sessions: `$CODEX_HOME`, else `~/.codex`."""
    return os.path.abspath(os.path.expanduser(value or "~/.codex"))


def _examined(found: Sequence[Place], *, detail: bool) -> list[Report]:
    with Progress(" for the doctor") as told:
        reports = list(survey(found, told, detail=detail))
    reports.sort(key=lambda one: (one.findings.worst, one.path))
    return reports


def _json(found: Sequence[Place], stale: Report | None) -> int:
    """One object a session, each as soon as it is known."""
    code = 0
    with Progress(" for the doctor") as told:
        for one in chain(survey(found, told, detail=True), [stale] if stale is not None else []):
            print(msgspec.json.encode(one.as_data()).decode())
            code = code if one.sound else 1
    return code


# The table


def _table(reports: Sequence[Report], limit: int, *, every: bool, where: tuple[str, str]) -> None:
    if not reports:
        say(f"there are no sessions in {where[0]} and {where[1]}")
        return
    looks = style("auto", Sink(1), os.environ)
    width = width_of(1)
    shown = [one for one in reports if every or not one.sound]
    for one in shown[: limit or None]:
        print(_row(one, width, looks))
    damaged = sum(not one.sound for one in reports)
    left = len(shown) - len(shown[: limit or None])
    sound = len(reports) - damaged
    if left:
        say(f"{left} more: -n 0 shows all")
    noun = "session is" if sound == 1 else "sessions are"
    say(f"{sound} {noun} sound, {damaged} damaged" + (_ADVICE if damaged else ""))


_ADVICE: Final = "; backstay doctor ID tells more"


def _row(one: Report, width: int, looks: Style) -> str:
    found = one.findings
    worst = next((s for s in ("error", "warning", "note") if found.count(s)), "")
    mark = {"error": "!", "warning": "?"}.get(worst, " ")
    named_as = one.id or os.path.basename(one.path)
    head = f"{named_as:<36}  {one.agent:<8}  {size_of(one.bytes):>7}  "
    room = max(width - len(head) - 2, 20)
    text = one_line(_counts(one) or "sound", room)
    return f"{looks(mark, _TONES.get(worst, DIM))} {harmless(head)}{looks(text, BOLD)}".rstrip()


def _counts(one: Report) -> str:
    order = {finding.code: place for place, finding in enumerate(one.findings.sorted()[::-1])}
    ranked = sorted(one.findings.counts.items(), key=lambda pair: -order.get(pair[0], 0))
    return ", ".join(code if count == 1 else f"{code} ({count})" for code, count in ranked)


def size_of(count: int) -> str:
    """Bytes in at most seven columns."""
    size = float(count)
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1000
    return ""


# One session


def _detail(one: Report) -> None:
    looks = style("auto", Sink(1), os.environ)
    print(f"session {harmless(one.id) or '?'} ({one.agent})")
    print(f"file    {harmless(one.path)}")
    print(f"size    {size_of(one.bytes)}" + (f", {one.lines} lines" if one.lines else ""))
    if one.running:
        print("running: a process writes it now")
    if one.examined is not None:
        print(f"        {one.examined.weight.largest()}")
    for finding in one.findings.sorted():
        place = f"line {finding.line}, byte {finding.offset}: " if finding.line else ""
        tone = _TONES[finding.severity]
        text = one_line(finding.text, 400)
        print(f"{looks(finding.severity, tone)} {finding.code}: {place}{text}")
    for code, count in one.findings.counts.items():
        if count > KEPT:
            print(f"        {code}: {count} in all, the first {KEPT} are listed")
    _salvaged(one)
    if one.sound:
        print("sound" + (", but for notes" if one.findings.counts else ""))
    elif one.agent == "backstay":
        print("resuming the session deals with what is damaged: backstay resume ID")
    elif one.examined is not None and one.examined.repairable:
        print("--repair writes a sound file beside it, --repair --in-place in its place")
    means = [code for code in dict.fromkeys(f.code for f in one.findings.sorted()) if code in CODES]
    for code in means:
        print(f"  {code}: {CODES[code].means}")


def _salvaged(one: Report) -> None:
    if one.examined is None or not one.salvaged:
        return
    for call, found in zip(one.examined.calls, one.salvaged, strict=False):
        name = one_line(f"{call.name} {call.given}", 60)
        print(f"call of line {call.line} ({name}): {harmless(found.says)}")


# Repair


def _repair(found: Sequence[Place], given: Given, *, in_place: bool) -> int:
    code = 0
    for place in found:
        if place.agent == "backstay":
            print(f"{harmless(place.path)}: Backstay's own sessions repair themselves when resumed")
            continue
        try:
            done = repair(place.path, in_place=in_place)
        except BackstayError as error:
            say(str(error))
            code = error.exit_code if len(found) == 1 else 1
            continue
        if given.has("json"):
            print(msgspec.json.encode(done).decode())
        else:
            _told(done)
        code = code or _left(done)
    return code


def _left(done: Repaired) -> int:
    """1 where something is left that no repair can deal with."""
    from backstay.doctor.checks import examine

    found = examine(done.target or done.path).findings
    if not found.damaged:
        return 0
    for finding in found.sorted()[:10]:
        if finding.severity != "note":
            say(f"{done.path}: what is left: {finding.text}")
    return 1


def _told(done: Repaired) -> None:
    path = harmless(done.path)
    if not done.target:
        print(f"{path}: nothing to repair")
        return
    print(path)
    for words in done.words:
        print(f"  {harmless(words)}")
    if done.more:
        print(f"  and {done.more} more")
    if done.backup:
        print(f"the original is {harmless(done.backup)}")
    else:
        print(f"repaired: {harmless(done.target)}")
    sys.stdout.flush()

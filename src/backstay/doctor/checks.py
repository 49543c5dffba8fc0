"""What is wrong with one rollout: reads it once, in bounded memory, and writes nothing.

Follows what Codex makes of the records: a compaction takes away all before it, a roll-back the
last turns; what is wrong there is a note, since no request holds it any more.
"""

import os
from typing import Any, Final

import msgspec

from backstay.core.items import is_server_call, kind, message_text
from backstay.doctor.findings import Findings, Severity
from backstay.doctor.images import images, trouble
from backstay.doctor.lines import Line, lines
from backstay.doctor.pairs import Call, Pairs, call_of, ident_of, is_output, owes_output
from backstay.doctor.rollout import ENVELOPES, Entry, entry, has_envelope, thread_id
from backstay.doctor.sequence import Ordinals, Turns
from backstay.doctor.weight import LARGE, LARGE_LINE, Weight
from backstay.errors import StorageError

MOST_EDITS: Final = 200_000
"""Places in one file; one that would need more is no session any more."""
_OF_LINES: Final = {
    "torn": ("torn-line", "the line is cut off"),
    "zeros": ("nul-block", "there are NUL bytes in the line"),
    "utf8": ("invalid-utf8", "the line holds bytes that are no text"),
    "json": ("invalid-json", "the line is no JSON that a strict reader takes"),
    "not_object": ("invalid-json", "the line is no JSON object"),
    "long": ("line-too-long", "the line is too long to be read"),
}
_CONTEXT: Final = ("<environment_context", "<user_instructions", "# AGENTS.md", "<turn_aborted",
                   "<skill", "<permissions", "<subagent", "<user_shell_command")  # fmt: skip
_BEGINS_TURN: Final = frozenset({"task_started", "turn_started", "user_message"})


class Edit(msgspec.Struct, frozen=True):
    """A line that a repair changes or leaves out."""

    code: str
    drop: bool


class Examination(msgspec.Struct, kw_only=True):
    """What was found in one rollout, and what a repair of it needs to know."""

    path: str
    id: str
    bytes: int = 0
    lines: int = 0
    findings: Findings
    weight: Weight
    calls: list[Call] = []
    """Without an output, and part of what a model would be sent."""
    edits: dict[int, Edit] = {}
    """By the line's offset."""
    header: dict[str, Any] | None = None
    needs_header: bool = False
    numbered: bool = False
    renumber: bool = False
    unread: int = 0
    """Lines that a repair leaves out, writes anew or gives a newline."""
    cwd: str = ""
    model: str = ""
    first_time: str = ""
    last_time: str = ""
    too_many: bool = False

    @property
    def repairable(self) -> bool:
        """Whether a repair would change anything."""
        if not self.bytes or self.findings.counts.keys() & {"empty-file", "unknown-format"}:
            return False
        return bool(self.calls or self.edits or self.needs_header or self.renumber or self.unread)


def examine(path: str, *, running: bool = False) -> Examination:
    """Examine a rollout. Never raises: a file that can't be read is a finding too.

    `running`: somebody writes it now, so that its end is not expected to be whole.
    """
    return _Examiner(path, running=running).run()


class _Pending(msgspec.Struct, frozen=True):
    code: str
    line: int
    offset: int
    text: str
    turn: int
    drop: bool | None
    """Whether a repair drops or rewrites the line; None: neither."""


class _Examiner:
    """One pass over a file."""

    def __init__(self, path: str, *, running: bool) -> None:
        self._running = running
        self._found = Findings()
        self._made = Examination(
            path=path, id=thread_id(path), findings=self._found, weight=Weight()
        )
        self._pairs = Pairs()
        self._ordinals = Ordinals(self._found.add)
        self._turns = Turns(self._report_turns)
        self._pending: list[_Pending] = []
        self._reasoning: list[Entry] = []
        self._turn = 0
        self._last: Entry | None = None
        self._line = 0
        self._known = 0
        self._compacted: set[str] = set()
        self._good_images: set[int] = set()

    def run(self) -> Examination:
        made = self._made
        try:
            made.bytes = os.path.getsize(made.path)
            for line in lines(made.path):
                self._take_line(line)
        except (StorageError, OSError, ValueError) as error:
            self._found.add("unreadable-file", 0, 0, str(error)[:300])
            return made
        self._end()
        return made

    def _report_turns(self, code: str, line: int, offset: int, text: str) -> None:
        severity: Severity | None = "note" if code == "out-of-order" else None
        self._found.add(code, line, offset, text, severity=severity)

    # Lines

    def _take_line(self, line: Line) -> None:
        made = self._made
        made.lines = max(made.lines, line.number)
        shared, self._line = line.number == self._line, line.number
        problem = line.problem
        if problem not in ("", "empty"):
            code, text = _OF_LINES[problem]
            if problem == "torn" and line.value is not None:
                text = "the last line lacks its newline"
            elif problem != "long" and line.value is None:
                text += " and can't be read"
            self._found.add(code, line.number, line.offset, text)
            made.unread += problem != "long"
        elif shared and problem == "":
            text = "a newline is missing: another record stands on the same line"
            self._found.add("torn-line", line.number, line.offset, text)
            made.unread += 1
        if line.value is None:
            made.weight.unreadable += line.length
            return
        self._take(entry(line, line.value))

    # Entries

    def _take(self, one: Entry) -> None:
        made = self._made
        if one.type not in ENVELOPES and one.type != "state":
            made.weight.other += one.line.length
            return
        self._known += 1
        if self._known == 1:
            self._first(one)
        self._last = one
        made.last_time = one.timestamp or made.last_time
        made.first_time = made.first_time or one.timestamp
        self._ordinals.take(one)
        self._turns.take(one)
        self._large(one)
        pictures = 0
        if one.type == "response_item":
            pictures = self._item(one)
        elif one.type == "compacted":
            pictures = self._compaction(one)
        elif one.type == "event_msg":
            self._event(one)
        elif one.type in ("turn_context", "session_meta"):
            self._context(one)
        made.weight.take(one, pictures)

    def _first(self, one: Entry) -> None:
        made = self._made
        if one.type == "session_meta":
            made.header = one.payload
            made.id = made.id or _text(one.payload.get("id"))
            self._ordinals.expected = one.payload.get("history_mode") == "paginated"
            return
        self._ordinals.expected = one.ordinal is not None
        if has_envelope(one) or one.type in ("response_item", "event_msg"):
            made.needs_header = True
            text = "the first record is no session header"
            self._found.add("missing-header", one.line.number, one.line.offset, text)

    def _large(self, one: Entry) -> None:
        if one.line.length > LARGE_LINE:
            text = f"the line has {one.line.length >> 20} MB"
            self._found.add("oversize-payload", one.line.number, one.line.offset, text)

    def _context(self, one: Entry) -> None:
        made = self._made
        cwd, model = _text(one.payload.get("cwd")), _text(one.payload.get("model"))
        made.cwd, made.model = cwd or made.cwd, model or made.model
        if one.type == "turn_context":
            self._pairs.step_ends(one.line.offset)

    def _event(self, one: Entry) -> None:
        name = one.payload.get("type")
        if name == "thread_rolled_back":
            self._roll_back(one)
        elif isinstance(name, str) and name in _BEGINS_TURN:
            self._pairs.step_ends(one.line.offset)

    def _roll_back(self, one: Entry) -> None:
        count = one.payload.get("num_turns")
        taken = min(count, self._turn) if isinstance(count, int) and count > 0 else 0
        self._pairs.step_ends(one.line.offset)
        first = self._turn - taken + 1
        self._pairs.roll_back(first)
        self._flush(lambda pending: pending.turn >= first)
        self._reasoning.clear()
        self._turn -= taken

    # Items

    def _item(self, one: Entry) -> int:
        item = one.payload
        name = kind(item)
        if name in ("message", "reasoning"):
            self._pairs.step_ends(one.line.offset)
        if name == "agent_message" or (name == "message" and _begins_turn(item)):
            self._turn += 1
        stays = True
        if owes_output(item):
            stays = self._call(one)
        elif is_output(item):
            stays = self._output(one)
        if stays:
            self._follow(one, name)
        return self._pictures(one, item)

    def _follow(self, one: Entry, name: str) -> None:
        """Reasoning leads to an item of the same response: a call, or what the assistant says."""
        if name == "reasoning":
            if len(self._reasoning) < 1000:
                self._reasoning.append(one)
            return
        if name in ("ghost_snapshot", "unknown"):
            return
        led = (
            owes_output(one.payload)
            or is_server_call(one.payload)
            or not (
                is_output(one.payload)
                or (name == "message" and one.payload.get("role") != "assistant")
            )
        )
        if not led:
            self._dangling()
        self._reasoning.clear()

    def _dangling(self) -> None:
        for one in self._reasoning:
            text = "nothing follows this reasoning that it could have led to"
            self._pend("reasoning-without-follower", one, text, drop=True)

    def _call(self, one: Entry) -> bool:
        """Whether it stays in the history."""
        call = call_of(one, cwd=self._made.cwd, turn=self._turn)
        verdict = self._pairs.call(call)
        if verdict.code and verdict.call is not None:
            text = f"the call {call.call_id[:80]} stands already in line {verdict.call.line}"
            self._pend(verdict.code, one, text, drop=True)
            return False
        if call.cut:
            text = f"the arguments of the call {call.call_id[:80]} are no whole JSON object"
            self._pend("truncated-arguments", one, text, drop=False)
        if "\0" in call.name:
            self._pend("nul-block", one, "there are NUL characters in a tool's name", drop=False)
        return True

    def _output(self, one: Entry) -> bool:
        """Whether it stays in the history."""
        ident = ident_of(one.payload)
        verdict = self._pairs.output(ident)
        if not verdict.code:
            return True
        code = verdict.code
        text = f"no call {ident[:80]} stands before this output"
        if code == "duplicate-output":
            text = f"the call {ident[:80]} has an output already"
        elif ident in self._compacted:
            code = "compaction-cut-pair"
            text = f"the call {ident[:80]} of this output was compacted away"
        self._pend(code, one, text, drop=True)
        return False

    def _pictures(self, one: Entry, item: dict[str, Any]) -> int:
        size = 0
        for _, _, url in images(item):
            size += len(url)
            mark = hash(url)
            if mark in self._good_images:
                continue
            why = trouble(url)
            if why:
                self._pend("unreadable-image", one, f"an image can't be read: {why}", drop=False)
            elif len(self._good_images) < MOST_EDITS:
                self._good_images.add(mark)
        return size

    # Compaction

    def _compaction(self, one: Entry) -> int:
        """Nothing before it is sent any more but what it holds itself."""
        self._flush(lambda _: True)
        self._reasoning.clear()
        self._pairs.step_ends(one.line.offset)
        for call in self._pairs.open:
            if len(self._compacted) < MOST_EDITS:
                self._compacted.add(call.call_id)
        for call in self._pairs.forget():
            text = f"the call {call.call_id[:80]} had no output when it was compacted away"
            self._found.add("call-without-output", call.line, call.offset, text, severity="note")
        kept = one.payload.get("replacement_history")
        items = kept if isinstance(kept, list) else []
        return sum(self._copied(one, item) for item in items if isinstance(item, dict))

    def _copied(self, one: Entry, item: dict[str, Any]) -> int:
        if owes_output(item):
            call = call_of(
                Entry(one.line, one.timestamp, "response_item", item),
                cwd=self._made.cwd,
                turn=self._turn,
                copied=True,
            )
            call.item_id = ""
            self._pairs.call(call)
        elif is_output(item) and self._pairs.output(ident_of(item)).code:
            text = f"the compaction kept an output without its call {ident_of(item)[:80]}"
            self._pend("compaction-cut-pair", one, text, drop=None)
        return self._pictures(one, item)

    # The end

    def _pend(self, code: str, one: Entry, text: str, *, drop: bool | None) -> None:
        if len(self._pending) >= MOST_EDITS:
            self._made.too_many = True
            return
        line = one.line
        self._pending.append(_Pending(code, line.number, line.offset, text, self._turn, drop))

    def _flush(self, gone: Any) -> None:
        """What no request holds any more is told as a note, and no repair touches it."""
        kept = []
        for one in self._pending:
            if gone(one):
                self._found.add(one.code, one.line, one.offset, one.text, severity="note")
            else:
                kept.append(one)
        self._pending = kept

    def _end(self) -> None:
        made = self._made
        if not self._running:
            self._dangling()
        for one in self._pending:
            self._found.add(one.code, one.line, one.offset, one.text)
            if one.drop is not None:
                before = made.edits.get(one.offset)
                drop = one.drop or (before is not None and before.drop)
                made.edits[one.offset] = Edit(one.code, drop)
        for call in self._pairs.open:
            text = f"the call {call.call_id[:80]} ({call.name[:60]}) has no output"
            at = call.line, call.offset
            under_way = self._running and call.before < 0
            severity: Severity = "note" if under_way else "error"
            self._found.add(
                "call-without-output", *at, text, severity=severity, call_id=call.call_id
            )
        made.calls = self._pairs.open
        self._turns.end()
        self._ordinals.end(self._last)
        made.numbered = self._ordinals.expected
        made.renumber = self._ordinals.broken
        self._whole()

    def _whole(self) -> None:
        made = self._made
        if not made.bytes or made.weight.unreadable == made.bytes:
            self._found.add("empty-file", 0, 0, "there is no record in the file")
        elif not self._known:
            self._found.add("unknown-format", 0, 0, "the file is no session of an agent known here")
        if made.bytes > LARGE:
            text = f"the file has {made.bytes >> 20} MB: {made.weight.largest()}"
            self._found.add("oversize-payload", 0, 0, text)


def _begins_turn(item: dict[str, Any]) -> bool:
    """A message of the user's own, not one of the agent's about the place that it works in."""
    if item.get("role") != "user":
        return False
    return not message_text(item).lstrip().startswith(_CONTEXT)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

"""A session as a Codex rollout: what the model would be sent, in lines that Codex 0.169 resumes.

Pure. Forks are flattened, compactions stay compactions with what was before them; what a retry
superseded is left out, and a call without an output gets one that says what is known.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from backstay.core.dialect import Dialect
from backstay.core.history import History
from backstay.core.items import OUTPUTS, Item, call_id, is_call, kind, message_text
from backstay.core.record import (
    AnyRecord,
    Compaction,
    Note,
    Prompt,
    Record,
    TurnEnd,
    scrub,
)
from backstay.core.settle import never_started, output, unknown
from backstay.core.view import Sent, sent
from backstay.doctor.carry import IMPORTED
from backstay.doctor.tidy import is_prompt

VERSION: Final = "0.169.0"
"""The version of Codex whose lines these are."""
_WHY: Final = "the session was exported before its output was recorded"
_DIALECT: Final = Dialect(store=True)
_CHANGED: Final = ("call_id", "arguments", "approval_request_id", "id")
"""Fields of an item that a request may say otherwise than the record."""

JSON = dict[str, Any]


class Thread(msgspec.Struct):
    """What the header says."""

    id: str
    cwd: str


def rollout(thread: Thread, records: Sequence[AnyRecord]) -> Iterator[bytes]:
    """The lines, each with its newline."""
    made = _Rollout(thread)
    for ordinal, (stamp, name, payload) in enumerate(made.lines(records)):
        line = {"timestamp": iso(stamp), "ordinal": ordinal, "type": name, "payload": payload}
        yield msgspec.json.encode(scrub(line)) + b"\n"


def file_name(session: str) -> str:
    """Where Codex looks for the thread of this id, under its home."""
    import time

    from backstay.journal.ids import seconds

    made = time.localtime(seconds(session))
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S", made)
    return f"sessions/{time.strftime('%Y/%m/%d', made)}/rollout-{stamp}-{session}.jsonl"


def iso(seconds: float) -> str:
    """Unix seconds as Codex writes times."""
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(seconds, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


Line = tuple[float, str, JSON]


class _Rollout:
    def __init__(self, thread: Thread) -> None:
        self._thread = thread
        self._history = History()
        self._by_n: dict[int, Record] = {}
        self._kept: list[Note] = []
        self._calls: set[str] = set()
        self._turn = 0
        """The prompt of the turn that the lines are in; 0 before the first."""
        self._over = True
        self._at = 0.0
        self._said = ""
        self._windows = 0

    def lines(self, records: Sequence[AnyRecord]) -> Iterator[Line]:
        self._at = next((one.t for one in records if isinstance(one, Record) and one.t), 0.0)
        yield self._at, "session_meta", self._meta()
        for record in records:
            if isinstance(record, Compaction):
                yield from self._stretch()
                self._history.apply(record)
                yield from self._compacted(record)
                continue
            if isinstance(record, Record):
                self._by_n[record.n] = record
            if isinstance(record, Note) and record.topic == IMPORTED and record.item is None:
                self._kept.append(record)
            self._history.apply(record)
        yield from self._stretch()
        yield from self._end()

    def _meta(self) -> JSON:
        """The header. It names no provider: Codex refuses to resume on another one than it names."""
        thread = self._thread
        return {
            "session_id": thread.id,
            "id": thread.id,
            "timestamp": iso(self._at),
            "cwd": thread.cwd,
            "runtime_workspace_roots": [thread.cwd],
            "originator": "backstay",
            "cli_version": VERSION,
            "source": "exec",
            "thread_source": "user",
            "history_mode": "paginated",
        }

    def _stretch(self) -> Iterator[Line]:
        """What came since the last compaction."""
        history = self._history
        for call in history.open_calls():
            started = call.start is not None
            result = unknown(_WHY, "") if started else never_started(_WHY)
            history.apply(output(history.next, call.record, result))
        compacted = history.compacted
        for one in sent(history, _DIALECT, history.mends):
            if one.n != compacted:
                yield from self._kept_before(one.n)
                yield from self._item(one)
        yield from self._kept_before(history.next)
        self._by_n = {}

    def _kept_before(self, n: int) -> Iterator[Line]:
        """What Codex itself never sends, in its place; but no second output for a call."""
        while self._kept and self._kept[0].n < n:
            note = self._kept.pop(0)
            try:
                item = msgspec.json.decode(note.text)
            except (msgspec.MsgspecError, RecursionError):
                continue
            if isinstance(item, dict) and not (
                kind(item) in OUTPUTS and call_id(item) in self._calls
            ):
                yield note.t or self._at, "response_item", item

    def _item(self, one: Sent) -> Iterator[Line]:
        record = self._by_n.get(one.n)
        self._at = (record.t if record is not None else 0.0) or self._at
        if isinstance(record, Prompt) and record.n != self._turn:
            yield from self._end()
            yield from self._begin(record)
        item = self._whole(one, record)
        if is_call(item):
            self._calls.add(call_id(item))
        yield self._at, "response_item", item
        if shown := _shown(item, self._turn_id(), f"{self._thread.id}"):
            yield self._at, "event_msg", shown
        if kind(item) == "message" and item.get("role") == "assistant":
            self._said = message_text(item)
        if isinstance(record, TurnEnd):
            yield from self._end()

    def _whole(self, one: Sent, record: Record | None) -> Item:
        """The item as it is on record, where the request holds it as that."""
        raw: Any = getattr(record, "item", None)
        items = getattr(record, "items", None)
        if isinstance(items, list) and one.at < len(items):
            raw = items[one.at]
        if kind(one.item) in OUTPUTS and one.n in self._history.calls:
            answer = self._history.calls[one.n].output
            raw = answer.item if answer is not None else raw
        if not isinstance(raw, dict) or kind(raw) != kind(one.item):
            return one.item
        changed = {name: one.item[name] for name in _CHANGED if name in one.item}
        return {
            name: raw[name] for name in raw if name not in _CHANGED or name in changed
        } | changed

    # Turns

    def _turn_id(self) -> str:
        """An id for the turn, always the same for the same one."""
        return f"{self._thread.id[:24]}{self._turn:012x}"

    def _begin(self, prompt: Prompt) -> Iterator[Line]:
        self._turn, self._over, self._said = prompt.n, False, ""
        ident = self._turn_id()
        started: JSON = {"type": "task_started", "turn_id": ident, "root_turn_id": ident}
        started |= {"started_at": int(self._at), "collaboration_mode_kind": "default"}
        yield self._at, "event_msg", started
        yield self._at, "turn_context", self._context()

    def _context(self) -> JSON:
        history, ident = self._history, self._turn_id()
        turn = history.turns.get(self._turn)
        model = turn.prompt.model if turn is not None and turn.prompt is not None else ""
        return {
            "turn_id": ident,
            "root_turn_id": ident,
            "cwd": self._thread.cwd,
            "approval_policy": "never",
            "sandbox_policy": {"type": "workspace-write", "network_access": False},
            "model": model or history.model,
            "summary": "auto",
        }

    def _end(self) -> Iterator[Line]:
        """How the turn ended, where it has."""
        turn = self._history.turns.get(self._turn)
        if self._over or turn is None or turn.end is None:
            return
        self._over = True
        ident = self._turn_id()
        at = turn.end.t or self._at
        done: JSON = {"turn_id": ident, "root_turn_id": ident, "completed_at": int(at)}
        if turn.end.outcome == "completed":
            done |= {"type": "task_complete", "last_agent_message": self._said}
        else:
            done |= {"type": "turn_aborted", "reason": "interrupted"}
        yield at, "event_msg", done

    def _compacted(self, record: Compaction) -> Iterator[Line]:
        self._windows += 1
        self._at = record.t or self._at
        texts = [message_text(item) for item in record.items if kind(item) == "message"]
        payload = {
            "message": texts[-1] if texts else "",
            "replacement_history": record.items,
            "window_number": self._windows,
        }
        yield self._at, "compacted", payload
        if not self._over:
            yield self._at, "turn_context", self._context()


def _shown(item: Item, turn: str, thread: str) -> JSON | None:
    """The event that shows an item to people."""
    text = message_text(item)
    if is_prompt(item):
        part = {"type": "text", "text": text, "text_elements": []}
        shown: JSON = {"type": "UserMessage", "content": [part]}
    elif kind(item) == "message" and item.get("role") == "assistant":
        shown = {"type": "AgentMessage", "content": [{"type": "Text", "text": text}]}
    elif kind(item) == "reasoning":
        parts = item.get("summary")
        texts = [part.get("text") for part in parts or [] if isinstance(part, dict)]
        shown = {"type": "Reasoning", "summary_text": [t for t in texts if isinstance(t, str)]}
        shown["raw_content"] = []
    else:
        return None
    ident = item.get("id")
    shown["id"] = ident if isinstance(ident, str) and ident else f"item_{turn[-12:]}"
    return {"type": "item_completed", "thread_id": thread, "turn_id": turn, "item": shown}

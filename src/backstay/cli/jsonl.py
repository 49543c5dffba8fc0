"""`--json`: the event vocabulary of `codex exec`, from what a watcher of the session is told.

Types and fields are those in the declarations of the npm package `@openai/codex-sdk`; further
fields are `session` (the session's folder), `record` (a journal record) and `outcome` (how a call
came to its output). `item.completed` says only what is on disk and will stay.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from backstay.cli import calls
from backstay.cli.kept import Past, Totals
from backstay.core.compact import compacted
from backstay.core.items import Item, kind, message_text, tool_name
from backstay.core.kept import Kept, is_answer, last_message, reasoning_text
from backstay.core.mend import said
from backstay.core.record import (
    AttemptEnd,
    Call,
    Compaction,
    ItemRecord,
    Known,
    Output,
    Prompt,
    Repair,
    scrub,
)
from backstay.core.retry import explain
from backstay.runtime.watch import Finished, Noticed, Recorded, Started, Waiting, WatchEvent


class JsonLines:
    """A watcher that writes one JSON object a line.

    `resuming`: the turn that is finished began in an earlier process. `reasoning`: summaries of
    reasoning are reported.
    """

    def __init__(
        self, write: Callable[[bytes], None], *, resuming: bool = False, reasoning: bool = True
    ) -> None:
        self._write = write
        self._reasoning = reasoning
        self._resuming = resuming
        self._past = Past("")
        self._early: list[WatchEvent] | None = []
        """What was found while the session was opened: told behind its beginning."""
        self._kept = Kept()
        self._totals = Totals()
        self._calls: dict[int, Call] = {}
        self._seen: set[int] = set()
        """Calls that were started, or taken over, in this process."""
        self._ids: dict[int, str] = {}
        self._next = 0
        self._plan = ""
        self._plan_items: list[dict[str, Any]] = []
        self._turn_started = False
        self.answer = ""
        """The last message that was settled as kept."""

    def opened(self, session: str, folder: str, headline: str) -> None:
        self._past = Past(folder)
        self._emit("thread.started", thread_id=session, session=folder)
        early, self._early = self._early or [], None
        for event in early:
            self(event)

    def __call__(self, event: WatchEvent) -> None:
        """Take what happened."""
        if self._early is not None:
            self._early.append(event)
            return
        match event:
            case Recorded(record):
                self._record(record)
            case Started(call, item, adopted):
                if self._resuming:
                    self._begin_turn()
                if adopted:
                    self._found(item, "it still runs, and is taken over")
                self._seen.add(call)
                self._started(call, item)
            case Waiting(wait):
                why = explain(wait.outcome)
                self._error(f"Reconnecting... {wait.tries}/{wait.limit} ({why})")
            case Noticed(text, "warning"):
                self._error(text)
            case _:
                pass

    def tick(self) -> None:
        pass

    def ended(self, ended: Finished, lines: list[str], again: str) -> None:
        if ended.outcome == "nothing":
            self._emit("error", message=f"nothing to continue: {ended.reason}")
            return
        if ended.outcome == "compacted":
            return
        self._begin_turn()
        if self._resuming:
            self._recall(ended)
        if self._plan:
            self._item("item.completed", self._plan, "todo_list", items=self._plan_items)
        if ended.outcome == "completed":
            self._emit("turn.completed", usage=msgspec.to_builtins(self._totals.usage()))
            return
        message = ended.reason or ended.outcome
        if ended.outcome == "storage":
            message = f"{message} (this end of the turn could not be recorded)"
        self._emit("error", message=message)
        self._emit(
            "turn.failed", error={"message": message}, outcome=ended.outcome, code=ended.code
        )

    def next_turn(self) -> None:
        self._turn_started = self._resuming = False
        self._totals = Totals()
        self._plan, self._plan_items = "", []
        self.answer = ""

    def failed(self, message: str) -> None:
        self._emit("error", message=message)
        if self._turn_started:
            self._emit("turn.failed", error={"message": message})

    def _recall(self, ended: Finished) -> None:
        """Add what earlier processes did for the turn: their tokens, and an answer if need be."""
        turn = self._past.turn(ended.turn)
        if turn is None:
            return
        for record in self._past.uses(ended.turn):
            self._totals.take(record)
        if not self.answer and ended.outcome == "completed":
            self._say(last_message(turn), None)

    def _record(self, record: Known) -> None:
        if self._resuming or isinstance(record, Prompt):
            self._begin_turn()
        for item in self._kept.take(record):
            self._settled(item)
        if isinstance(record, Call):
            self._calls[record.n] = record
        elif isinstance(record, Output):
            self._output(record)
        elif isinstance(record, AttemptEnd):
            self._totals.take(record)
        elif isinstance(record, Compaction):
            self._compacted(record)
        elif isinstance(record, Repair) and (line := said(record)):
            self._error(line)

    def _compacted(self, record: Compaction) -> None:
        """The item types of Codex have none for this."""
        self._totals.take(record)
        self._item(
            "item.completed",
            self._id(record.n),
            "context_compaction",
            text=compacted(record),
            reason=record.reason,
            before=record.before,
            after=record.after,
            record=record.n,
        )

    def _begin_turn(self) -> None:
        if not self._turn_started:
            self._turn_started = True
            self._emit("turn.started")

    def _settled(self, one: ItemRecord) -> None:
        item = one.item
        if is_answer(one):
            self._say(message_text(item), one.n)
        elif summary := reasoning_text(one) if self._reasoning else "":
            self._item("item.completed", self._id(one.n), "reasoning", text=summary, record=one.n)
        elif kind(item) == "web_search_call":
            self._item("item.completed", self._id(one.n), "web_search", query=calls.searched(item))
        elif kind(item) == "mcp_call":
            self._tool(one.n, item, str(item.get("server_label", "")), item.get("error"))

    def _say(self, text: str, record: int | None) -> None:
        if text:
            self.answer = text
            self._item(
                "item.completed", self._id(record), "agent_message", text=text, record=record
            )

    def _started(self, call: int, item: Item) -> None:
        name = tool_name(item)
        if name == "exec_command":
            self._command("item.started", call, item, aggregated_output="", status="in_progress")
        elif name not in ("apply_patch", "update_plan"):
            self._tool(call, item, "backstay", None, started=True)

    def _output(self, record: Output) -> None:
        call = self._calls.get(record.call) or self._past.call(record.call)
        if call is None:
            return
        item, name = call.item, tool_name(call.item)
        if record.call not in self._calls and record.call not in self._seen:
            self._found(item, calls.found(record))
        fine = record.status in ("done", "yielded")
        more: dict[str, Any] = {"record": record.n, "outcome": record.status}
        if name == "exec_command":
            self._command_done(record, item, more)
        elif name == "apply_patch":
            if not fine:
                more["message"] = message_text(record.item)
            self._item(
                "item.completed",
                self._id(call.n),
                "file_change",
                changes=calls.changes(record),
                status="completed" if fine else "failed",
                **more,
            )
        elif name == "update_plan" and fine:
            self._update_plan(call)
        else:
            text = message_text(record.item)
            self._tool(call.n, item, "backstay", None if fine else text, text=text, **more)

    def _command_done(self, record: Output, item: Item, more: dict[str, Any]) -> None:
        code = calls.exit_code(record)
        if code is not None:
            more["exit_code"] = code
        status = "completed" if code == 0 else "failed"
        if record.status == "yielded":
            status = "in_progress"
        text = calls.printed(record, self._past.folder)
        self._command(
            "item.completed", record.call, item, aggregated_output=text, status=status, **more
        )

    def _command(self, event: str, call: int, item: Item, **fields: Any) -> None:
        text = calls.command_text(item)
        self._item(event, self._id(call), "command_execution", command=text, **fields)

    def _tool(
        self,
        call: int,
        item: Item,
        server: str,
        error: Any,
        *,
        started: bool = False,
        text: str = "",
        **more: Any,
    ) -> None:
        """A call that has no item type of its own, as a call of an MCP tool."""
        fields: dict[str, Any] = {"server": server, "tool": tool_name(item)}
        fields["arguments"] = calls.parameters(item)
        if started:
            self._item(
                "item.started", self._id(call), "mcp_tool_call", **fields, status="in_progress"
            )
            return
        if error:
            fields["error"] = {"message": str(error)}
        else:
            said = text or str(item.get("output") or "")
            fields["result"] = {
                "content": [{"type": "text", "text": said}],
                "structured_content": None,
            }
        status = "failed" if error else "completed"
        self._item(
            "item.completed", self._id(call), "mcp_tool_call", **fields, status=status, **more
        )

    def _update_plan(self, call: Call) -> None:
        """One list a turn: it starts with the first plan and completes with the turn."""
        event = "item.updated" if self._plan else "item.started"
        self._plan = self._plan or self._id(call.n)
        self._plan_items = [
            {"text": text, "completed": status == "completed"}
            for text, status in calls.steps(call.item)
        ]
        self._item(event, self._plan, "todo_list", items=self._plan_items)

    def _found(self, item: Item, what: str) -> None:
        """What became of a call of a cut turn; the item types of Codex have none for this."""
        self._error(f"found in the cut turn: {what}: {' '.join(calls.title(item).split())[:200]}")

    def _error(self, message: str) -> None:
        self._item("item.completed", self._id(None), "error", message=message)

    def _id(self, record: int | None) -> str:
        """The item's id in this run; the same record has the same id."""
        known = self._ids.get(record) if record is not None else None
        if known is None:
            known = f"item_{self._next}"
            self._next += 1
            if record is not None:
                self._ids[record] = known
        return known

    def _item(self, event: str, id: str, type: str, **fields: Any) -> None:
        fields = {name: value for name, value in fields.items() if value is not None}
        self._emit(event, item={"id": id, "type": type, **fields})

    def _emit(self, event: str, **fields: Any) -> None:
        line = {"type": event, **fields}
        try:
            encoded = msgspec.json.encode(line)
        except UnicodeEncodeError:
            encoded = msgspec.json.encode(scrub(line))
        self._write(encoded + b"\n")

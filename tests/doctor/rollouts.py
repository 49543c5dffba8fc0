"""Small rollouts that tests make up: records as Codex writes them, numbered or not."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ID = "01997e76-d124-7592-9cac-2ec05abbca08"
NAME = f"rollout-2026-01-02T03-04-05-{ID}.jsonl"
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="

Record = dict[str, Any]


def record(kind: str, payload: Record, second: int = 0) -> Record:
    """A record in its envelope."""
    return {"timestamp": f"2026-01-02T03:04:{second:02}.000Z", "type": kind, "payload": payload}


def meta(**more: Any) -> Record:
    """The header."""
    known = {"id": ID, "timestamp": "2026-01-02T03:04:05.000Z", "cwd": "/place"}
    return record("session_meta", known | {"originator": "t", "cli_version": "0.1.0"} | more)


def item(kind: str, **more: Any) -> Record:
    """A response item."""
    return record("response_item", {"type": kind} | more)


def event(kind: str, **more: Any) -> Record:
    """An event."""
    return record("event_msg", {"type": kind} | more)


def said(text: str, role: str = "user") -> Record:
    """A message."""
    part = "output_text" if role == "assistant" else "input_text"
    return item("message", role=role, content=[{"type": part, "text": text}])


def call(ident: str, cmd: str = "ls", **more: Any) -> Record:
    """A call of `exec_command`."""
    arguments = json.dumps({"cmd": cmd})
    known = {"name": "exec_command", "arguments": arguments, "call_id": ident}
    return item("function_call", **(known | more))


def out(ident: str, text: str = "fine") -> Record:
    """Its output."""
    return item("function_call_output", call_id=ident, output=text)


def ended(ident: str, printed: str, code: int = 0) -> Record:
    """The event that Codex writes the moment a command ends."""
    about = {"id": ident, "aggregated_output": printed, "exit_code": code, "status": "completed"}
    return event("item_completed", item={"type": "CommandExecution"} | about)


def image(url: str) -> Record:
    """A message with an image."""
    return item("message", role="user", content=[{"type": "input_image", "image_url": url}])


def compacted(*kept: Record) -> Record:
    """A compaction that keeps these items."""
    return record(
        "compacted", {"message": "", "replacement_history": [one["payload"] for one in kept]}
    )


def numbered(records: Sequence[Record], begin: int = 0) -> list[Record]:
    """The records as a paginated thread has them."""
    made = [{"timestamp": r["timestamp"], "ordinal": n} | r for n, r in enumerate(records, begin)]
    if made and made[0]["type"] == "session_meta":
        made[0]["payload"] = made[0]["payload"] | {"history_mode": "paginated"}
    return made


def text(*records: Record) -> bytes:
    """The file's bytes."""
    return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in records)


def put(folder: Path, body: bytes, name: str = NAME) -> str:
    """A file with these bytes; its path."""
    path = folder / name
    path.write_bytes(body)
    return str(path)


def items(body: bytes) -> list[Record]:
    """The response items of a file."""
    records = [json.loads(line) for line in body.splitlines()]
    return [one["payload"] for one in records if one["type"] == "response_item"]

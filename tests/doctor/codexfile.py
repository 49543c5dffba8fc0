"""Rollouts written by us in the shapes of Codex's versions, and what Codex would send of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

JSON = dict[str, Any]
THREAD = "01a20332-806c-7c93-b05e-8903a252ddde"


def user(text: str) -> JSON:
    """A message of the user."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def said(text: str, **more: Any) -> JSON:
    """A message of the model."""
    content = [{"type": "output_text", "text": text}]
    return {"type": "message", "role": "assistant", "content": content} | more


def told(text: str = "<environment_context>\n  <cwd>/w</cwd>\n</environment_context>") -> JSON:
    """What an agent tells its model in the user's name."""
    return user(text)


def thought(sealed: str = "SEALED") -> JSON:
    """Reasoning."""
    summary = [{"type": "summary_text", "text": "hm"}]
    return {"type": "reasoning", "summary": summary, "encrypted_content": sealed}


def call(ident: str, cmd: str = "ls", **more: Any) -> JSON:
    """A call of a function."""
    arguments = json.dumps({"cmd": cmd})
    made = {"type": "function_call", "name": "exec_command", "arguments": arguments}
    return made | {"call_id": ident} | more


def patch_call(ident: str, patch: str = "*** Begin Patch\n*** End Patch") -> JSON:
    """A call of a custom tool."""
    return {"type": "custom_tool_call", "call_id": ident, "name": "apply_patch", "input": patch}


def out(ident: str, text: str = "done") -> JSON:
    """An output of a function."""
    return {"type": "function_call_output", "call_id": ident, "output": text}


def patch_out(ident: str, text: str = "Success.") -> JSON:
    """An output of a custom tool."""
    return {"type": "custom_tool_call_output", "call_id": ident, "output": text}


def event(name: str, **fields: Any) -> tuple[str, JSON]:
    """An event."""
    return ("event_msg", {"type": name} | fields)


def compacted(items: list[JSON] | None, message: str = "SUMMARY") -> tuple[str, JSON]:
    """A compaction, of old versions without items."""
    payload: JSON = {"message": message}
    return ("compacted", payload if items is None else payload | {"replacement_history": items})


def ended(ident: str, text: str, code: int = 0) -> tuple[str, JSON]:
    """The event that Codex writes the moment a command ends."""
    item = {"type": "CommandExecution", "id": ident, "status": "completed"}
    return event("item_completed", item=item | {"aggregated_output": text, "exit_code": code})


Step = Any
"""An item, or a tuple: the type and payload of another entry."""


def entry(step: Step, ordinal: int, second: int) -> JSON:
    """The line of a step."""
    name, payload = step if isinstance(step, tuple) else ("response_item", step)
    stamp = f"2026-11-22T12:{second // 60 % 60:02}:{second % 60:02}.000Z"
    return {"timestamp": stamp, "ordinal": ordinal, "type": name, "payload": payload}


def meta(thread: str = THREAD, **more: Any) -> tuple[str, JSON]:
    """The header."""
    payload = {"id": thread, "cwd": "/work", "cli_version": "0.169.0", "model_provider": "openai"}
    return ("session_meta", payload | more)


def context(model: str = "gpt-5.1-codex") -> tuple[str, JSON]:
    """The settings of a turn."""
    return ("turn_context", {"cwd": "/work", "model": model, "effort": "low"})


def text_of(steps: Sequence[Step], first: int = 0) -> bytes:
    """The lines of a file."""
    lines = [entry(step, first + at, at) for at, step in enumerate(steps)]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def write(home: Path, steps: Sequence[Step], thread: str = THREAD, **meta_fields: Any) -> Path:
    """A rollout of 0.169 in a CODEX_HOME."""
    first = int(meta_fields.pop("first", 0))
    content = text_of([meta(thread, **meta_fields), context(), *steps], first)
    return put(home, content, thread)


def put(home: Path, content: bytes, thread: str = THREAD) -> Path:
    """A file in a CODEX_HOME."""
    folder = home / "sessions" / "2026" / "11" / "22"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rollout-2026-11-22T12-00-00-{thread}.jsonl"
    path.write_bytes(content)
    return path

"""What a rollout's bytes are spent on: images, outputs, their repetitions, compaction copies."""

from typing import Any, Final

import msgspec

from backstay.core.items import OUTPUTS, kind
from backstay.doctor.rollout import Entry

LARGE: Final = 256 * 1024 * 1024
"""Bytes of a file that is worth a note."""
LARGE_LINE: Final = 32 * 1024 * 1024
_REPEATING: Final = frozenset(
    {
        "exec_command_end",
        "exec_command_output_delta",
        "mcp_tool_call_end",
        "patch_apply_end",
        "web_search_end",
        "image_generation_end",
    }
)
_RUN: Final = frozenset({"CommandExecution", "McpToolCall", "FileChange"})


class Weight(msgspec.Struct):
    """Bytes by class; they add up to the file."""

    images: int = 0
    outputs: int = 0
    outputs_again: int = 0
    """Outputs that stand in events too, once more."""
    compaction_copies: int = 0
    messages: int = 0
    other: int = 0
    unreadable: int = 0

    def take(self, entry: Entry, images: int) -> None:
        """One record, of which so many bytes are images."""
        length = entry.line.length
        self.images += min(images, length)
        rest = max(length - images, 0)
        name = kind(entry.payload) if entry.type == "response_item" else ""
        if entry.type == "compacted":
            self.compaction_copies += rest
        elif name in OUTPUTS:
            self.outputs += rest
        elif name == "message":
            self.messages += rest
        elif entry.type == "event_msg" and _repeats(entry.payload):
            self.outputs_again += rest
        else:
            self.other += rest

    def largest(self) -> str:
        """The classes that weigh most, in words."""
        parts = msgspec.structs.asdict(self)
        total = sum(parts.values()) or 1
        ranked = sorted(parts.items(), key=lambda one: -one[1])[:3]
        return ", ".join(
            f"{100 * size // total} % {name.replace('_', ' ')}"
            for name, size in ranked
            if 100 * size // total
        )


def _repeats(payload: dict[str, Any]) -> bool:
    item, name = payload.get("item"), payload.get("type")
    named = item.get("type") if isinstance(item, dict) else None
    repeating = isinstance(name, str) and name in _REPEATING
    return repeating or (isinstance(named, str) and named in _RUN)

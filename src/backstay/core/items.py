"""What the Responses API calls items, and the few facts about their types that the core needs.

An item is a plain dict, kept verbatim with unknown fields and types intact.
"""

from typing import Any, Final

import msgspec

Item = dict[str, Any]

CLIENT_CALLS: Final[dict[str, str]] = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
    "computer_call": "computer_call_output",
    "tool_search_call": "tool_search_output",
    "mcp_approval_request": "mcp_approval_response",
}
"""Call items that the client answers, with the type of the answer (FACTS 13 and 14)."""

OUTPUTS: Final = frozenset(CLIENT_CALLS.values())
"""Items that answer a call, ours or a hosted one."""

RUNNABLE: Final = frozenset({"function_call", "custom_tool_call"})
"""Call items that name one of our tools; the others are answered without being run."""

SERVER_CALLS: Final = frozenset(
    {
        "web_search_call",
        "code_interpreter_call",
        "file_search_call",
        "image_generation_call",
        "mcp_call",
    }
)
"""Calls that the provider ran itself; they need no output (FACTS 14)."""


def kind(item: Item) -> str:
    """The item's type; the API lets a message leave it out."""
    found = item.get("type")
    if isinstance(found, str) and found:
        return found
    return "message" if "role" in item else "unknown"


def is_call(item: Item) -> bool:
    """Whether the client owes an output for this item."""
    return kind(item) in CLIENT_CALLS and not is_hosted(item)


def is_hosted(item: Item) -> bool:
    """Whether the provider runs this call and says its output as an item of the same response."""
    name = kind(item)
    if name == "tool_search_call":
        return item.get("execution") != "client"
    where = item.get("environment") if name == "shell_call" else None
    return isinstance(where, dict) and str(where.get("type")).startswith("container")


def is_server_call(item: Item) -> bool:
    """Whether the provider ran this call, so that it counts as done without an output of ours."""
    return kind(item) in SERVER_CALLS or is_hosted(item)


def is_partial(item: Item) -> bool:
    """Whether the provider itself says that the item was cut (FACTS 4)."""
    return item.get("status") == "incomplete"


def call_id(item: Item) -> str:
    """What pairs a call with its output, or "" where the item has none."""
    for key in ("call_id", "approval_request_id", "id"):
        value = item.get(key)
        if isinstance(value, str) and value:
            return value
    return ""


def tool_name(item: Item) -> str:
    """The name of the tool that a call asks for; for built-in calls the item's type."""
    name = item.get("name")
    return name if isinstance(name, str) and name else kind(item)


def arguments(item: Item) -> dict[str, Any] | None:
    """The decoded arguments of a function call, or None where they are not a JSON object.

    No arguments at all (an empty string) count as an empty object.
    """
    raw = item.get("arguments")
    if raw is None or raw == "":
        return {}
    if not isinstance(raw, str):
        return None
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def message(role: str, text: str) -> Item:
    """A message item: `input_text` for all roles but the assistant's."""
    part = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": part, "text": text}]}


def message_text(item: Item) -> str:
    """The text of a message or of an output, its parts joined; "" where there is none."""
    content = item.get("content", item.get("output"))
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [
        part.get("text", part.get("refusal", "")) for part in content if isinstance(part, dict)
    ]
    return "".join(part for part in parts if isinstance(part, str))

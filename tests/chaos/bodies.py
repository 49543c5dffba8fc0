"""Items and bodies of requests, as short functions."""

from typing import Any

JSON = dict[str, Any]


def user(text: str = "go") -> JSON:
    """A message of the user."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def assistant(text: str = "done") -> JSON:
    """A message of the assistant."""
    return {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text}],
    }


def called(call_id: str = "a", arguments: Any = '{"x":1}', **fields: Any) -> JSON:
    """A function call."""
    base = {"type": "function_call", "call_id": call_id, "name": "f", "arguments": arguments}
    return base | fields


def output(call_id: str = "a", text: Any = "result", **fields: Any) -> JSON:
    """The output of a function call."""
    return {"type": "function_call_output", "call_id": call_id, "output": text} | fields


def custom(call_id: str = "a") -> JSON:
    """A call of a custom tool."""
    return {"type": "custom_tool_call", "call_id": call_id, "name": "p", "input": "x"}


def custom_output(call_id: str = "a") -> JSON:
    """The output of a custom tool."""
    return {"type": "custom_tool_call_output", "call_id": call_id, "output": "ok"}


def thought(**fields: Any) -> JSON:
    """Reasoning with encrypted content."""
    return {"type": "reasoning", "summary": [], "encrypted_content": "e"} | fields


def body(*items: JSON, **fields: Any) -> JSON:
    """The body of a request with these items."""
    return {
        "model": "m",
        "input": list(items),
        "store": False,
        "instructions": "I",
        "tools": [],
    } | fields

"""Calls and their outputs: making the output item of a call, and finding what is unpaired.

The check is P1 as code: the simulator and the driver run it over every request.
"""

from typing import Any

from backstay.core.items import CLIENT_CALLS, OUTPUTS, Item, call_id, is_call, is_hosted, kind

_PLAIN = frozenset({"function_call", "custom_tool_call"})


def output_item(call: Item, content: str | list[dict[str, Any]]) -> Item:
    """The item that answers a call, in the shape that the call's type demands (FACTS 13, 14)."""
    name = kind(call)
    answer: Item = {"type": CLIENT_CALLS.get(name, "function_call_output")}
    ident = call_id(call)
    if name in _PLAIN:
        return answer | {"call_id": ident, "output": content}
    text = content if isinstance(content, str) else ""
    if name == "mcp_approval_request":
        return answer | {"approval_request_id": ident, "approve": False, "reason": text}
    if name == "shell_call":
        outcome = {"type": "exit", "exit_code": 1}
        part = {"stdout": "", "stderr": text, "outcome": outcome}
        return answer | {"call_id": ident, "output": [part]}
    if name == "apply_patch_call":
        return answer | {"call_id": ident, "status": "failed", "output": text}
    return answer | {"call_id": ident, "output": text}


def problems(items: list[Item]) -> list[str]:
    """What a provider would refuse in this input: one sentence each, empty when it is paired."""
    found: list[str] = []
    calls: dict[str, int] = {}
    answered: set[str] = set()
    ids: set[str] = set()
    for at, item in enumerate(items):
        name = item.get("id")
        if isinstance(name, str):
            if name in ids:
                found.append(f"item {at}: item id {name} is used twice")
            ids.add(name)
        ident = call_id(item)
        if item.get("call_id", "") is None and (is_hosted(item) or kind(item) in OUTPUTS):
            continue  # a hosted call or its output, which the provider paired itself
        if is_call(item) or is_hosted(item):
            if ident in calls:
                found.append(f"item {at}: call id {ident} is used twice")
            calls[ident] = at
        elif kind(item) in OUTPUTS:
            if ident not in calls:
                found.append(f"item {at}: no call before the output of {ident}")
            elif ident in answered:
                found.append(f"item {at}: a second output for {ident}")
            answered.add(ident)
        elif kind(item) == "reasoning" and _dangles(items, at):
            found.append(f"item {at}: reasoning without its following item")
    found += [f"item {at}: no output for call {i}" for i, at in calls.items() if i not in answered]
    return found


def _dangles(items: list[Item], at: int) -> bool:
    follower = items[at + 1] if at + 1 < len(items) else {"role": "user"}
    if kind(follower) == "message":
        return follower.get("role") != "assistant"
    return kind(follower) in OUTPUTS

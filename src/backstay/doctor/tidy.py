"""What somebody else's history must be put right about before it can be sent: a list of items,
paired; and which of its messages are a user's own words.

Pure. The journal's own view does the same for what stands in attempts.
"""

from collections.abc import Mapping
from typing import Any, Final

from backstay.core.items import (
    CLIENT_CALLS,
    OUTPUTS,
    SERVER_CALLS,
    Item,
    call_id,
    is_call,
    is_hosted,
    kind,
    message_text,
)
from backstay.core.pairing import output_item
from backstay.core.settle import unknown

_OPENINGS: Final = (
    "# agents.md instructions for ",
    "<environment_context>",
    "<user_instructions>",
    "<skill>",
    "<skills>",
    "<skills_instructions>",
    "<user_shell_command>",
    "<turn_aborted>",
    "<subagent_notification>",
    "<subagents>",
    "<recommended_plugins>",
    "<hook_prompt",
    "<permissions instructions>",
    "<collaboration_mode>",
    "<system-reminder>",
    "<local-command-",
    "<command-name>",
    "another language model started to solve this problem and produced a summary",
)
"""How what an agent tells its model in the user's name begins, in lower case."""
_SENT: Final = frozenset(
    {
        "reasoning",
        "agent_message",
        "compaction",
        "compaction_summary",
        "context_compaction",
        *CLIENT_CALLS,
        *OUTPUTS,
        *SERVER_CALLS,
    }
)
"""Types of items that agents send; what Codex keeps for itself (`ghost_snapshot`) is none."""
PASSTHROUGH: Final = "internal_chat_message_metadata_passthrough"
"""A field of items in Codex's files that it takes out of what it sends."""
_PLAIN: Final = frozenset({"function_call", "custom_tool_call"})
_GONE: Final = "the history that holds it was shortened"


def is_prompt(item: Item) -> bool:
    """Whether a message holds a user's own words, and not only what an agent put there."""
    if kind(item) != "message" or item.get("role") != "user":
        return False
    passed = item.get(PASSTHROUGH)
    kinds = passed.get("content_item_kinds") if isinstance(passed, dict) else None
    if isinstance(kinds, list) and kinds and not any(map(_is_own, kinds)):
        return False
    content = item.get("content")
    parts = content if isinstance(content, list) else [{"text": message_text(item)}]
    return not any(_is_told(part) for part in parts if isinstance(part, dict))


def _is_own(name: Any) -> bool:
    return not isinstance(name, str) or name in ("", "unknown") or name.startswith(_OWN)


_OWN: Final = ("user.", "images.", "audio.")


def _is_told(part: dict[str, Any]) -> bool:
    text = part.get("text")
    return isinstance(text, str) and text[:100].lstrip().lower().startswith(_OPENINGS)


def is_sent(item: Item) -> bool:
    """Whether an item is one that an agent sends to a provider at all."""
    if kind(item) == "message":
        return item.get("role") in ("user", "assistant", "developer")
    return kind(item) in _SENT


def same_call(one: Item, other: Item) -> bool:
    """Whether two call items say the same under the same id."""
    fields = ("type", "call_id", "name", "arguments", "input", "action")
    return bool(call_id(one)) and all(one.get(name) == other.get(name) for name in fields)


def answer_to(call: Item, answer: Item) -> Item:
    """The answer with the type that the call's type demands, where both are plain ones."""
    wanted = CLIENT_CALLS.get(kind(call), "")
    plain = kind(call) in _PLAIN and kind(answer) in {CLIENT_CALLS[name] for name in _PLAIN}
    return answer | {"type": wanted} if plain and kind(answer) != wanted else answer


def tidy(items: list[Item], n: int, found: Mapping[str, str] | None = None) -> list[Item]:
    """The items as a request may hold them: each call with one output, under an id of its own.

    A call without an output gets one that says what is known; `found` has true ones by call id. An
    output without a call and what is never sent are left out. `n` makes new ids unique.
    """
    made: list[Item] = []
    used: set[str] = set()
    open_calls: dict[str, tuple[int, str]] = {}
    for item in items:
        if not is_sent(item):
            continue
        if is_call(item):
            old = call_id(item)
            ident = old
            while not ident or ident in used:
                ident = f"call_i{n}_{len(made)}"
            used.add(ident)
            open_calls[old] = (len(made), ident)
            made.append(item if ident == old else _named(item, ident))
        elif kind(item) in OUTPUTS and not is_hosted(item) and item.get("call_id") is not None:
            place = open_calls.pop(call_id(item), None)
            if place is not None:
                call = made[place[0]]
                made.append(_named(answer_to(call, item), place[1]))
        else:
            made.append(item)
    return _standing(_answered(made, found or {}))


def _named(item: Item, ident: str) -> Item:
    if kind(item) == "mcp_approval_request":
        return item | {"id": ident}
    key = "approval_request_id" if kind(item) == "mcp_approval_response" else "call_id"
    return item if item.get(key) == ident else item | {key: ident}


def _answered(items: list[Item], found: Mapping[str, str]) -> list[Item]:
    """The items with an output behind each step that lacks some."""
    answered = {call_id(item) for item in items if kind(item) in OUTPUTS}
    made: list[Item] = []
    missing: list[Item] = []
    for item in items:
        if missing and kind(item) not in OUTPUTS and not is_call(item):
            made += missing
            missing = []
        made.append(item)
        if is_call(item) and call_id(item) not in answered:
            known = found.get(call_id(item))
            text = known if known is not None else str(unknown(_GONE, "").content)
            missing.append(output_item(item, text))
    return made + missing


def _standing(items: list[Item]) -> list[Item]:
    """The items without reasoning that lost what it led to (FACTS 8)."""
    kept: list[Item] = []
    for at, item in enumerate(items):
        if kind(item) == "reasoning":
            follower = next((one for one in items[at + 1 :] if kind(one) != "reasoning"), None)
            if follower is None or kind(follower) in OUTPUTS or _is_input(follower):
                continue
        kept.append(item)
    return kept


def _is_input(item: Item) -> bool:
    return kind(item) == "message" and item.get("role") != "assistant"

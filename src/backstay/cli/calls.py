"""How a call reads: what it does, what it printed, which files it changed. Shared by both outputs."""

from typing import Any, Final

import msgspec

from backstay.core.items import Item, arguments, message_text, tool_name
from backstay.core.record import Output

LONGEST_OUTPUT: Final = 1 << 20
"""Bytes of a command's output that are reported; head and tail are kept."""


def command_text(item: Item) -> str:
    """The command that an `exec_command` call runs."""
    cmd = (arguments(item) or {}).get("cmd")
    return cmd if isinstance(cmd, str) else str(item.get("arguments", ""))


def title(item: Item) -> str:
    """One line for any call; may hold anything that the model wrote."""
    name = tool_name(item)
    wish = arguments(item) or {}
    if name == "exec_command":
        return command_text(item)
    if name == "write_stdin":
        chars = wish.get("chars")
        target = f"command {wish.get('session_id')}"
        return f"write {chars!r} to {target}" if chars else f"wait for {target}"
    if name in ("apply_patch", "update_plan"):
        return name
    if name == "view_image":
        return f"view_image {wish.get('path', '')}"
    return f"{name} {item.get('arguments') or item.get('input') or ''}".strip()


_FOUND: Final = {
    "done": "it had ended; its output is recovered",
    "failed": "it had failed; its output is recovered",
    "never_started": "it was never started",
    "unknown": "its outcome is unknown: it may have taken effect",
}


def found(output: Output) -> str:
    """What became of a call that an earlier process made and did not finish."""
    return _FOUND.get(output.status, "it was stopped")


def printed(output: Output, folder: str) -> str:
    """What a command printed, from its spool; without one the text that the model got."""
    if output.spool is None:
        return message_text(output.item)
    from backstay.tools import effects, shell

    try:
        place = effects.effect_folder(folder, output.spool.effect)
        spooled = effects.read_spool(place, output.spool.begin, output.spool.end)
    except (OSError, ValueError):
        return message_text(output.item)
    if spooled.omitted and not spooled.pieces:
        return message_text(output.item)
    return shell.excerpt(spooled, LONGEST_OUTPUT, tty=effects.has_terminal(place)).text


def exit_code(output: Output) -> int | None:
    """The exit code, where the command has ended."""
    code = (output.show or {}).get("exit_code")
    return code if isinstance(code, int) else None


def changes(output: Output) -> list[dict[str, str]]:
    """The files that a patch changed: `path` and `kind` (add, delete, update)."""
    found = (output.show or {}).get("changes")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def steps(item: Item) -> list[tuple[str, str]]:
    """The steps of an `update_plan` call: text and status."""
    listed = (arguments(item) or {}).get("plan")
    return [
        (str(one.get("step", "")), str(one.get("status", "")))
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict)
    ]


def searched(item: Item) -> str:
    """What a `web_search_call` looked for, or which page it read; "" where it doesn't say."""
    action = item.get("action")
    if not isinstance(action, dict):
        return ""
    queries = action.get("queries")
    first = queries[0] if isinstance(queries, list) and queries else ""
    text, url = action.get("query") or first, action.get("url")
    if isinstance(action.get("pattern"), str):
        return f"{action['pattern']!r} in {url}"
    return str(text or url or "")


def parameters(item: Item) -> Any:
    """A call's arguments as a value, else as the text that they are."""
    raw = item.get("arguments", item.get("input", ""))
    if isinstance(raw, str):
        try:
            return msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass
    return raw

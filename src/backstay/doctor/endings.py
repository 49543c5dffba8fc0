"""The true outputs of calls that have none, from the events that Codex writes when a tool ends."""

from typing import Any

from backstay.core.items import Item, call_id
from backstay.doctor.lines import lines
from backstay.doctor.rollout import entries


def salvaged(path: str, calls: list[Item]) -> dict[str, str]:
    """By call id what the file says of these calls elsewhere."""
    wanted = {call_id(call) for call in calls}
    found: dict[str, str] = {}
    if wanted:
        for one in entries(lines(path)):
            if one.type == "event_msg":
                ident, text = _output(one.payload)
                if ident in wanted and text is not None:
                    found[ident] = text
    return found


def _output(event: dict[str, Any]) -> tuple[str, str | None]:
    item = event.get("item") if event.get("type") == "item_completed" else event
    if not isinstance(item, dict):
        return "", None
    ident = item.get("id") if item is not event else item.get("call_id")
    text = item.get("aggregated_output")
    if not isinstance(text, str) or not isinstance(ident, str):
        return "", None
    code = item.get("exit_code")
    return ident, f"Process exited with code {code}\nOutput:\n{text}"

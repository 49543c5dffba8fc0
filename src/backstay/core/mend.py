"""What repairs do to the prompt view: which items are told as text, and what is not sent at all.

A repair is a record; this is what the repairs of a history add up to. Which one comes next when a
provider refuses is `ladder`'s to say.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from backstay.core.items import Item, arguments, kind, message, message_text, tool_name
from backstay.core.record import Repair

DROP_FIELD: Final = "drop_field"
"""A field is not sent: of the request (`include`), or of items of a type (`message.phase`)."""
DROP_REASONING: Final = "drop_reasoning"
"""No encrypted reasoning of before is sent (FACTS 9)."""
REPLACE_ITEM: Final = "replace_item"
"""One item is told as text; reasoning is left out, a call goes with its output."""
REPLACE_IMAGES: Final = "replace_images"
"""Images, and items of types that are not known, are told as text."""
AS_TEXT: Final = "as_text"
"""Everything before the record `target` is told as text."""
UNDO: Final = "undo"
"""The repairs from record `target` on did not help and are taken back."""

ITEM: Final = "item:"
"""Begins the name of an item's field: `item:TYPE.FIELD`."""

MENDING: Final = frozenset(
    {DROP_FIELD, DROP_REASONING, REPLACE_ITEM, REPLACE_IMAGES, AS_TEXT, UNDO}
)

_LONGEST: Final = 20_000
"""Characters of an item that is told as text."""


_SAID: Final = {
    DROP_FIELD: "{field} is not sent any more",
    DROP_REASONING: "encrypted reasoning of before is not sent any more",
    REPLACE_ITEM: "the item that it names is told as text",
    REPLACE_IMAGES: "images and unknown items of before are told as text",
    AS_TEXT: "everything before record {target} is told as text",
}


def said(repair: Repair) -> str:
    """What was changed and why, one line for people; "" for a repair that changes no request."""
    if repair.action == UNDO:
        return "changing what is sent did not help: it is sent as before"
    change = _SAID.get(repair.action, "")
    if not change:
        return ""
    field = repair.field.removeprefix(ITEM)
    change = change.format(field=field, target=repair.target)
    return f"the provider refused the history ({repair.reason}): {change}"


class Mends(msgspec.Struct, frozen=True):
    """What the repairs of a history add up to."""

    reasoning_from: int = 0
    """Encrypted reasoning of records below this number is not sent."""
    images_from: int = 0
    """Images and unknown items of records below this number are told as text."""
    structure_from: int = 0
    """Of records below this number only text is sent."""
    items: frozenset[tuple[int, int]] = frozenset()
    """Items that are told as text: record, and place in it."""
    fields: frozenset[tuple[str, str]] = frozenset()
    """Item type and field."""
    request: frozenset[str] = frozenset()
    """Fields of the request; a dot leads into one."""

    def tells(self, n: int, at: int = 0) -> bool:
        """Whether that item is told as text."""
        return n < self.structure_from or (n, at) in self.items


def add_up(repairs: Iterable[Repair]) -> Mends:
    """The mends of these repairs; those that were taken back do not count."""
    standing: list[Repair] = []
    for one in repairs:
        if one.action == UNDO:
            standing = [other for other in standing if other.n < one.target]
        else:
            standing.append(one)
    dropped = [one.field for one in standing if one.action == DROP_FIELD]
    return Mends(
        reasoning_from=_latest(standing, DROP_REASONING),
        images_from=_latest(standing, REPLACE_IMAGES),
        structure_from=max((r.target for r in standing if r.action == AS_TEXT), default=0),
        items=frozenset((r.target, r.at) for r in standing if r.action == REPLACE_ITEM),
        fields=frozenset(_of_item(name) for name in dropped if name.startswith(ITEM)),
        request=frozenset(name for name in dropped if not name.startswith(ITEM)),
    )


def _of_item(name: str) -> tuple[str, str]:
    kind_of_item, _, field = name.removeprefix(ITEM).partition(".")
    return kind_of_item, field


def _latest(repairs: Sequence[Repair], action: str) -> int:
    return max((one.n for one in repairs if one.action == action), default=0)


def without_fields(item: Item, fields: frozenset[tuple[str, str]]) -> Item:
    """The item without those that are not sent."""
    names = {field for name, field in fields if name == kind(item)}
    return {key: value for key, value in item.items() if key not in names} if names else item


def without_images(item: Item) -> Item:
    """The item with a line of text in the place of each image."""
    for field in ("content", "output"):
        parts = item.get(field)
        if isinstance(parts, list) and any(map(is_image, parts)):
            return item | {field: [_IMAGE if is_image(part) else part for part in parts]}
    return item


_IMAGE: Final = {"type": "input_text", "text": "(An image stood here; it is not shown any more.)"}


def is_image(part: Any) -> bool:
    """Whether a content part is an image."""
    return isinstance(part, dict) and part.get("type") in ("input_image", "image")


def told(item: Item, answer: Item | None = None) -> list[Item]:
    """An item, or a call with its output, as messages that any provider takes."""
    name = kind(item)
    if name == "reasoning":
        return []
    if name == "message":
        role = item.get("role")
        role = role if role in ("user", "assistant", "developer", "system") else "user"
        return [message(str(role), _short(message_text(without_images(item))))]
    if answer is not None:
        return [message("developer", f"{_asked(item)}\nIt answered:\n{_short(_answer(answer))}")]
    raw = _short(msgspec.json.encode(item).decode())
    return [message("developer", f"An item of the type {name} stood here:\n{raw}")]


def _asked(call: Item) -> str:
    given = call.get("input") if kind(call) == "custom_tool_call" else call.get("arguments")
    if not isinstance(given, str):
        given = msgspec.json.encode(arguments(call) or call.get("action") or {}).decode()
    return f"The tool {tool_name(call)} was called with:\n{_short(given)}"


def _answer(answer: Item) -> str:
    text = message_text(without_images(answer))
    return text or msgspec.json.encode(answer).decode()


def _short(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n… {len(text) - _LONGEST} characters left out …\n{text[-half:]}"

"""Images in a request's input, as the provider's dialect takes them.

History keeps them where they came up; what is done here depends on nothing but the items.
"""

from typing import Any, Final

from backstay.core.dialect import Dialect
from backstay.core.items import OUTPUTS, Item, kind, message_text
from backstay.core.mend import is_image

LEFT_OUT: Final = "(An image stood here; this provider takes none.)"
SHOWN_BELOW: Final = "(The image follows below.)"


def adapted(items: list[Item], dialect: Dialect) -> list[tuple[int, Item]]:
    """The items with their images where the dialect takes them, and the index of each before.

    Where it takes none, a text stands instead. Where an output can't hold one, the images of
    neighbouring outputs follow these as one message of the user.
    """
    sent: list[tuple[int, Item]] = []
    shown: list[dict[str, Any]] = []
    for at, item in enumerate(items):
        output = kind(item) in OUTPUTS
        if shown and not output:
            sent.append((at - 1, _message(shown)))
            shown = []
        found = _images(item)
        if found and output:
            sent.append((at, _text_only(item, SHOWN_BELOW if dialect.images else LEFT_OUT)))
            shown += found if dialect.images else []
        else:
            sent.append((at, _replaced(item) if found and not dialect.images else item))
    return [*sent, (len(items) - 1, _message(shown))] if shown else sent


def _images(item: Item) -> list[dict[str, Any]]:
    parts = item.get("output") if kind(item) in OUTPUTS else item.get("content")
    return [part for part in parts if is_image(part)] if isinstance(parts, list) else []


def _message(parts: list[dict[str, Any]]) -> Item:
    return {"type": "message", "role": "user", "content": list(parts)}


def _text_only(item: Item, instead: str) -> Item:
    """An output of one text: who takes no image there may take no list either."""
    text = message_text(item)
    return item | {"output": f"{text}\n{instead}" if text else instead}


def _replaced(item: Item) -> Item:
    text = {"type": "input_text", "text": LEFT_OUT}
    return item | {"content": [text if is_image(part) else part for part in item["content"]]}

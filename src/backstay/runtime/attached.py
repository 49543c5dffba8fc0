"""Images that stand in a prompt: read and decoded before anything of it is recorded or sent."""

from collections.abc import Sequence

import msgspec

from backstay.core.items import Item, message
from backstay.errors import UsageError
from backstay.tools import picture


class Attached(msgspec.Struct, frozen=True):
    """One image, and what the model is told it is called."""

    name: str
    picture: picture.Picture


def attach(path: str) -> Attached:
    """The image in a file. Raises `UsageError`, in one line."""
    try:
        return Attached(path, picture.read(path))
    except picture.BadImage as error:
        raise UsageError(f"the image {path} can't be sent: {error}") from None


def prompt(text: str, images: Sequence[Attached]) -> Item:
    """The user's message: the text, then each image behind a line with its name."""
    item = message("user", text)
    for number, one in enumerate(images, 1):
        line = f"\n[Image {number}: {one.name}, {one.picture}]"
        item["content"] += [{"type": "input_text", "text": line}, one.picture.part]
    return item

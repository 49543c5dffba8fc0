"""Images within items: where they stand, how large they are, whether anybody can read them.

Nothing is decoded to pixels: base64 that does not decode, or bytes that begin like no image format
that providers take, is what is looked for.
"""

from binascii import Error, a2b_base64
from collections.abc import Iterator
from typing import Any, Final

_FORMATS: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
_LISTS: Final = ("content", "output")
GONE: Final = "[an image stood here that can't be decoded: {why}]"


def images(item: dict[str, Any]) -> Iterator[tuple[list[Any], int, str]]:
    """Each image part of an item: the list that holds it, its place there, its data URL."""
    for name in _LISTS:
        parts = item.get(name)
        if isinstance(parts, list):
            for place, part in enumerate(parts):
                url = _url(part)
                if url:
                    yield parts, place, url


def _url(part: object) -> str:
    if not isinstance(part, dict) or part.get("type") not in ("input_image", "image_url"):
        return ""
    url = part.get("image_url")
    if isinstance(url, dict):
        url = url.get("url")
    return url if isinstance(url, str) and url[:5].lower() == "data:" else ""


def trouble(url: str) -> str:
    """Why nobody can read the image of a data URL, or ""."""
    head, comma, body = url.partition(",")
    if not comma:
        return "it has no data"
    if not head.lower().endswith(";base64"):
        return "it is not base64"
    try:
        content = a2b_base64(body, strict_mode=True)
    except (Error, ValueError) as error:
        return f"its base64 does not decode ({str(error).lower()})"
    if content.startswith(_FORMATS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP"):
        return ""
    return "it is empty" if not content else "it is no PNG, JPEG, GIF or WebP"

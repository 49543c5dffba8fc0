"""Small image files, whole and broken, made where a test needs them."""

import struct
import zlib
from base64 import b64decode
from io import BytesIO
from typing import Any

from PIL import Image

Size = tuple[int, int]


def image(kind: str = "PNG", size: Size = (4, 3), mode: str = "RGB", **how: Any) -> bytes:
    """An image of one colour."""
    into = BytesIO()
    Image.new(mode, size).save(into, kind, **how)
    return into.getvalue()


def noise(kind: str, size: Size, **how: Any) -> bytes:
    """An image that no compression makes small."""
    into = BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(into, kind, **how)
    return into.getvalue()


def turned(kind: str = "JPEG", orientation: int = 6) -> bytes:
    """Black with a white left half; as a camera has written it that was held upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.new("L", (40, 20))
    picture.paste(255, (0, 0, 20, 20))
    into = BytesIO()
    picture.save(into, kind, exif=exif)
    return into.getvalue()


def animation(first: Size = (4, 3)) -> bytes:
    """Two frames: white, then black."""
    into = BytesIO()
    frames = [Image.new("L", first, 255), Image.new("L", first, 0)]
    frames[0].save(into, "GIF", save_all=True, append_images=frames[1:])
    return into.getvalue()


def bomb(width: int, height: int, *more: bytes) -> bytes:
    """A PNG of a few bytes that says how many pixels it has."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(bytes(99))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def opened(part: dict[str, Any]) -> Image.Image:
    """The image of a content part, decoded."""
    head, _, encoded = part["image_url"].partition(";base64,")
    picture = Image.open(BytesIO(b64decode(encoded, validate=True)))
    assert head == f"data:image/{str(picture.format).lower()}"
    picture.load()
    return picture

"""Images on their way to a model: read, checked, decoded, shrunk and made anew.

What comes out was encoded here: a whole PNG or JPEG without anything that stood beside the pixels.
What can't be decoded stays outside, since a provider would refuse it with every later request.
"""

import os
import stat
import threading
import warnings
from binascii import b2a_base64
from io import BytesIO
from typing import Any, Final

import msgspec
from PIL import Image, UnidentifiedImageError

LONGEST_FILE: Final = 64 * 1024 * 1024
"""Bytes of a file that is read."""
MOST_PIXELS: Final = 64 * 1000 * 1000
"""Of an image that is decoded: 256 MB in memory."""
LONGEST_SIDE: Final = 2048
"""Pixels of an image that is sent."""
ENOUGH_BYTES: Final = 400 * 1000
"""What an image that is sent should not exceed; a larger one is compressed harder, then shrunk."""
_SHORTEST_SIDE: Final = 512
"""Below that nothing is shrunk further to save bytes."""
_FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
_JPEG: Final = ("JPEG", "MPO")
_LOSSY: Final = (*_JPEG, "WEBP")
_QUALITIES: Final = (85, 70, 50)
_Turn = Image.Transpose

one_at_a_time: Final = threading.Lock()
"""Bounds the memory that images take, however many are asked for at once."""


class BadImage(Exception):
    """A file that can't be shown as an image; the text says why, without the file's name."""


class Picture(msgspec.Struct, frozen=True):
    """An image that may enter history."""

    kind: str
    """`png` or `jpeg`."""
    content: bytes
    before: tuple[int, int]
    """Width and height as they were in the file."""
    after: tuple[int, int]

    @property
    def part(self) -> dict[str, Any]:
        """The image as a content part of a message or an output."""
        encoded = b2a_base64(self.content, newline=False).decode("ascii")
        url = f"data:image/{self.kind};base64,{encoded}"
        return {"type": "input_image", "image_url": url, "detail": "high"}

    def __str__(self) -> str:
        """Its size, in words."""
        size = "{}x{} pixels".format(*self.before)
        return size if self.after == self.before else size + ", shown as {}x{}".format(*self.after)


def read(path: str) -> Picture:
    """The image in a file. Raises `BadImage`."""
    return made(_content(path))


def made(content: bytes) -> Picture:
    """The image that these bytes are. Raises `BadImage`."""
    with one_at_a_time:
        image = _opened(content)
        try:
            before, upright = _upright(image)
            kind, encoded, after = _encoded(upright, lossy=image.format in _LOSSY)
        except Exception as error:  # noqa: BLE001 - decoders meet a broken file in many ways
            raise BadImage(f"it is broken ({_reason(error)})") from None
    return Picture(kind, encoded, before, after)


def _content(path: str) -> bytes:
    """The bytes of a regular file; anything else is never read, nor waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise BadImage(_reason(error)) from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise BadImage("it is not a regular file")
        if found.st_size > LONGEST_FILE:
            raise BadImage(f"it has {found.st_size:,} bytes, and {LONGEST_FILE:,} are the limit")
        with open(fd, "rb", closefd=False) as file:
            content = file.read(LONGEST_FILE)
    except OSError as error:
        raise BadImage(_reason(error)) from None
    finally:
        os.close(fd)
    if not content:
        raise BadImage("it is empty")
    return content


def _opened(content: bytes) -> Image.Image:
    """The image with its header read, and not a pixel of it decoded."""
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            image = Image.open(BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:
        raise BadImage("it is no PNG, JPEG, GIF, WebP or BMP image") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadImage(f"it has more than {MOST_PIXELS:,} pixels") from None
    except Exception as error:  # noqa: BLE001 - decoders meet a broken file in many ways
        raise BadImage(f"it is broken ({_reason(error)})") from None
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise BadImage(f"it has {width}x{height} pixels, and {MOST_PIXELS:,} are the limit")
    return image


def _upright(image: Image.Image) -> tuple[tuple[int, int], Image.Image]:
    """Its size in the file; then decoded, as gray, RGB or RGBA, with no side too long.

    Of several frames it is the first.
    """
    width, height = image.size
    draft = image.format in _JPEG and image.mode in ("L", "RGB")
    if not draft:
        image.load()
    turn = _turn(image)
    if not draft:
        image = _plain(image)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))  # decodes a draft in the size that is needed
    if turn is None:
        return (width, height), image
    lying = turn not in (_Turn.FLIP_LEFT_RIGHT, _Turn.ROTATE_180, _Turn.FLIP_TOP_BOTTOM)
    return (height, width) if lying else (width, height), image.transpose(turn)


def _turn(image: Image.Image) -> _Turn | None:
    """How a camera was held, as far as the file says so in a way that can be read."""
    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001 - what stands beside the pixels may be broken
        return None
    return {
        2: _Turn.FLIP_LEFT_RIGHT,
        3: _Turn.ROTATE_180,
        4: _Turn.FLIP_TOP_BOTTOM,
        5: _Turn.TRANSPOSE,
        6: _Turn.ROTATE_270,
        7: _Turn.TRANSVERSE,
        8: _Turn.ROTATE_90,
    }.get(orientation if isinstance(orientation, int) else 0)


def _plain(image: Image.Image) -> Image.Image:
    """In a mode that can be scaled and saved."""
    if image.mode.startswith("I"):  # 16 bits a pixel: the upper eight count
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _encoded(image: Image.Image, *, lossy: bool) -> tuple[str, bytes, tuple[int, int]]:
    """As PNG where that is small and nothing was lost before, else as JPEG."""
    if not lossy or image.mode == "RGBA":
        content = _saved(image, "PNG")
        if len(content) <= ENOUGH_BYTES:
            return "png", content, image.size
    if image.mode == "RGBA":
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image).convert("RGB")
    while True:
        for quality in _QUALITIES:
            content = _saved(image, "JPEG", quality=quality)
            if len(content) <= ENOUGH_BYTES or max(image.size) <= _SHORTEST_SIDE:
                return "jpeg", content, image.size
        longest = max(image.size) * 3 // 4
        image.thumbnail((longest, longest))


def _saved(image: Image.Image, format: str, **how: Any) -> bytes:
    image.info = {}  # what stood beside the pixels
    into = BytesIO()
    image.save(into, format, **how)
    return into.getvalue()


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (said or type(error).__name__).partition("\n")[0]

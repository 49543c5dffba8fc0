"""Where the whole of an output is of which a request holds only head and tail.

Owns the line that says so. The file is a blob of the home: content-addressed, so that a second
process that comes to the same output names the same file.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from backstay.errors import StorageError

Keep = Callable[[bytes], str]
"""Stores bytes durably and gives the path of their file, whose name is their digest.

Blocks. Raises `StorageError`.
"""

_READABLE: Final = 2000
"""Bytes of an average line up to which a range of lines is a sensible thing to ask for."""


class Whole(msgspec.Struct, frozen=True):
    """A line for the model, and the digests of the blobs that it speaks of."""

    line: str = ""
    digests: list[str] = []


def whole(content: bytes, keep: Keep | None, missing: int = 0) -> Whole:
    """Put `content` where the model can read it; `missing` bytes of it had never been kept."""
    if keep is None:
        return Whole()
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    lacking = f" (without {missing} bytes in its middle, which were not kept)" if missing else ""
    size = f"{lines} line{'s' * (lines != 1)} and {len(content)} bytes"
    what = f"The whole output{lacking}, {size},"
    try:
        path = keep(content)
    except StorageError as error:
        return Whole(f"{what} could not be kept: {error}")
    import shlex  # late: few outputs are cut

    place = shlex.quote(path)
    example = f"sed -n '200,400p' {place}"
    if len(content) > lines * _READABLE:
        example = f"tail -c +20001 {place} | head -c 20000"
    return Whole(f"{what} is in {path}: to read a part, e.g. {example}", [path.rpartition("/")[2]])

"""The tool `view_image`: an image file, made fit to be sent, as the output of a call."""

from __future__ import annotations  # the decoder is loaded by the first image, not before

import asyncio
import os
from typing import Any, Final

from backstay.core.dialect import Dialect
from backstay.core.events import Result
from backstay.core.rules import Traits
from backstay.tools.tool import Invocation, Plain, failed

WITHIN: Final = 30.0
"""Seconds to read and decode an image: several times what the largest allowed one takes."""

_PARAMETERS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "path": {
            "type": "string",
            "description": "The file, absolute or relative to the session's working folder.",
        },
    },
    "required": ["path"],
    "additionalProperties": False,
}


class ViewImage(Plain):
    """Shows the model an image from disk. It only reads, so it may run again after a crash."""

    name = "view_image"
    traits = Traits(replay="safe")
    timeout: float | None = None

    def __init__(self, cwd: str, within: float = WITHIN) -> None:
        """`cwd`: the folder that relative paths start from. `within`: seconds for one image."""
        self._cwd = cwd
        self._within = within

    def spec(self, dialect: Dialect) -> dict[str, Any]:
        """The tool as a function."""
        del dialect
        return {
            "type": "function",
            "name": self.name,
            "description": (
                "Shows you an image file (PNG, JPEG, GIF, WebP or BMP) that is on disk, scaled "
                "down if it is large. Use it only where you have to see the image."
            ),
            "strict": False,
            "parameters": _PARAMETERS,
        }

    async def run(self, invocation: Invocation) -> Result:
        """The image with a line on its size, or a line that says why it can't be shown."""
        path = invocation.arguments.get("path")
        if not isinstance(path, str) or not path:
            return failed("view_image needs the file as the text `path`.")
        try:
            async with asyncio.timeout(self._within):
                return await asyncio.to_thread(self._shown, path)
        except TimeoutError:
            return failed(f"{path} can't be shown: it was not decoded within {self._within:.0f} s.")

    def _shown(self, path: str) -> Result:
        from backstay.tools import picture

        try:
            shown = picture.read(os.path.join(self._cwd, os.path.expanduser(path)))
        except picture.BadImage as error:
            return failed(f"{path} can't be shown: {error}.")
        return Result(content=[{"type": "input_text", "text": f"{path}: {shown}"}, shown.part])

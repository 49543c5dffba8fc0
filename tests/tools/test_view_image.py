"""The tool `view_image`: an image as content parts, or one line that says why not."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from backstay.core.events import Result
from backstay.tools import picture
from backstay.tools.tool import Invocation, bounded
from backstay.tools.view_image import ViewImage
from tests.tools import pictures


def view(cwd: Path, path: Any) -> Result:
    """The result of a call."""
    arguments = json.dumps({"path": path})
    item = {"type": "function_call", "name": "view_image", "arguments": arguments}
    return asyncio.run(ViewImage(str(cwd)).run(Invocation(1, item, "e")))


def test_an_image_is_shown_with_its_size(tmp_path: Path) -> None:
    """By a path relative to the working folder, an absolute one, and through a link."""
    (tmp_path / "a.png").write_bytes(pictures.image("BMP", (40, 30)))
    (tmp_path / "link").symlink_to(tmp_path / "a.png")
    for path in ("a.png", str(tmp_path / "a.png"), "link"):
        result = view(tmp_path, path)
        assert isinstance(result.content, list)
        text, image = result.content
        assert text == {"type": "input_text", "text": f"{path}: 40x30 pixels"}
        assert pictures.opened(image).size == (40, 30)
        assert result.status == "done"
        assert bounded(result) == result


@pytest.mark.parametrize("path", ["none.png", ".", "pipe", "/dev/zero", "text.png", "half.png"])
def test_what_is_no_image_is_said_to_be_none(tmp_path: Path, path: str) -> None:
    """One line of text, at once: nothing of the file enters history."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "half.png").write_bytes(pictures.noise("PNG", (64, 64))[:3000])
    result = view(tmp_path, path)
    assert result.status == "failed"
    assert isinstance(result.content, str)
    assert result.content.startswith(f"{path} can't be shown: ")
    assert "\n" not in result.content


@pytest.mark.parametrize("path", [None, "", 7, ["a.png"]])
def test_a_path_that_is_none_is_said_to_be_none(tmp_path: Path, path: Any) -> None:
    """Instead of an exception."""
    assert view(tmp_path, path).content == "view_image needs the file as the text `path`."


def test_an_image_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """The deadline is kept while a decoder is stuck, and the event loop goes on meanwhile."""
    (tmp_path / "a.png").write_bytes(pictures.image())
    arguments = json.dumps({"path": "a.png"})
    item = {"type": "function_call", "name": "view_image", "arguments": arguments}

    async def main() -> Result:
        with picture.one_at_a_time:
            return await ViewImage(str(tmp_path), within=0.05).run(Invocation(1, item, "e"))

    result = asyncio.run(main())
    assert result.status == "failed"
    assert result.content == "a.png can't be shown: it was not decoded within 0 s."

"""Images where a dialect takes them: in place, behind the outputs, or told as a text."""

from typing import Any

from backstay.core.dialect import Dialect
from backstay.core.images import LEFT_OUT, SHOWN_BELOW, adapted
from backstay.core.items import Item, message

IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,QQ=="}
OTHER = {"type": "input_image", "image_url": "data:image/png;base64,Qg=="}


def output(ident: str, *parts: dict[str, Any] | str) -> Item:
    """A call's output."""
    listed = [{"type": "input_text", "text": p} if isinstance(p, str) else p for p in parts]
    return {"type": "function_call_output", "call_id": ident, "output": listed}


HISTORY: list[Item] = [
    {"role": "user", "content": [{"type": "input_text", "text": "see"}, IMAGE]},
    output("a", "first", IMAGE),
    output("b", "second"),
    output("c", OTHER),
    message("assistant", "seen"),
    output("d", "fourth", IMAGE),
]


def test_images_follow_the_outputs_that_can_not_hold_them() -> None:
    """In order, as one message behind neighbouring outputs; what a user sent stays."""
    sent = adapted(HISTORY, Dialect(output_images=False))
    assert [at for at, _ in sent] == [0, 1, 2, 3, 3, 4, 5, 5]
    items = [item for _, item in sent]
    assert items[0] == HISTORY[0]
    assert items[1]["output"] == f"first\n{SHOWN_BELOW}"
    assert items[2] == HISTORY[2]
    assert items[3]["output"] == SHOWN_BELOW
    assert items[4] == {"type": "message", "role": "user", "content": [IMAGE, OTHER]}
    assert items[7] == {"type": "message", "role": "user", "content": [IMAGE]}


def test_a_view_extends_the_one_before_it() -> None:
    """What was sent with the first outputs is the beginning of what is sent later."""
    for dialect in (Dialect(output_images=False), Dialect(images=False)):
        earlier = [item for _, item in adapted(HISTORY[:4], dialect)]
        assert [item for _, item in adapted(HISTORY, dialect)][: len(earlier)] == earlier


def test_without_images_a_text_stands_for_each() -> None:
    """In messages and outputs, so that calls stay paired and nothing is refused."""
    sent = [item for _, item in adapted(HISTORY, Dialect(images=False))]
    assert len(sent) == len(HISTORY)
    assert sent[0]["content"][1] == {"type": "input_text", "text": LEFT_OUT}
    assert sent[1]["output"] == f"first\n{LEFT_OUT}"
    assert "input_image" not in str(sent)
    assert "input_image" in str(HISTORY)

"""A call of somebody else's stream with half of its arguments.

Pure. The call's events are held back until all are there, since only then half of them is known.
"""

from typing import Any

from backstay.chaos.stream import Frame, encode, event_in, sse
from backstay.chaos.voice import is_named

JSON = dict[str, Any]
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}


class Shortener:
    """Passes events on until the `nth` call, then that call's, shortened; `done` says it has."""

    def __init__(self, nth: int) -> None:
        self.done = False
        self._left = nth
        self._held: list[Frame] = []

    def feed(self, frame: Frame) -> list[Frame]:
        """The events that may pass now."""
        if not self._held:
            self._left -= frame.type == "response.output_item.added" and frame.item in CALLS
            if self._left > 0:
                return [frame]
            self._held = [frame]
            return []
        self._held.append(frame)
        self.done = self._is_done(frame)
        return self._shortened() if self.done else []

    def rest(self) -> list[Frame]:
        """What is held back of a call that was never done."""
        held, self._held = self._held, []
        return held

    def _is_done(self, frame: Frame) -> bool:
        first = self._held[0]
        if frame.type != "response.output_item.done" or frame.item != first.item:
            return False
        return bool(_index(event_in(frame.wire)) == _index(event_in(first.wire)))

    def _shortened(self) -> list[Frame]:
        field = CALLS[self._held[0].item]
        done = event_in(self._held[-1].wire)
        half = str(done["item"].get(field) or "")
        half = left = half[: len(half) // 2]
        number = event_in(self._held[0].wire).get("sequence_number")
        frames: list[Frame] = []
        for frame in self._held:
            event = event_in(frame.wire)
            if frame.type.endswith(".delta") and _index(event) == _index(done):
                piece, left = left[: len(event["delta"])], left[len(event["delta"]) :]
                if not piece:
                    continue
                event["delta"] = piece
            elif frame.type.endswith(f"_call_{field}.done") and _index(event) == _index(done):
                event[field] = half
            elif frame is self._held[-1]:
                event["item"] |= {"status": "incomplete", field: half}
            if isinstance(number, int):
                event["sequence_number"] = number + len(frames)
            frames.append(_rewritten(frame, event))
        return frames


def _index(event: JSON) -> Any:
    return event.get("output_index")


def _rewritten(frame: Frame, event: JSON) -> Frame:
    """The event with other fields; its own bytes if they are the same."""
    if event == event_in(frame.wire):
        return frame
    wire = sse(frame.type, encode(event), named=is_named(frame))
    return Frame(frame.type, frame.item, wire)

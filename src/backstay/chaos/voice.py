"""Events that faults add to somebody else's stream, in the manner of that stream.

Pure. `stream.Writer` does the same for streams of a script.
"""

from typing import Any

from backstay.chaos.script import Error, Failed, Incomplete
from backstay.chaos.stream import Frame, encode, event_in, sse

JSON = dict[str, Any]


class Voice:
    """How a stream speaks: with event lines or without, with sequence numbers, of which response."""

    def __init__(self) -> None:
        self._first: Frame | None = None
        self._last: Frame | None = None

    def hear(self, frame: Frame, *, sent: bool) -> None:
        """An event of the stream, that is about to be sent or has been."""
        if frame.type:
            self._first = self._first or frame
            self._last = frame if sent else self._last

    def say(self, event: JSON) -> bytes:
        """An event as this stream would write it."""
        named = self._first is None or is_named(self._first)
        kind = str(event.get("type", ""))
        return sse(kind, encode(event), named=named and bool(kind))

    def ending(self, fault: Failed | Incomplete | Error) -> bytes:
        """The terminal event of a fault."""
        match fault:
            case Failed():
                error: JSON = {"code": fault.code, "message": fault.message}
                final = self._response("failed") | {"error": error}
                return self._numbered("response.failed", {"response": final})
            case Incomplete():
                details = {"incomplete_details": {"reason": fault.reason}}
                final = self._response("incomplete") | details
                return self._numbered("response.incomplete", {"response": final})
            case Error(shape="flat"):
                fields = {"code": fault.code, "message": fault.message, "param": None}
                return self._numbered("error", fields)
            case _:
                error = {"type": fault.code, "code": fault.code, "message": fault.message}
                if fault.shape == "bare":
                    return sse("", encode({"error": error}), named=False)
                return self._numbered("error", {"error": error})

    def _numbered(self, kind: str, fields: JSON) -> bytes:
        near = self._last or self._first
        last = event_in(near.wire).get("sequence_number") if near else None
        number = {"sequence_number": last + bool(self._last)} if isinstance(last, int) else {}
        return self.say({"type": kind, **number, **fields})

    def _response(self, status: str) -> JSON:
        """The response object that the stream began with, in another state."""
        begun = event_in(self._first.wire).get("response") if self._first else None
        base = begun if isinstance(begun, dict) else {"object": "response", "output": []}
        return base | {"status": status}


def is_named(frame: Frame) -> bool:
    """Whether an event has an event line."""
    return b"event:" in frame.wire.partition(b"data:")[0]

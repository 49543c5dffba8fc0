"""From a response of the script to the events of its stream, in the manner of a provider.

Pure. Owns what the stream says and how each event is written as SSE; faults that break the stream
are `plan`'s. The order and the fields of events follow recorded streams.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from backstay.chaos.script import (
    CustomToolCall,
    Error,
    Failed,
    FunctionCall,
    Incomplete,
    Item,
    Message,
    Raw,
    Reasoning,
    Response,
    Style,
    TruncatedCall,
    Usage,
    WebSearchCall,
    calls_of,
)

JSON = dict[str, Any]
encode = msgspec.json.encode

_ECHOED: JSON = {
    "instructions": None,
    "max_output_tokens": None,
    "model": "chaos",
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "metadata": {},
}
_UNNUMBERED = ("output_index", "content_index", "summary_index")
_DELTAS = ("the ", "wire ", "keeps ", "a ", "mast ", "standing ")


class Play(Struct, frozen=True):
    """One playing of a response: what makes its ids unique, and the request that it answers."""

    number: int
    nonce: str
    style: Style
    created_at: int = 0
    request: JSON = {}
    request_bytes: int = 0
    streaming: bool = True


class Frame(Struct, frozen=True, gc=False):
    """One event as it is sent: its type, the type of the item it is about, its bytes."""

    type: str
    item: str
    wire: bytes


class Stream(Struct):
    """The frames of a response, a writer for events that faults add, the final response object.

    `final` is None where the stream was recorded: `final_of` finds it.
    """

    frames: list[Frame]
    writer: "Writer"
    final: JSON | None = None


def render(response: Response, play: Play, recording: bytes = b"") -> Stream:
    """The stream of a response; `recording` is the content of its `sse` file."""
    writer = Writer(response, play)
    if response.sse is not None:
        writer.frames = split(recording)
    elif response.events is not None:
        writer.raw_events(response.events)
    else:
        final = writer.run(response.output or [])
        return Stream(writer.frames, writer, final)
    return Stream(writer.frames, writer)


def identity(play: Play) -> str:
    """The id of the response that is played."""
    return f"resp_{play.nonce}{play.number:04d}"


class Writer:
    """Writes the events of one response in one style."""

    def __init__(self, response: Response, play: Play) -> None:
        self.frames: list[Frame] = []
        self.response = response
        self.play = play
        self.style = play.style
        self.id = identity(play)
        self.characters = 0
        cut = next((f for f in response.faults if isinstance(f, TruncatedCall)), None)
        calls = calls_of(response)
        self.truncated = calls[(cut.nth or len(calls)) - 1] if cut and calls else None

    # ----- events

    def emit(self, event: str, about: str = "", /, **fields: Any) -> None:
        """Append one event; `about` is the type of the item that it is about."""
        self.frames.append(Frame(event, about, self.wire(event, len(self.frames), fields)))

    def wire(self, type: str, sequence: int, fields: JSON) -> bytes:
        """One event's bytes in the style."""
        event: JSON = {"type": type, "sequence_number": sequence, **fields}
        if self.style == "llamacpp":
            event = {k: v for k, v in event.items() if k not in _UNNUMBERED}
            del event["sequence_number"]
        elif self.style == "copilot":
            if "item_id" in event:
                event["item_id"] = f"{event['item_id']}_{sequence}"
            if isinstance(event.get("item"), dict) and "id" in event["item"]:
                event["item"] = event["item"] | {"id": f"{event['item']['id']}_{sequence}"}
        return sse(type, encode(event), named=self.style != "openrouter")

    def raw_events(self, events: Iterable[JSON | str]) -> None:
        """Append events as the script gives them."""
        for event in events:
            if isinstance(event, str):
                self.frames.append(Frame("", "", event.encode()))
                continue
            kind = str(event.get("type", ""))
            named = self.style != "openrouter" and bool(kind)
            wire = sse(kind, encode(event), named=named)
            self.frames.append(Frame(kind, _item_type(event), wire))

    # ----- the whole response

    def run(self, items: list[Item]) -> JSON:
        """Append the whole stream; returns the final response object."""
        if self.style == "openrouter":
            self.frames.append(Frame("", "", b": PROCESSING\n\n"))
        self.emit("response.created", response=self.object("in_progress"))
        self.emit("response.in_progress", response=self.object("in_progress"))
        output = []
        for index, item in enumerate(items):
            output.append(self.item(index, item))
            if item is self.truncated:
                break
        usage = self.usage()
        if self.truncated is not None and self.style != "llamacpp":
            reason = {"reason": "max_output_tokens"}
            final = self.object("incomplete", output, usage, incomplete_details=reason)
            self.emit("response.incomplete", response=final)
        else:
            final = self.object("completed", output, usage)
            emptied = final | {"output": []} if self.style == "chatgpt" else final
            self.emit("response.completed", response=emptied)
        self.finish()
        return final

    def finish(self) -> None:
        """What some servers send behind, or leave out of, their last event."""
        if self.style == "openrouter":
            self.frames.append(Frame("", "", b"data: [DONE]\n\n"))
        elif self.style == "no-trailing-blank":
            last = self.frames[-1]
            self.frames[-1] = Frame(last.type, last.item, last.wire[:-1])

    def object(
        self, status: str, output: list[JSON] | None = None, usage: JSON | None = None, **more: Any
    ) -> JSON:
        """The response object as it stands with that status."""
        head: JSON = {"id": self.id, "object": "response", "status": status}
        if self.style == "llamacpp":
            if status == "in_progress":
                return head
            model = self.play.request.get("model", "chaos")
            return head | {"model": model, "output": output or [], "usage": usage} | more
        head |= {"created_at": self.play.created_at, "background": False, "error": None}
        head |= {"incomplete_details": None, "output": output or [], "usage": usage}
        head |= {k: self.play.request.get(k, default) for k, default in _ECHOED.items()}
        return head | more

    def usage(self) -> JSON | None:
        """The tokens of the script, else an estimate of four bytes a token."""
        given = self.response.usage
        if given is None:
            return None
        if given is UNSET:
            given = Usage(self.play.request_bytes // 4, 0, self.characters // 4 + 1, 0)
        return {
            "input_tokens": given.input_tokens,
            "input_tokens_details": {"cached_tokens": given.cached_tokens},
            "output_tokens": given.output_tokens,
            "output_tokens_details": {"reasoning_tokens": given.reasoning_tokens},
            "total_tokens": given.input_tokens + given.output_tokens,
        }

    # ----- items

    def item(self, index: int, item: Item) -> JSON:
        """Append an item's events; returns the item of the final output."""
        match item:
            case Message():
                return self.message(index, item)
            case FunctionCall() | CustomToolCall():
                return self.call(index, item)
            case Reasoning():
                return self.reasoning(index, item)
            case WebSearchCall():
                return self.web_search(index, item)
            case Raw():
                return self.raw_item(index, item.item)

    def made_up(self, prefix: str, index: int) -> str:
        """An id that is unique to the server, the response and the item."""
        return f"{prefix}_{self.play.nonce}{self.play.number:04d}{index:02d}"

    def opened(self, index: int, item: JSON) -> None:
        """`response.output_item.added`."""
        self.emit("response.output_item.added", item["type"], output_index=index, item=item)

    def closed(self, index: int, item: JSON) -> JSON:
        """`response.output_item.done`."""
        self.emit("response.output_item.done", item["type"], output_index=index, item=item)
        return item

    def deltas(self, event: str, about: str, pieces: Iterable[str], /, **fields: Any) -> None:
        """One event for each piece of a text."""
        if self.style in ("llamacpp", "copilot"):
            for piece in pieces:
                self.characters += len(piece)
                self.emit(event, about, **fields, delta=piece)
            return
        start, end = self.wire(event, 0, fields | {"delta": "@"}).split(b'"sequence_number":0,')
        start, middle = start + b'"sequence_number":', b"," + end.removesuffix(b'"@"}\n\n')
        for sequence, piece in enumerate(pieces, len(self.frames)):
            self.characters += len(piece)
            wire = b"%b%d%b%b}\n\n" % (start, sequence, middle, encode(piece))
            self.frames.append(Frame(event, about, wire))

    def pieces(self, text: str) -> list[str]:
        """A text in pieces of the script's size."""
        size = self.response.piece
        return [text[at : at + size] for at in range(0, len(text), size)]

    def message(self, index: int, item: Message) -> JSON:
        """A message with one text part."""
        item_id = item.id or self.made_up("msg", index)
        if item.deltas is not None:
            pieces = [_DELTAS[n % len(_DELTAS)] for n in range(item.deltas)]
        else:
            pieces = self.pieces(item.text or "")
        text = "".join(pieces)
        base = {"id": item_id, "type": "message", "status": "in_progress", "content": []}
        base |= {"role": "assistant"} | ({"phase": item.phase} if item.phase else {})
        self.opened(index, base)
        place = {"item_id": item_id, "output_index": index, "content_index": 0}
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        self.emit("response.content_part.added", "message", **place, part=part)
        self.deltas("response.output_text.delta", "message", pieces, **place, logprobs=[])
        self.emit("response.output_text.done", "message", **place, text=text, logprobs=[])
        part = part | {"text": text}
        self.emit("response.content_part.done", "message", **place, part=part)
        return self.closed(index, base | {"status": "completed", "content": [part]})

    def call(self, index: int, item: FunctionCall | CustomToolCall) -> JSON:
        """A call of a function or of a custom tool; a truncated one has half of its text."""
        if isinstance(item, FunctionCall):
            kind, prefix, field, event = (
                "function_call",
                "fc",
                "arguments",
                "function_call_arguments",
            )
            text = item.arguments
            text = text if isinstance(text, str) else encode(text).decode()
        else:
            kind, prefix, field, event = (
                "custom_tool_call",
                "ctc",
                "input",
                "custom_tool_call_input",
            )
            text = item.input
        status = "completed"
        if item is self.truncated:
            text = "{" if self.style == "llamacpp" else text[: len(text) // 2]
            status = "completed" if self.style == "llamacpp" else "incomplete"
        item_id = item.id or self.made_up(prefix, index)
        base = {"id": item_id, "type": kind, "status": "in_progress", field: ""}
        base |= {"call_id": item.call_id or self.made_up("call", index), "name": item.name}
        self.opened(index, base)
        place = {"item_id": item_id, "output_index": index}
        self.deltas(f"response.{event}.delta", kind, self.pieces(text), **place)
        if self.style != "llamacpp":
            self.emit(f"response.{event}.done", kind, **place, **{field: text})
        return self.closed(index, base | {"status": status, field: text})

    def reasoning(self, index: int, item: Reasoning) -> JSON:
        """Reasoning; its encrypted content differs between added, done and the final output."""
        item_id = item.id or self.made_up("rs", index)
        secret = item.encrypted_content
        if secret is UNSET:
            secret = f"gAAAA{self.play.nonce}{self.play.number:04d}{index:02d}"
        texts = [item.summary] if isinstance(item.summary, str) else item.summary
        texts = [text for text in texts if text]
        base: JSON = {"id": item_id, "type": "reasoning", "summary": []}
        self.opened(index, base | ({} if secret is None else {"encrypted_content": secret + "A"}))
        parts = []
        for number, text in enumerate(texts):
            place = {"item_id": item_id, "output_index": index, "summary_index": number}
            event = "response.reasoning_summary"
            part = {"type": "summary_text", "text": ""}
            self.emit(f"{event}_part.added", "reasoning", **place, part=part)
            self.deltas(f"{event}_text.delta", "reasoning", self.pieces(text), **place)
            self.emit(f"{event}_text.done", "reasoning", **place, text=text)
            parts.append(part | {"text": text})
            self.emit(f"{event}_part.done", "reasoning", **place, part=parts[-1])
        done = base | {"summary": parts}
        self.closed(index, done if secret is None else done | {"encrypted_content": secret})
        return done if secret is None else done | {"encrypted_content": secret + "Z"}

    def web_search(self, index: int, item: WebSearchCall) -> JSON:
        """A search that the server ran."""
        item_id = item.id or self.made_up("ws", index)
        base: JSON = {"id": item_id, "type": "web_search_call", "status": "in_progress"}
        self.opened(index, base)
        for state in ("in_progress", "searching", "completed"):
            event = f"response.web_search_call.{state}"
            self.emit(event, "web_search_call", output_index=index, item_id=item_id)
        action = {"type": "search", "query": item.query}
        return self.closed(index, base | {"status": "completed", "action": action})

    def raw_item(self, index: int, item: JSON) -> JSON:
        """An item that the script gives as it is."""
        item = {"type": "unknown"} | item
        self.opened(index, item)
        return self.closed(index, item)

    # ----- what faults add

    def ending(self, fault: Failed | Incomplete | Error, sequence: int) -> list[Frame]:
        """The terminal event of a fault, and what the style sends behind it."""
        ending = Writer(self.response, self.play)
        kind, fields = self._ending(fault)
        if isinstance(fault, Error) and fault.shape == "bare":
            wire = sse("", encode(fields), named=False)
        else:
            wire = self.wire(kind, sequence, fields)
        ending.frames.append(Frame(kind, "", wire))
        ending.finish()
        return ending.frames

    def _ending(self, fault: Failed | Incomplete | Error) -> tuple[str, JSON]:
        match fault:
            case Failed():
                error = {"code": fault.code, "message": fault.message}
                return "response.failed", {"response": self.object("failed", error=error)}
            case Incomplete():
                reason = {"reason": fault.reason}
                final = self.object("incomplete", usage=self.usage(), incomplete_details=reason)
                return "response.incomplete", {"response": final}
            case Error(shape="flat"):
                return "error", {"code": fault.code, "message": fault.message, "param": None}
            case Error():
                error = {"type": fault.code, "code": fault.code, "message": fault.message}
                return "error", {"error": error}


def sse(type: str, json: bytes, *, named: bool) -> bytes:
    """An event as server-sent events write it."""
    if named:
        return b"event: %b\ndata: %b\n\n" % (type.encode(), json)
    return b"data: %b\n\n" % json


def split(recording: bytes) -> list[Frame]:
    """The events of a recorded stream; their bytes together are the recording."""
    frames = []
    block: list[bytes] = []
    for line in recording.splitlines(keepends=True):
        block.append(line)
        if not line.strip(b"\r\n"):
            frames.append(frame_of(block))
            block = []
    if block:
        frames.append(frame_of(block))
    return frames


def frame_of(block: list[bytes]) -> Frame:
    """The event that some lines of a stream hold."""
    event = event_in(b"".join(block))
    return Frame(str(event.get("type", "")), _item_type(event), b"".join(block))


def event_in(wire: bytes) -> JSON:
    """The JSON object in an event's data, or an empty one."""
    lines = wire.splitlines()
    return decoded(b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:")))


def decoded(text: bytes) -> JSON:
    """A JSON object, or an empty one where there is none."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _item_type(event: JSON) -> str:
    item = event.get("item")
    return str(item.get("type", "")) if isinstance(item, dict) else ""


def final_of(frames: list[Frame]) -> JSON:
    """The response object that a recorded stream ends with, its items gathered if it has none."""
    final: JSON = {}
    done = []
    for frame in frames:
        if frame.type == "response.output_item.done" or b'"response"' in frame.wire:
            event = event_in(frame.wire)
            if frame.type == "response.output_item.done":
                done.append(event.get("item"))
            elif isinstance(event.get("response"), dict):
                final = event["response"]
    return final if final.get("output") else final | {"output": done}

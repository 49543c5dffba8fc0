"""The questions of a checkup, in their order, and what the answers mean for the dialect."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from backstay.core.items import Item, arguments, message, message_text
from backstay.model.checkup.ask import Answer, Asked
from backstay.model.checkup.findings import Report, said
from backstay.model.checkup.wire import look
from backstay.model.provider import ENCRYPTED_REASONING
from backstay.model.transport import shown

FEWEST: Final = 9
MOST: Final = 17
"""Requests of a checkup that comes to its end: the more, the more is refused."""
TOKENS: Final = 4000
"""Roughly how many tokens it uses, where the model does not think for long."""

_WEATHER: Final = {
    "type": "function",
    "name": "weather",
    "description": "The weather of one city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": False,
}
_PADDING: Final = "Write the note as plain text, without any quotes or markup around it. " * 40
"""So long that the tokens tell whether a tool reached the model."""
_PADDED: Final = 300
"""Fewer input tokens than these, and it did not."""
_NOTE: Final = {"type": "custom", "name": "note", "description": f"Keeps a note. {_PADDING}"}
_SEARCHED: Final = {
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "weather"},
}
_NO_MODEL: Final = "no-such-model-backstay"


class Checkup:
    """Asks one provider. `run` never raises for what a provider does."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        provider = asked.provider
        self._report = Report(
            provider=provider.name, url=shown(provider.base_url), model=asked.model
        )

    async def run(self) -> Report:
        """Every question, as far as the answers let one go on."""
        if await self._reach() and await self._plain():
            await self._calls()
            await self._outputs()
            await self._custom()
            await self._extras()
            await self._compact()
            await self._error()
        self._report.requests = self._asked.requests
        self._report.tokens = self._asked.tokens
        return self._report

    async def _reach(self) -> bool:
        """Address, key and list of models."""
        note = self._report.note
        answer = await self._asked.fetch("GET", "/models")
        if answer.status == 0:
            note("reachable", "no", answer.why)
            return False
        note("reachable", "yes")
        if answer.status in (401, 403):
            note("authorized", "no", answer.why)
            return False
        names = _models(answer.body) if answer.status == 200 else None
        if names is None:
            note("model_known", "unclear", f"there is no list of models ({answer.why})")
        elif self._asked.model in names:
            note("model_known", "yes")
        else:
            note("model_known", "no", _nearest(self._asked.model, names))
        return True

    async def _plain(self) -> bool:
        """One answer in words: how it looks on the wire, and what becomes of the connection."""
        note = self._report.note
        answer = await self._asked.respond({"input": [_says("Say: ok")]}, alone=True)
        if answer.status in (401, 403):
            note("authorized", "no", answer.why)
            return False
        note("authorized", "yes", "" if self._asked.provider.key else "no key is set")
        if not answer.ok:
            note("streams", "no", answer.why)
            return False
        if not any(message_text(item).strip() for item in answer.of("message")):
            note("streams", "yes", "but the answer was empty")
        else:
            note("streams", "yes")
        self._look(answer)
        usage = answer.outcome.usage
        note("usage", said(usage), "" if usage else "budgets can't count tokens or dollars")
        if answer.trapped is None:
            note("keep_alive", "unclear", "not looked at behind a proxy")
        else:
            trap = "it closes after each stream; this is allowed for" if answer.trapped else ""
            note("keep_alive", said(not answer.trapped), trap)
        return True

    def _look(self, answer: Answer) -> None:
        note, seen = self._report.note, look(answer.body)
        note("event_lines", said(seen.event_lines), "comments in between" if seen.comments else "")
        note("done_marker", said(seen.done_marker))
        note("output_index", said(seen.output_index))
        note("sequence_number", said(seen.sequence_number))
        note(
            "stable_ids", said(seen.stable_ids), "" if seen.stable_ids else "keyed by index instead"
        )

    async def _calls(self) -> None:
        """A function, asked for twice in one response."""
        asked = "Call weather twice at once: for Oslo and for Rome. Say nothing else."
        fields = {"tools": [_WEATHER], "tool_choice": "auto", "parallel_tool_calls": True}
        answer = await self._asked.respond({"input": [_says(asked)], **fields})
        note = self._report.note
        calls = [one for one in answer.of("function_call") if arguments(one) is not None]
        if calls:
            note("function_calls", "yes")
            several = len(calls) > 1
            note("parallel_calls", said(several), "" if several else "the model made one")
        else:
            note("function_calls", "no", answer.why if not answer.ok else "the model made none")
            note("parallel_calls", "unclear")

    async def _outputs(self) -> None:
        """Two calls with their outputs, with a message between the calls, else without."""
        note = self._report.note
        between = message("assistant", "And Rome.")
        fields = {"tools": [_WEATHER], "tool_choice": "auto"}
        apart = await self._asked.respond({"input": _round(between), **fields})
        if apart.ok:
            note("outputs", "yes")
            note("calls_apart", "yes")
            self._report.dialect["calls_together"] = False
            return
        together = await self._asked.respond({"input": _round(None), **fields})
        if together.ok:
            note("outputs", "yes")
            note("calls_apart", "no", apart.why)
            self._report.dialect["calls_together"] = True
        else:
            note("outputs", "no", together.why)

    async def _custom(self) -> None:
        """A custom tool: called, refused, made a function of, or dropped without a word."""
        note, dialect = self._report.note, self._report.dialect
        asked = "Keep a note that says hello, with the tool note. Say nothing else."
        fields = {"tools": [_NOTE], "tool_choice": "auto"}
        answer = await self._asked.respond({"input": [_says(asked)], **fields})
        if answer.of("custom_tool_call"):
            note("custom_tools", "yes")
            dialect["custom_tools"] = True
            return
        reached = _input_tokens(answer)
        if not answer.ok:
            why = answer.why
        elif answer.of("function_call"):
            why = "it makes functions of them"
        elif reached and reached < _PADDED:
            why = "dropped without a word: the model never saw it"
        else:
            note("custom_tools", "unclear", "the model did not call it")
            return
        note("custom_tools", "no", why)
        dialect["custom_tools"] = False

    async def _extras(self) -> None:
        """What may be in a request beside: all at once, and one by one where that is refused."""
        last = _says("Say: ok")
        before = {
            "developer_role": [message("developer", "Be brief.")],
            "unknown_items": [_says("Hello"), _SEARCHED],
            "images": [_sees()],
            "output_images": [_says("Hello"), *_looked()],
        }
        parts: dict[str, dict[str, Any]] = {
            **{name: {"input": [*items, last]} for name, items in before.items()},
            "encrypted_reasoning": {"input": [last], "include": [ENCRYPTED_REASONING]},
            "store": {"input": [last], "store": True},
        }
        every = [*(item for items in before.values() for item in items), last]
        whole = await self._asked.respond(
            {"input": every, "include": [ENCRYPTED_REASONING], "store": True}
        )
        answers = dict.fromkeys(parts, whole)
        if not whole.ok:
            for name, fields in parts.items():
                answers[name] = await self._asked.respond(fields)
        for name in before:
            self._flag(name, answers[name])
        await self._reasoning(answers["encrypted_reasoning"])
        await self._stored(answers["store"])

    def _flag(self, name: str, answer: Answer) -> None:
        self._report.note(name, said(answer.ok), "" if answer.ok else answer.why)
        self._report.dialect[name] = answer.ok

    async def _reasoning(self, answer: Answer) -> None:
        """What came encrypted is sent back, before the item that followed it."""
        name = "encrypted_reasoning"
        thought = [one for one in answer.of("reasoning") if one.get("encrypted_content")]
        if not answer.ok:
            self._flag(name, answer)
        elif not thought:
            self._report.note(name, "unclear", "it may be asked for, but this model sent none")
        else:
            sent = [_without_id(one) for one in answer.items if one["type"] in _SENT_BACK]
            back = {"input": [_says("Say: ok"), *sent, _says("Again")]}
            include = {"include": [ENCRYPTED_REASONING]}
            self._flag(name, await self._asked.respond(back | include))

    async def _stored(self, answer: Answer) -> None:
        if not answer.ok:
            self._report.note("store", "no", answer.why)
            return
        kept = await self._asked.fetch("GET", f"/responses/{answer.outcome.response or 'none'}")
        self._report.note("store", said(kept.status == 200), "" if kept.status == 200 else kept.why)

    async def _compact(self) -> None:
        body = {"model": self._asked.model, "input": [_says("Hello"), _says("Say: ok")]}
        answer = await self._asked.fetch("POST", "/responses/compact", body)
        there = answer.status == 200
        if there or answer.status in (404, 405, 501):
            self._report.note("compact_endpoint", said(there), "" if there else answer.why)
            self._report.dialect["compact_endpoint"] = there
        else:
            self._report.note("compact_endpoint", "unclear", answer.why)

    async def _error(self) -> None:
        """What a model that does not exist is answered with."""
        fields = {"model": _NO_MODEL, "input": [_says("Say: ok")]}
        answer = await self._asked.respond(fields)
        note = self._report.note
        if answer.status and answer.status < 400 and answer.ok:
            note("error_shape", "unclear", "it takes any name for a model")
        elif answer.status == 0:
            note("error_shape", "no", answer.why)
        else:
            named = bool(answer.outcome.reason and _is_json(answer.body))
            note("error_shape", said(named), answer.why)


_SENT_BACK: Final = ("reasoning", "message")


def _says(text: str) -> Item:
    return message("user", text)


def _round(between: Item | None) -> list[Item]:
    calls: list[Item] = []
    outputs: list[Item] = []
    for number, city in enumerate(("Oslo", "Rome")):
        ident = f"call_checkup{number}"
        encoded = msgspec.json.encode({"city": city}).decode()
        call = {"type": "function_call", "call_id": ident, "name": "weather"}
        calls.append(call | {"arguments": encoded})
        outputs.append({"type": "function_call_output", "call_id": ident, "output": "sunny"})
    if between is not None:
        calls.insert(1, between)
    return [_says("Say in one word how the weather is in Oslo and Rome."), *calls, *outputs]


def _sees() -> Item:
    part = {"type": "input_image", "image_url": _image()}
    return {"type": "message", "role": "user", "content": [part]}


def _looked() -> list[Item]:
    """A call whose output is an image."""
    call = {"type": "function_call", "call_id": "call_look", "name": "look", "arguments": "{}"}
    part = {"type": "input_image", "image_url": _image()}
    return [call, {"type": "function_call_output", "call_id": "call_look", "output": [part]}]


def _image() -> str:
    """A grey square of 64 by 64 pixels, as a data URL."""
    import base64
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    size = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + b"\x80" * 64 for _ in range(64)))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _without_id(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in ("id", "status")}


def _input_tokens(answer: Answer) -> int:
    usage: Mapping[str, Any] = answer.outcome.usage or {}
    count = usage.get("input_tokens")
    return count if isinstance(count, int) else 0


def _is_json(body: bytes) -> bool:
    for line in (body, *(one[5:] for one in body.splitlines() if one.startswith(b"data:"))):
        try:
            if isinstance(msgspec.json.decode(line), dict):
                return True
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass
    return False


def _models(body: bytes) -> list[str] | None:
    """The ids of a list of models; None where it is none."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    listed = value.get("data") if isinstance(value, dict) else None
    if not isinstance(listed, list):
        return None
    return [str(one["id"]) for one in listed if isinstance(one, dict) and "id" in one]


def _nearest(model: str, names: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(model, names, 1)
    if near:
        return f"did you mean {near[0]}?"
    return f"it lists {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""

"""How a stream looks on the wire: what its bytes say about the server that made it. Pure."""

import msgspec


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the bytes of one stream show."""

    event_lines: bool = False
    comments: bool = False
    done_marker: bool = False
    output_index: bool = False
    """Each event about an item has one."""
    sequence_number: bool = False
    """Each event has one."""
    stable_ids: bool = True
    """No item was done under another id than it was added."""


class _Event(msgspec.Struct):
    type: str = ""
    output_index: int | None = None
    sequence_number: int | None = None
    item: dict[str, object] | None = None


def look(body: bytes) -> Look:
    """Read a stream's bytes; what is no event is passed over."""
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    data = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    events = [event for one in data if (event := _event(one)) is not None]
    about = [event for event in events if event.type.startswith("response.output_item.")]
    return Look(
        event_lines=any(line.startswith(b"event:") for line in lines),
        comments=any(line.startswith(b":") for line in lines),
        done_marker=b"[DONE]" in data,
        output_index=bool(about) and all(event.output_index is not None for event in about),
        sequence_number=bool(events) and all(one.sequence_number is not None for one in events),
        stable_ids=_stable(about),
    )


def _event(data: bytes) -> _Event | None:
    try:
        return msgspec.json.decode(data, type=_Event)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _stable(about: list[_Event]) -> bool:
    added: dict[int | None, object] = {}
    for event in about:
        ident = event.item.get("id") if event.item else None
        if event.type.endswith(".added"):
            added[event.output_index] = ident
        elif event.output_index is not None and added.get(event.output_index, ident) != ident:
            return False
    return True

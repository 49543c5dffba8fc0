"""Damage for rollouts, drawn by a seed: what disks, crashes, second writers and fools leave behind."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

WILD: list[Any] = [
    None, True, -1, 0, 2**63, 10**30, 1e308, "", "x", "\0\0", "ⅷ", [], [[]], {}, {"type": 3}, ["a"],
    {"type": "function_call"}, [{"type": "input_image", "image_url": "data:image/png;base64,xx"}],
]  # fmt: skip
RAW = [
    b"1e999", b"-", b"NaN", b"9" * 5000, b"[" * 3000, b'{"a":' * 2000, b'"\\ud800"', b"\xff\xfe",
    b"\0" * 512, b"\xef\xbb\xbf", b"\r", b"\n\n", b"{}", b'"', b"\\", b"\x1b[2J",
]  # fmt: skip


def _flip(draw: random.Random, body: bytes) -> bytes:
    made = bytearray(body)
    for _ in range(draw.randint(1, 8)):
        if made:
            made[draw.randrange(len(made))] = draw.randrange(256)
    return bytes(made)


def _cut(draw: random.Random, body: bytes) -> bytes:
    return body[: draw.randint(0, len(body))]


def _gap(draw: random.Random, body: bytes) -> bytes:
    begin = draw.randint(0, len(body))
    return body[:begin] + body[begin + draw.randint(0, 400) :]


def _zeros(draw: random.Random, body: bytes) -> bytes:
    begin = draw.randint(0, len(body))
    count = draw.choice((1, 7, 512, 4096))
    return body[:begin] + b"\0" * count + body[begin + draw.choice((0, count)) :]


def _insert(draw: random.Random, body: bytes) -> bytes:
    begin = draw.randint(0, len(body))
    return body[:begin] + draw.choice(RAW) + body[begin:]


def _splice(draw: random.Random, body: bytes) -> bytes:
    one, other = draw.randint(0, len(body)), draw.randint(0, len(body))
    return body[:one] + body[other:]


def _lines(draw: random.Random, body: bytes) -> bytes:
    lines = body.split(b"\n")
    for _ in range(draw.randint(1, 4)):
        place, other = draw.randrange(len(lines)), draw.randrange(len(lines))
        match draw.randrange(4):
            case 0 if len(lines) > 1:
                del lines[place]
            case 1:
                lines.insert(other % len(lines), lines[place % len(lines)])
            case 2:
                lines[place], lines[other] = lines[other], lines[place]
            case _:
                lines = lines[:place] + lines[place + 1 :] if len(lines) > 2 else lines
    return b"\n".join(lines)


def _merge(draw: random.Random, body: bytes) -> bytes:
    """Two writers: the second half of the lines dealt into the first."""
    lines = body.splitlines(keepends=True)
    middle = len(lines) // 2
    first, second = lines[:middle], lines[middle:]
    made = []
    while first or second:
        made.append((first if first and (not second or draw.random() < 0.5) else second).pop(0))
    return b"".join(made)


def _fields(draw: random.Random, body: bytes) -> bytes:
    """Wrong values at a field of a record, at any depth."""
    lines = body.split(b"\n")
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(lines))
        try:
            value = json.loads(lines[place])
        except (ValueError, RecursionError):
            continue
        _spoil(draw, value)
        lines[place] = json.dumps(value).encode()
    return b"\n".join(lines)


def _spoil(draw: random.Random, value: Any) -> None:
    for _ in range(8):
        if isinstance(value, dict) and value:
            name = draw.choice(list(value))
            if draw.random() < 0.4 or not isinstance(value[name], dict | list):
                match draw.randrange(3):
                    case 0:
                        del value[name]
                    case 1:
                        value[draw.choice(("type", "payload", "call_id", name))] = draw.choice(WILD)
                    case _:
                        value[name] = draw.choice(WILD)
                return
            value = value[name]
        elif isinstance(value, list) and value:
            place = draw.randrange(len(value))
            if draw.random() < 0.4:
                value[place] = draw.choice(WILD)
                return
            value = value[place]
        else:
            return


KINDS: Sequence[Callable[[random.Random, bytes], bytes]] = (
    _flip, _cut, _gap, _zeros, _insert, _splice, _lines, _merge, _fields, _fields, _fields,
)  # fmt: skip


def mutated(draw: random.Random, body: bytes) -> bytes:
    """The bytes with one to three kinds of damage."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        body = draw.choice(KINDS)(draw, body)
    return body


def excerpt(draw: random.Random, body: bytes, most: int) -> bytes:
    """The first line and some lines in a row, so that a case is small: damage is local."""
    lines = body.splitlines(keepends=True)
    if len(lines) <= most:
        return body
    begin = draw.randint(1, len(lines) - most)
    return b"".join([lines[0], *lines[begin : begin + most]])

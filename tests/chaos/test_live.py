"""Breaking a stream while it flows does to it what a plan does that knows the whole."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.chaos import (
    at,
    call,
    clean_end,
    custom_call,
    cut,
    error,
    failed,
    fault,
    garbage,
    half_event,
    hold,
    incomplete,
    keepalive_trap,
    message,
    reasoning,
    reorder,
    repeat,
    reset,
    response,
    stall,
    truncated_call,
    unknown,
)
from backstay.chaos.live import Breaker
from backstay.chaos.plan import End, Head, Write, plan
from backstay.chaos.script import Passage, Response
from backstay.chaos.splitter import Splitter
from backstay.chaos.stream import Play, split

JSON = dict[str, Any]
OUTPUT = [
    *(reasoning("Let me see."), message("Some words of mine.")),
    *(call("f", {"a": "argument"}, "c1"), custom_call("p", "a longer text of input", "c2")),
]
DONE = "response.output_item.done"
STREAMING = Play(0, "n", "openai")
Outcome = list[Any]


def whole(*options: JSON, output: Sequence[JSON] = OUTPUT) -> bytes:
    """The bytes of a stream without faults."""
    made = plan(msgspec.convert(response(*output), Response), STREAMING)
    return b"".join(
        piece for step in made.steps if isinstance(step, Write) for piece in step.pieces
    )


def outcome(steps: Iterable[Any]) -> Outcome:
    """What a client would see: bytes joined, waits and the end between them."""
    seen: Outcome = []
    for step in steps:
        if isinstance(step, Write):
            text = b"".join(step.pieces)
            if text and seen and isinstance(seen[-1], bytes):
                seen[-1] += text
            elif text:
                seen.append(text)
            if step.missing:
                seen.append("a chunk that says it is longer")
        elif not isinstance(step, Head):
            seen.append(step)
        if isinstance(step, End):
            break
    return seen


def planned(options: JSON, recording: bytes = b"", *, lenient: bool = False) -> Outcome:
    """What the server does that knows the whole stream."""
    given = {"sse": "x"} if recording else response(*OUTPUT)
    made = msgspec.convert(given | options, Response)
    return outcome(plan(made, STREAMING, recording, lenient=lenient).steps)


def live(options: JSON, stream: bytes, *, pieces: int = 1000, lenient: bool = False) -> Outcome:
    """What the proxy does that sees it piece by piece."""
    breaker = Breaker(msgspec.convert(options, Passage), lenient=lenient)
    splitter = Splitter()
    steps: list[Any] = []
    for place in range(0, len(stream), pieces):
        steps += breaker.feed(splitter.feed(stream[place : place + pieces]))
        if breaker.ended:
            return outcome(steps)
    steps += breaker.feed(splitter.rest())
    if not breaker.ended:
        steps += breaker.finish()
    return outcome(steps)


FAULTS = [
    *(cut(), reset(), clean_end(), half_event(), stall(), stall(3.0), keepalive_trap()),
    *(cut(after="call"), reset(before="call"), cut(after=0), cut(before=0), cut(before=7)),
    *(clean_end(after=at(DONE, nth=3)), cut(after=at(DONE, item="custom_tool_call"))),
    *(cut(after=at(byte=0)), reset(after=at(byte=777)), stall(after=at(byte=50))),
    *(half_event(after="call"), half_event(before=5, bytes=3, end="reset"), half_event(after=0)),
    *(half_event(after=at(byte=0)), half_event(before=0), half_event(before=3, end="clean_end")),
    *(half_event(after=at(byte=900)), half_event(after=2, partial_chunk=True)),
    *(repeat(), repeat(3, after="call"), repeat(after=0), garbage(), garbage("x", before=0)),
    *(unknown(), unknown({"type": "a.b"}, after=4), unknown({"no": "type"}, before=2)),
    *(reorder(), reorder(4, after=0), reorder(before="terminal"), reorder(99, after=3)),
    *(reorder(2, before="call"), reorder(after="terminal")),
    *(failed(), failed("c", "m", after="call"), failed(before=0), error(), error(after=3)),
    *(error("c", "m", "flat", after="call"), error("c", "m", "bare")),
    *(cut(after="terminal"), half_event(after="terminal"), cut(when="/flag", after="call")),
    *(half_event(when="/flag", after="call"), reorder(when="/flag", after=1)),
]


@pytest.mark.parametrize("pieces", [1, 100, 10**6])
@pytest.mark.parametrize("options", FAULTS, ids=json.dumps)
def test_each_fault_does_what_it_does_in_a_script(options: JSON, pieces: int) -> None:
    """The same bytes, waits and end, in whatever pieces the stream comes."""
    assert live({"fault": options}, whole(), pieces=pieces) == planned({"fault": options})


@pytest.mark.parametrize(
    "options",
    [
        {"hold": hold("/flag", event=3)},
        {"hold": [hold("/flag", before="call"), hold("/other", after="call")]},
        {
            "hold": hold("/flag", after=2),
            "fault": [repeat(after=2), garbage(after=2), cut(after=2)],
        },
        {"fault": [garbage(before=0), unknown(after=1), stall(1.0, after="call"), reset()]},
        {"fault": [reorder(3, after=0), cut(after=2)]},
        {"fault": [keepalive_trap(), clean_end(after=3)]},
        {"fault": [cut(after=at(byte=99)), repeat(after=0)]},
        {"fault": [stall(1.0, after=at(byte=99)), stall(2.0, after=at(byte=100)), failed()]},
    ],
)
def test_several_faults_and_holds(options: JSON) -> None:
    """Together they do what they do in a script."""
    assert live(options, whole()) == planned(options)


def test_what_only_a_script_can_know_is_plausible() -> None:
    """response.incomplete has the response that the stream began with; a usage is not made up."""
    text = live({"fault": incomplete("content_filter", after="call")}, whole())[0]
    ours = json.loads(text.split(b"data: ")[-1])
    theirs = planned({"fault": incomplete("content_filter", after="call")})[0]
    expected = json.loads(theirs.split(b"data: ")[-1])
    del expected["response"]["usage"], ours["response"]["usage"]
    assert ours == expected


@pytest.mark.parametrize("nth", [1, 2])
def test_a_truncated_call(nth: int) -> None:
    """Up to the terminal event it is byte for byte what a script makes of the same call."""
    ours = live({"fault": truncated_call(nth)}, whole())
    theirs = planned({"fault": truncated_call(nth)})
    if nth == 2:
        assert [one.type for one in split(ours[0])] == [one.type for one in split(theirs[0])]
        assert [one.wire for one in split(ours[0])][:-1] == [one.wire for one in split(theirs[0])][
            :-1
        ]
    item = json.loads(split(ours[0])[-2].wire.split(b"data: ")[1])["item"]
    text = item.get("arguments") or item.get("input")
    assert (item["status"], item["call_id"], text) in [
        ("incomplete", "c1", '{"a":"ar'),
        ("incomplete", "c2", "a longer te"),
    ]
    assert split(ours[0])[-1].type == "response.incomplete"
    assert ours[-1] == End("clean")


def test_a_call_that_is_never_done_is_not_lost() -> None:
    """A stream that ends within the call to be truncated passes whole."""
    stream = whole()[: whole().rindex(b"event: response.custom_tool_call_input.done")]
    assert live({"fault": truncated_call(2)}, stream) == [stream, End("clean")]


def test_what_is_held_back_when_a_stream_breaks_off_can_be_had() -> None:
    """An event to be moved, the events of a call to be truncated: nothing that came is lost."""
    stream = whole()[: whole().rindex(b"event: response.custom_tool_call_input.done")]
    for options in (truncated_call(2), reorder(99, after=2)):
        breaker = Breaker(msgspec.convert({"fault": options}, Passage))
        passed = outcome(breaker.feed(split(stream)))[0]
        assert len(passed) < len(stream)
        wires = [sorted(f.wire for f in split(s)) for s in (passed + breaker.abandon(), stream)]
        assert wires[0] == wires[1]


def test_without_a_terminal_event_faults_strike_at_the_end() -> None:
    """A default position is then the end of the stream, as in a script."""
    stream = whole()[: whole().rindex(b"event: ")]
    for options in (cut(), failed(), repeat(), half_event(), garbage()):
        assert live({"fault": options}, stream) == planned({"fault": options}, stream)


def test_a_drawn_fault_strikes_before_the_terminal_event_at_last() -> None:
    """Whatever its position; a script's fault whose position does not come does nothing."""
    stream = whole(output=[message("a")])
    last = stream.rindex(b"event: ")
    for where in ({"after": "call"}, {"after": 999}, {"after": {"event": "x.y", "nth": 7}}):
        options = {"fault": {"kind": "reset"} | where}
        assert live(options, stream, lenient=True) == [stream[:last], End("reset")]
        assert live(options, stream) == [stream, End("clean")]
        short = stream[:last]
        assert live(options, short, lenient=True) == [short, End("reset")]


def test_struck_names_what_did_something() -> None:
    """In the order in which they struck, and nothing that did not."""
    options = {"fault": [repeat(after=2), cut(after=999), garbage(after=0), keepalive_trap()]}
    breaker = Breaker(msgspec.convert(options, Passage))
    for _ in breaker.feed(split(whole())):
        pass
    assert not breaker.idle
    list(breaker.finish())
    assert breaker.struck == ["garbage", "repeat", "keepalive_trap"]


def test_it_is_idle_once_nothing_is_left_to_do() -> None:
    """So that the rest may pass without being looked at."""
    breaker = Breaker(msgspec.convert({"fault": reorder(1, after=0)}, Passage))
    idle = []
    for frame in split(whole())[:4]:
        list(breaker.feed([frame]))
        idle.append(breaker.idle)
    assert idle == [False, False, True, True]


# ----- recorded streams


@pytest.mark.data
def test_recorded_streams_are_broken_as_a_script_breaks_them(data_dir: Path) -> None:
    """Each recording, at several events and bytes, by several faults, in pieces of any size."""
    source = Random(1)
    count = 0
    for path in sorted((data_dir / "sse").rglob("*.sse")):
        stream = path.read_bytes()
        frames = len(split(stream))
        for kind in ("close", "half_event", "repeat", "reorder", "unknown", "garbage"):
            options = fault(kind, after=int(source.random() * frames))
            if kind == "unknown" and not stream.startswith(b"event:"):
                continue  # a script's style is told to it, a proxy hears it
            pieces = 1 + int(source.random() * 3000)
            found = live({"fault": options}, stream, pieces=pieces)
            assert found == planned({"fault": options}, stream), (path, options, pieces)
            count += 1
        byte = {"fault": cut(after=at(byte=int(source.random() * len(stream))))}
        assert live(byte, stream) == planned(byte, stream)
    assert count > 600


@pytest.mark.data
def test_recorded_streams_are_split_as_a_whole(data_dir: Path) -> None:
    """The events that come piece by piece are those of the whole recording."""
    for path in sorted((data_dir / "sse").rglob("*.sse")):
        stream = path.read_bytes()
        for pieces in (1, 7, 4096):
            assert splitted(stream, pieces) == split(stream)


def splitted(stream: bytes, pieces: int) -> list[Any]:
    """The events of a stream that comes in pieces."""
    splitter = Splitter()
    frames = []
    for place in range(0, len(stream), pieces):
        frames += splitter.feed(stream[place : place + pieces])
    return frames + splitter.rest()


@given(st.text(alphabet="\r\nda: {}x", max_size=60), st.integers(1, 9))
def test_any_line_ends_are_split_alike(text: str, pieces: int) -> None:
    """CR, LF, CRLF and all mixtures, cut anywhere, also between CR and LF."""
    stream = text.encode()
    assert splitted(stream, pieces) == split(stream)
    assert b"".join(frame.wire for frame in split(stream)) == stream

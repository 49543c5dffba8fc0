"""Faults by chance: what is drawn, that a seed repeats it, and which response comes next."""

from typing import Any, get_args

import msgspec
import pytest

from backstay.chaos import (
    ChaosServer,
    ScriptError,
    call,
    cut,
    http_error,
    message,
    parse,
    response,
)
from backstay.chaos.draw import STATUSES, befall, draw
from backstay.chaos.script import USUAL, Chaos, Kind, Passage, Placed, Position, Response, Stall
from tests.chaos.client import fetch

PLAIN = {"model": "m", "input": "x"}


def drawn(count: int = 300, **chaos: Any) -> list[Any]:
    """What befalls the first so many answers."""
    return [draw(Chaos(**chaos), number) for number in range(count)]


# ----- the draw


def test_the_seed_and_the_number_decide() -> None:
    """The same seed draws the same, another one something else."""
    first = drawn(probability=0.5, seed=7)
    assert first == drawn(probability=0.5, seed=7)
    assert first != drawn(probability=0.5, seed=8)
    assert drawn(9, probability=0.5, seed="7") == first[:9]


def test_a_draw_is_the_same_for_ever() -> None:
    """Seeds in logs and in bug reports keep their meaning from version to version."""
    found = [one and msgspec.to_builtins(one) for one in drawn(6, probability=0.5, seed=1)]
    assert found == [
        None,
        {"fault": {"kind": "repeat", "after": 23}},
        {"fault": {"kind": "failed", "after": "call"}},
        {"fault": {"kind": "reset", "after": 6}},
        None,
        {"status": 503},
    ]


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_the_probability_is_kept(probability: float) -> None:
    """So many of the answers are broken, give or take; none at 0 and all at 1."""
    hits = sum(one is not None for one in drawn(2000, probability=probability))
    assert abs(hits - 2000 * probability) < 100
    assert probability not in (0.0, 1.0) or hits == 2000 * probability


def test_a_higher_probability_changes_no_draw() -> None:
    """What was drawn at 0.2 is drawn at 0.8 as well."""
    rare, often = drawn(probability=0.2), drawn(probability=0.8)
    assert all(one is None or one == more for one, more in zip(rare, often, strict=True))
    assert rare.count(None) > often.count(None)


def test_every_kind_can_be_drawn() -> None:
    """Each kind that is asked for comes, and no other; the usual ones without asking."""
    for kinds in (list(get_args(Kind)), list(USUAL)):
        found = {kind_of(one) for one in drawn(probability=1, kinds=kinds)}
        assert found == set(kinds)
    assert {kind_of(one) for one in drawn(probability=1)} == set(USUAL)


def kind_of(one: Any) -> str:
    """The kind of what was drawn."""
    if one.fault:
        return str(one.fault.__struct_config__.tag)
    return "status" if one.status else "delay" if one.delay else "trickle"


def test_places_and_seconds() -> None:
    """All sorts of places come; what takes time takes at most the seconds that are given."""
    made = drawn(500, probability=1, kinds=["close", "stall", "delay", "status"], seconds=2)
    placed = [one.fault for one in made if isinstance(one.fault, Placed)]
    assert {"call", 0, 1, None} <= {fault.after for fault in placed}
    assert "headers" in {fault.before for fault in placed}
    assert {fault.seconds for fault in placed if isinstance(fault, Stall)} == {2}
    assert 1 < max(one.delay for one in made) <= 2
    assert {one.status for one in made} == {None, *STATUSES}


def test_a_whole_fault_can_be_drawn() -> None:
    """It is used as it stands."""
    script = parse(
        {
            "responses": [],
            "chaos": {
                "probability": 1,
                "kinds": [{"kind": "close", "after": {"event": "call", "nth": 2}}],
            },
        }
    )
    assert script.chaos
    one = draw(script.chaos, 3)
    assert one
    assert isinstance(one.fault, Placed)
    assert one.fault.after == Position("call", nth=2)


@pytest.mark.parametrize(
    "chaos, text",
    [
        ({"probability": 2}, "chaos.probability: Expected `float` <= 1.0"),
        ({}, "chaos: Object missing required field `probability`"),
        ({"probability": 1, "kinds": ["flood"]}, "chaos.kinds[0]: Invalid enum value 'flood'"),
        ({"probability": 1, "kinds": []}, "chaos.kinds: Expected `array` of length >= 1"),
        ({"probability": 1, "sead": 1}, "chaos: Object contains unknown field `sead`"),
        (
            {"probability": 1, "kinds": [{"kind": "close", "after": 1, "before": 2}]},
            "chaos.kinds[0]: has both after and before",
        ),
    ],
)
def test_a_wrong_chaos_gets_one_line(chaos: Any, text: str) -> None:
    """With the field's name, for the script's and for a response's."""
    with pytest.raises(ScriptError, match=r"^script: chaos") as caught:
        parse({"responses": [], "chaos": chaos})
    assert text in str(caught.value)
    with pytest.raises(ScriptError, match=r"^script: responses\[0\]\.chaos"):
        parse([response(message("a"), chaos=chaos)])


# ----- the server


def test_the_log_says_what_was_drawn_and_repeats_it() -> None:
    """An answer broken by chance is, byte for byte, one whose script has the fault of the log."""
    output = [call("f", {"a": 1}, "c1"), message("Some words.")]
    chaos = {"probability": 0.6, "seed": 3, "kinds": ["half_event", "failed", "reorder", "repeat"]}
    with ChaosServer([response(*output)], repeat=True, seed="s", chaos=chaos) as server:
        broken = [fetch(server.url) for _ in range(20)]
        logged = [request.entry().get("drawn") for request in server.log]
    script = [response(*output) | (options or {}) for options in logged]
    assert 5 < sum(options is not None for options in logged) < 20
    # What the stream lacks stands before its terminal event; in a script it is a mistake.
    last = max(len(one.types) for one in broken if one.types[-1] == "response.completed") - 2
    for options in script:
        after = options.get("fault", {}).get("after")
        if isinstance(after, int) and after > last:
            del options["fault"]["after"]
    with ChaosServer(script, seed="s") as server:
        again = [fetch(server.url) for _ in script]
    assert [one.body for one in again] == [one.body for one in broken]
    assert [one.ending for one in again] == [one.ending for one in broken]


def test_a_position_that_the_stream_lacks_stands_before_the_terminal_event() -> None:
    """For what is drawn; the script's own faults must be right."""
    kinds = [
        *(cut(after="call"), cut(after=999), cut(before={"event": "x.y"})),
        cut(after="terminal"),
    ]
    for kind in kinds:
        chaos = {"probability": 1, "kinds": [kind]}
        with ChaosServer([response(message("a"))], chaos=chaos) as server:
            answer = fetch(server.url)
        assert (answer.types[-1], answer.ending) == ("response.output_item.done", "fin")


@pytest.mark.parametrize("kind", get_args(Kind))
def test_no_kind_upsets_the_server(kind: str) -> None:
    """Each kind, whatever is played, streaming and not: an answer, and the server lives on."""
    played = [
        response(message("a")),
        response(call("f")),
        response(),
        {"events": [{"type": "error", "message": "m"}]},
        {"events": []},
    ]
    chaos = {"probability": 1, "kinds": [kind], "seconds": 0.01}
    for one in played:
        with ChaosServer([one], repeat=True, chaos=chaos) as server:
            for body in (None, None, None, PLAIN):
                fetch(server.url, body)
            assert all(kind_of(request.drawn) == kind for request in server.log)


def test_a_spoiled_answer_leaves_its_response_to_the_next_request() -> None:
    """Until the client got a whole call, or, without calls, the terminal event."""

    def next_after(kind: Any, *output: Any) -> int | None:
        # Seed 0 draws at number 0 and not at number 1 with this probability.
        chaos = {"probability": 0.9, "seed": SEED, "kinds": [kind]}
        script = [response(*output), response(message("next"))]
        with ChaosServer(script, chaos=chaos) as server:
            fetch(server.url)
            fetch(server.url)
            assert [one.drawn is None for one in server.log] == [False, True]
            return server.log[1].response

    text, done = message("a"), "response.output_item.done"
    assert next_after(cut(after=1), call("f")) == 0
    assert next_after(cut(after="call"), call("f")) == 1
    assert next_after(cut(after="call"), call("f"), call("g")) == 1
    assert next_after(cut(before="headers"), call("f")) == 0
    assert next_after({"kind": "failed", "after": "call"}, call("f")) == 1
    assert next_after({"kind": "truncated_call"}, call("f")) == 0
    assert next_after({"kind": "truncated_call"}, call("f"), call("g")) == 1
    assert next_after(cut(after=done), text) == 0
    assert next_after(cut(before="terminal"), text) == 0
    assert next_after("unknown", text) == 1
    assert next_after("status", text) == 0


SEED = next(
    seed
    for seed in range(1000)
    if [d is None for d in drawn(2, probability=0.9, seed=seed)] == [False, True]
)


def test_an_answer_may_be_slow_by_chance() -> None:
    """A drawn delay or trickle is the response's; what it had of its own stays otherwise."""
    own = msgspec.convert(response(message("a"), delay=1, trickle=2), Response)
    assert (befall(own, Passage(delay=3)).delay, befall(own, Passage(delay=3)).trickle) == (3, 2)
    assert (befall(own, Passage(trickle=4)).delay, befall(own, Passage(trickle=4)).trickle) == (
        1,
        4,
    )


def test_the_script_s_own_faults_are_left_alone() -> None:
    """A response with a fault or a status is played as it stands, unless it has its own chance."""
    chaos = {"probability": 1, "kinds": ["status"]}
    script = [
        response(message("a"), fault=cut(after=0)),
        http_error(404),
        response(message("b"), fault=cut(after=1), chaos={"probability": 0}),
        response(message("c"), chaos={"probability": 1, "kinds": ["failed"]}),
    ]
    with ChaosServer(script, chaos=chaos) as server:
        answers = [fetch(server.url) for _ in script]
        assert [one.drawn is None for one in server.log] == [True, True, True, False]
    assert [one.status for one in answers] == [200, 404, 200, 200]
    assert [len(one.types) for one in answers[:3]] == [1, 0, 2]
    assert "response.failed" in answers[3].types


def test_a_request_that_is_refused_counts() -> None:
    """Numbers are those of the requests for responses, other paths left out."""
    chaos = {"probability": 0.9, "seed": SEED, "kinds": ["status"]}
    with ChaosServer([response(message("a"))], repeat=True, chaos=chaos) as server:
        fetch(server.url, b"no json")
        assert fetch(server.url).status == 200

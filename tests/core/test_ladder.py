"""The refusal ladder: each refusal that a bad history causes, and what is changed because of it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstay.core.dialect import Dialect
from backstay.core.events import Outcome
from backstay.core.history import History
from backstay.core.items import Item, kind, message_text
from backstay.core.ladder import MOST_RUNGS, climb
from backstay.core.mend import UNDO
from backstay.core.pairing import problems
from backstay.core.record import Repair
from backstay.core.view import view
from backstay.model.refusal import refusal
from tests.core.past import Past
from tests.core.watch import replay
from tests.core.wire import custom, function, said, thought

PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,AA"}


class Refused:
    """A session with an earlier turn and one under way, whose last request is refused again and
    again, in these words; the repairs that are made.
    """

    def __init__(self, *, earlier: bool = True) -> None:
        self.past = past = Past()
        if earlier:
            first = past.attempt(past.prompt("look"))
            past.item(first, 0, thought("rs_1"))
            self.image = past.call(first, 1, function("see", "view_image"))
            past.records.append(_shown(past, self.image))
            past.item(first, 2, {"type": "odd", "id": "odd_1", "value": 7})
            past.ended(first)
            second = past.attempt(2, 2)
            past.item(second, 0, said("a picture") | {"phase": "final"})
            past.closed(2, "completed")
            past.ended(second)
        self.turn = past.prompt("and now")
        attempt = past.attempt(self.turn)
        past.item(attempt, 0, thought("rs_2"))
        self.call = past.answered(attempt, 1, function("fc_call", "look"), "seen")
        self.patch = past.answered(attempt, 2, custom("patch_call"), "patched")
        past.ended(attempt)
        self.refused = past.attempt(self.turn, 2)

    def history(self) -> History:
        """What the records add up to."""
        return replay(self.past.records)

    def input(self, **dialect: bool) -> list[Item]:
        """The next request's input."""
        return view(self.history(), Dialect(**dialect))

    def climb(self, **fields: Any) -> Repair | None:
        """The request is refused; what follows is recorded, with the attempt that is sent then."""
        said: dict[str, Any] = {"kind": "refused", "status": 400} | fields
        outcome = Outcome(**said)
        self.past.ended(self.refused, outcome.kind, status=outcome.status, reason=outcome.reason)
        repair = climb(self.history(), Dialect(), outcome, self.refused)
        if repair is not None:
            assert repair.n == len(self.past.records) + 1
            self.past.records.append(repair)
            assert problems(self.input()) == []
        self.refused = self.past.attempt(self.turn, 2)
        return repair

    def climbs(self, **fields: Any) -> list[str]:
        """The rungs until nothing more is tried."""
        found = []
        while repair := self.climb(**fields):
            found.append(repair.action)
            if repair.action == UNDO:
                break
        return found


def _shown(past: Past, call: int) -> Any:
    from backstay.core.record import Output

    item = {"type": "function_call_output", "call_id": "see", "output": [PICTURE]}
    return Output(n=len(past.records) + 1, call=call, item=item)


def words(items: list[Item]) -> str:
    """All text of an input."""
    return "\n".join(message_text(item) for item in items)


@pytest.mark.parametrize(
    "reason, action, gone",
    [
        ("No tool output found for function call fc_call.", "replace_item", "fc_call"),
        ("No tool output found for custom tool call patch_call.", "replace_item", "patch_call"),
        (
            "No tool call found for function call output with call_id fc_call.",
            "replace_item",
            "fc_call",
        ),
        ("Missing required parameter: 'input[2].arguments'.", "replace_item", "see"),
        ("Invalid 'input[4].output[0].image_url'. (param: input[4].output)", "replace_item", "see"),
        ("Duplicate item found with id patch_call. Remove it.", "replace_item", "patch_call"),
    ],
)
def test_an_item_that_is_named_is_told_as_text(reason: str, action: str, gone: str) -> None:
    """With its pair, so that nothing is lost and nothing is unpaired (FACTS 8)."""
    one = Refused()
    before = one.input()
    repair = one.climb(reason=reason)
    assert repair is not None
    assert (repair.action, repair.reason) == (action, reason)
    after = one.input()
    assert not [item for item in after if item.get("call_id") == gone]
    assert len([item for item in before if item.get("call_id") == gone]) == 2
    others = [item for item in before if "call_id" in item and item["call_id"] != gone]
    assert [item for item in after if "call_id" in item] == others
    assert "was called with" in words(after)


@pytest.mark.parametrize(
    "fields",
    [
        {"code": "invalid_encrypted_content"},
        {"reason": "code invalid_encrypted_content: the content could not be verified"},
        {"kind": "failed", "status": None, "code": "invalid_encrypted_content"},
        {"reason": "Reasoning items are not supported by this model."},
    ],
)
def test_refused_reasoning_is_dropped_first(fields: dict[str, Any]) -> None:
    """All of it, where none is named (FACTS 9); what follows it stays as it is."""
    one = Refused()
    before = one.input()
    repair = one.climb(**fields)
    assert repair is not None
    assert repair.action == "drop_reasoning"
    assert one.input() == [item for item in before if kind(item) != "reasoning"]


def test_reasoning_that_is_named_goes_alone() -> None:
    """By its id in the journal, though requests do not hold it (FACTS 8)."""
    one = Refused()
    before = one.input()
    repair = one.climb(
        reason="Item 'rs_2' of type 'reasoning' was provided without its required following item."
    )
    assert repair is not None
    assert repair.action == "replace_item"
    assert [kind(item) for item in one.input()].count("reasoning") == 1
    assert [i for i in one.input() if kind(i) != "reasoning"] == [
        i for i in before if kind(i) != "reasoning"
    ]


def test_a_field_that_is_named_is_left_out_of_its_type() -> None:
    """Of every item of the type: the next one would be refused too."""
    one = Refused()
    at = next(at for at, item in enumerate(one.input()) if "phase" in item)
    repair = one.climb(reason=f"Unknown parameter: 'input[{at}].phase'.")
    assert repair is not None
    assert (repair.action, repair.field) == ("drop_field", "item:message.phase")
    assert not any("phase" in item for item in one.input())
    assert one.climbs(reason="Unknown parameter: 'input[0].role'.")[0] != "drop_field"


@pytest.mark.parametrize(
    "reason, field",
    [
        ("Encrypted content is not supported with this model. (param: include)", "include"),
        ("Unsupported parameter: 'prompt_cache_key'", "prompt_cache_key"),
        ("Unrecognized request argument: `parallel_tool_calls`", "parallel_tool_calls"),
        ("'reasoning.summary' is not supported", "reasoning.summary"),
    ],
)
def test_a_field_of_the_request_is_left_out(reason: str, field: str) -> None:
    """It needs no earlier answer: a new session climbs too."""
    one = Refused(earlier=False)
    before = one.input()
    repair = one.climb(reason=reason)
    assert repair is not None
    assert (repair.action, repair.field) == ("drop_field", field)
    assert one.history().mends.request == {field}
    assert one.input() == before


def test_the_whole_ladder_ends_and_is_taken_back() -> None:
    """A refusal that nothing helps against: each rung once, then all is as it was."""
    one = Refused()
    before = one.input()
    found = one.climbs(reason="No tool output found for function call fc_call.")
    assert found == [
        "replace_item",
        "replace_images",
        "drop_reasoning",
        "as_text",
        "as_text",
        "undo",
    ]
    assert one.input() == before
    assert one.climb(reason="No tool output found for function call fc_call.") is not None


def test_the_last_rung_is_text_alone() -> None:
    """What was called and what it answered is still there, word for word."""
    one = Refused()
    for _ in range(5):
        repair = one.climb(reason="bad request")
        if repair is not None and repair.action == "as_text" and repair.target == repair.n:
            break
    after = one.input()
    assert {kind(item) for item in after} == {"message"}
    for text in ("look", "a picture", "and now", "seen", "patched"):
        assert text in words(after)
    assert "An image stood here" in words(after)


def test_rungs_start_anew_behind_an_answer() -> None:
    """What helped stays; a later refusal may climb the whole ladder again, but not over it."""
    one = Refused()
    first = one.climb(reason="reasoning was refused")
    assert first is not None
    one.past.ended(one.refused)
    one.refused = one.past.attempt(one.turn, 3)
    found = one.climbs(reason="reasoning was refused")
    assert "drop_reasoning" not in found
    assert found[-1] == "undo"
    assert one.history().mends.reasoning_from == first.n


def test_the_ladder_has_an_end_whatever_is_named() -> None:
    """A provider that names one item after the other does not go on for ever."""
    one = Refused()
    for number in range(30):
        one.past.answered(one.refused, number, function(f"c{number}", "look"), "x")
    one.past.ended(one.refused)
    one.refused = one.past.attempt(one.turn, 3)
    climbed = 0
    while repair := one.climb(reason=f"No tool output found for function call c{climbed}."):
        climbed += 1
        if repair.action == UNDO:
            break
    assert climbed == MOST_RUNGS + 1


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 401, "reason": "invalid API key for this tool call"},
        {"status": 403, "reason": "no access to images"},
        {"status": 404, "reason": "The model m does not exist"},
        {"status": 429, "reason": "too many messages"},
        {"reason": "bad model", "code": "model_not_found"},
        {"reason": "pay first", "code": "insufficient_quota"},
        {"reason": "too long a message", "code": "context_length_exceeded"},
        {"reason": "unsupported (param: model)"},
        {"kind": "cut", "status": None, "reason": "tool call"},
        {"kind": "failed", "status": None, "code": "server_error", "reason": "image"},
    ],
)
def test_other_refusals_change_nothing(fields: dict[str, Any]) -> None:
    """Key, quota, model and length are not the history's fault."""
    one = Refused()
    assert one.climb(**fields) is None


WORDS = {
    "exceeds the context window": None,
    "exceeds the available context size": None,
    "No tool output found for tool call call-a.": "replace_images",
    "Model not found": None,
    "The requested model": None,
    "'reasoning.effort' is not supported": None,
    "Unsupported value: 'none'": None,
    "Deep research models require": None,
    "The file type you uploaded": "replace_images",
    "Invalid file data: 'input[3].output[0].file_data'": "replace_item",
    "Invalid 'temperature'": None,
    "without its required following item": "drop_reasoning",
    "`reasoning.mode` is not supported": None,
    "Cannot continue an assistant message": "replace_images",
    "Cannot determine type of 'item'": "replace_images",
    "item['content'] is": "replace_images",
    "'previous_response_id'": "replace_images",
    "parse error at line 1": "replace_images",
}
"""What real refusals say, and which rung comes first because of it."""


@pytest.mark.data
def test_every_recorded_refusal_is_climbed_or_left_as_it_is_due(data_dir: Path) -> None:
    """By what it is about; each that is climbed ends, and is taken back if nothing helps."""
    bodies = []
    for path in (data_dir / "sse" / "pydantic-ai" / "http_errors").glob("*.json"):
        recorded = msgspec.json.decode(path.read_bytes())
        bodies.append((recorded["status"], msgspec.json.encode(recorded["response_body"])))
    for path in (data_dir / "sse" / "llama.cpp").iterdir():
        body = path.read_bytes()
        if body.startswith(b'{"error":{"code":'):
            bodies.append((msgspec.json.decode(body)["error"]["code"], body))
    assert len(bodies) > 20
    seen = set()
    for status, body in bodies:
        found = refusal(status, {}, body, 0.0)
        words = next((words for words in WORDS if words in found.reason), "")
        assert words, found.reason
        seen.add(words)
        one = Refused()
        rungs = one.climbs(code=found.code, reason=found.reason, status=found.status)
        assert (rungs[0] if rungs else None) == WORDS[words], found.reason
        assert not rungs or rungs[-1] == UNDO
    assert seen == WORDS.keys()


def test_a_new_session_is_not_taken_apart_for_an_unspecific_refusal() -> None:
    """Only a history that was accepted before can have become bad."""
    one = Past()
    refused = one.attempt(one.prompt())
    one.ended(refused, "refused", status=400, reason="bad request")
    outcome = Outcome(kind="refused", status=400, reason="bad request")
    assert climb(replay(one.records), Dialect(), outcome, refused) is None
    assert Refused().climb(reason="bad request") is not None


def test_a_refusal_without_a_name_behind_a_rung_is_climbed_too() -> None:
    """It may be the same one in other words: the ladder is not left standing half way."""
    one = Refused(earlier=False)
    one.past.records = one.past.records[:2]
    one.refused = one.past.attempt(2)
    first = one.climb(reason="Encrypted content is not supported. (param: include)")
    assert first is not None
    found = one.climbs(reason="bad request")
    assert found[-1] == UNDO
    assert one.history().mends.request == frozenset()


def test_a_server_error_for_ever_is_a_refusal() -> None:
    """llama.cpp answers 500 to arguments that it can't parse (FACTS 15); 503 names nothing."""
    words = "Failed to parse tool call arguments as JSON"
    repair = Refused().climb(status=500, reason=words)
    assert repair is not None
    assert Refused().climb(status=503, reason="busy") is None
    missing = Refused().climb(status=404, reason="Item with id 'rs_2' not found.")
    assert missing is not None
    assert missing.action == "replace_item"

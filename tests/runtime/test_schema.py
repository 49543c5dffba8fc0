"""Answers that are to have a form: the schema is checked, sent, journaled, and held against them."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstay import chaos
from backstay.chaos import call, message, reasoning, response
from backstay.core.record import Prompt
from backstay.errors import UsageError
from backstay.runtime import schema, watch
from backstay.runtime.session import Session
from tests.runtime.bench import JSON, Bench
from tests.runtime.test_resumed import reopen, resume
from tests.runtime.test_session import prompt

COUNT: JSON = {
    "type": "object",
    "properties": {"tests": {"type": "integer"}, "why": {"type": "string"}},
    "required": ["tests", "why"],
    "additionalProperties": False,
}
RIGHT = '{"tests": 3, "why": "counted"}'


def asked(form: JSON | None = COUNT, text: str = "go") -> Any:
    """Work that gives one prompt with a schema."""

    async def work(session: Session) -> watch.Finished:
        return await session.prompt(text, schema=form)

    return work


def forms(bench: Bench) -> list[Any]:
    """The `text` parameter of every request."""
    return [body.get("text") for body in bench.server.bodies]


FORM = {"format": {"type": "json_schema", "name": "output_schema", "strict": True, "schema": COUNT}}


def test_every_request_of_the_turn_asks_for_the_form(tmp_path: Path, home: Path) -> None:
    """Retries and later steps too; the next turn without a schema does not."""
    script = [
        response(call("exec_command", {"cmd": "echo hi"}), fault=chaos.cut(after="call")),
        response(message(RIGHT)),
        response(message("free")),
    ]
    bench = Bench(tmp_path, home, script)

    async def both(session: Session) -> list[str]:
        first = await session.prompt("go", schema=COUNT)
        second = await session.prompt("more")
        return [first.mismatch, second.mismatch, first.outcome, second.outcome]

    assert bench.run(both) == ["", "", "completed", "completed"]
    assert forms(bench) == [FORM, FORM, None]
    assert [one.schema for one in bench.records() if isinstance(one, Prompt)] == [COUNT, None]


def test_a_turn_that_goes_on_keeps_its_schema(tmp_path: Path, home: Path) -> None:
    """From the journal, in another process, and the answer is held to it there."""
    bench = Bench(tmp_path, home, [chaos.http_error(401)])
    assert bench.run(asked()).outcome == "failed"
    reopen(bench, [response(message("three"))])
    ended = bench.run(resume, name=bench.id)
    assert forms(bench) == [FORM]
    assert ended.outcome == "completed"
    assert ended.mismatch.startswith("it is not JSON: ")
    seen = [one for one in bench.events if isinstance(one, watch.Finished)]
    assert seen[-1] == ended


@pytest.mark.parametrize(
    "answer, said",
    [
        (RIGHT, ""),
        ('{"tests": "3", "why": ""}', '$.tests: "3" is not of type "integer"'),
        ('{"tests": 3}', '$: "why" is a required property'),
        ("```json\n{}\n```", "it is not JSON: "),
        ("", "there was no answer"),
    ],
)
def test_an_answer_that_departs_is_named(
    tmp_path: Path, home: Path, answer: str, said: str
) -> None:
    """The turn is complete all the same, and the answer is what it is."""
    bench = Bench(tmp_path, home, [response(message(answer))])
    ended = bench.run(asked())
    assert ended.outcome == "completed"
    assert ended.mismatch.startswith(said)
    assert bool(ended.mismatch) == bool(said)


def test_of_several_messages_the_last_one_counts(tmp_path: Path, home: Path) -> None:
    """What was said along the way is no answer; nor is what a cut attempt had said."""
    script = [
        response(message("Let me look."), call("exec_command", {"cmd": "true"})),
        response(message("three"), fault=chaos.cut(after=chaos.at("response.output_item.done"))),
        response(message("Counting."), message(RIGHT)),
    ]
    bench = Bench(tmp_path, home, script)
    assert bench.run(asked()).mismatch == ""


def test_what_was_superseded_is_no_answer(tmp_path: Path, home: Path) -> None:
    """An answer that was cut and not said again is none."""
    cut = chaos.cut(after=chaos.at("response.output_item.done"))
    script = [response(message(RIGHT), fault=cut), response(reasoning("Done already."))]
    bench = Bench(tmp_path, home, script)
    assert bench.run(asked()).mismatch == "there was no answer"


def test_a_turn_that_failed_is_held_to_nothing(tmp_path: Path, home: Path) -> None:
    """Why it failed is what counts."""
    bench = Bench(tmp_path, home, [chaos.http_error(401)])
    assert bench.run(asked()).mismatch == ""


def test_what_is_no_schema_is_refused_before_anything_happens(tmp_path: Path, home: Path) -> None:
    """Nothing is recorded, nothing sent; the session goes on."""
    bench = Bench(tmp_path, home, [response(message("done"))])

    async def work(session: Session) -> str:
        with pytest.raises(UsageError, match="it is no JSON Schema"):
            await session.prompt("go", schema={"type": "nope"})
        return (await session.prompt("go")).outcome

    assert bench.run(work) == "completed"
    assert len(bench.server.bodies) == 1
    assert topics_of(bench) == 2


def topics_of(bench: Bench) -> int:
    """How many items the first prompt holds: what was not given was not told."""
    return len(next(one for one in bench.records() if isinstance(one, Prompt)).items)


def test_a_journal_of_before_has_no_schema(tmp_path: Path, home: Path) -> None:
    """The field is left out where it says nothing."""
    bench = Bench(tmp_path, home, [response(message("done"))])
    bench.run(prompt())
    text = Path(bench.folder, "journal.jsonl").read_text()
    assert '"schema"' not in text


@pytest.mark.parametrize(
    "content, why",
    [
        (b"{", "is not JSON: "),
        (b"\xff", "is not JSON: "),
        (b"[]", ": it is no JSON Schema: it must be an object"),
        (b'{"properties": {"a": {"type": "nope"}}}', ": it is no JSON Schema: $.properties.a.type"),
        (b'{"$ref": "http://127.0.0.1:9/schema"}', ": it is no JSON Schema: $: "),
        (b'{"$ref": "file:///etc/hosts"}', ": it is no JSON Schema: $: "),
        (b'{"pattern": "("}', ": it is no JSON Schema: $.pattern"),
        (b" " * (schema.LARGEST + 1), "is larger than "),
        (b"[" * 100_000, "is not JSON: "),
    ],
    ids=["half", "bytes", "list", "type", "http", "file", "regex", "large", "deep"],
)
def test_a_file_without_a_schema_is_named_in_one_line(
    tmp_path: Path, content: bytes, why: str
) -> None:
    """Nothing is fetched from where a schema points to."""
    path = tmp_path / "schema.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        schema.read(str(path))
    text = str(raised.value)
    assert text.startswith(str(path))
    assert text[len(str(path)) :].lstrip().startswith(why.lstrip())
    assert "\n" not in text


def test_a_schema_reads_no_other_file(tmp_path: Path) -> None:
    """Not even one that is there and holds a schema."""
    other = tmp_path / "other.json"
    other.write_text('{"type": "integer"}')
    with pytest.raises(UsageError, match="is not present"):
        schema.check({"$ref": other.as_uri()})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, or a folder."""
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match=f"{path} can't be read: "):
            schema.read(str(path))


def test_every_draft_and_a_schema_of_any_answer(tmp_path: Path) -> None:
    """The draft is the schema's own; what says nothing takes every JSON."""
    old = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "minimum": 3,
        "exclusiveMinimum": True,
    }
    assert schema.mismatch("4", old) == ""
    assert schema.mismatch("3", old) != ""
    path = tmp_path / "any.json"
    path.write_bytes(b"{}")
    assert schema.mismatch("[1]", schema.read(str(path))) == ""
    long = schema.mismatch(msgspec.json.encode("x" * 5000).decode(), {"type": "integer"})
    assert len(long) < 400
    assert os.linesep not in long


def test_a_compaction_carries_the_schema_of_its_turn(tmp_path: Path, home: Path) -> None:
    """The next process reads back to the compaction only, and still asks for the form."""
    answers = [response(message("answer " * 500)) for _ in range(6)]
    script = [*answers, chaos.http_error(401), response(message("A summary."))]
    bench = Bench(tmp_path, home, script)

    async def shortened(session: Session) -> str:
        for number in range(6):
            await session.prompt(f"{number}: " + "word " * 2000)
        assert (await session.prompt("go", schema=COUNT)).outcome == "failed"
        return (await session.compact()).outcome

    assert bench.run(shortened) == "compacted"
    reopen(bench, [response(message(RIGHT))])
    ended = bench.run(resume, name=bench.id)
    assert (ended.outcome, ended.mismatch) == ("completed", "")
    assert forms(bench) == [FORM]

"""`--output-schema`: a schema that is none ends before anything happens; an answer is held to it."""

import json
from pathlib import Path

import pytest

from backstay.chaos import http_error, message, response
from tests.cli.command import Command
from tests.cli.test_turn import provider

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture
def form(tmp_path: Path) -> str:
    """A file with a schema."""
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    return str(path)


def test_an_answer_that_has_the_form_is_a_success(command: Command, form: str) -> None:
    """The provider is asked for it, strictly, by each kind of `exec`."""
    answer = response(message('{"n": 3}'))
    with provider(command, answer, answer) as server:
        done = command.run("exec", "--json", "-m", "m", "--output-schema", form, "how many?")
        assert (done.code, done.types[-1]) == (0, "turn.completed")
        again = command.run("exec", "resume", done.session, "--output-schema", form, "and now?")
        assert (again.code, again.out) == (0, '{"n": 3}\n')
        sent = [request.body["text"]["format"] for request in server.requests]
    assert [one["schema"] for one in sent] == [SCHEMA, SCHEMA]
    assert {(one["type"], one["strict"]) for one in sent} == {("json_schema", True)}


def test_an_answer_that_departs_is_written_named_and_exits_1(
    command: Command, form: str, tmp_path: Path
) -> None:
    """The turn is complete, with --json too; `-o` holds what was answered."""
    out = tmp_path / "out.txt"
    flags = ["-m", "m", "-o", str(out), "--output-schema", form]
    for more in ([], ["--json"]):
        with provider(command, response(message('{"n": "3"}'))):
            done = command.run("exec", *more, *flags, "how many?")
        assert done.code == 1
        line = 'backstay: the answer does not match its schema: $.n: "3" is not of type "integer"'
        assert line in done.err.splitlines()
        assert out.read_text() == '{"n": "3"}'
        assert "Traceback" not in done.err
        if more:
            assert done.types[-1] == "turn.completed"


def test_a_turn_that_goes_on_is_held_to_its_schema(command: Command, form: str) -> None:
    """Without the flag, which belongs to a prompt; with it, it is refused before anything runs."""
    with provider(command, http_error(401), response(message("three"))) as server:
        first = command.run("exec", "--json", "-m", "m", "--output-schema", form, "how many?")
        assert first.code == 1
        refused = command.run("continue", first.session, "--output-schema", form)
        assert refused.code == 2
        assert refused.complaint.startswith("backstay: --output-schema needs a prompt")
        assert len(server.requests) == 1
        done = command.run("continue", first.session)
        assert done.code == 1
        assert "does not match its schema: it is not JSON" in done.err
        assert server.requests[1].body["text"]["format"]["schema"] == SCHEMA


def test_a_file_without_a_schema_is_a_usage_error(command: Command, tmp_path: Path) -> None:
    """Exit 2, one line, no session, no request."""
    broken = tmp_path / "broken.json"
    for content in (None, "{", '{"type": "nope"}'):
        if content is not None:
            broken.write_text(content)
        done = command.run("exec", "-m", "m", "--output-schema", str(broken), "how many?")
        assert done.code == 2
        assert done.complaint.startswith(f"backstay: --output-schema {broken}")
        assert not (command.home / "sessions").exists()

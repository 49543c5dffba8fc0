"""Reading scripts: what is right is read, what is wrong gets one line that names the field."""

import re
import textwrap
from pathlib import Path
from typing import Any, get_args

import pytest

import backstay.chaos
from backstay.chaos import (
    ChaosServer,
    ScriptError,
    at,
    call,
    custom_call,
    cut,
    garbage,
    hold,
    http_error,
    load,
    message,
    parse,
    recorded,
    repeat,
    response,
    truncated_call,
    write_script,
)
from backstay.chaos.script import (
    Chaos,
    Dialect,
    Fault,
    Hold,
    Item,
    Kind,
    Position,
    Response,
    Script,
    Style,
    Trickle,
    Usage,
    When,
)
from tests.chaos.client import fetch


@pytest.mark.parametrize(
    "script, text",
    [
        (5, "script: Expected `object`, got `int`"),
        ({"responses": 3}, "script: responses: Expected `array`"),
        ({"response": []}, "script: Object contains unknown field `response`"),
        ([], None),
        ([{}], "script: responses[0]: needs one of output, events, sse, status"),
        ([message("x")], "responses[0]: Object contains unknown field"),
        ([{"output": [], "events": []}], "responses[0]: has both output and events"),
        ([{"outptu": []}], "responses[0]: Object contains unknown field `outptu`"),
        ([{"output": [{"type": "fun"}]}], "responses[0].output[0].type: unknown type 'fun'"),
        ([response(call("f", 7))], "responses[0].output[0].arguments: Expected"),  # type: ignore[arg-type]
        ([response(message("x", deltas=3))], "responses[0].output[0]: has both text and deltas"),
        ([response(style="vax")], "responses[0].style: Invalid enum value 'vax'"),
        ([response(delay=-1)], "responses[0].delay: Expected"),
        ([http_error(700)], "responses[0].status: Expected `int` <= 599"),
        ([response(status=500)], "responses[0].status: 500 not together with output"),
        ([response(body="x")], "responses[0].body: not together with output"),
        ([response(fault={"kind": "explode"})], "responses[0].fault.kind: unknown kind 'explode'"),
        (
            [response(fault={"after": 1})],
            "responses[0].fault: Object missing required field `kind`",
        ),
        ([response(fault=cut(after=1, before=1))], "responses[0].fault: has both after and before"),
        ([response(fault=garbage(before="headers"))], '.fault.before: "headers" is for close'),
        ([response(hold=hold("x", after=1) | {"before": 2})], ".hold: has both after and before"),
        ([response(fault=cut(after="headers"))], 'responses[0].fault.after: "headers" can only be'),
        (
            [response(fault=[cut(after={})])],
            "responses[0].fault[0].after: needs one of event, byte",
        ),
        ([response(fault=garbage(after=at(byte=3)))], "responses[0].fault: adds an event"),
        ([response(fault=truncated_call())], "responses[0].fault: the response has 0 calls"),
        ([response(hold={"file": "x"})], "responses[0].hold: needs one of event, before, after"),
        ([recorded("no-such.sse")], "no-such.sse cannot be read: No such file"),
    ],
)
def test_a_wrong_script_gets_one_line_that_names_the_field(script: Any, text: str | None) -> None:
    """The line begins with the path of the field in the script; an empty script is right."""
    if text is None:
        assert parse(script).responses == []
        return
    with pytest.raises(ScriptError) as raised:
        parse(script)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "fault, text",
    [
        (cut(after=99), "responses[1]: no event 99: the stream has 9"),
        (cut(before=-10), "responses[1]: no event -10"),
        (cut(after="call"), "responses[1]: the stream has no call number 1"),
        (cut(after=at("response.created", nth=2)), "no response.created number 2"),
        (repeat(before=0), "repeat: no event stands before the position"),
        (cut(after=at("response.output_item.done", item="reasoning")), "number 1 of reasoning"),
    ],
)
def test_a_position_that_is_not_in_the_stream_is_refused_at_the_start(
    fault: Any, text: str
) -> None:
    """The server does not start with a fault that would never strike."""
    with pytest.raises(ScriptError) as raised:
        ChaosServer([response(), response(message("x"), fault=fault)])
    assert text in str(raised.value)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """write_script and load are each other's inverse; options are kept."""
    made = [response(message("x"), custom_call("p", "i", "c"), fault=cut(after="call"))]
    path = write_script(tmp_path / "s.json", made, strict=True, style="chatgpt")
    script = load(path)
    assert (script.strict, script.style, len(script.responses)) == (True, "chatgpt", 1)
    assert script.responses == parse(made).responses


def test_paths_are_relative_to_the_script(tmp_path: Path) -> None:
    """Recordings and files that are waited for lie beside the script."""
    (tmp_path / "one.sse").write_bytes(b"data: {}\n\n")
    made = [recorded("one.sse"), response(message("x"), hold=hold("flag", event=1))]
    script = load(write_script(tmp_path / "s.json", made))
    assert script.recordings == {str(tmp_path / "one.sse"): b"data: {}\n\n"}
    assert script.responses[1].holds[0].file == str(tmp_path / "flag")


def test_a_recorded_stream_is_a_script_that_repeats(tmp_path: Path) -> None:
    """A .sse file is the only response, again and again."""
    (tmp_path / "one.sse").write_bytes(b"data: {}\n\n")
    with ChaosServer(load(str(tmp_path / "one.sse"))) as server:
        assert [fetch(server.url).body for _ in range(2)] == [b"data: {}\n\n"] * 2


def test_files_that_are_no_scripts(tmp_path: Path) -> None:
    """Not there, not JSON: one line with the file's name."""
    with pytest.raises(ScriptError, match=r"nope\.json: cannot be read: No such file"):
        load(str(tmp_path / "nope.json"))
    (tmp_path / "bad.json").write_text('{"responses": [')
    with pytest.raises(ScriptError, match=r"bad\.json: not JSON: "):
        load(str(tmp_path / "bad.json"))


def test_options_beside_a_list_or_a_script() -> None:
    """ChaosServer takes the script's options by keyword too, and refuses unknown ones."""
    for script in ([response(message("x"))], {"responses": [response(message("x"))]}):
        with ChaosServer(script, repeat=True) as server:
            assert [fetch(server.url).status for _ in range(2)] == [200, 200]
    with pytest.raises(ScriptError, match="unknown field `repaet`"):
        ChaosServer([], repaet=True)


def test_the_docstring_names_every_field_kind_and_style() -> None:
    """The format's reference is complete: each field, fault, item type and style stands in it."""
    text = backstay.chaos.__doc__ or ""
    words = [*get_args(Style), *get_args(Dialect), *get_args(Kind)]
    for kind in (*get_args(Fault), *get_args(Item)):
        words += [str(kind.__struct_config__.tag), *kind.__struct_encode_fields__]
    for kind in (Response, Script, Chaos, Position, When, Hold, Trickle, Usage):
        words += kind.__struct_encode_fields__
    missing = [w for w in words if not re.search(rf"(?<!\w){re.escape(w)}(?!\w)", text)]
    assert missing == ["recordings"]  # the content of `sse` files, no field of the format


def test_the_example_of_the_docstring_is_a_right_script() -> None:
    """It is read without a complaint."""
    example = (backstay.chaos.__doc__ or "").split("script = ")[1].split("\n    with")[0]
    made = eval(textwrap.dedent(example), vars(backstay.chaos))
    with ChaosServer(made, strict=True) as server:
        assert server.url

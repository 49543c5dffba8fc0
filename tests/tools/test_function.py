"""Functions as tools: what the model is told of them, what they get, and what becomes of it."""

import asyncio
import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest

from backstay.core.dialect import Dialect
from backstay.core.events import Result
from backstay.core.record import Start
from backstay.errors import UsageError
from backstay.tools import docstring
from backstay.tools.function import Context, FunctionTool, as_result, tool
from backstay.tools.tool import Invocation, Tool

JSON = dict[str, Any]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """A place."""

    x: int
    y: float = 0.5


class Row(TypedDict):
    name: str


class Box(msgspec.Struct):
    side: int = 1


def schema(made: Tool) -> JSON:
    """The parameters as the request lists them."""
    parameters: JSON = made.spec(Dialect())["parameters"]
    return parameters


def called(
    made: FunctionTool[..., Any], arguments: JSON | str, shown: list[bytes] | None = None
) -> Result:
    """What a call of the tool gives."""
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    item = {"type": "function_call", "name": made.name, "arguments": text}
    seen = shown if shown is not None else []
    invocation = Invocation(7, item, "session-7", 0.0, seen.append)

    async def main() -> Result:
        result = await made.run(invocation)
        await asyncio.sleep(0)
        return result

    return asyncio.run(main())


def settled(made: FunctionTool[..., Any], arguments: JSON) -> Any:
    """What is found out about a call that a crash left."""
    text = msgspec.json.encode(arguments).decode()
    item = {"type": "function_call", "name": made.name, "arguments": text}
    start = Start(n=8, call=7, effect="session-7")
    return asyncio.run(made.probe(Invocation(7, item, "session-7"), start))


def test_the_schema_comes_from_hints_and_docstring() -> None:
    """Types, defaults, descriptions and what is required are the function's own."""

    @tool
    def draw(  # noqa: PLR0917 - one of each
        at: Point,
        colour: Colour | None = None,
        style: Literal["solid", "dashed"] = "solid",
        width: Annotated[int, msgspec.Meta(ge=1, description="In pixels.")] = 1,
        dashes: list[int] = [1, 2],  # noqa: B006 - the default is what is tested
        tags: dict[str, str] = {},  # noqa: B006
        *,
        rows: list[Row],
        box: Box = Box(2),  # noqa: B008
        ctx: Context,
    ) -> str:
        """Draw a line.

        It is drawn at once.

        Args:
            at: Where it begins,
                in cells.
            colour (Colour): Its colour.
            width: not this one

        Returns:
            nothing of interest
        """
        return ""

    spec = draw.spec(Dialect())
    assert (spec["type"], spec["name"], spec["strict"]) == ("function", "draw", False)
    assert spec["description"] == "Draw a line.\n\nIt is drawn at once."
    found = schema(draw)
    assert found["required"] == ["at", "rows"]
    assert found["additionalProperties"] is False
    fields = found["properties"]
    assert "ctx" not in fields
    assert fields["at"] == {"$ref": "#/$defs/Point", "description": "Where it begins, in cells."}
    assert found["$defs"]["Point"]["required"] == ["x"]
    assert found["$defs"]["Colour"]["enum"] == ["blue", "red"]
    assert fields["colour"]["description"] == "Its colour."
    assert fields["style"] == {"enum": ["dashed", "solid"], "default": "solid"}
    assert fields["width"]["description"] == "In pixels."
    assert (fields["width"]["minimum"], fields["width"]["default"]) == (1, 1)
    assert fields["dashes"]["default"] == [1, 2]
    assert fields["tags"]["default"] == {}
    assert fields["box"]["default"] == {"side": 2}
    assert fields["rows"]["items"] == {"$ref": "#/$defs/Row"}


@pytest.mark.parametrize(
    "text",
    [
        "Do it.\n\n    Args:\n        a: one\n            more\n        b (int): two: with a colon",
        "Do it.\n\n    :param a: one\n        more\n    :param int b: two: with a colon\n    :returns: x",
        "Do it.\n\nParameters:\n  a : one more\n  b : two: with a colon\n\nRaises:\n  ValueError: never",
    ],
)
def test_docstrings_are_read_in_both_forms(text: str) -> None:
    """Google's and reST's, indented or not; other sections are no part of it."""
    described = {"a": "one more", "b": "two: with a colon"}
    assert docstring.parse(text) == ("Do it.", described)


def test_a_docstring_may_be_missing_or_plain() -> None:
    """Without one there is nothing to tell; a colon in a sentence opens no section."""
    assert docstring.parse(None) == ("", {})
    assert docstring.parse("Note this: it is plain.")[0] == "Note this: it is plain."


def test_arguments_are_converted_to_the_hints() -> None:
    """A function gets objects of its types, defaults included, whatever the order."""
    seen: list[Any] = []

    @tool
    def take(at: Point, colour: Colour, box: Box, n: float = 2) -> None:
        seen.extend((at, colour, box, n))

    result = called(take, {"colour": "red", "at": {"x": 3}, "box": {"side": 5}})
    assert seen == [Point(3, 0.5), Colour.RED, Box(5), 2]
    assert result.content == "take is done; it returned nothing."


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({}, "missing required field `a`"),
        ({"a": "1"}, "Expected `int`, got `str` - at `$.a`"),
        ({"a": 1, "c": 2}, "unknown field `c`"),
        ({"a": 1, "b": [{"x": None}]}, "at `$.b[0].x`"),
        ("[1]", "Expected `object`"),
    ],
)
def test_wrong_arguments_are_said_and_nothing_runs(arguments: Any, words: str) -> None:
    """The output names the field and what was expected; the function was not called."""
    runs = []

    @tool
    def add(a: int, b: list[Point] = []) -> None:  # noqa: B006
        runs.append(a)

    result = called(add, arguments)
    assert result.status == "failed"
    assert "add was not run, its arguments are wrong: " in str(result.content)
    assert words in str(result.content)
    assert runs == []


def test_a_function_runs_in_a_thread_and_an_async_one_in_the_loop() -> None:
    """A sync function holds up nothing; an async one may use the loop."""

    @tool
    def sync() -> str:
        return threading.current_thread().name

    @tool
    async def loop() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    assert called(sync, "").content == "tool sync"
    assert called(loop, "{}").content == "MainThread"


def test_a_function_that_makes_a_coroutine_is_awaited() -> None:
    """A decorator may hide that a function is async; its value is what it gives in the end."""

    async def later() -> int:
        return 5

    @tool
    def hidden() -> Any:
        return later()

    assert called(hidden, "").content == "5"


def test_the_context_names_the_call_and_shows_progress() -> None:
    """The effect's name is the key; progress is shown at once, a line each, from any thread."""
    seen: list[Context] = []
    shown: list[bytes] = []

    @tool
    def work(ctx: Context) -> None:
        seen.append(ctx)
        ctx.progress("half")
        ctx.progress("whole\n")

    called(work.at("/somewhere"), {}, shown)
    (context,) = seen
    assert (context.effect_id, context.session_id, context.call) == ("session-7", "session", 7)
    assert context.cwd == "/somewhere"
    assert shown == [b"half\n", b"whole\n"]
    Context("test-1").progress("nobody watches")


def test_a_declared_function_is_still_the_function() -> None:
    """It is called as before, so that it can be tested as before."""

    @tool(name="sum_up", description="Other words.", parallel=False, timeout=None)
    def add(a: int, b: int = 1) -> int:
        """Words."""
        return a + b

    assert add(2) == 3
    assert (add.name, add.timeout, add.traits.parallel) == ("sum_up", None, False)
    assert add.spec(Dialect())["description"] == "Other words."


PARTS = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:,"}]


@pytest.mark.parametrize(
    "value, content",
    [
        ("text", "text"),
        (3, "3"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (Point(1), '{"x":1,"y":0.5}'),
        ([], "[]"),
        (PARTS, PARTS),
        ({"a": "\udc00"}, '{"a":"�"}'),
        (Result(content="own", status="failed"), "own"),
    ],
)
def test_what_is_returned_becomes_the_output(value: Any, content: Any) -> None:
    """Texts and content parts as they are, a `Result` whole, the rest as JSON."""
    assert as_result("f", value).content == content


def test_what_is_no_json_is_said_to_have_been_done() -> None:
    """The effect is there; the model is told so, and what could not be shown."""
    result = as_result("f", object())
    assert result.status == "failed"
    assert str(result.content).startswith("f is done, but its object can't be shown as JSON")


def test_without_a_check_nobody_knows_what_a_crash_left() -> None:
    """Whatever `replay` says: that is the core's to weigh."""

    @tool(replay="safe")
    def f() -> None: ...

    assert settled(f, {}).found == "unknown"
    assert f.traits.replay == "safe"


@pytest.mark.parametrize(
    "answer, replay, found",
    [
        ("done before", "never", "answered"),
        ("done before", "safe", "answered"),
        (None, "never", "unstarted"),
        (None, "safe", "unknown"),
    ],
)
def test_a_check_settles_a_call(
    answer: str | None, replay: Literal["never", "safe"], found: str
) -> None:
    """It gets the arguments that it names, and the context; None says that nothing happened."""
    asked: list[Any] = []

    def check(b: int, ctx: Context) -> str | None:
        asked.extend((b, ctx.effect_id))
        return answer

    @tool(check=check, replay=replay)
    def f(a: int, b: int = 5) -> None: ...

    evidence = settled(f, {"a": 1})
    assert evidence.found == found
    assert asked == [5, "session-7"]
    if answer:
        assert evidence.result.content == answer


def test_an_async_check_that_raises_does_not_know() -> None:
    """What it raises goes to whoever asks: the driver says unknown, with the reason."""

    async def check() -> str:
        raise ConnectionError("the shop is closed")

    @tool(check=check)
    async def f() -> None: ...

    with pytest.raises(ConnectionError):
        settled(f, {})


class Thing:
    """Functions that stand in a class, so that they need no name of their own here."""

    @staticmethod
    def untyped(a) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001

    @staticmethod
    def starred(*a: int) -> None: ...

    @staticmethod
    def odd(a: threading.Thread) -> None: ...

    @staticmethod
    def asks_for_b(b: int) -> None: ...

    def method(self, a: int) -> int:
        return a


@pytest.mark.parametrize(
    "function, words",
    [
        (Thing.untyped, "parameter a needs a type hint"),
        (Thing.starred, "has no name that a model could give it by"),
        (Thing.odd, "has no JSON schema"),
        (Thing.method, "tool(thing.method)"),
        (lambda: None, "a name is"),
    ],
)
def test_what_a_model_cannot_call_is_refused_at_once(
    function: Callable[..., Any], words: str
) -> None:
    """The error names the tool and the parameter when the function is declared."""
    with pytest.raises(UsageError) as error:
        tool(function)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bound_method_is_a_tool() -> None:
    """Its object is part of it."""
    assert called(tool(Thing().method), {"a": 4}).content == "4"


def test_other_declarations_that_make_no_sense_are_refused() -> None:
    """A time limit of nothing, a check that asks for what the tool doesn't take."""
    with pytest.raises(UsageError, match="timeout"):
        tool(timeout=0)(Thing().method)
    with pytest.raises(UsageError, match="its check asks for b"):
        tool(check=Thing.asks_for_b)(Thing().method)

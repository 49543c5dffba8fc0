"""Draws docs/api.md from the code's own signatures and docstrings: `python -m tests.api`."""

import ast
import importlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import backstay

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "api.md"
HEAD: Final = """\
# The library: reference

Made from the code by `make docs`; do not edit. [library.md](library.md) is the guide. All names are
imported from `backstay`; importing it loads nothing before a name is used.
"""
SECTIONS: Final = {
    "Agents and sessions": ("Agent", "Session", "Answer", "Usage"),
    "Tools": ("tool", "Context", "FunctionTool", "Tool", "Result"),
    "Hooks": ("ToolCall", "ToolResult"),
    "Events": (
        "TurnEvent",
        "Event",
        "TurnStarted",
        "TextDelta",
        "ReasoningDelta",
        "MessageCompleted",
        "ToolStarted",
        "ToolOutput",
        "ToolFinished",
        "AttemptRetried",
        "Notice",
        "TurnCompleted",
        "TurnFailed",
    ),
    "Errors": (
        "BackstayError",
        "UsageError",
        "ConfigError",
        "RemoteError",
        "SessionError",
        "UnknownSession",
        "EmptySession",
        "SessionHeld",
        "NewerFormat",
        "StorageError",
        "Interrupted",
    ),
}
"""Every public name, in the order of the page."""
WHERE: Final[dict[str, tuple[str, ...]]] = vars(backstay)["_WHERE"]
"""The module of each public name."""
_HIDDEN: Final = ("FunctionTool",)
"""Classes whose members are the protocol's: they are told of there."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Attribute(NamedTuple):
    """A field: its name with its type, and what is said of it."""

    text: str
    said: str


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [_entry(name) for name in names]
    return "\n".join(parts)


def undocumented() -> list[str]:
    """Public classes, functions and methods without a docstring."""
    found = []
    for names in SECTIONS.values():
        for name in names:
            node, said = _find(name)
            found += [] if said else [name]
            if isinstance(node, ast.ClassDef) and name not in _HIDDEN:
                found += [f"{name}.{one.name}" for one in _methods(node) if not _doc(one)]
    return found


def _entry(name: str) -> str:
    node, said = _find(name)
    lines = [f"### `{name}`\n"]
    attributes: list[Attribute] = []
    methods: list[Function] = []
    if isinstance(node, ast.ClassDef):
        init = [one for one in node.body if isinstance(one, Function) and one.name == "__init__"]
        lines += [_code(_signature(name, init[0]))] if init and name not in _HIDDEN else []
        bases = [ast.unparse(base) for base in node.bases]
        if bases and bases[0] in backstay.__all__ and bases[0] != "Event":
            lines.append(f"A `{bases[0]}`.\n")
        attributes = list(_attributes(node))
        methods = list(_methods(node)) if name not in _HIDDEN else []
        names = _parameters(init[0]) if init else []
    elif isinstance(node, Function):
        lines.append(_code(_signature(name, node)))
        names = _parameters(node)
    else:
        names = []
    lines.append(_text(said, names))
    lines += [f"- `{one.text}`{': ' if one.said else ''}{one.said}" for one in attributes]
    lines += [""] if attributes else []
    for one in methods:
        lines += [f"#### `{name}.{one.name}`\n", _code(_signature(one.name, one))]
        lines.append(_text(_doc(one), _parameters(one)))
    return "\n".join(lines)


def _find(name: str) -> tuple[ast.AST, str]:
    """The definition of a public name and its docstring; of overloads the one that implements."""
    module = importlib.import_module(_module(name))
    tree = ast.parse(Path(str(module.__file__)).read_text())
    found: tuple[ast.AST, str] | None = None
    for at, node in enumerate(tree.body):
        if isinstance(node, ast.ClassDef | Function) and node.name == name:
            found = node, _doc(node)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            found = node, _string(tree.body[at + 1])
    assert found is not None, name
    return found


def _module(name: str) -> str:
    return next(module for module, names in WHERE.items() if name in names)


def _methods(node: ast.ClassDef) -> Iterator[Function]:
    for one in node.body:
        if isinstance(one, Function) and not one.name.startswith("_"):
            yield one


def _attributes(node: ast.ClassDef) -> Iterator[Attribute]:
    for at, one in enumerate(node.body):
        if isinstance(one, ast.AnnAssign):
            after = node.body[at + 1] if at + 1 < len(node.body) else None
            said = " ".join(_string(after).split())
            text = ast.unparse(one).replace("'", '"')
            if "ClassVar" not in text or said:
                yield Attribute(text, said)


def _signature(name: str, node: Function) -> str:
    """As it would be called, a parameter a line where it is long."""
    given = list(_given(node.args))
    if given and given[0] in ("self", "cls"):
        given.pop(0)
    returns = ""
    if node.returns is not None and not name[0].isupper():
        returns = f" -> {_written(node.returns)}"
    if any(ast.unparse(one) == "property" for one in node.decorator_list):
        return f"{name}: {returns.removeprefix(' -> ')}"
    waits = isinstance(node, ast.AsyncFunctionDef) and "AsyncGenerator" not in returns
    prefix = "await " if waits else ""
    whole = f"{prefix}{name}({', '.join(given)}){returns}"
    if len(whole) <= 88:
        return whole
    return f"{prefix}{name}(\n" + "".join(f"    {one},\n" for one in given) + f"){returns}"


def _given(arguments: ast.arguments) -> Iterator[str]:
    """Each parameter as it is written, the marks between them included."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    for at, (one, default) in enumerate(zip(plain, defaults, strict=True)):
        yield _parameter(one, default)
        if at + 1 == len(arguments.posonlyargs):
            yield "/"
    if arguments.kwonlyargs:
        yield "*"
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(one, default)
    if arguments.kwarg is not None:
        yield f"**{_parameter(arguments.kwarg, None)}"


def _parameter(one: ast.arg, default: ast.expr | None) -> str:
    hint = f": {_written(one.annotation)}" if one.annotation is not None else ""
    return one.arg + hint + (f" = {_written(default)}" if default is not None else "")


def _written(node: ast.expr) -> str:
    """An expression as the code has it: with double quotes, and names that wait without any."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and "Session" in node.value:
        return node.value
    return ast.unparse(node).replace("'", '"')


def _parameters(node: Function) -> list[str]:
    arguments = node.args
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    found += [arguments.kwarg] if arguments.kwarg is not None else []
    return [one.arg for one in found]


def _doc(node: ast.ClassDef | Function) -> str:
    return ast.get_docstring(node) or ""


def _string(node: ast.AST | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return textwrap.dedent(str(node.value.value)).strip()
    return ""


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _text(said: str, names: list[str]) -> str:
    """A docstring as Markdown: a paragraph that begins with a parameter's name is a list's entry."""
    known = "|".join(map(re.escape, names)) or "$^"
    lines: list[str] = []
    for line in said.splitlines():
        entry = re.match(rf"((?:{known})(?:, (?:{known}))*): (.*)", line)
        if entry:
            marked = ", ".join(f"`{name}`" for name in entry[1].split(", "))
            if lines and lines[-1] and not lines[-1].startswith(("- ", "  ")):
                lines.append("")
            lines.append(f"- {marked}: {entry[2]}")
        elif line.startswith("    ") and lines and lines[-1].startswith(("- ", "  ")):
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())

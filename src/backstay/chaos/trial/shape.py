"""How an agent's shell tool is called: its name, and where the command stands in its arguments.

Pure. A shape is given by the user, or read off the tools that the agent offers to the model.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from backstay.chaos import build
from backstay.chaos.script import ScriptError

JSON = dict[str, Any]
PLACE: Final = "{command}"
PRESETS: Final[dict[str, Any]] = {
    "exec_command": {"cmd": PLACE, "yield_time_ms": 30_000},
    "shell": {"command": ["sh", "-c", PLACE]},
    "bash": {"command": PLACE},
}
_KNOWN: Final = (
    "exec_command",
    "shell",
    "bash",
    "shell_command",
    "run_shell_command",
    "run_command",
    "execute_command",
    "terminal",
)
_FIELDS: Final = ("cmd", "command", "script", "code", "input")


class Shape(Struct, frozen=True):
    """A tool's name and the template of its arguments; a template that is text: a custom tool."""

    name: str
    template: Any

    @property
    def kind(self) -> str:
        """`function` or `custom`."""
        return "custom" if isinstance(self.template, str) else "function"

    def call(self, command: str, call_id: str, wait_ms: int | None = None) -> JSON:
        """The item that calls the tool; `wait_ms` replaces a `yield_time_ms` of the template."""
        filled = _filled(self.template, command)
        if isinstance(filled, str):
            return build.custom_call(self.name, filled, call_id)
        if wait_ms is not None and "yield_time_ms" in filled:
            filled["yield_time_ms"] = wait_ms
        return build.call(self.name, filled, call_id)


def parse_template(text: str) -> Any:
    """A template from the command line: a preset's name or JSON. Raises ScriptError."""
    if text in PRESETS:
        return PRESETS[text]
    try:
        template = msgspec.json.decode(text)
    except msgspec.DecodeError:
        presets = ", ".join(PRESETS)
        raise ScriptError(f"--tool-shape {text}: neither one of {presets} nor JSON") from None
    if not isinstance(template, dict | str) or PLACE not in text:
        raise ScriptError(
            f"--tool-shape {text}: must be a JSON object (a function's arguments) or a JSON string "
            f"(a custom tool's input) that holds {PLACE}"
        )
    return template


def offered(body: JSON) -> dict[str, JSON]:
    """The tools of a request that the agent itself runs, by name."""
    tools = body.get("tools")
    return {
        str(tool["name"]): tool
        for tool in (tools if isinstance(tools, list) else ())
        if isinstance(tool, dict) and tool.get("type") in ("function", "custom") and "name" in tool
    }


def found(body: JSON, name: str | None, template: Any) -> Shape:
    """The shape to use with the agent that sent this request.

    `name` and `template` are what the user said, None where nothing. Raises ScriptError.
    """
    tools = offered(body)
    if name is None:
        name = next((known for known in _KNOWN if known in tools), None)
    if name is None or name not in tools:
        asked = f"{name} is not" if name else "no shell tool that is known by name is"
        names = ", ".join(tools) or "none"
        raise ScriptError(f"{asked} among the tools that the agent offers ({names}); see --tool")
    if template is None:
        template = _template(tools[name])
    if template is None:
        raise ScriptError(f"the arguments of {name} are not understood; see --tool-shape")
    return Shape(name, template)


def _template(tool: JSON) -> Any:
    """The arguments of a tool as its schema asks for them; None if it isn't clear."""
    if tool["type"] == "custom":
        return PLACE
    schema = tool.get("parameters")
    fields = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(fields, dict) or not isinstance(schema, dict):
        return None
    field = next((one for one in _FIELDS if one in fields), None)
    if field is None:
        return None
    words = isinstance(fields[field], dict) and fields[field].get("type") == "array"
    made: JSON = {field: ["sh", "-c", PLACE] if words else PLACE}
    for other in schema.get("required") or ():
        made.setdefault(other, _plausible(fields.get(other)))
    if "yield_time_ms" in fields:
        made["yield_time_ms"] = 30_000
    return made


def _plausible(schema: Any) -> Any:
    """A value for an argument that a tool requires beside the command."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    plausible: dict[Any, Any] = {"integer": 60, "number": 60, "boolean": False, "array": []}
    if isinstance(kind, list):
        return None if "null" in kind else "trial"
    return plausible.get(kind, "trial")


def _filled(template: Any, command: str) -> Any:
    if isinstance(template, str):
        return template.replace(PLACE, command)
    if isinstance(template, list):
        return [_filled(one, command) for one in template]
    if isinstance(template, dict):
        return {name: _filled(one, command) for name, one in template.items()}
    return template

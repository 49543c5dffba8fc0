"""What the model is offered."""

import json
import subprocess
import sys

from backstay.tools import patch
from backstay.tools.patch import GRAMMAR, custom_tool, function_tool
from backstay.tools.patch.grammar import DESCRIPTION_CUSTOM, DESCRIPTION_FUNCTION
from backstay.tools.patch.parse import parse


def test_the_example_in_the_descriptions_is_a_patch() -> None:
    """What the descriptions show parses, with one operation of each kind."""
    for description in (DESCRIPTION_CUSTOM, DESCRIPTION_FUNCTION):
        start = description.index("*** Begin Patch")
        end = description.index("*** End Patch\n") + len("*** End Patch\n")
        assert len(parse(description[start:end])) == 4


def test_the_custom_tool_carries_its_grammar() -> None:
    """The shape is that of FACTS 13."""
    tool = custom_tool()
    assert tool["type"] == "custom"
    assert tool["name"] == "apply_patch"
    assert tool["format"] == {"type": "grammar", "syntax": "lark", "definition": GRAMMAR}


def test_the_function_takes_one_string() -> None:
    """Providers without custom tools get one required string parameter, `input`."""
    tool = function_tool()
    assert tool["name"] == "apply_patch"
    parameters = json.loads(json.dumps(tool["parameters"]))
    assert parameters["required"] == ["input"]
    assert parameters["properties"]["input"]["type"] == "string"


def test_the_tools_are_the_same_bytes_each_time() -> None:
    """Prompt caches need byte-identical tools."""
    assert json.dumps(custom_tool()) == json.dumps(custom_tool())
    assert json.dumps(function_tool()) == json.dumps(function_tool())


def test_the_grammar_defines_every_name_it_uses() -> None:
    """Each rule and terminal that is used has a definition."""
    rules = dict(line.split(":", 1) for line in GRAMMAR.splitlines() if line.strip())
    bodies = [body for name, body in rules.items() if name.islower()]
    unquoted = " ".join("".join(body.split('"')[::2]) for body in bodies)
    used = {word.strip("()?*+|") for word in unquoted.split()} - {""}
    assert used <= set(rules)
    assert set(rules) - used == {"start"}


def test_every_public_name_can_be_had() -> None:
    """What the package promises is there, and nothing else is made up."""
    assert all(getattr(patch, name) is not None for name in patch.__all__)
    assert not hasattr(patch, "nothing")


def test_offering_the_tool_does_not_load_the_engine() -> None:
    """The first request needs the description alone."""
    script = (
        "import sys; from backstay.tools.patch import custom_tool; custom_tool();"
        "print(*(m for m in sys.modules if m.startswith('backstay.tools.patch')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = ["backstay.tools.patch", "backstay.tools.patch.grammar"]
    assert sorted(done.stdout.split()) == loaded

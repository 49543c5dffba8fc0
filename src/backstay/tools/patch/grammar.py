"""How the tool is offered to a model: as a custom tool with a grammar, or as a function.

The texts are constants, so that every request of a session carries the same bytes.
"""

NAME = "apply_patch"

GRAMMAR = r"""
start: "*** Begin Patch" NL operation+ "*** End Patch" NL?

operation: add | delete | update

add: "*** Add File: " PATH NL added*
delete: "*** Delete File: " PATH NL
update: "*** Update File: " PATH NL move? (opening chunk* | chunk+)
move: "*** Move to: " PATH NL

opening: line+ tail?
chunk: section+ line+ tail?
section: "@@" SECTION? NL
line: (KEPT | REMOVED | ADDED) NL
added: ADDED NL
tail: "*** End of File" NL

PATH: /[^\r\n]+/
SECTION: / [^\r\n]*/
KEPT: / [^\n]*/
REMOVED: /-[^\n]*/
ADDED: /\+[^\n]*/
NL: /\n/
""".lstrip()

_FORMAT = """\
A patch is a list of operations between two marker lines:

*** Begin Patch
*** Add File: docs/new.txt
+first line of the new file
+second line
*** Update File: src/app.py
@@ def greet():
     name = ask()
-    print("Hi")
+    print(f"Hello, {name}")
     return name
*** Update File: src/old_name.py
*** Move to: src/new_name.py
@@
-VERSION = 1
+VERSION = 2
*** Delete File: src/unused.py
*** End Patch

In an update each line starts with a space (unchanged), "-" (removed) or "+" (added). Give about
three unchanged lines around a change. "@@" starts each further place; write a line that stands above
it, such as that of its class or function, behind "@@" where the lines alone are not unique. Places
follow the order of the file. "*** End of File" after the last line of a place ties it to the end.
Paths are relative to the working folder."""

DESCRIPTION_CUSTOM = (
    "Edits files. The input is the patch itself as plain text, not JSON and not a shell command.\n\n"
    + _FORMAT
)
DESCRIPTION_FUNCTION = "Edits files by a patch, given whole in `input`.\n\n" + _FORMAT


def custom_tool() -> dict[str, object]:
    """The tool for providers that take custom tools (FACTS: Responses API, `type: custom`)."""
    return {
        "type": "custom",
        "name": NAME,
        "description": DESCRIPTION_CUSTOM,
        "format": {"type": "grammar", "syntax": "lark", "definition": GRAMMAR},
    }


def function_tool() -> dict[str, object]:
    """The same tool as a function with one string parameter, `input`."""
    text = {
        "type": "string",
        "description": "The patch, from '*** Begin Patch' to '*** End Patch'.",
    }
    return {
        "type": "function",
        "name": NAME,
        "description": DESCRIPTION_FUNCTION,
        "strict": False,
        "parameters": {
            "type": "object",
            "properties": {"input": text},
            "required": ["input"],
            "additionalProperties": False,
        },
    }

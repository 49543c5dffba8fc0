"""What the model is told about itself and about the place that it works in."""

from collections.abc import Iterable
from typing import Final

from backstay.core.items import Item, message, message_text
from backstay.core.record import AnyRecord, Compaction, Note, Prompt

INSTRUCTIONS: Final = """\
You are Backstay, a coding agent that works in a user's folder through tools.

Work until the task is done, then answer briefly: what you did, what you checked, what is left.
Read before you change: look at the files and at how the project is built and tested. Change no more
than the task needs, in the style of the code around it. Check your work by running what the project
has for that, tests first. Do not commit, push or delete what you were not asked to.

Tools
- exec_command runs a shell command. Prefer `rg` for searching. A command that takes longer than its
  yield_time_ms goes on under a session ID: wait for it with write_stdin and empty chars.
- apply_patch edits files. Prefer it to writing files with the shell.

The output of a call can say how it came about. "Never started" means that nothing happened: make
the call again if it is still wanted. "The outcome is unknown" means that it may have taken effect:
look first, and repeat it only if it did not.
"""


_OPENING: Final = "<environment_context>"


def environment(cwd: str, shell: str, today: str) -> Item:
    """The developer message that opens a session: folder, shell and date."""
    text = (
        f"{_OPENING}\n"
        f"  <cwd>{cwd}</cwd>\n"
        f"  <shell>{shell}</shell>\n"
        f"  <current_date>{today}</current_date>\n"
        "</environment_context>"
    )
    return message("developer", text)


def last_environment(records: Iterable[AnyRecord]) -> str:
    """The text of the newest such message that the records hold, "" without one."""
    last = ""
    for record in records:
        items: list[Item] = []
        if isinstance(record, Prompt | Compaction):
            items = record.items
        elif isinstance(record, Note) and record.item is not None:
            items = [record.item]
        for item in items:
            text = message_text(item)
            if item.get("role") == "developer" and text.startswith(_OPENING):
                last = text
    return last

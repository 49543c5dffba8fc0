"""What the model is told beside the conversation: folder and date, AGENTS.md files, skills (P6).

Looked at when a prompt is given. What has not changed since the model was told is not said again;
what has changed is said in full, in a new item behind everything else.
"""

import time
from collections.abc import Callable
from typing import Final

from backstay.core.items import Item
from backstay.core.record import AnyRecord, scrub
from backstay.core.told import DOCUMENTS, ENVIRONMENT, OPENINGS, SKILLS, Told, notice
from backstay.runtime.documents import Documents, repository
from backstay.runtime.settings import Settings
from backstay.runtime.skills import Skills

MOST_WARNINGS: Final = 10


class Context:
    """What one session's model knows of its surroundings, and what is new of them."""

    def __init__(
        self, settings: Settings, cwd: str, shell: str, notice: Callable[[str], None]
    ) -> None:
        """`shell`: the one that commands run in. `notice` takes a warning, one line."""
        self._settings = settings
        self._cwd = cwd
        self._shell = shell
        self._notice = notice
        self._warned: set[str] = set()
        self._told = Told()

    def heard(self, record: AnyRecord) -> None:
        """A record of the session: read when it is opened, or just written."""
        self._told.apply(record)

    def news(self, prompt: str = "") -> list[Item]:
        """What the model is to be told now; from here on it counts as told."""
        settings = self._settings
        if not settings.shell_tools:
            return []
        home = settings.personal or settings.home
        documents = Documents(home, self._cwd, settings.document_bytes, settings.document_names)
        skills = Skills(home, self._cwd)
        items = [
            *self._new(ENVIRONMENT, environment(self._cwd, self._shell, settings.writable)),
            *self._new(DOCUMENTS, documents.text, documents.gone),
            *self._new(SKILLS, skills.text, skills.gone),
        ]
        for topic, text in skills.named_in(prompt):
            items += self._new(topic, text)
        self._warn([*documents.warnings, *skills.warnings])
        return items

    def _warn(self, warnings: list[str]) -> None:
        """Each once a session, and no more than a person can read."""
        new = [warning for warning in warnings if warning not in self._warned]
        self._warned.update(new)
        for warning in new[:MOST_WARNINGS]:
            self._notice(warning)
        if len(new) > MOST_WARNINGS:
            self._notice(f"and {len(new) - MOST_WARNINGS} more warnings of this kind")

    def _new(self, topic: str, text: str, gone: str = "") -> list[Item]:
        """The message, if the model does not know it; of what was never there nothing is said."""
        before = self._told.text(topic)
        text = scrub(text or (gone if before is not None else ""))
        if not text or text == before:
            return []
        item = notice(topic, text)
        self._told.take([item])
        return [item]


def environment(cwd: str, shell: str, writable: tuple[str, ...], today: str = "") -> str:
    """Where the session works; `today` is the local date unless it is given."""
    lines = [f"  <cwd>{cwd}</cwd>"]
    if root := repository(cwd):
        lines.append(f"  <git_repository>{root}</git_repository>")
    lines += [f"  <writable_root>{folder}</writable_root>" for folder in writable]
    lines += [
        f"  <shell>{shell}</shell>",
        f"  <current_date>{today or time.strftime('%Y-%m-%d')}</current_date>",
    ]
    return f"{OPENINGS[ENVIRONMENT]}" + "\n".join(lines) + "\n</environment_context>"

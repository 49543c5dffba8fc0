"""What the model is told beside the conversation, by topic: the newest text of a topic counts.

Such messages are known by how they begin, so that they are found again in any history that still
holds them: in a prompt's items, in a note, in what a compaction kept.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from backstay.core.items import Item, kind, message, message_text
from backstay.core.record import AnyRecord, Compaction, Note, Prompt

ENVIRONMENT: Final = "environment"
DOCUMENTS: Final = "documents"
SKILLS: Final = "skills"
SKILL: Final = "skill"
"""The topic of one skill's text is this, a colon and its name."""

OPENINGS: Final = {
    ENVIRONMENT: "<environment_context>\n",
    DOCUMENTS: "# AGENTS.md instructions for ",
    SKILLS: "<skills>\n",
    SKILL: "<skill>\n<name>",
}
ROLES: Final = {ENVIRONMENT: "developer"}
"""All else is a user's or a project's text, and has no more weight than the user's own words."""


def notice(topic: str, text: str) -> Item:
    """The message that tells a topic's text; the text begins with the topic's opening."""
    return message(ROLES.get(topic.partition(":")[0], "user"), text)


def topic_of(item: Item) -> str:
    """The topic that a message tells, or "" for every other item."""
    if kind(item) != "message":
        return ""
    text = message_text(item)
    for topic, opening in OPENINGS.items():
        if text.startswith(opening) and item.get("role") == ROLES.get(topic, "user"):
            if topic != SKILL:
                return topic
            return f"{SKILL}:{text[len(opening) :].partition('<')[0]}"
    return ""


def spoken(items: Sequence[Item]) -> list[Item]:
    """A prompt's items without what was told beside it; the last one is always the user's."""
    return [item for item in items[:-1] if not topic_of(item)] + list(items[-1:])


def told(items: Iterable[Item]) -> dict[str, Item]:
    """The newest message of each topic, in the order in which the topics came up."""
    found: dict[str, Item] = {}
    for item in items:
        if topic := topic_of(item):
            found[topic] = item
    return found


class Told:
    """What the model knows now: a fold of records, and of what is given before it is recorded."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def apply(self, record: AnyRecord) -> None:
        """Take one record in. What a compaction did not keep is not known any more."""
        if isinstance(record, Compaction):
            self._texts = {}
            self.take(record.items)
            for carried in record.carried:
                self.apply(carried)
        elif isinstance(record, Prompt):
            self.take(record.items)
        elif isinstance(record, Note) and record.item is not None:
            self.take([record.item])

    def take(self, items: Iterable[Item]) -> None:
        """The model is told these."""
        for topic, item in told(items).items():
            self._texts[topic] = message_text(item)

    def text(self, topic: str) -> str | None:
        """What it was told last; None where it never was."""
        return self._texts.get(topic)

"""What the model was told beside the conversation: known by how it begins, the newest counts."""

from backstay.core import told
from backstay.core.items import Item, message
from backstay.core.record import AnyRecord, Basis, Compaction, Note, Prompt

PLACE = f"{told.OPENINGS[told.ENVIRONMENT]}  <cwd>/a</cwd>\n</environment_context>"
RULES = f"{told.OPENINGS[told.DOCUMENTS]}/a\n\n<INSTRUCTIONS>\nBe kind.\n</INSTRUCTIONS>"
SKILL = f"{told.OPENINGS[told.SKILL]}release</name>\n1. …\n</skill>"


def prompt(*items: Item, n: int = 2) -> Prompt:
    """A prompt that holds these items and the user's own."""
    given = [*items, message("user", "go")]
    return Prompt(n=n, id="ID", cwd="/a", basis=Basis("", ""), items=given, model="m")


def compaction(*items: Item, carried: list[Prompt] | None = None) -> Compaction:
    """A compaction that kept these."""
    kept = list(items)
    more = list(carried or [])
    return Compaction(n=9, id="ID", cwd="/a", basis=Basis("", ""), items=kept, carried=[*more])


def known(*records: AnyRecord) -> told.Told:
    """The fold of these records."""
    found = told.Told()
    for record in records:
        found.apply(record)
    return found


def test_a_message_is_known_by_its_role_and_its_beginning() -> None:
    """Only as it is told: the same words in another role are somebody else's."""
    notices = {
        told.ENVIRONMENT: told.notice(told.ENVIRONMENT, PLACE),
        told.DOCUMENTS: told.notice(told.DOCUMENTS, RULES),
        "skill:release": told.notice("skill:release", SKILL),
    }
    for topic, item in notices.items():
        assert told.topic_of(item) == topic
        assert told.topic_of(item | {"role": "assistant"}) == ""
    assert notices[told.ENVIRONMENT]["role"] == "developer"
    assert notices[told.DOCUMENTS]["role"] == "user"
    assert told.topic_of(message("user", "go")) == ""
    assert told.topic_of({"type": "function_call_output", "output": RULES}) == ""


def test_the_users_own_words_are_the_rest_and_always_the_last() -> None:
    """Even a prompt that begins like a notice is the user's."""
    place, rules = told.notice(told.ENVIRONMENT, PLACE), told.notice(told.DOCUMENTS, RULES)
    said = message("user", "go")
    assert told.spoken([place, rules, said]) == [said]
    assert told.spoken([place, rules]) == [rules]
    assert told.spoken([]) == []


def test_the_newest_of_a_topic_is_what_the_model_knows() -> None:
    """From prompts and from notes, in their order."""
    later = PLACE.replace("/a", "/b")
    note = Note(n=5, topic=told.ENVIRONMENT, item=told.notice(told.ENVIRONMENT, later))
    found = known(prompt(told.notice(told.ENVIRONMENT, PLACE)), note)
    assert found.text(told.ENVIRONMENT) == later
    assert found.text(told.DOCUMENTS) is None


def test_a_compaction_is_all_that_is_known() -> None:
    """What it kept and the prompts that it carries count, what it left out does not."""
    first = prompt(told.notice(told.ENVIRONMENT, PLACE), told.notice(told.DOCUMENTS, RULES))
    queued = prompt(told.notice("skill:release", SKILL), n=7)
    found = known(first, compaction(told.notice(told.DOCUMENTS, RULES), carried=[queued]))
    assert found.text(told.ENVIRONMENT) is None
    assert found.text(told.DOCUMENTS) == RULES
    assert found.text("skill:release") == SKILL

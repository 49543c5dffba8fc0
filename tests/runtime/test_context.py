"""What requests hold of AGENTS.md files, skills and the place: told once, and again when it changes.

By the bodies that the provider got: each input extends the one before it (P6).
"""

import asyncio
import time
from pathlib import Path

from backstay import chaos
from backstay.chaos import call, message, response
from backstay.core.record import Note, Prompt
from backstay.core.told import topic_of
from backstay.runtime import watch
from backstay.runtime.context import environment
from backstay.runtime.session import Session
from tests.runtime.bench import JSON, Bench
from tests.runtime.test_resumed import resume
from tests.runtime.test_session import prompt
from tests.runtime.test_skills import skill


class Story(Bench):
    """A bench in a repository, whose requests are kept over all its processes."""

    def __init__(self, project: Path, home: Path, script: list[JSON]) -> None:
        super().__init__(project.parent, home, script)
        self.cwd = project
        self.bodies: list[JSON] = []

    def goes_on(self, work: object, *script: JSON, **changes: object) -> list[JSON]:
        """One process: plays the script, gives the input of its last request."""
        self.server = chaos.ChaosServer(list(script) or [response(message("done"))], strict=True)
        ended = self.run(work, name=self.id, **changes)  # type: ignore[arg-type]
        assert ended.outcome in ("completed", "failed")
        self.bodies += self.server.bodies
        return list(self.server.bodies[-1]["input"])

    def extends(self) -> None:
        """Every input extends the one before, with the same instructions and tools."""
        for before, after in zip(self.bodies, self.bodies[1:], strict=False):
            assert after["input"][: len(before["input"])] == before["input"]
            assert after["instructions"] == before["instructions"]
            assert after["tools"] == before["tools"]

    def warnings(self) -> list[str]:
        """What the user was told."""
        return [one.text for one in self.events if isinstance(one, watch.Noticed)]


def texts(items: list[JSON], topic: str) -> list[str]:
    """What an input holds of a topic."""
    return [item["content"][0]["text"] for item in items if topic_of(item) == topic]


def topics(items: list[JSON]) -> list[str]:
    """What the messages of an input are, the model's own left out."""
    return [topic_of(item) or "user" for item in items if item.get("role") in ("user", "developer")]


def test_a_session_is_told_once_and_again_only_of_what_changed(project: Path, home: Path) -> None:
    """Create, prompt, resume, change, resume: every request extends the one before."""
    rules = project / "AGENTS.md"
    rules.write_text("Be kind.")
    (home / "AGENTS.md").write_text("Be brief.")
    skill(home / "skills", "release")
    story = Story(project, home, [])
    first = story.goes_on(prompt())
    assert topics(first) == ["environment", "documents", "skills", "user"]
    assert "Be kind." in texts(first, "documents")[0]
    same = story.goes_on(prompt("more"))
    assert topics(same) == [*topics(first), "user"]
    rules.write_text("Be strict.")
    changed = story.goes_on(prompt("and more"))
    assert topics(changed) == [*topics(same), "documents", "user"]
    assert "Be strict." in texts(changed, "documents")[1]
    assert "Be brief." in texts(changed, "documents")[1]
    assert topics(story.goes_on(prompt("again"))) == [*topics(changed), "user"]
    story.extends()
    assert story.warnings() == []


def test_a_turn_with_calls_and_cuts_keeps_its_prefix(project: Path, home: Path) -> None:
    """Files that the model itself changes are told with the next prompt, not in its own turn."""
    (project / "AGENTS.md").write_text("Be kind.")
    script = [
        response(call("exec_command", {"cmd": "echo Be bold. > AGENTS.md"})),
        response(message("half"), fault=chaos.cut(after=chaos.at("response.output_item.done"))),
        response(call("exec_command", {"cmd": "cat AGENTS.md"}), fault=chaos.cut(after="call")),
        response(message("done")),
    ]
    story = Story(project, home, [])
    assert topics(story.goes_on(prompt(), *script)) == ["environment", "documents", "user"]
    after = story.goes_on(prompt("more"))
    assert topics(after) == ["environment", "documents", "user", "documents", "user"]
    assert "Be bold." in texts(after, "documents")[1]
    story.extends()


def test_a_turn_that_is_continued_hears_of_the_change(project: Path, home: Path) -> None:
    """Without a prompt it comes as a note, and counts as told."""
    (project / "AGENTS.md").write_text("Be kind.")
    story = Story(project, home, [])
    story.goes_on(prompt(), chaos.http_error(401))
    (project / "AGENTS.md").write_text("Be strict.")
    story.goes_on(resume, chaos.http_error(401))
    continued = story.goes_on(resume)
    assert topics(continued).count("documents") == 2
    assert [one.topic for one in story.records() if isinstance(one, Note) and one.item] == [
        "documents"
    ]
    assert topics(story.goes_on(prompt("more"))) == [*topics(continued), "user"]
    story.extends()


def test_what_is_gone_is_said_once(project: Path, home: Path) -> None:
    """The last AGENTS.md and the last skill are removed; what was never there is not missed."""
    rules = project / "AGENTS.md"
    rules.write_text("Be kind.")
    path = skill(project / ".agents" / "skills", "release")
    story = Story(project, home, [])
    first = story.goes_on(prompt())
    rules.unlink()
    path.unlink()
    gone = story.goes_on(prompt("more"))
    assert topics(gone) == [*topics(first), "documents", "skills", "user"]
    assert "no longer holds" in texts(gone, "documents")[1]
    assert "no longer holds" in texts(gone, "skills")[1]
    assert topics(story.goes_on(prompt("again"))) == [*topics(gone), "user"]
    rules.write_text("Be kind.")
    back = story.goes_on(prompt("and again"))
    assert texts(back, "documents")[2] == texts(first, "documents")[0]
    story.extends()


def test_a_large_file_is_journaled_once_and_found_again(project: Path, home: Path) -> None:
    """Text over 64 KiB goes to a blob; after a resume it is known to be the same."""
    (project / "AGENTS.md").write_text("x" * 100_000)
    story = Story(project, home, [])
    first = story.goes_on(prompt(), document_bytes=200_000)
    again = story.goes_on(prompt("more"), document_bytes=200_000)
    assert len(texts(first, "documents")[0]) > 100_000
    assert topics(again) == [*topics(first), "user"]
    story.extends()


def test_text_that_no_utf8_can_say_is_told_once(project: Path, home: Path) -> None:
    """A path with bytes of its own is replaced before it is compared, not after."""
    odd = project / "\udcff"
    odd.mkdir()
    (odd / "AGENTS.md").write_bytes(b"\xff")
    story = Story(project, home, [])
    first = story.goes_on(prompt(), cwd=str(odd), moved=True)
    again = story.goes_on(prompt("more"), cwd=str(odd), moved=True)
    assert topics(again) == [*topics(first), "user"]
    story.extends()


def test_a_skill_that_is_named_comes_along_once(project: Path, home: Path) -> None:
    """Its text stands before the prompt that names it; once more only when it has changed."""
    path = skill(home / "skills", "release", body="Tag it.")
    story = Story(project, home, [])
    first = story.goes_on(prompt("use $release"))
    assert topics(first) == ["environment", "skills", "skill:release", "user"]
    assert "Tag it." in texts(first, "skill:release")[0]
    again = story.goes_on(prompt("$release once more"))
    assert topics(again) == [*topics(first), "user"]
    path.write_text(path.read_text().replace("Tag it.", "Sign it."))
    changed = story.goes_on(prompt("$release, the new way"))
    assert topics(changed) == [*topics(again), "skill:release", "user"]
    story.extends()


def test_what_is_cut_or_broken_is_told_to_the_user_once_a_session(
    project: Path, home: Path
) -> None:
    """Two prompts of one session: each warning is said once."""
    (project / "AGENTS.md").write_text("x" * 100)
    (home / "skills" / "broken").mkdir(parents=True)
    (home / "skills" / "broken" / "SKILL.md").write_text("no")
    story = Story(project, home, [])

    async def twice(session: Session) -> watch.Finished:
        await session.prompt("one")
        return await session.prompt("two")

    done = response(message("done"))
    inputs = story.goes_on(twice, done, done, document_bytes=10)
    assert "[90 more bytes of this file are left out here: " in texts(inputs, "documents")[0]
    first, second = story.warnings()
    assert first.startswith(f"{project}/AGENTS.md: 90 bytes are left out")
    assert second.startswith(f"{home}/skills/broken/SKILL.md is no skill: ")


def test_warnings_are_no_more_than_one_can_read(project: Path, home: Path) -> None:
    """Ten, and how many more there are."""
    for number in range(25):
        (home / "skills" / f"{number}").mkdir(parents=True)
        (home / "skills" / f"{number}" / "SKILL.md").write_text("no")
    story = Story(project, home, [])
    story.goes_on(prompt())
    assert len(story.warnings()) == 11
    assert story.warnings()[-1] == "and 15 more warnings of this kind"


def test_prompts_given_at_once_are_told_once(project: Path, home: Path) -> None:
    """The second is given before the first is recorded, and hears nothing twice."""
    (project / "AGENTS.md").write_text("Be kind.")
    story = Story(project, home, [])

    async def both(session: Session) -> watch.Finished:
        _, last = await asyncio.gather(session.prompt("one"), session.prompt("two"))
        return last

    done = response(message("done"))
    last = story.goes_on(both, done, done)
    assert topics(last) == ["environment", "documents", "user", "user"]
    given = [one for one in story.records() if isinstance(one, Prompt)]
    assert [len(one.items) for one in given] == [3, 1]


def test_an_ephemeral_session_has_the_users_own_files(
    project: Path, home: Path, tmp_path: Path
) -> None:
    """Its journal is elsewhere, the user's AGENTS.md and skills are where they are."""
    personal = tmp_path / "personal"
    skill(personal / "skills", "mine")
    (personal / "AGENTS.md").write_text("Be brief.")
    story = Story(project, home, [])
    first = story.goes_on(prompt(), personal=str(personal))
    assert topics(first) == ["environment", "documents", "skills", "user"]


def test_instructions_of_the_users_own_hold_for_new_sessions(project: Path, home: Path) -> None:
    """A session keeps those that it began with."""
    story = Story(project, home, [])
    story.goes_on(prompt(), instructions="Be a poet.")
    story.goes_on(prompt("more"), instructions="Be a clerk.")
    story.goes_on(prompt("and more"))
    assert {body["instructions"] for body in story.bodies} == {"Be a poet."}


def test_the_place_is_said_in_few_lines(project: Path) -> None:
    """Folder, repository, further folders, shell, date; without a repository nothing of it."""
    (project / "a").mkdir()
    assert environment(f"{project}/a", "/bin/zsh", ("/data",), "2026-11-22") == (
        "<environment_context>\n"
        f"  <cwd>{project}/a</cwd>\n"
        f"  <git_repository>{project}</git_repository>\n"
        "  <writable_root>/data</writable_root>\n"
        "  <shell>/bin/zsh</shell>\n"
        "  <current_date>2026-11-22</current_date>\n"
        "</environment_context>"
    )
    outside = environment(str(project.parent), "/bin/sh", ())
    assert "git_repository" not in outside
    assert time.strftime("%Y-%m-") in outside


def test_a_compaction_keeps_what_was_told(project: Path, home: Path) -> None:
    """Behind it rules and place still stand, and are not told again: by this process or the next."""
    (project / "AGENTS.md").write_text("Be kind.")
    story = Story(project, home, [])

    async def shortened(session: Session) -> watch.Finished:
        for number in range(6):
            await session.prompt(f"{number}: " + "word " * 2000)
        assert (await session.compact()).outcome == "compacted"
        return await session.prompt("behind it")

    answers = [response(message("answer " * 500)) for _ in range(6)]
    script = [*answers, response(message("A summary.")), response(message("done"))]
    behind = story.goes_on(shortened, *script)
    for items in (behind, story.goes_on(prompt("more"))):
        told = [topic for topic in topics(items) if topic != "user"]
        assert sorted(told) == ["documents", "environment"]
    (project / "AGENTS.md").write_text("Be strict.")
    changed = texts(story.goes_on(prompt("and more")), "documents")
    assert ["Be kind." in changed[0], "Be strict." in changed[1]] == [True, True]


def test_a_fork_knows_what_was_told_up_to_its_turn(project: Path, home: Path) -> None:
    """What was told behind that turn is news to it; the rest is not said again."""
    rules = project / "AGENTS.md"
    rules.write_text("Be kind.")
    story = Story(project, home, [])
    first = story.goes_on(prompt())
    rules.write_text("Be strict.")
    story.goes_on(prompt("more"))
    story.server = chaos.ChaosServer([response(message("done"))], strict=True)

    async def fork() -> None:
        settings = story.settings()
        session = await Session.fork(settings, story.id, story.events.append, turn=1)
        assert (await session.prompt("otherwise")).outcome == "completed"
        await session.close()

    with story.server:
        asyncio.run(fork())
    items = story.inputs()[0]
    assert topics(items) == [*topics(first), "documents", "user"]
    assert "Be strict." in texts(items, "documents")[1]

"""Skills: where they are found, what is read of their front matter, and what the model gets."""

import os
from pathlib import Path

import pytest

from backstay.runtime.skills import LONGEST_LIST, Skills, front_matter
from tests.runtime.test_documents import write


def skill(place: Path, name: str, description: str = "Does it.", body: str = "1. …") -> Path:
    """A skill's file in a folder of skills."""
    text = f"---\nname: {name}\ndescription: {description}\n---\n{body}\n"
    return write(place / name / "SKILL.md", text)


def test_skills_of_the_user_and_of_every_folder_up_to_the_root(home: Path, project: Path) -> None:
    """The user's own first, then from the folder upward, with name, description and path."""
    paths = [
        skill(home / "skills", "own", "My own."),
        skill(project / "a" / ".agents" / "skills", "near"),
        skill(project / ".agents" / "skills", "root"),
        skill(project / ".backstay" / "skills", "ours"),
    ]
    skill(project / "b" / ".agents" / "skills", "beside")
    skill(project.parent / ".agents" / "skills", "above")
    found = Skills(str(home), str(project / "a"))
    assert found.warnings == []
    lines = [line for line in found.text.splitlines() if line.startswith("- ")]
    assert lines == [
        f"- own: My own. ({paths[0]})",
        f"- near: Does it. ({paths[1]})",
        f"- root: Does it. ({paths[2]})",
        f"- ours: Does it. ({paths[3]})",
    ]
    assert found.text.startswith("<skills>\n")
    assert found.text.endswith("\n</skills>")


def test_without_skills_there_is_nothing_to_say(home: Path, project: Path) -> None:
    """No list, no warning."""
    (project / ".agents" / "skills" / "empty").mkdir(parents=True)
    found = Skills(str(home), str(project))
    assert (found.text, found.warnings) == ("", [])


def test_of_two_skills_of_a_name_the_users_own_counts(home: Path, project: Path) -> None:
    """A project can't take the place of what a user has, and one line says so."""
    own = skill(home / "skills", "deploy", "Mine.")
    theirs = skill(project / ".agents" / "skills", "deploy", "Theirs.")
    found = Skills(str(home), str(project))
    assert "Mine." in found.text
    assert "Theirs." not in found.text
    assert found.warnings == [f"{theirs} is left out: {own} has the same name"]


@pytest.mark.parametrize(
    "text, why",
    [
        ("no front matter", "it does not begin with front matter"),
        ("---\nname: x\ndescription: y\n", "its front matter has no end"),
        ("---\nname: x\n---\n", "it has no description"),
        ("---\nname: a b\ndescription: y\n---\n", "its name must be"),
        (f"---\nname: {'x' * 65}\ndescription: y\n---\n", "its name must be"),
        ("", "it does not begin with front matter"),
    ],
)
def test_a_broken_skill_is_one_warning(home: Path, project: Path, text: str, why: str) -> None:
    """The others are there all the same."""
    place = project / ".agents" / "skills"
    path = write(place / "broken" / "SKILL.md", text)
    skill(place, "whole")
    found = Skills(str(home), str(project))
    assert "- whole: " in found.text
    (warning,) = found.warnings
    assert warning.startswith(f"{path} is no skill: {why}")


def test_links_out_of_the_project_are_not_followed(home: Path, project: Path) -> None:
    """Neither of a file nor of a folder; the user's own may lead anywhere."""
    outside = skill(project.parent / "outside", "secret", "A secret.").parent
    place = project / ".agents" / "skills"
    place.mkdir(parents=True)
    (place / "one").symlink_to(outside)
    (home / "skills").mkdir()
    (home / "skills" / "two").symlink_to(outside)
    found = Skills(str(home), str(project))
    assert f"- secret: A secret. ({home}/skills/two/SKILL.md)" in found.text
    assert found.warnings == [f"{place}/one/SKILL.md is not read: it leads out of the project"]


def test_a_folder_of_skills_outside_of_the_project_is_one_warning(
    home: Path, project: Path
) -> None:
    """Not one for each skill in it."""
    outside = project.parent / "outside"
    for name in ("one", "two"):
        skill(outside, name)
    place = project / ".agents" / "skills"
    place.parent.mkdir()
    place.symlink_to(outside)
    found = Skills(str(home), str(project))
    assert found.text == ""
    assert found.warnings == [f"{place} is not read: it leads out of the project"]


def test_the_list_is_bounded(home: Path, project: Path) -> None:
    """What does not fit is counted, in the text and in a warning."""
    for number in range(20):
        skill(home / "skills", f"s{number:02}", "x" * 2000)
    found = Skills(str(home), str(project))
    assert len(found.text.encode()) < LONGEST_LIST + 1024
    listed = found.text.count("\n- ")
    assert listed == 7
    assert "x" * 1025 not in found.text
    assert f"({20 - listed} more are left out of this list.)" in found.text
    assert len(found.warnings) == 1


def test_a_prompt_brings_the_skills_that_it_names(home: Path, project: Path) -> None:
    """As `$name`, on its own; as a part of another word it names nothing."""
    path = skill(home / "skills", "release", body="Tag it.")
    skill(home / "skills", "release-notes", body="Write them.")
    found = Skills(str(home), str(project))
    for words in (
        "$release",
        "use $release, please",
        "($release)",
        "x\n$release\ny",
        "$$ $release.",
    ):
        ((topic, text),) = found.named_in(words)
        assert topic == "skill:release"
        assert "Tag it." in text
        assert f"<path>{path}</path>" in text
    for words in (
        "release",
        "$releases",
        "a$release",
        "$release-notes2",
        "${release}",
        "$RELEASE",
        "$",
    ):
        assert list(found.named_in(words)) == []
    assert [topic for topic, _ in found.named_in("$release-notes and $release")] == [
        "skill:release",
        "skill:release-notes",
    ]


def test_what_stands_on_stdin_beside_a_prompt_names_no_skill(home: Path, project: Path) -> None:
    """A script in a diff is full of `$words`."""
    skill(home / "skills", "release")
    found = Skills(str(home), str(project))
    assert list(found.named_in("review this\n\n<stdin>\n+ echo $release\n</stdin>")) == []
    assert len(list(found.named_in("with $release\n\n<stdin>\n+ x\n</stdin>"))) == 1


def test_a_long_skill_that_is_named_is_cut_and_says_so(home: Path, project: Path) -> None:
    """32 KiB of it; the model knows where the rest is."""
    skill(home / "skills", "long", body="x" * 100_000)
    ((_, text),) = Skills(str(home), str(project)).named_in("$long")
    assert len(text) < 33 * 1024
    assert "more bytes are left out here: read the file]" in text


def test_a_skill_that_is_gone_when_it_is_named_is_one_warning(home: Path, project: Path) -> None:
    """It was there when the list was made."""
    path = skill(home / "skills", "gone")
    found = Skills(str(home), str(project))
    path.unlink()
    assert list(found.named_in("$gone")) == []
    assert found.warnings == [f"{path} is not read: No such file or directory"]


FRONT = """\
---
# a comment
name: release
description: >-
  Cuts a release.
  Use it when asked to.

license: "MIT \\"or\\" so"
note: 'it''s'
plain: one # two
long: goes
  on and on
lines: |
  a: b
  c
metadata:
  name: not this one
  tags: [a, b]
empty:
---
body: no
"""


def test_front_matter_as_people_write_it() -> None:
    """Plain, quoted, folded and literal texts; what is nested replaces nothing."""
    for text in (FRONT, "\ufeff" + FRONT, FRONT.replace("\n", "\r\n")):
        assert front_matter(text) == {
            "name": "release",
            "description": "Cuts a release. Use it when asked to.",
            "license": 'MIT "or" so',
            "note": "it's",
            "plain": "one",
            "long": "goes on and on",
            "lines": "a: b\nc",
            "metadata": "name: not this one tags: [a, b]",
            "empty": "",
        }
    assert front_matter('---\nname: "open\n---\n') == {"name": "open"}
    assert front_matter("---\n---\n") == {}
    assert front_matter("---\n  indented\nname: x\n---") == {"name": "x"}


def test_a_skill_without_a_name_has_its_folders(home: Path, project: Path) -> None:
    """As elsewhere in the field."""
    write(home / "skills" / "tidy-up" / "SKILL.md", "---\ndescription: Tidies.\n---\n")
    assert "- tidy-up: Tidies. " in Skills(str(home), str(project)).text


def test_a_place_with_too_many_entries_is_not_searched_through(home: Path, project: Path) -> None:
    """The first ones by name, and one line."""
    place = project / ".agents" / "skills"
    place.mkdir(parents=True)
    for number in range(201):
        (place / f"{number:04}").mkdir()
    skill(place, "z")
    found = Skills(str(home), str(project))
    assert found.text == ""
    assert found.warnings == [f"{place}: only the first 200 entries are looked at"]
    assert len(os.listdir(place)) == 202

"""Skills: folders with a SKILL.md, whose name and description the model is told.

It reads the file itself when a task asks for it. Owns where they are looked for, the little of YAML
that their front matter needs, and the texts that are made of them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from backstay.core.told import OPENINGS, SKILL, SKILLS
from backstay.runtime.documents import LEADS_OUT, Text, folders, leads_out, read_text

FILE: Final = "SKILL.md"
IN_PROJECT: Final = (os.path.join(".agents", "skills"), os.path.join(".backstay", "skills"))
LONGEST_LIST: Final = 8 * 1024
"""Bytes of the list that the model gets."""
LONGEST_DESCRIPTION: Final = 1024
LONGEST_NAME: Final = 64
LONGEST_BODY: Final = 32 * 1024
"""Bytes of a skill's file, where a prompt names it."""
BESIDE: Final = "\n\n<stdin>\n"
"""How `exec` begins what it appends to a prompt."""
_HEAD: Final = 16 * 1024
"""Bytes in which the front matter has to end."""
_MOST: Final = 200
"""Folders of one place that are looked at."""

_INTRODUCTION: Final = """\
Each skill is a file of instructions for a kind of task. When a task fits a description, or the user
names a skill, read its file before you begin, and follow it. Paths in it are relative to its folder.
This list takes the place of any before it.
"""
_GONE: Final = "There are no skills any more; the list above no longer holds.\n"


class Skill(msgspec.Struct, frozen=True):
    """One skill, as its front matter names it."""

    name: str
    description: str
    path: str
    """Of its SKILL.md."""
    root: str
    """What its path may not lead out of; "" for the user's own."""


class Skills:
    """The skills of a home and a folder: the user's own first, then from the folder upward."""

    def __init__(self, home: str, cwd: str) -> None:
        self.warnings: list[str] = []
        self._by_name: dict[str, Skill] = {}
        self._look(os.path.join(home, "skills"), "")
        within = folders(cwd)
        for folder in reversed(within):
            for place in IN_PROJECT:
                self._look(os.path.join(folder, place), within[0])
        self.text = self._listing()
        """The list, or "" where there are none."""
        self.gone = f"{OPENINGS[SKILLS]}{_GONE}</skills>"
        """The message where there was a list before."""

    def named_in(self, prompt: str) -> Iterator[tuple[str, str]]:
        """The topic and the text of each skill that the prompt names as `$name`.

        What stands on stdin beside a prompt (a diff, a log) names none.
        """
        prompt = prompt.partition(BESIDE)[0]
        for skill in self._by_name.values():
            if _names(prompt, skill.name):
                try:
                    found = read_text(skill.path, LONGEST_BODY, skill.root)
                except OSError as error:
                    self.warnings.append(f"{skill.path} is not read: {error.strerror}")
                else:
                    yield f"{SKILL}:{skill.name}", _body(skill, found)

    def _look(self, place: str, root: str) -> None:
        try:
            names = sorted(os.listdir(place))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self.warnings.append(f"{place} is not read: {error.strerror}")
            return
        if leads_out(place, root):
            self.warnings.append(f"{place} is not read: {LEADS_OUT}")
            return
        if len(names) > _MOST:
            self.warnings.append(f"{place}: only the first {_MOST} entries are looked at")
        for name in names[:_MOST]:
            path = os.path.join(place, name, FILE)
            if os.path.lexists(path):
                self._take(path, root)

    def _take(self, path: str, root: str) -> None:
        try:
            skill = _skill(path, root)
        except OSError as error:
            self.warnings.append(f"{path} is not read: {error.strerror}")
        except ValueError as error:
            self.warnings.append(f"{path} is no skill: {error}")
        else:
            first = self._by_name.setdefault(skill.name, skill)
            if first is not skill:
                self.warnings.append(f"{path} is left out: {first.path} has the same name")

    def _listing(self) -> str:
        lines, size, left_out = "", 0, 0
        for skill in self._by_name.values():
            line = f"- {skill.name}: {skill.description} ({skill.path})\n"
            size += len(line.encode())
            if size > LONGEST_LIST:
                left_out += 1
            else:
                lines += line
        if left_out:
            self.warnings.append(
                f"{left_out} skills are left out of the list that the model gets: "
                f"it is longer than {LONGEST_LIST} bytes"
            )
            lines += f"({left_out} more are left out of this list.)\n"
        return f"{OPENINGS[SKILLS]}{_INTRODUCTION}{lines}</skills>" if lines else ""


def front_matter(text: str) -> Mapping[str, str]:
    """The top-level keys of what stands between the two `---` lines, as text.

    Of YAML it knows plain, quoted and block texts (`|` and `>`), over any number of lines; what is
    nested comes as the text that it is. Raises `ValueError` where there is no front matter.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        raise ValueError("it does not begin with front matter (---, name, description, ---)")
    end = next((at for at, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), 0)
    if not end:
        raise ValueError("its front matter has no end (---)")
    values: dict[str, list[str]] = {}
    key = ""
    for line in lines[1:end]:
        if line[:1] in (" ", "\t") or not line.strip():
            values.get(key, []).append(line)
        elif not line.startswith("#"):
            key, _, rest = line.partition(":")
            values[key.strip()] = [rest.strip()]
            key = key.strip()
    return {key: _value(found) for key, found in values.items()}


def _value(lines: Sequence[str]) -> str:
    first, rest = lines[0], [line.strip() for line in lines[1:]]
    if first[:1] in ("|", ">"):
        return ("\n" if first[0] == "|" else " ").join(rest).strip()
    whole = " ".join([first, *rest]).strip()
    if whole[:1] == "'" and whole.endswith("'") and len(whole) > 1:
        return whole[1:-1].replace("''", "'")
    if whole[:1] == '"':
        try:
            return str(msgspec.json.decode(whole))
        except msgspec.DecodeError:
            return whole.strip('"')
    return whole.partition(" #")[0].strip()


def _skill(path: str, root: str) -> Skill:
    """Raises `OSError`, and `ValueError` with what is wrong with the file."""
    fields = front_matter(read_text(path, _HEAD, root).text)
    folder = os.path.basename(os.path.dirname(path))
    name = fields.get("name", "") or folder
    description = " ".join(fields.get("description", "").split())
    if len(name) > LONGEST_NAME or not all(map(_in_name, name)):
        raise ValueError(f"its name must be 1 to {LONGEST_NAME} letters, digits, - and _")
    if not description:
        raise ValueError("it has no description")
    if len(description) > LONGEST_DESCRIPTION:
        description = f"{description[:LONGEST_DESCRIPTION]}…"
    return Skill(name, description, path, root)


def _in_name(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char in "-_")


def _names(prompt: str, name: str) -> bool:
    """Whether `$name` stands in the prompt, and not as a part of something longer."""
    mark = f"${name}"
    at = prompt.find(mark)
    while at >= 0:
        before, behind = prompt[max(at - 1, 0) : at], prompt[at + len(mark) :][:1]
        if not any(char and (_in_name(char) or char in "${") for char in (before, behind)):
            return True
        at = prompt.find(mark, at + 1)
    return False


def _body(skill: Skill, found: Text) -> str:
    cut = f"\n[{found.left_out} more bytes are left out here: read the file]"
    return (
        f"{OPENINGS[SKILL]}{skill.name}</name>\n<path>{skill.path}</path>\n"
        f"{found.text.strip()}{cut if found.left_out else ''}\n</skill>"
    )

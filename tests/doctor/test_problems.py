"""The pages of docs/problems say what the doctor does: their codes, their commands, their cases."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from backstay.cli import doctor, importing, ps
from backstay.cli.arguments import parse_continue, parse_resume
from backstay.cli.options import read
from backstay.cli.sessions import ACTIONS
from backstay.doctor.checks import examine
from backstay.doctor.findings import CODES
from backstay.doctor.repair import repair
from tests.conftest import REPOSITORY
from tests.doctor.rollouts import (
    call,
    compacted,
    ended,
    image,
    item,
    meta,
    numbered,
    out,
    put,
    said,
    text,
)

FOLDER: Final = REPOSITORY / "docs" / "problems"
PAGES: Final = {
    path.stem: path.read_text() for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"
}
INDEX: Final = (FOLDER / "README.md").read_text()
CODE: Final = re.compile(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`")

SOUND: Final = (meta(), said("go"), call("c1"), out("c1"), said("done", "assistant"))
PATCH: Final = "*** Begin Patch\n*** Add File: a\n+x\n*** End Patch"


def whole(*records: dict[str, object]) -> bytes:
    """A rollout of these records behind a header."""
    return text(meta(), said("go"), *records)


CASES: Final[dict[str, tuple[bytes, str]]] = {
    "no-tool-output-found": (whole(call("c1")), "call-without-output"),
    "no-tool-call-found": (whole(out("c1"), said("hi")), "output-without-call"),
    "custom-tool-call-output-is-missing": (
        whole(item("custom_tool_call", name="apply_patch", input=PATCH, call_id="c1")),
        "call-without-output",
    ),
    "reasoning-without-its-following-item": (
        whole(item("reasoning", id="rs_1", summary=[], encrypted_content="x"), said("more")),
        "reasoning-without-follower",
    ),
    "duplicate-item": (whole(call("c1"), out("c1"), out("c1")), "duplicate-output"),
    "missing-an-ordinal": (
        text(*numbered([meta(history_mode="paginated"), said("go"), call("c1"), out("c1")]), said("more")),
        "missing-ordinal",
    ),
    "stuck-in-working": (whole(call("c1"), ended("c1", "it ran")), "call-without-output"),
    "session-not-listed": (text(*SOUND[1:]), "missing-header"),
    "empty-or-nul-file": (text(*SOUND) + b"\0" * 300, "nul-block"),
    "context-length-exceeded": (
        text(meta(), said("go"), call("c1"), compacted(said("sum")), out("c1"), said("more")),
        "compaction-cut-pair",
    ),
    "aborted-but-it-ran": (whole(call("c1", "make deploy"), ended("c1", "deployed")), "call-without-output"),
    "broken-arguments-and-images": (whole(call("c1", arguments='{"cmd": "l'), out("c1")), "truncated-arguments"),
}  # fmt: skip
"""By page: a file as it tells of, and the code that it names first."""


def test_every_code_has_a_page() -> None:
    """And every code that a page names is one."""
    named = {code for page in PAGES.values() for code in CODE.findall(page)}
    assert set(CODES) - named == set()
    assert named - set(CODES) - {"apply-patch"} == set()


def test_the_index_has_every_page() -> None:
    """And the words that people search for stand in it, and in the page's own text."""
    assert set(re.findall(r"\]\(([\w-]+)\.md\)", INDEX)) == set(PAGES)
    for row in re.findall(r"^\| (.+) \| \[.+\]\(([\w-]+)\.md\) \|$", INDEX, re.MULTILINE):
        words, name = row
        said_there = PAGES[name].lower()
        for phrase in re.findall(r"`([^`]+)`", words):
            assert phrase.lower() in said_there or name == "other-findings", (name, phrase)


@pytest.mark.parametrize("name", CASES)
def test_a_file_as_the_page_tells_of_is_found_and_repaired(tmp_path: Path, name: str) -> None:
    """With a code that the page names; the repaired file is sound, and the page says that it can be."""
    body, code = CASES[name]
    path = put(tmp_path, body)
    assert code in examine(path).findings.counts
    assert f"`{code}`" in PAGES[name]
    made = repair(path, in_place=True)
    assert (made.words != [], code in examine(path).findings.counts) == (True, False)
    assert "--repair" in PAGES[name] or name == "context-length-exceeded"


def test_what_two_pages_say_of_salvage_is_so(tmp_path: Path) -> None:
    """The true output comes out of the event that the file holds."""
    path = put(tmp_path, CASES["aborted-but-it-ran"][0])
    assert "deployed" not in str(items_of(path))
    repair(path, in_place=True)
    assert "deployed" in str(items_of(path))


def items_of(path: str) -> list[str]:
    """The lines of a rollout that are items of the conversation."""
    return [line for line in Path(path).read_text().splitlines() if '"response_item"' in line]


def test_sound_files_and_images_that_are_none(tmp_path: Path) -> None:
    """The sound one has no finding, and an unreadable image is one that a page names."""
    assert examine(put(tmp_path, text(*SOUND))).findings.counts == {}
    broken = put(tmp_path, whole(image("data:image/png;base64,AAAA"), said("x")))
    assert "unreadable-image" in examine(broken).findings.counts


def _of_sessions(words: list[str]) -> None:
    action = ACTIONS[words[0]]
    given = read(words[1:], action.flags, "sessions")
    assert len(given.words) >= action.least


PARSERS: Final[dict[str, Callable[[list[str]], object]]] = {
    "doctor": lambda words: read(words, doctor.OPTIONS, "doctor"),
    "import": lambda words: read(words, importing.OPTIONS, "import"),
    "ps": lambda words: read(words, ps.PAGE.options, "ps"),
    "resume": parse_resume,
    "continue": parse_continue,
    "sessions": _of_sessions,
}


def test_the_commands_of_the_pages_are_commands() -> None:
    """In shell blocks and in backticks, here and in the page on exports."""
    seen = 0
    pages = [*PAGES.values(), INDEX, (REPOSITORY / "docs" / "export.md").read_text()]
    for page in pages:
        blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
        for line in [*blocks.splitlines(), *re.findall(r"`(backstay [^`]+)`", page)]:
            words = shlex.split(line.partition(" | ")[0], comments=True)
            if words[:1] == ["backstay"] and words[1] in PARSERS:
                PARSERS[words[1]]([word for word in words[2:] if word != "…"])
                seen += 1
    assert seen > 40

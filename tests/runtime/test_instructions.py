"""The system prompt says what is so: its patch applies, and what it quotes is what outputs say."""

from pathlib import Path

import pytest

from backstay.chaos import message, response
from backstay.core import settle
from backstay.core.told import OPENINGS
from backstay.errors import UsageError
from backstay.runtime.instructions import INSTRUCTIONS
from backstay.tools import patch
from tests.runtime.bench import Bench
from tests.runtime.place import Place
from tests.runtime.test_session import prompt

BEFORE = 'def greet(name):\n    if not name:\n        return ""\n    return f"Hello, {name}"\n'
BEGIN, END = "*** Begin Patch\n", "*** End Patch\n"


def test_the_patch_of_the_example_applies(tmp_path: Path) -> None:
    """To the file that it speaks of, as the tool understands it."""
    source = tmp_path / "src" / "greet.py"
    source.parent.mkdir()
    source.write_text(BEFORE)
    text = BEGIN + INSTRUCTIONS.partition(BEGIN)[2].partition(END)[0] + END
    assert patch.execute(patch.prepare(text, str(tmp_path), (str(tmp_path),)), "e").ok
    assert 'raise ValueError("a name is needed")' in source.read_text()
    assert (tmp_path / "tests" / "test_empty.py").read_text() == "import pytest\n"


def test_what_is_quoted_of_outputs_is_what_they_say() -> None:
    """Word for word, so that a model recognises it."""
    for text in (settle.NEVER_STARTED, settle.UNKNOWN, settle.INTERRUPTED):
        words = text.partition("{")[0].partition(" while")[0]
        assert f'"{words}"' in INSTRUCTIONS
    assert "time limit passed" in INSTRUCTIONS
    for opening in OPENINGS.values():
        words = opening.strip("# \n").removesuffix(" for").partition("\n")[0]
        assert words in INSTRUCTIONS or words == "<skill>"


def test_every_tool_of_ours_is_named_and_no_other(tmp_path: Path, home: Path) -> None:
    """What a request lists, the prompt explains."""
    bench = Bench(tmp_path, home, [response(message("done"))])
    bench.run(prompt())
    names = {tool["name"] for tool in bench.server.bodies[0]["tools"]}
    assert len(names) > 4
    assert [name for name in names if name not in INSTRUCTIONS] == []
    assert bench.server.bodies[0]["instructions"] == INSTRUCTIONS


def test_it_costs_little() -> None:
    """About as much as a long file listing."""
    assert 900 < len(INSTRUCTIONS.split()) < 1500


def test_a_file_of_the_users_own_replaces_it(tmp_path: Path) -> None:
    """Relative to the home, or absolute; a project can't name one."""
    place = Place(tmp_path)
    (place.home / "prompt.md").write_text("Be a poet.")
    options = ["model=m", "model_instructions_file=prompt.md"]
    assert place.settings(*options).instructions == "Be a poet."
    options = ["model=m", f"model_instructions_file={place.home}/prompt.md"]
    assert place.settings(*options).instructions == "Be a poet."
    place.of_project('model_instructions_file = "/etc/hostname"\nproject_doc_max_bytes = 9\n')
    made = place.settings("model=m")
    assert (made.instructions, made.document_bytes) == ("", 32 * 1024)


@pytest.mark.parametrize(
    "content, why",
    [(None, "No such file or directory"), (b" \n", "it is empty"), (b"\xff", "it is not UTF-8")],
)
def test_a_file_that_holds_no_instructions_is_an_error(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    """In one line, with its path."""
    place = Place(tmp_path)
    path = place.home / "prompt.md"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=f"^model_instructions_file {path}: {why}$"):
        place.settings("model=m", "model_instructions_file=prompt.md")


def test_the_keys_of_documents_become_settings(tmp_path: Path) -> None:
    """As Codex names them; the user's own files are in the home, also of an ephemeral session."""
    place = Place(tmp_path)
    names = 'project_doc_fallback_filenames=["CLAUDE.md"]'
    made = place.settings("model=m", "project_doc_max_bytes=0", names)
    assert (made.document_bytes, made.document_names) == (0, ("CLAUDE.md",))
    assert made.personal == str(place.home)

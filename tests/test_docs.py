"""The pages say what the code does: fields, exit codes, command lines, examples, links."""

import ast
import errno
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest

import backstay
from backstay import chaos, errors
from backstay.cli.arguments import (
    EXEC,
    NOT_HONOURED,
    parse_continue,
    parse_exec,
    parse_fork,
    parse_resume,
)
from backstay.core.dialect import Dialect
from backstay.core.events import OutcomeKind
from backstay.core.record import KINDS, Codec, Known, Status, TurnEnd
from backstay.journal.lines import Code
from backstay.runtime.config import load
from backstay.runtime.keys import TABLES, Configuration, ProviderTable
from backstay.runtime.presets import PRESETS
from tests import api
from tests.conftest import REPOSITORY
from tests.sim import draw

PAGES: Final = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
README: Final = (REPOSITORY / "README.md").read_text()
CONFIGURATION: Final = (REPOSITORY / "docs" / "configuration.md").read_text()
PROVIDERS: Final = (REPOSITORY / "docs" / "providers.md").read_text()
JOURNAL: Final = (REPOSITORY / "docs" / "journal.md").read_text()
RECORDS: Final[tuple[type[msgspec.Struct], ...]] = get_args(Known)


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page that are marked with this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def rows(text: str) -> dict[str, str]:
    """Table rows by the first word in backticks of their first cell."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        named = re.match(r"\| `([^`]+)`", line)
        if named:
            found.setdefault(named[1], line)
    return found


@pytest.mark.parametrize("record", RECORDS, ids=lambda one: str(one.__struct_config__.tag))
def test_every_field_of_every_record_is_in_its_row(record: type[msgspec.Struct]) -> None:
    """`docs/journal.md` has a row for each kind that names each field of its own."""
    row = rows(JOURNAL)[str(record.__struct_config__.tag)]
    common = {"n", "t"}
    fields = [field.encode_name for field in msgspec.structs.fields(record)]
    missing = [name for name in fields if name not in common and f"`{name}`" not in row]
    assert not missing, f"{missing} of {record.__name__} are not in its row"


def test_no_row_is_left_of_a_kind_that_is_gone() -> None:
    """The table of kinds has the kinds of the code and no others."""
    table = JOURNAL.partition("## Kinds")[2].partition("`basis` names")[0]
    assert set(rows(table)) == KINDS


def test_every_damage_code_has_its_row() -> None:
    """What a damage costs is said for each code."""
    table = JOURNAL.partition("### Damage")[2].partition("What a lost record")[0]
    assert set(rows(table)) == set(get_args(Code))


def test_every_word_of_a_status_and_an_outcome_is_explained() -> None:
    """How calls, attempts and turns can end is in the page, word by word."""
    ends = next(one.type for one in msgspec.structs.fields(TurnEnd) if one.name == "outcome")
    words = {*get_args(Status), *get_args(OutcomeKind), *get_args(ends)}
    assert {"unknown", "died", "superseded"} <= words
    assert not [word for word in words if f"`{word}`" not in JOURNAL]


def test_the_table_of_mutants_is_that_of_the_simulator() -> None:
    """`make docs` draws it anew."""
    text = draw.PAGE.read_text()
    assert text.count(draw.BEGIN) == text.count(draw.END) == 1
    assert text == draw.page(text), "run `make docs`"


def test_what_the_readme_quotes_of_faults_is_what_the_code_says() -> None:
    """The words in backticks, without numbers and names, stand in a string of the package."""
    section = README.partition("## When something breaks")[2].partition("\n## ")[0]
    said = "".join(path.read_text() for path in (REPOSITORY / "src").rglob("*.py"))
    said = re.sub(r'"\s*\n\s*f?"', "", said) + os.strerror(errno.ENOSPC)
    quoted = re.findall(r"`([^`]+)`", section)
    parts = [
        part.strip() for text in quoted for part in re.split(r"…|[\d.]+|pid|HOST|[():,;]", text)
    ]
    words = [part for part in parts if len(part.split()) > 2]
    assert len(words) > 8
    assert [part for part in words if part not in said] == []


def test_every_exit_code_is_in_the_readme() -> None:
    """The table of exit codes has each code of the error tree, success and the signals."""
    table = README.partition("### Exit codes")[2].partition("\n\n##")[0]
    listed = {
        int(n)
        for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
        for n in cell.split(",")
    }
    assert listed == {one.exit_code for one in _tree(errors.BackstayError)} | {0, 129, 143}


def _tree(root: type[errors.BackstayError]) -> Iterator[type[errors.BackstayError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)


@pytest.mark.parametrize(
    "table", [Configuration, ProviderTable, Dialect, *TABLES.values()], ids=lambda one: one.__name__
)
def test_every_key_of_the_configuration_is_in_its_page(table: type[msgspec.Struct]) -> None:
    """Each key of `config.toml`, of a provider block, of its dialect and of the other tables."""
    known = ("model_providers", "sandbox_workspace_write", "profiles")
    for name in table.__struct_fields__:
        assert name in known or f"`{name}`" in CONFIGURATION or f".{name}`" in CONFIGURATION, name


def test_every_flag_without_effect_is_in_its_page() -> None:
    """As in the help, and no other."""
    section = CONFIGURATION.partition("## Flags of")[2]
    named = re.findall(r"`(--[\w-]+)`", section)
    assert sorted(named) == sorted(max(one.names, key=len) for one in NOT_HONOURED)


def test_the_configuration_of_the_readme_is_taken_without_a_word(tmp_path: Path) -> None:
    """It is whole TOML, each key is known and honoured."""
    (text,) = blocks(README, "toml")
    (tmp_path / "config.toml").write_text(text)
    loaded = load(str(tmp_path), str(tmp_path), [], strict=True)
    assert loaded.warnings == []
    assert loaded.providers["local"].dialect.custom_tools is False


def test_every_flag_that_the_help_of_exec_names_is_accepted() -> None:
    """With a value where it takes one; none is a usage error."""
    for option in EXEC:
        for name in option.names:
            text = "1" if option.value in ("N", "USD") else "k=v"
            value = [option.choices[-1] if option.choices else text] if option.value else []
            last = ["fork"] if option.name in ("last", "all", "turn") else []
            more = ["--last"] if option.name in ("all", "turn") else []
            parse_exec([*last, name, *value, *more])


def test_every_command_line_of_the_pages_is_accepted() -> None:
    """Each `backstay exec`, `resume`, `continue` and `fork` in a shell block is read without error."""
    parsers = {
        "exec": parse_exec,
        "resume": parse_resume,
        "continue": parse_continue,
        "fork": parse_fork,
    }
    seen = 0
    for page in PAGES:
        for line in "".join(blocks(page.read_text(), "sh")).splitlines():
            words = shlex.split(line.rpartition("|")[2], comments=True)
            if words[:1] == ["backstay"] and words[1] in parsers:
                parsers[words[1]](words[2:])
                seen += 1
    assert seen >= 4


@pytest.mark.processes
def test_the_python_of_the_readme_runs(tmp_path: Path, home: Path) -> None:
    """As it stands there, with `backstay` on the PATH: its own assertion holds."""
    (text,) = (one for one in blocks(README, "python") if "ChaosServer" in one)
    command = tmp_path / "bin" / "backstay"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m backstay "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    environ = os.environ | {"PATH": path, "BACKSTAY_HOME": str(home), "HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", text],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "It builds." in ran.stdout


def test_the_hello_world_of_the_readme_is_the_example() -> None:
    """Line by line, but for its docstring; `tests/test_examples.py` runs it."""
    example = (REPOSITORY / "examples" / "hello_world.py").read_text()
    shown = [one for one in blocks(README, "python") if "import Agent" in one]
    assert shown == [example.partition('"""\n\n')[2]]


def test_the_reference_is_that_of_the_code() -> None:
    """`make docs` draws it anew; every public name stands in it, and each says what it is."""
    assert api.PAGE.read_text() == api.page(), "run `make docs`"
    listed = [name for names in api.SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(backstay.__all__)
    assert api.undocumented() == []


def test_the_python_of_the_guide_is_whole() -> None:
    """Each block of docs/library.md compiles, and imports only public names."""
    page = (REPOSITORY / "docs" / "library.md").read_text()
    names: set[str] = set()
    for block in blocks(page, "python"):
        tree = compile(
            block, "library.md", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "backstay":
                names.update(alias.name for alias in node.names)
    assert {"Agent", "tool"} <= names <= set(backstay.__all__)


@pytest.mark.processes
def test_the_demo_holds_and_prints_what_the_readme_shows(tmp_path: Path, home: Path) -> None:
    """`backstay demo` exits 0, and each line of the excerpt is one of its lines."""
    environ = os.environ | {"TMPDIR": str(tmp_path), "BACKSTAY_HOME": str(home)}
    ran = subprocess.run(
        [sys.executable, "-m", "backstay", "demo"],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    (excerpt,) = blocks(README, "text")
    printed = _untimed(ran.stdout)
    assert [line for line in _untimed(excerpt) if line not in (*printed, "…")] == []


def _untimed(text: str) -> list[str]:
    return re.sub(r"after \d+\.\d s", "after N s", text).splitlines()


def test_the_scripts_of_the_readme_are_scripts() -> None:
    """Each JSON block is one that the fault server plays."""
    found: list[Any] = [json.loads(text) for text in blocks(README, "json")]
    assert found
    for script in found:
        chaos.parse(script)


def test_the_events_of_the_readme_are_json() -> None:
    """Line by line, each with its type."""
    lines = "".join(blocks(README, "jsonl")).splitlines()
    assert [json.loads(line)["type"] for line in lines][-1] == "turn.completed"


def test_the_line_of_the_journal_page_is_whole() -> None:
    """Its checksum is right."""
    shown = re.search(r'^\{"k":"turn_end".*\}$', JOURNAL, re.MULTILINE)
    assert shown
    assert isinstance(Codec().decode(shown[0].encode()), TurnEnd)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_built_in_provider_has_its_section(tmp_path: Path, name: str) -> None:
    """With a configuration that is taken as it stands, its address, its key, and its flags."""
    section = PROVIDERS.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    (text,) = blocks(section, "toml")
    (tmp_path / "config.toml").write_text(text)
    loaded = load(str(tmp_path), str(tmp_path), [], strict=True)
    assert loaded.configuration.model_provider == name
    preset = PRESETS[name]
    named = "openai_base_url" if name == "openai" else preset.get("base_url", "RESOURCE")
    assert named in section
    assert preset.get("env_key", "") in section
    flags = dict(
        re.findall(r"`(\w+) = (true|false)`", section.partition("Flags: ")[2].split("\n")[0])
    )
    usual = msgspec.structs.asdict(Dialect())
    wanted = {flag: value for flag, value in preset["dialect"].items() if usual[flag] != value}
    assert {flag: value == "true" for flag, value in flags.items()} == wanted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_files_are_there(page: Path) -> None:
    """Relative links lead to files and headings that exist; so do paths of tests in backticks."""
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        led = page.parent / path if path else page
        assert led.exists(), f"{page.name} links to {target}"
        if heading:
            assert heading in _headings(led.read_text()), f"{page.name} links to {target}"
    for path in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", text):
        assert (REPOSITORY / path).exists(), f"{page.name} names {path}"


def _headings(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}

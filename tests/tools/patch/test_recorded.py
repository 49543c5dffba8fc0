"""The specified scenarios and the patches that models wrote, from the recordings."""

import csv
from pathlib import Path

import pytest

from backstay.tools.patch import execute, prepare
from backstay.tools.patch.parse import AddFile, Chunk, UpdateFile, parse

pytestmark = pytest.mark.data

SCENARIOS = (
    "001_add_file",
    "002_multiple_operations",
    "003_multiple_chunks",
    "004_move_to_new_directory",
    "005_rejects_empty_patch",
    "006_rejects_missing_context",
    "007_rejects_missing_file_delete",
    "008_rejects_empty_update_hunk",
    "009_requires_existing_file_for_update",
    "010_move_overwrites_existing_destination",
    "011_add_overwrites_existing_file",
    "012_delete_directory_fails",
    "013_rejects_invalid_hunk_header",
    "014_update_file_appends_trailing_newline",
    "015_failure_after_partial_success_leaves_changes",
    "016_pure_addition_update_chunk",
    "017_whitespace_padded_hunk_header",
    "018_whitespace_padded_patch_markers",
    "019_unicode_simple",
    "020_delete_file_success",
    "020_whitespace_padded_patch_marker_lines",
    "021_update_file_deletion_only",
    "022_update_file_end_of_file_marker",
)
FAILING = {"005", "006", "007", "008", "009", "012", "013", "015"}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def plant(folder: Path, files: dict[str, bytes]) -> None:
    """Write files, and the folders they need."""
    for name, contents in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)


def test_every_scenario_is_listed(data_dir: Path) -> None:
    """No scenario of the recordings goes untested."""
    found = {path.name for path in (data_dir / "apply_patch/openai-codex/scenarios").iterdir()}
    assert found == set(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_gives_its_expected_tree(name: str, data_dir: Path, tmp_path: Path) -> None:
    """Input tree and patch give the expected tree; what has to fail is not reported as a success."""
    folder = data_dir / "apply_patch/openai-codex/scenarios" / name
    if (folder / "input").is_dir():
        plant(tmp_path, tree(folder / "input"))
    text = (folder / "patch.txt").read_text(encoding="utf-8")
    ok = False
    try:
        prepared = prepare(text, str(tmp_path), [str(tmp_path)])
    except ValueError:
        pass
    else:
        ok = execute(prepared, "e1").ok
    assert tree(tmp_path) == tree(folder / "expected")
    assert ok == (name[:3] not in FAILING)


def recorded_patches(data_dir: Path) -> list[tuple[Path, str]]:
    """Every model-written patch, with the operations that the index says it holds."""
    with (data_dir / "apply_patch/INDEX.tsv").open(encoding="utf-8") as index:
        rows = list(csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        (data_dir / "apply_patch" / row["file"], row["operations"])
        for row in rows
        if row["file"].endswith(".patch") and "fragment" not in row["interesting"]
    ]


def before_and_after(chunks: tuple[Chunk, ...]) -> tuple[bytes, bytes]:
    """The smallest files that the chunks lead from and to, with other lines between the places."""
    before, after = "", ""
    for number, chunk in enumerate(chunks):
        between = f"// before place {number}\n" + "".join(s + "\n" for s in chunk.sections)
        before += between + "".join(li.text + "\n" for li in chunk.lines if li.sign != "+")
        after += between + "".join(li.text + "\n" for li in chunk.lines if li.sign != "-")
    return before.encode(), after.encode()


def test_recorded_patches_apply_to_trees_of_their_own_context(
    data_dir: Path, tmp_path: Path
) -> None:
    """Each whole recorded patch parses as indexed and changes its own context lines as it says."""
    patches = recorded_patches(data_dir)
    assert len(patches) >= 25
    for number, (path, indexed) in enumerate(patches):
        text = path.read_text(encoding="utf-8")
        folder = tmp_path / str(number)
        folder.mkdir()
        expected: dict[str, bytes] = {}
        listing = ""
        counts: dict[str, int] = {}
        for operation in parse(text):
            kind = "Update" if isinstance(operation, UpdateFile) else "Add"
            counts[f"{kind} File"] = counts.get(f"{kind} File", 0) + 1
            if isinstance(operation, UpdateFile):
                before, expected[operation.path] = before_and_after(operation.chunks)
                plant(folder, {operation.path: before})
                listing += f"M {operation.path}\n"
            elif isinstance(operation, AddFile):
                expected[operation.path] = "".join(x + "\n" for x in operation.lines).encode()
                listing += f"A {operation.path}\n"
        assert indexed == ", ".join(f"{kind}={count}" for kind, count in counts.items())
        outcome = execute(prepare(text, str(folder), [str(folder)]), "e1")
        assert outcome.output == f"Success. Updated the following files:\n{listing}", path
        assert tree(folder) == expected, path


def test_recorded_command_lines_read_as_their_patches(data_dir: Path) -> None:
    """The shell command that a model wrapped its patch in reads as the patch alone."""
    import json

    checked = 0
    for path, _ in recorded_patches(data_dir):
        recorded = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        script = recorded["raw_arguments"]["command"][-1]
        assert parse(script) == parse(path.read_text(encoding="utf-8"))
        checked += 1
    assert checked >= 25

"""What holds for the package as a whole: its version, its shape, and what it says of the world."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import backstay

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src"
MODULES = sorted(SOURCE.rglob("*.py"))
LONGEST_MODULE = 700
LONGEST_FUNCTION = 100

# Loaded by name from outside: the console script, `python -m`, and what users import.
ENTRY_POINTS = {
    "backstay.tools.supervise.server",
    "backstay",
    "backstay.__main__",
    "backstay.cli.main",
}

# Where somebody's checkout lies, and where packages come from: neither is the project's business.
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:work|root|tmp/\w)/")
REGISTRY = re.compile(r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|--(?:extra-)?index-url ")


def name_of(path: Path) -> str:
    """The dotted name of a source file's module."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def project_files() -> list[Path]:
    """The files that git tracks or would track."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    ).stdout.decode()
    return [path for name in listing.split("\0") if name and (path := REPOSITORY / name).is_file()]


def names_used(path: Path) -> Iterator[str]:
    """Every dotted name of this package that a file imports or spells in a string."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name_of(path).rsplit(".", node.level)[0] if node.level else ""
            module = ".".join(part for part in (package, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"backstay(?:\.\w+)+", node.value)


def test_the_installed_version_is_the_packages() -> None:
    """`backstay.__version__`, the installed metadata and the changelog name one version."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "src/backstay/__init__.py"
    assert importlib.metadata.version("backstay") == backstay.__version__
    assert f"## [{backstay.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_command_prints_its_version() -> None:
    """`backstay --version` and `python -m backstay --version` print one line each, the same."""
    script = Path(sys.executable).parent / "backstay"
    for command in ([str(script)], [sys.executable, "-m", "backstay"]):
        done = subprocess.run([*command, "--version"], check=True, capture_output=True, text=True)
        assert done.stdout == f"backstay {backstay.__version__}\n"
        assert not done.stderr


def test_the_wheel_holds_the_whole_package(tmp_path: Path) -> None:
    """A built wheel has every module, `py.typed`, the man page and the licence."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    missing = {path.relative_to(SOURCE).as_posix() for path in MODULES} - held
    assert not missing
    assert "backstay/py.typed" in held
    assert any(name.endswith("licenses/LICENSE") for name in held)
    assert any(name.endswith("data/share/man/man1/backstay.1") for name in held)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_small_and_says_what_it_owns(path: Path) -> None:
    """Each module opens with a docstring and stays below the length limit."""
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) < LONGEST_MODULE


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    """No function is longer than the limit, its docstring included."""
    long = {
        node.name: length
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    }
    assert not long


@pytest.mark.parametrize("path", sorted((SOURCE / "backstay" / "core").rglob("*.py")), ids=name_of)
def test_the_core_touches_nothing(path: Path) -> None:
    """The core calls no built-in that reads or writes; its imports are import-linter's to check."""
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "breakpoint", "exec", "eval", "__import__"}


def test_every_module_is_in_a_package_and_known_to_another_file() -> None:
    """No source file is left over: each has its package, and code or a test that uses it."""
    strays = [path for path in MODULES if not (path.parent / "__init__.py").exists()]
    assert not strays
    used = {
        name
        for path in [*MODULES, *(REPOSITORY / "tests").rglob("*.py")]
        for name in names_used(path)
        if path not in MODULES or name != name_of(path)
    }
    used |= {f"{name}.__main__" for name in used}  # `python -m PACKAGE`
    packages = {name_of(path) for path in MODULES if path.name == "__init__.py"}
    assert sorted({name_of(path) for path in MODULES} - used - packages - ENTRY_POINTS) == []


def test_the_project_names_no_machine_and_no_registry() -> None:
    """No file of the project holds a path of somebody's machine or the host of a registry."""
    here = os.fspath(REPOSITORY)
    found = []
    for path in project_files():
        text = path.read_bytes().decode(errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if here in line or MACHINE_PATH.search(line) or REGISTRY.search(line):
                found.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:100]}")
    assert not found


def test_the_lock_hashes_every_package() -> None:
    """Each requirement of the lock is pinned to one version and carries hashes."""
    text = (REPOSITORY / "requirements-dev.lock").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    assert [line for line in lines if "==" not in line or "--hash=sha256:" not in line] == []

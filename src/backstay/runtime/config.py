"""Configuration: `config.toml` of BACKSTAY_HOME, the project's `.backstay/config.toml`, `-c`.

Owns where keys come from, which source goes first, and what is said about a wrong one; the keys are
in `keys`. A project's file is somebody else's text: it can't say where requests go.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from backstay.errors import ConfigError, UsageError
from backstay.runtime.keys import (
    FROM_A_PROJECT,
    OF_CODEX,
    TABLES,
    Configuration,
    ProviderTable,
)
from backstay.runtime.presets import PRESETS

FILE: Final = "config.toml"
PROJECT_FOLDER: Final = ".backstay"


class Loaded(msgspec.Struct):
    """The configuration and what a person should be told about it, one line each."""

    configuration: Configuration
    providers: dict[str, ProviderTable]
    warnings: list[str]
    base_url_given: bool
    """`openai_base_url` came with `-c`, which goes before the environment."""


def default_home(environ: Mapping[str, str], platform: str = sys.platform) -> str:
    """BACKSTAY_HOME, else the platform's data folder; absolute."""
    home = environ.get("BACKSTAY_HOME", "")
    if home:
        return os.path.abspath(os.path.expanduser(home))
    if platform == "darwin":
        return os.path.expanduser("~/Library/Application Support/backstay")
    data = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):
        data = os.path.expanduser("~/.local/share")
    return os.path.join(data, "backstay")


def load(
    home: str,
    cwd: str,
    overrides: Sequence[str],
    *,
    user_file: bool = True,
    strict: bool = False,
    profile: str = "",
) -> Loaded:
    """Read and merge it all. Raises `ConfigError` naming the file and the line.

    `strict`: an unknown key is an error, not a warning. `profile` goes before the key of that name.
    """
    user = _read(os.path.join(home, FILE), project=False) if user_file else []
    project = _read(_project_file(home, cwd), project=True)
    options = [_override(text) for text in overrides]
    sources = [*user, *_profile(profile, home, [*user, *options]), *project, *options]
    warnings: list[str] = []
    merged: dict[str, Any] = {}
    for source in sources:
        _check(source, warnings, strict=strict)
        _merge(merged, source.table)
    configuration = _convert(merged, sources)
    given = any("openai_base_url" in source.table for source in sources if source.option)
    warnings += _not_honoured(configuration, merged)
    return Loaded(configuration, _providers(configuration), warnings, given)


def given(table: Mapping[str, Any]) -> Loaded:
    """The configuration that these keys make, without any file or environment.

    Raises `ConfigError` naming the key that is wrong or not known.
    """
    source = _Source("config", dict(table))
    _check(source, [], strict=True)
    configuration = _convert(source.table, [source])
    warnings = _not_honoured(configuration, source.table)
    url_given = "openai_base_url" in source.table
    return Loaded(configuration, _providers(configuration), warnings, url_given)


class _Source(msgspec.Struct):
    """One file, or one `-c`."""

    label: str
    table: dict[str, Any]
    text: str = ""
    project: bool = False
    option: bool = False
    inside: tuple[str, ...] = ()
    """Where in the text the table stands."""

    def at(self, path: Sequence[str]) -> str:
        """The label, with the line where the key stands."""
        line = _line(self.text, [*self.inside, *path]) if self.text else 0
        return f"{self.label}:{line}" if line else self.label


def _read(path: str, *, project: bool) -> list[_Source]:
    """The file's table, or nothing where there is no file."""
    if not path:
        return []
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: it is not UTF-8") from None
    return [_Source(path, _parse(text, path), text, project=project)]


def _profile(asked: str, home: str, sources: "list[_Source]") -> "list[_Source]":
    """The profile that is asked for, else the one that the key names; none without either.

    Its table is `[profiles.NAME]`, its file `NAME.config.toml` beside the user's. Raises
    `UsageError` for one that is nowhere.
    """
    named = [one.table["profile"] for one in sources if isinstance(one.table.get("profile"), str)]
    name = asked or (named[-1] if named else "")
    if not name:
        return []
    found: list[_Source] = []
    known: set[str] = set()
    for source in sources:
        tables = source.table.get("profiles")
        for key, table in tables.items() if isinstance(tables, dict) else ():
            known.add(key)
            if key == name and isinstance(table, dict):
                inside = ("profiles", name)
                found.append(_Source(source.label, dict(table), source.text, inside=inside))
    if os.path.basename(name) == name:
        found += _read(os.path.join(home, f"{name}.{FILE}"), project=False)
    if not found:
        known |= {one.removesuffix(f".{FILE}") for one in _names(home) if one.endswith(f".{FILE}")}
        have = f"there are {', '.join(sorted(known))}" if known else "there is none"
        raise UsageError(f"no profile {name}: {have} (write [profiles.{name}] into {FILE})")
    return found


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _parse(text: str, path: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        number = place.removeprefix("line ").partition(",")[0]
        line = int(number) if number.isdigit() else text.rstrip().count("\n") + 1
        raise ConfigError(f"{path}:{line}: {_lower(reason)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: it is nested too deep") from None


def _project_file(home: str, cwd: str) -> str:
    """The nearest `.backstay/config.toml` from `cwd` up to the folder with `.git`; "" if none."""
    folder, found = cwd, ""
    while True:
        path = os.path.join(folder, PROJECT_FOLDER, FILE)
        own = os.path.join(home, FILE)
        if not found and os.path.exists(path) and os.path.realpath(path) != os.path.realpath(own):
            found = path
        if os.path.exists(os.path.join(folder, ".git")):
            return found
        parent = os.path.dirname(folder)
        if parent == folder:  # no repository: only the folder itself is the project
            here = os.path.join(cwd, PROJECT_FOLDER, FILE)
            return found if found == here else ""
        folder = parent


def _override(text: str) -> _Source:
    """The table of one `-c KEY=VALUE`."""
    path, equals, value = text.partition("=")
    keys = [key.strip().strip('"') for key in path.strip().split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"-c {text}: write it as KEY=VALUE")
    table: Any = _value(value.strip())
    for key in reversed(keys):
        table = {key: table}
    return _Source(f"-c {path.strip()}", table, option=True)


def _value(text: str) -> Any:
    """TOML, else the text as it stands. What JSON and TOML write alike needs no TOML parser."""
    if text in ("true", "false") or text.isdecimal() or (text[:1] == text[-1:] == '"'):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            pass
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _check(source: _Source, warnings: list[str], *, strict: bool) -> None:
    """Take out what this source may not say, name what is unknown, refuse what is wrong."""
    if source.project:
        refused = [key for key in source.table if key not in FROM_A_PROJECT and key in _KEYS]
        if refused:
            warnings.append(
                f"{source.label}: {', '.join(refused)}: a project can't set this; "
                "put it into the config.toml of BACKSTAY_HOME, or use -c"
            )
        for key in refused:
            del source.table[key]
    unknown = _unknown(source.table)
    of_codex = [".".join(path) for path in unknown if path[-1] in OF_CODEX]
    if of_codex:
        warnings.append(f"{source.label}: {', '.join(of_codex)}: without effect here")
    for path in [path for path in unknown if path[-1] not in OF_CODEX]:
        name = ".".join(path)
        hint = _nearest(path)
        line = f"{source.at(path)}: unknown key {name}{hint}"
        if strict:
            raise ConfigError(line)
        warnings.append(line)
    _convert(source.table, [source])


_KEYS: Final = frozenset(Configuration.__struct_fields__)


def _unknown(table: dict[str, Any]) -> list[list[str]]:
    found = [[key] for key in table if key not in _KEYS]
    for name, kind in TABLES.items():
        inner = table.get(name)
        if isinstance(inner, dict):
            found += [[name, key] for key in inner if key not in kind.__struct_fields__]
    providers = table.get("model_providers")
    for name, inner in providers.items() if isinstance(providers, dict) else ():
        if isinstance(inner, dict):
            known = ProviderTable.__struct_fields__
            found += [["model_providers", name, key] for key in inner if key not in known]
    return found


def _nearest(path: list[str]) -> str:
    import difflib

    known: Sequence[str] = sorted(_KEYS)
    if path[0] == "model_providers":
        known = ProviderTable.__struct_fields__
    elif len(path) > 1:
        known = TABLES[path[0]].__struct_fields__
    near = difflib.get_close_matches(path[-1], known, 1)
    return f", did you mean {near[0]}?" if near else "; it has no effect"


def _convert(table: dict[str, Any], sources: list[_Source]) -> Configuration:
    """The typed configuration. Raises `ConfigError` naming the last source that has the key."""
    try:
        configuration = msgspec.convert(table, Configuration)
    except msgspec.ValidationError as error:
        raise _wrong(error, [], sources) from None
    for name, inner in configuration.model_providers.items():
        if isinstance(inner, dict) and inner.get("wire_api") == "chat":
            path = ["model_providers", name, "wire_api"]
            source = next(one for one in reversed(sources) if path[0] in one.table)
            raise ConfigError(
                f"{source.at(path)}: {'.'.join(path)}: only the Responses API is spoken here: "
                'write "responses", or leave it out'
            )
        try:
            msgspec.convert(inner, ProviderTable)
        except msgspec.ValidationError as error:
            raise _wrong(error, ["model_providers", name], sources) from None
    return configuration


def _wrong(
    error: msgspec.ValidationError, prefix: list[str], sources: list[_Source]
) -> ConfigError:
    said, _, place = str(error).partition(" - at `$")
    inner = [part for part in place.rstrip("`").replace("[...]", "").split(".") if part]
    path = prefix + [part.partition("[")[0] for part in inner]
    source = next(one for one in reversed(sources) if path[0] in one.table)
    said = said.replace("`", "").replace("Expected", "expected").replace("Invalid", "invalid")
    return ConfigError(f"{source.at(path)}: {'.'.join(path)}: {said}")


def _providers(configuration: Configuration) -> dict[str, ProviderTable]:
    """The blocks, and the chosen provider; a block goes before what is built in, key by key."""
    found: dict[str, ProviderTable] = {}
    for name in {*configuration.model_providers, configuration.model_provider}:
        table: dict[str, Any] = {}
        _merge(table, PRESETS.get(name, {}))
        _merge(table, configuration.model_providers.get(name, {}))
        if table:
            found[name] = msgspec.convert(table, ProviderTable)
    return found


def _not_honoured(configuration: Configuration, merged: dict[str, Any]) -> list[str]:
    """One line for each known key that asks for something that is not there yet."""
    found = []
    if configuration.approval_policy != "never":
        found.append(f"approval_policy {merged['approval_policy']}: exec never asks for approval")
    if not configuration.sandbox_workspace_write.network_access:
        found.append(
            "sandbox_workspace_write.network_access: commands are not kept from the network yet"
        )
    if configuration.web_search != "disabled" and not _searches(configuration):
        where = f"the provider {configuration.model_provider} has no web search"
        found.append(f"web_search {configuration.web_search}: {where}")
    if configuration.mcp_servers:
        found.append("mcp_servers: no MCP server is started yet")
    return found


def _searches(configuration: Configuration) -> bool:
    """Whether the provider runs web searches, as far as that is known."""
    table = _providers(configuration).get(configuration.model_provider, ProviderTable())
    return table.dialect.web_search


def _merge(into: dict[str, Any], table: dict[str, Any]) -> None:
    """Later tables go before earlier ones, key by key."""
    for key, value in table.items():
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        elif isinstance(value, dict):
            into[key] = {}
            _merge(into[key], value)
        else:
            into[key] = value


def _line(text: str, path: Sequence[str]) -> int:
    """The line where a key stands, or its table, or 0: TOML's own parser doesn't keep it."""
    table: list[str] = []
    best, best_depth = 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            table = _keys(stripped.strip("[] ").partition("]")[0])
            here = table
        elif "=" in stripped and not stripped.startswith("#"):
            here = table + _keys(stripped.partition("=")[0])
        else:
            continue
        if len(here) > best_depth and here == list(path[: len(here)]):
            best, best_depth = number, len(here)
    return best


def _keys(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]

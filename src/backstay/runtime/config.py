"""Configuration: `config.toml` of BACKSTAY_HOME, the project's `.backstay/config.toml`, `-c`.

Owns the keys, where each may come from, and what is said about a wrong one. Names are Codex's where
Codex has them. A project's file is somebody else's text: it can't say where requests go.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from backstay.core.dialect import Dialect
from backstay.errors import ConfigError

FILE: Final = "config.toml"
PROJECT_FOLDER: Final = ".backstay"

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(gt=0)]
Text = Annotated[str, Meta(min_length=1)]


class ProviderTable(msgspec.Struct, frozen=True, kw_only=True):
    """`[model_providers.NAME]`."""

    base_url: str = ""
    name: str = ""
    env_key: str = ""
    """The environment variable that holds the key."""
    wire_api: Literal["responses"] = "responses"
    http_headers: dict[str, str] = {}
    env_http_headers: dict[str, str] = {}
    query_params: dict[str, str] = {}
    request_max_retries: Count | None = None
    stream_max_retries: Count | None = None
    stream_idle_timeout_ms: Positive | None = None
    connect_timeout_ms: Positive | None = None
    reasoning: bool = False
    dialect: Dialect = Dialect()
    """Ours: what the provider understands, one flag per known difference."""


class SandboxTable(msgspec.Struct, frozen=True, kw_only=True):
    """`[sandbox_workspace_write]`."""

    writable_roots: list[str] = []
    network_access: bool = True


class Configuration(msgspec.Struct, kw_only=True):
    """The keys of `config.toml`, all optional."""

    model: Text = ""
    model_provider: Text = "openai"
    model_providers: dict[str, Any] = {}
    model_reasoning_effort: Text = ""
    model_context_window: Positive | None = None
    model_auto_compact_token_limit: Positive | None = None
    project_doc_max_bytes: Count = 32 * 1024
    openai_base_url: str = ""
    approval_policy: str | dict[str, Any] = "never"
    sandbox_mode: Literal["", "read-only", "workspace-write", "danger-full-access"] = ""
    sandbox_workspace_write: SandboxTable = SandboxTable()
    web_search: str = "disabled"
    mcp_servers: dict[str, Any] = {}
    command_grace_seconds: Annotated[float, Meta(ge=0)] = 60.0
    """Ours: how long commands outlive an agent that died."""


class Loaded(msgspec.Struct):
    """The configuration and what a person should be told about it, one line each."""

    configuration: Configuration
    providers: dict[str, ProviderTable]
    warnings: list[str]
    base_url_given: bool
    """`openai_base_url` came with `-c`, which goes before the environment."""


FROM_A_PROJECT: Final = frozenset(
    {
        "model",
        "model_reasoning_effort",
        "model_context_window",
        "model_auto_compact_token_limit",
        "web_search",
    }
)
"""What a project's file may set: nothing that sends the key or the text elsewhere, runs a program,
or widens what commands may do."""


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
    home: str, cwd: str, overrides: Sequence[str], *, user_file: bool = True, strict: bool = False
) -> Loaded:
    """Read and merge it all. Raises `ConfigError` naming the file and the line.

    `strict`: an unknown key is an error, not a warning.
    """
    sources: list[_Source] = []
    if user_file:
        sources += _read(os.path.join(home, FILE), project=False)
    sources += _read(_project_file(home, cwd), project=True)
    sources += [_override(text) for text in overrides]
    warnings: list[str] = []
    merged: dict[str, Any] = {}
    for source in sources:
        _check(source, warnings, strict=strict)
        _merge(merged, source.table)
    configuration = _convert(merged, sources)
    given = any("openai_base_url" in source.table for source in sources if source.option)
    warnings += _not_honoured(configuration, merged)
    return Loaded(configuration, _providers(configuration), warnings, given)


class _Source(msgspec.Struct):
    """One file, or one `-c`."""

    label: str
    table: dict[str, Any]
    text: str = ""
    project: bool = False
    option: bool = False

    def at(self, path: Sequence[str]) -> str:
        """The label, with the line where the key stands."""
        line = _line(self.text, path) if self.text else 0
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
    for path in _unknown(source.table):
        name = ".".join(path)
        hint = _nearest(path)
        line = f"{source.at(path)}: unknown key {name}{hint}"
        if strict:
            raise ConfigError(line)
        warnings.append(line)
    _convert(source.table, [source])


_KEYS: Final = frozenset(Configuration.__struct_fields__)
_TABLES: Final = {"sandbox_workspace_write": SandboxTable}


def _unknown(table: dict[str, Any]) -> list[list[str]]:
    found = [[key] for key in table if key not in _KEYS]
    for name, kind in _TABLES.items():
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
        known = _TABLES[path[0]].__struct_fields__
    near = difflib.get_close_matches(path[-1], known, 1)
    return f", did you mean {near[0]}?" if near else "; it has no effect"


def _convert(table: dict[str, Any], sources: list[_Source]) -> Configuration:
    """The typed configuration. Raises `ConfigError` naming the last source that has the key."""
    try:
        configuration = msgspec.convert(table, Configuration)
    except msgspec.ValidationError as error:
        raise _wrong(error, [], sources) from None
    for name, inner in configuration.model_providers.items():
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
    return {
        name: msgspec.convert(table, ProviderTable)
        for name, table in configuration.model_providers.items()
    }


def _not_honoured(configuration: Configuration, merged: dict[str, Any]) -> list[str]:
    """One line for each known key that asks for something that is not there yet."""
    found = []
    if configuration.approval_policy != "never":
        found.append(f"approval_policy {merged['approval_policy']}: exec never asks for approval")
    if not configuration.sandbox_workspace_write.network_access:
        found.append(
            "sandbox_workspace_write.network_access: commands are not kept from the network yet"
        )
    if configuration.web_search != "disabled":
        found.append(f"web_search {configuration.web_search}: the model has no web search yet")
    if configuration.mcp_servers:
        found.append("mcp_servers: no MCP server is started yet")
    return found


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

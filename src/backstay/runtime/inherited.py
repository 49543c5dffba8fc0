"""What commands inherit of the environment: `[shell_environment_policy]`, in Codex's order.

Pure. The keys of providers are taken out besides, whatever the policy says.
"""

from collections.abc import Mapping
from typing import Final

from backstay.runtime.keys import ShellTable

CORE: Final = frozenset(
    {
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LOGNAME",
        "PATH",
        "SHELL",
        "TEMP",
        "TMP",
        "TMPDIR",
        "USER",
        "USERNAME",
    }
)
DEFAULT_EXCLUDES: Final = ("*KEY*", "*SECRET*", "*TOKEN*")


def inherited(policy: ShellTable, environ: Mapping[str, str]) -> dict[str, str]:
    """`inherit`, the excludes, `set`, then `include_only`."""
    kept = dict(environ)
    if policy.inherit == "core":
        kept = {name: value for name, value in kept.items() if name.upper() in CORE}
    elif policy.inherit == "none":
        kept = {}
    excludes = [*policy.exclude]
    if not policy.ignore_default_excludes:
        excludes += DEFAULT_EXCLUDES
    if excludes:
        kept = {name: value for name, value in kept.items() if not _matches(name, excludes)}
    kept |= policy.set
    if policy.include_only:
        kept = {name: value for name, value in kept.items() if _matches(name, policy.include_only)}
    return kept


def _matches(name: str, patterns: list[str]) -> bool:
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name.upper(), pattern.upper()) for pattern in patterns)

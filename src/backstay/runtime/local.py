"""Which provider on this machine `--oss` means."""

from collections.abc import Callable
from typing import Final

from backstay.errors import UsageError
from backstay.runtime.presets import LOCAL, PRESETS

PATIENCE: Final = 0.5
"""Seconds that a local port gets to take a connection."""


def listens(url: str) -> bool:
    """Whether anybody takes connections at the host and port of a base URL."""
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE):
            return True
    except OSError:
        return False


def local_provider(named: str, configured: str, listening: Callable[[str], bool] = listens) -> str:
    """The local provider that `--oss` means: the named one, the configured one, one that listens.

    `listening` tells whether anybody is at a base URL. Raises `UsageError` where there is none.
    """
    name = named or configured
    if name and name not in LOCAL:
        origin = "--local-provider" if named else "oss_provider"
        raise UsageError(f"{origin} {name}: it takes one of {', '.join(sorted(LOCAL))}")
    candidates = [name] if name else [one for one in LOCAL if LOCAL[one]]
    for one in candidates:
        if name or listening(PRESETS[one]["base_url"]):
            return one
    raise UsageError(
        f"--oss: neither of {', '.join(candidates)} is running: start one, or name one with "
        "--local-provider"
    )

"""`sessions export`: which format is meant, where it goes, and what was redacted.

Formats are loaded when they are asked for. Reading takes no lock and writes to no session.
"""

import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from backstay.cli.options import Given
from backstay.errors import StorageError, UsageError
from backstay.journal import PosixDisk
from backstay.journal.sessions import find

if TYPE_CHECKING:
    from backstay.doctor.export.redact import Redactor


class Wanted(msgspec.Struct):
    """What is to be exported, and where to."""

    home: str
    folder: str
    """The session's."""
    redact: bool
    out: str
    """A path; "" for stdout."""
    into: str = ""
    """Codex: the CODEX_HOME that gets the file."""


Export = Callable[[Wanted], str]
"""Writes it and gives one line to say on stderr, or ""."""


def export(given: Given, names: list[str], home: str) -> int:
    """Run `sessions export`. Raises `BackstayError`."""
    wish = given.last("to")
    if wish not in FORMATS:
        listed = ", ".join(FORMATS)
        raise UsageError(f"--to {wish}: it takes one of {listed}" if wish else f"--to {listed}")
    from backstay.cli.sessions import say

    wanted = Wanted(
        home=home,
        folder=find(PosixDisk(), home, names[0]),
        redact=given.last("redact", "default") == "default",
        out=given.last("output"),
        into=given.last("into"),
    )
    if wanted.into and wish != "codex":
        raise UsageError(f"--into is for --to codex: name a file for {wish} with -o")
    told = FORMATS[wish](wanted)
    if told:
        say(told)
    return 0


def redactor(home: str) -> "Redactor":
    """One that knows the user's own keys: those in the environment that providers are asked with."""
    from backstay.cli.sessions import say
    from backstay.doctor.export.redact import Redactor
    from backstay.errors import ConfigError
    from backstay.runtime.config import load

    names = {"OPENAI_API_KEY", "CODEX_API_KEY"}
    try:
        providers = load(home, os.getcwd(), []).configuration.model_providers
        names |= {str(one["env_key"]) for one in providers.values() if one.get("env_key")}
    except (ConfigError, OSError) as error:
        say(f"{error}; going on with the keys that are named as such")
    return Redactor(os.environ, frozenset(names))


def summary(found: "Redactor | None") -> str:
    """What is said at the end of an export."""
    if found is None:
        return "nothing was redacted (--redact none): it may hold keys and passwords"
    if not found.secrets:
        return "no secrets found in it; look before you pass it on"
    secrets = "1 secret" if found.secrets == 1 else f"{found.secrets} secrets"
    places = "1 place" if found.replaced == 1 else f"{found.replaced} places"
    return f"{secrets} redacted in {places}; look before you pass it on"


def write(out: str, chunks: Iterable[bytes]) -> None:
    """To stdout, or to a file that replaces what has its name once it is whole (mode 0600)."""
    if not out:
        sys.stdout.flush()
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    part = f"{out}.{os.getpid()}.part"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
            os.replace(part, out)
        except BaseException:
            os.unlink(part)
            raise
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror or error}: name another file with -o") from None


def _told(name: str) -> Export:
    """A format that is text, made of the session's story."""

    def run(wanted: Wanted) -> str:
        from importlib import import_module

        from backstay.cli.sessions import own_prices
        from backstay.doctor.export.source import source

        known = redactor(wanted.home) if wanted.redact else None
        found = source(PosixDisk(), wanted.folder, known, own_prices(wanted.home))
        made: Iterable[str] = import_module(f"backstay.doctor.export.{name}").made(found)
        write(wanted.out, (text.encode("utf-8", "replace") for text in made))
        return summary(known)

    return run


def _bundle(wanted: Wanted) -> str:
    from backstay.doctor.export.bundle import bundle

    if not wanted.out and sys.stdout.isatty():
        raise UsageError("a bundle is no text: name a file for it with -o FILE")
    known = redactor(wanted.home) if wanted.redact else None
    with bundle(PosixDisk(), wanted.folder, known) as chunks:
        write(wanted.out, chunks)
    return summary(known)


def _codex(wanted: Wanted) -> str:
    from backstay.doctor.export.rollout import Thread, file_name, rollout
    from backstay.journal import look

    if wanted.into and wanted.out:
        raise UsageError("give -o FILE or --into CODEX_HOME, not both")
    reading = look(PosixDisk(), wanted.folder)
    thread = Thread(
        id=wanted.folder.rpartition("/")[2],
        cwd=reading.identity.cwd if reading.identity else "",
    )
    if not wanted.into:
        write(wanted.out, rollout(thread, reading.records))
        return ""
    path = os.path.join(wanted.into, file_name(thread.id))
    if os.path.exists(path):
        raise UsageError(f"{path} is there already: remove it, or write another one with -o FILE")
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{wanted.into}: {error.strerror or error}") from None
    write(path, rollout(thread, reading.records))
    return f"{path}: codex resume {thread.id} goes on with it"


FORMATS: Final[dict[str, Export]] = {
    "md": _told("markdown"),
    "html": _told("page"),
    "jsonl": _told("stream"),
    "bundle": _bundle,
    "codex": _codex,
}

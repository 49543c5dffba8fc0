"""`import bundle FILE`: a session that was exported on this machine or on another one."""

import os
import secrets
import sys
import time

from backstay.cli.options import Given
from backstay.errors import UsageError
from backstay.journal import PosixDisk, uuid7
from backstay.runtime.config import default_home


def bundle(given: Given, names: list[str]) -> int:
    """Open each file as a session and print its id. Raises `BackstayError`."""
    from backstay.cli.terminal import harmless
    from backstay.doctor.export.unbundle import Wish, exists, unbundle

    if given.has("all") or not names:
        raise UsageError("import bundle: name the file")
    cwd = given.last("cwd")
    if cwd:
        cwd = os.path.abspath(cwd)
        if not os.path.isdir(cwd):
            raise UsageError(f"--cwd {cwd}: there is no such folder")
    disk, home = PosixDisk(), default_home(os.environ)
    for name in names:
        new = uuid7(time.time(), secrets.token_bytes(10)) if given.has("as-new") else ""
        opened = unbundle(disk, home, name, Wish(cwd, new))
        print(opened.id, flush=True)
        notes = list(opened.notes)
        if not exists(disk, opened.cwd):
            notes.append(f"its folder {opened.cwd} is not here: go on with resume -C FOLDER")
        for note in notes:
            print(f"backstay: {' '.join(harmless(note).split())}", file=sys.stderr)
    return 0

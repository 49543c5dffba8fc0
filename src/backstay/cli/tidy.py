"""`sessions rename`, `archive`, `unarchive`, `delete`, `gc` and `du`: what changes or weighs."""

import os
import sys
import time

import msgspec

from backstay.cli.listing import short_ids, width_of
from backstay.cli.options import Given
from backstay.cli.sessions import Progress, every_id, say
from backstay.cli.terminal import one_line
from backstay.errors import SessionHeld, UsageError
from backstay.journal import PosixDisk, holder, lock_path
from backstay.journal.label import Label, read_label, title_of, write_label
from backstay.journal.removal import Swept, is_at_work
from backstay.journal.removal import delete as remove
from backstay.journal.sessions import folders, read_entry
from backstay.runtime.forking import watched_disk


def rename(_: Given, words: list[str], home: str) -> int:
    """`rename ID TITLE`."""
    (folder,) = every_id(home, words[:1])
    title = title_of(" ".join(words[1:]))
    before = read_label(PosixDisk(), folder)
    write_label(PosixDisk(), folder, Label(title, before.archived))
    return 0


def archive(_: Given, words: list[str], home: str) -> int:
    """`archive ID...`."""
    return _archive(words, home, archived=True)


def unarchive(_: Given, words: list[str], home: str) -> int:
    """`unarchive ID...`."""
    return _archive(words, home, archived=False)


def _archive(words: list[str], home: str, *, archived: bool) -> int:
    for folder in every_id(home, words):
        before = read_label(PosixDisk(), folder)
        if before.archived != archived:
            write_label(PosixDisk(), folder, Label(before.title, archived))
    return 0


def delete(given: Given, words: list[str], home: str) -> int:
    """`delete ID...`: all are known and nobody writes them, or none is deleted."""
    chosen = every_id(home, words)
    for folder in chosen:
        who = holder(lock_path(folder))
        if who is not None:
            raise SessionHeld(f"session {_id(folder)} is being written by {who}: end that first")
        if is_at_work(folder):
            raise SessionHeld(f"commands of session {_id(folder)} are alive (backstay ps)")
    if not given.has("yes") and not _agreed(chosen):
        print("nothing was deleted", file=sys.stderr)
        return 1
    deleted = []
    try:
        for folder in chosen:
            forks = remove(watched_disk(), home, folder, time.time)
            deleted.append(_id(folder))
            shared = f"; {len(forks)} forks of it keep what they shared with it" if forks else ""
            print(f"deleted {_id(folder)}{shared}", file=sys.stderr)
    finally:
        _forget(home, deleted)
    return 0


def _agreed(chosen: list[str]) -> bool:
    """Whether the user says yes. Raises `UsageError` where nobody can be asked."""
    if not (sys.stdin and sys.stdin.isatty()):
        raise UsageError("delete asks first, and there is no terminal: --yes answers; none deleted")
    for folder in chosen:
        entry = read_entry(PosixDisk(), folder, 0.0)
        print(f"{entry.id}  {one_line(entry.name or '(no prompt)', 60)}", file=sys.stderr)
    which = "this session" if len(chosen) == 1 else f"these {len(chosen)} sessions"
    print(f"Delete {which} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _forget(home: str, deleted: list[str]) -> None:
    try:
        from backstay.journal.catalogue import forget
    except ImportError:
        return
    forget(home, deleted)


def gc(given: Given, _: list[str], home: str) -> int:
    """`gc`: the report says each sort that there was any of."""
    from backstay.runtime.sweep import sweep

    dry_run = given.has("dry-run")
    temporary = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - where ephemeral homes are made
    with Progress("") as told:
        report = sweep(home, temporary, dry_run=dry_run, progress=told)
    verb = "would free" if dry_run else "freed"
    print(f"{verb} {_bytes(report.size)}")
    for name, part in (
        ("effects that have ended", report.effects),
        ("blobs that no journal names", report.blobs),
        ("deleted sessions", report.trash),
        ("ephemeral sessions whose process was killed", report.ephemeral),
    ):
        _tell(part, name)
    if report.held:
        say(f"{report.held} sessions were left alone: they are being written")
    for folder in report.unread:
        say(f"{folder} can't be read: as long as that is so, no blob is removed")
    return 0


def _tell(part: Swept, name: str) -> None:
    if part.count:
        print(f"  {_bytes(part.size):>9}  {part.count} {name}")


def du(given: Given, _: list[str], home: str) -> int:
    """`du`: sessions by size, and the home by what it holds."""
    from backstay.journal.space import Space, measure

    limit = given.last("limit", "20")
    if not limit.isdecimal():
        raise UsageError(f"-n {limit}: it takes a number")
    found = measure(PosixDisk(), home)
    shown = found.sessions[: int(limit) or None]
    names = Space.__struct_fields__
    if given.has("json"):
        for folder, space in shown:
            fields = {"id": _id(folder), **msgspec.to_builtins(space), "total": space.total}
            print(msgspec.json.encode(fields, order="sorted").decode())
        return 0
    ids = short_ids(
        [_id(folder) for folder, _ in shown], sorted(map(_id, folders(PosixDisk(), home)))
    )
    wide = max(map(len, ids.values()), default=8)
    narrow = width_of(1) < 13 + wide + 10 * len(names)
    head = ["session", "total", *([] if narrow else names)]
    print("  ".join([head[0].ljust(wide), *(name.rjust(8) for name in head[1:])]))
    for folder, space in [*shown, ("", found.home)]:
        sizes = [space.total] + ([] if narrow else [getattr(space, name) for name in names])
        name = ids[_id(folder)] if folder else "all"
        print("  ".join([name.ljust(wide), *(_bytes(size).rjust(8) for size in sizes)]))
    if found.unused:
        print(f"{_bytes(found.unused)} of blobs are named by no journal: sessions gc removes them")
    return 0


def _id(folder: str) -> str:
    return folder.rpartition("/")[2]


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"

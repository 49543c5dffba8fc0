"""Bundles: the same session under another home, whatever becomes of the file on its way."""

import json
import os
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from backstay.core.items import message
from backstay.core.record import Call, ItemRecord, Output, Start
from backstay.doctor.export.bundle import bundle
from backstay.doctor.export.redact import Redactor
from backstay.doctor.export.unbundle import BadBundle, Opened, Wish, unbundle
from backstay.errors import BackstayError, NewerFormat, StorageError, UsageError
from backstay.journal import Blobs, Journal, PosixDisk, look
from backstay.journal.fork import fork
from backstay.journal.ids import uuid7
from backstay.journal.label import Label, read_label, write_label
from backstay.journal.payloads import outlined
from tests.doctor.export.planted import SECRETS, everything, printing, records, session
from tests.journal.homes import FIRST, command, done, head, turn
from tests.journal.sample import clock

DISK = PosixDisk()
NEW = uuid7(FIRST + 99, b"9" * 10)


def packed(folder: Path, target: Path, redactor: Redactor | None = None) -> Path:
    """The session as a bundle in this file."""
    with bundle(DISK, str(folder), redactor) as chunks:
        target.write_bytes(b"".join(chunks))
    return target


def opened(path: Path, home: Path, **wish: str) -> Opened:
    """The bundle as a session of this home."""
    return unbundle(DISK, str(home), str(path), Wish(**wish))


def found(home: Path, name: str) -> Path:
    """The folder of a session."""
    (folder,) = home.glob(f"sessions/*/*/*/{name}")
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A second home, as on another machine."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def large(home: Path) -> Path:
    """A session with a text in a blob and a title."""
    made = printing([head(), *turn(2, "go")], "a long line\n" * 20_000 + everything())
    folder = session(home, [outlined(one, Blobs(DISK, str(home), "t")) for one in made])
    write_label(DISK, str(folder), Label(title="the title", archived=True))
    return folder


def test_everything_is_there_again(home: Path, other: Path, tmp_path: Path) -> None:
    """Byte by byte the journal, each blob, the title; the same bundle each time it is made."""
    folder = large(home)
    path = packed(folder, tmp_path / "a.zip")
    assert path.read_bytes() == packed(folder, tmp_path / "b.zip").read_bytes()
    made = opened(path, other)
    assert (made.id, made.cwd, made.notes) == (folder.name, "/place", [])
    again = found(other, folder.name)
    assert (again / "journal.jsonl").read_bytes() == (folder / "journal.jsonl").read_bytes()
    assert look(DISK, str(again)).records == look(DISK, str(folder)).records
    assert read_label(DISK, str(again)) == Label(title="the title")
    modes = {path.stat().st_mode & 0o777 for path in other.rglob("*") if path.is_file()}
    assert modes == {0o600}


def test_without_secrets_every_record_keeps_its_number_and_shape(
    home: Path, other: Path, tmp_path: Path
) -> None:
    """Nothing planted is left in any file of it, blobs included, and no record is damaged."""
    for seed, folder in ((1, large(home)), (2, session(home, records(everything()), 2))):
        redactor = Redactor({})
        path = packed(folder, tmp_path / f"{seed}.zip", redactor)
        with zipfile.ZipFile(path) as archive:
            held = b"".join(archive.read(name) for name in archive.namelist())
        lines = [line for _, secret in SECRETS.values() for line in secret.split("\n")]
        assert [line for line in lines if line.encode() in held] == []
        assert redactor.secrets >= len(SECRETS)
        name = opened(path, other).id
        before, after = look(DISK, str(folder)), look(DISK, str(found(other, name)))
        assert after.damage == []
        assert [(r.n, type(r)) for r in after.records] == [(r.n, type(r)) for r in before.records]
        assert "[redacted:openai-key:1]" in str(after.records)


def test_a_session_without_secrets_is_not_changed_by_looking_for_them(
    home: Path, tmp_path: Path
) -> None:
    """The redacted journal has the same bytes, unknown kinds of record included."""
    folder = session(home, [head(), *turn(2, "nothing to hide")])
    journal = folder / "journal.jsonl"
    from binascii import crc32

    body = b'{"k":"newer","n":90,"more":[1,{"a":null}]'
    journal.write_bytes(journal.read_bytes() + b'%b,"c":"%08x"}\n' % (body, crc32(body)))
    with zipfile.ZipFile(packed(folder, tmp_path / "a.zip", Redactor({}))) as archive:
        assert archive.read("journal.jsonl") == journal.read_bytes()


def test_a_fork_brings_what_it_shares(home: Path, other: Path, tmp_path: Path) -> None:
    """Of a fork of a fork too: one file, and the same records without the others."""
    base = session(home, [head(), *turn(2, "one"), *turn(10, "two")])
    first = fork(DISK, str(base), uuid7(FIRST + 5, b"a" * 10), clock, turn=1)
    journal, reading = Journal.open(DISK, first.folder, clock)
    with journal:
        journal.commit(turn(reading.next_n, "three"))
    second = fork(DISK, first.folder, uuid7(FIRST + 6, b"b" * 10), clock)
    for redactor in (None, Redactor({})):
        path = packed(Path(second.folder), tmp_path / "a.zip", redactor)
        home_of_it = other / str(redactor is None)
        home_of_it.mkdir()
        opened(path, home_of_it)
        after = look(DISK, str(found(home_of_it, second.id)))
        assert after.records == look(DISK, second.folder).records
        assert after.damage == []
        assert after.identity is not None
        assert after.identity.id == second.id


def test_a_parent_that_is_gone_is_said(home: Path, other: Path, tmp_path: Path) -> None:
    """What there is comes along, and a line says what doesn't."""
    base = session(home, [head(), *turn(2, "one")])
    made = fork(DISK, str(base), uuid7(FIRST + 5, b"a" * 10), clock)
    (base / "journal.jsonl").unlink()
    (note,) = opened(packed(Path(made.folder), tmp_path / "a.zip"), other).notes
    assert base.name in note


def test_another_folder_and_another_id(home: Path, other: Path, tmp_path: Path) -> None:
    """In every record that says them, and nowhere else; the old id can still come."""
    folder = session(home, [head(), *turn(2, "go"), *turn(10, "in /place")])
    text = (folder / "journal.jsonl").read_text().replace('"id":"x"', f'"id":"{folder.name}"')
    from tests.doctor.export.resealed import resealed

    (folder / "journal.jsonl").write_bytes(resealed(text.encode()))
    path = packed(folder, tmp_path / "a.zip")
    made = opened(path, other, cwd="/new", new_id=NEW)
    assert (made.id, made.cwd) == (NEW, "/new")
    after = look(DISK, str(found(other, NEW)))
    assert after.damage == []
    assert after.identity is not None
    assert (after.identity.id, after.identity.cwd) == (NEW, "/new")
    told = (found(other, NEW) / "journal.jsonl").read_text()
    assert (folder.name in told, '"cwd":"/place"' in told, "in /place" in told) == (
        False,
        False,
        True,
    )
    assert opened(path, other).id == folder.name


def test_an_id_that_is_here_is_refused(home: Path, tmp_path: Path) -> None:
    """And the session that is here stays as it is."""
    folder = large(home)
    before = (folder / "journal.jsonl").read_bytes()
    with pytest.raises(UsageError, match="is here already: --as-new"):
        opened(packed(folder, tmp_path / "a.zip"), home)
    assert (folder / "journal.jsonl").read_bytes() == before


def test_calls_without_an_output_are_unknown_elsewhere(
    home: Path, other: Path, tmp_path: Path
) -> None:
    """Where they had started; so no effect is looked for and no patch goes on there."""
    made = [head(), *turn(2, "go")[:4], command(6, 3, "later")]
    folder = session(home, made)
    opened(packed(folder, tmp_path / "a.zip"), other)
    after = look(DISK, str(found(other, folder.name))).records
    assert isinstance(after[-1], Output)
    assert (after[-1].call, after[-1].status) == (4, "unknown")
    assert "verify before repeating" in after[-1].item["output"]
    assert len([one for one in after if isinstance(one, Output)]) == 1
    assert [type(one) for one in after[3:5]] == [Call, Start]


def test_a_session_that_runs_is_taken_as_far_as_it_is_whole(
    home: Path, other: Path, tmp_path: Path
) -> None:
    """A half-written line of the writer's is not; calls that may start any moment are unknown."""
    folder = session(home, [head(), *turn(2, "go")[:2], command(4, 3, "later")])
    journal, _ = Journal.open(DISK, str(folder), clock)
    with journal:
        with (folder / "journal.jsonl").open("ab") as file:
            file.write(b'{"k":"start","n":5')
        opened(packed(folder, tmp_path / "a.zip"), other)
    after = look(DISK, str(found(other, folder.name)))
    assert after.damage == []
    assert isinstance(after.records[-1], Output)


def test_damage_comes_along_as_damage(home: Path, other: Path, tmp_path: Path) -> None:
    """With --redact none each byte; else blanked, since half a secret is one too."""
    folder = session(home, [head(), *turn(2, "go")])
    journal = folder / "journal.jsonl"
    torn = b'{"k":"note","n":77,"text":"DB_PASSWORD=hun\n' + b"\0" * 50 + b"\n"
    journal.write_bytes(journal.read_bytes() + torn + b'{"k":"no')
    with zipfile.ZipFile(packed(folder, tmp_path / "a.zip")) as archive:
        assert archive.read("journal.jsonl") == journal.read_bytes()
    path = packed(folder, tmp_path / "b.zip", Redactor({}))
    with zipfile.ZipFile(path) as archive:
        text = archive.read("journal.jsonl")
    assert (len(text), b"hun" in text, b"\0" * 50 in text) == (
        len(journal.read_bytes()),
        False,
        True,
    )
    opened(path, other)
    before, after = look(DISK, str(folder)), look(DISK, str(found(other, folder.name)))
    assert after.records == before.records
    assert {one.offset for one in before.damage} <= {one.offset for one in after.damage}


def test_a_blob_that_is_gone_is_said(home: Path, other: Path, tmp_path: Path) -> None:
    """The rest comes along."""
    folder = large(home)
    largest = max((home / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    largest.unlink()
    assert "blobs were missing" in str(opened(packed(folder, tmp_path / "a.zip"), other).notes)


Change = Callable[[dict[str, bytes]], None]


def _without(name: str) -> Change:
    def run(files: dict[str, bytes]) -> None:
        del files[name]

    return run


def _manifest(change: Callable[[dict[str, object]], None]) -> Change:
    def run(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["manifest.json"])
        change(manifest)
        files["manifest.json"] = json.dumps(manifest).encode()

    return run


def _smuggled(name: str) -> Change:
    def run(files: dict[str, bytes]) -> None:
        files[name] = b"x"
        entry = {"bytes": 1, "sha256": sha256(b"x").hexdigest()}
        _manifest(lambda one: one["files"].update({name: entry}))(files)  # type: ignore[attr-defined]

    return run


BROKEN: dict[str, Change] = {
    "no manifest": _without("manifest.json"),
    "manifest is no json": lambda files: files.update({"manifest.json": b"{"}),
    "manifest of another shape": lambda files: files.update({"manifest.json": b"[1]"}),
    "another program's": _manifest(lambda one: one.update(format="x")),
    "no journal": _without("journal.jsonl"),
    "a byte of the journal": lambda files: files.update(
        {"journal.jsonl": files["journal.jsonl"][:-2] + b"!\n"}
    ),
    "a file that is not named": lambda files: files.update({"more": b""}),
    "a path out": _smuggled("../../outside"),
    "an absolute path": _smuggled("/tmp/outside"),
    "a blob under a wrong name": _smuggled(f"blobs/{'ab' * 32}"),
    "a hidden file": _smuggled("blobs/.profile"),
    "no id": _manifest(lambda one: one.update(session="../../x")),
    "a size that is not true": _manifest(
        lambda one: one["files"]["journal.jsonl"].update(bytes=5)  # type: ignore[index]
    ),
    "a negative size": _manifest(
        lambda one: one["files"]["journal.jsonl"].update(bytes=-5)  # type: ignore[index]
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bundle_that_is_not_whole_leaves_nothing(
    home: Path, other: Path, tmp_path: Path, name: str
) -> None:
    """One line that says why; the home stays empty."""
    path = packed(large(home), tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive:
        files = {one: archive.read(one) for one in archive.namelist()}
    BROKEN[name](files)
    with zipfile.ZipFile(path, "w") as archive:
        for one, content in files.items():
            archive.writestr(one, content)
    with pytest.raises(BadBundle) as error:
        opened(path, other)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path} is no whole bundle: ")
    assert list(other.rglob("*")) == []


def test_a_newer_bundle_is_said_to_be_newer(home: Path, other: Path, tmp_path: Path) -> None:
    """Not to be broken."""
    path = packed(large(home), tmp_path / "a.zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", b'{"format":"backstay-bundle","version":9,"files":3}')
    with pytest.raises(NewerFormat, match="upgrade"):
        opened(path, other)


def test_a_bomb_is_not_unfolded(other: Path, tmp_path: Path) -> None:
    """300 MB of zeros in 300 kB: refused by what the manifest says, or by what comes out."""
    path = tmp_path / "bomb.zip"
    size = 300_000_000
    for told in (size, 1000):
        manifest = {
            "version": 1, "session": NEW, "cwd": "/", "made_by": "", "redacted": False,
            "files": {"journal.jsonl": {"bytes": told, "sha256": "0" * 64}},
        }  # fmt: skip
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            with archive.open("journal.jsonl", "w") as file:
                for _ in range(size // 10_000_000):
                    file.write(bytes(10_000_000))
            archive.writestr("manifest.json", json.dumps({"format": "backstay-bundle", **manifest}))
        with pytest.raises(BadBundle, match=r"unfold|longer than it says"):
            opened(path, other)
    assert list(other.rglob("*")) == []


def test_any_cut_and_any_flipped_byte_is_an_error_or_harmless(
    home: Path, other: Path, tmp_path: Path
) -> None:
    """Never another exception; what opens is the very session."""
    folder = session(home, [head(), *turn(2, "go")])
    whole = packed(folder, tmp_path / "a.zip").read_bytes()
    path = tmp_path / "b.zip"
    expected = look(DISK, str(folder)).records
    for at in range(0, len(whole), 23):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]):
            path.write_bytes(content)
            target = other / str(at)
            try:
                made = opened(path, target)
            except (BadBundle, NewerFormat):
                assert not target.exists()
                continue
            assert look(DISK, str(found(target, made.id))).records == expected
            for part in sorted(target.rglob("*"), reverse=True):
                part.unlink() if part.is_file() else part.rmdir()
            target.rmdir()


def test_a_disk_that_is_full_leaves_no_session(home: Path, other: Path, tmp_path: Path) -> None:
    """A folder that can't be written is one error."""
    path = packed(large(home), tmp_path / "a.zip")
    other.rmdir()
    other.write_text("a file, no folder")
    with pytest.raises(StorageError):
        opened(path, other)
    with pytest.raises(StorageError):
        opened(tmp_path / "none.zip", home)
    assert isinstance(BadBundle("x"), BackstayError)
    assert os.listdir(tmp_path)


def test_an_image_in_a_blob_keeps_its_bytes(home: Path, other: Path, tmp_path: Path) -> None:
    """Also in a redacted bundle."""
    content = bytes(range(256)) * 10
    digest = Blobs(DISK, str(home), "t").put(content)
    made = [head(), *turn(2, "go")]
    made[5] = done(6, 4, whole=[digest])
    made[6] = ItemRecord(
        n=7, attempt=3, index=1, item=message("assistant", "sk-proj-" + "a1B2" * 8)
    )
    folder = session(home, made)
    opened(packed(folder, tmp_path / "a.zip", Redactor({})), other)
    assert (other / "blobs" / digest).read_bytes() == content

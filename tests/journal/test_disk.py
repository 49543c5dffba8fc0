"""What every disk does, the real one and the simulated one alike."""

import os
from pathlib import Path

import pytest

from backstay.errors import SessionHeld, StorageError
from backstay.journal import Absent, PosixDisk, Present
from backstay.journal.disk import Disk

Place = tuple[Disk, str]


def write(disk: Disk, path: str, content: bytes) -> None:
    """A new file with this content."""
    with disk.create(path) as file:
        file.append(content)


def content(disk: Disk, path: str) -> bytes:
    """All that a file holds."""
    with disk.open(path) as file:
        return file.read(0, file.size())


def test_what_is_appended_is_read_back(place: Place) -> None:
    """Appends follow one another, through one descriptor and the next."""
    disk, root = place
    write(disk, f"{root}/a", b"one")
    with disk.append_to(f"{root}/a") as file:
        file.append(b"two")
        file.append(b"")
        file.datasync()
        assert file.size() == 6
        assert file.read(2, 2) == b"et"
    assert content(disk, f"{root}/a") == b"onetwo"


def test_a_read_is_short_only_at_the_end(place: Place) -> None:
    """Behind the end there is nothing, and no error."""
    disk, root = place
    write(disk, f"{root}/a", b"abc")
    with disk.open(f"{root}/a") as file:
        assert file.read(1, 100) == b"bc"
        assert file.read(3, 1) == b""
        assert file.read(100, 1) == b""


def test_a_name_is_made_once(place: Place) -> None:
    """Creating is exclusive: the second one is told, and the file is as it was."""
    disk, root = place
    write(disk, f"{root}/a", b"first")
    with pytest.raises(Present):
        disk.create(f"{root}/a")
    assert content(disk, f"{root}/a") == b"first"


def test_nothing_is_opened_that_is_not_there(place: Place) -> None:
    """Every way to a missing path is `Absent`, which is a storage error."""
    disk, root = place
    missing = f"{root}/no/such"
    for attempt in (disk.open, disk.append_to, disk.list, disk.stat, disk.unlink, disk.mkdir):
        with pytest.raises(Absent):
            attempt(missing)
    with pytest.raises(Absent):
        disk.create(missing)
    with pytest.raises(Absent):
        disk.lock(missing, 0.0)
    assert issubclass(Absent, StorageError)


def test_a_folder_is_made_once(place: Place) -> None:
    """Making a folder says whether it was made; a file in its place is an error."""
    disk, root = place
    assert disk.mkdir(f"{root}/d")
    assert not disk.mkdir(f"{root}/d")
    write(disk, f"{root}/f", b"")
    with pytest.raises(StorageError):
        disk.mkdir(f"{root}/f")


def test_a_listing_is_sorted(place: Place) -> None:
    """A folder's names come in order."""
    disk, root = place
    for name in "bac":
        write(disk, f"{root}/{name}", b"")
    assert disk.list(root) == ["a", "b", "c"]


def test_a_path_has_a_size_and_a_sort(place: Place) -> None:
    """`stat` tells bytes and folders."""
    disk, root = place
    write(disk, f"{root}/a", b"1234")
    assert disk.stat(f"{root}/a").size == 4
    assert not disk.stat(f"{root}/a").folder
    assert disk.stat(root).folder


def test_a_rename_replaces(place: Place) -> None:
    """A rename moves over what has the name, and the old name is gone."""
    disk, root = place
    write(disk, f"{root}/a", b"new")
    write(disk, f"{root}/b", b"old")
    disk.rename(f"{root}/a", f"{root}/b")
    disk.sync_directory(root)
    assert disk.list(root) == ["b"]
    assert content(disk, f"{root}/b") == b"new"


def test_an_unlinked_name_is_gone(place: Place) -> None:
    """Unlinking takes the name away, once."""
    disk, root = place
    write(disk, f"{root}/a", b"")
    disk.unlink(f"{root}/a")
    assert disk.list(root) == []
    with pytest.raises(Absent):
        disk.unlink(f"{root}/a")


def test_a_file_is_cut_back(place: Place) -> None:
    """After truncation the next append goes to the new end."""
    disk, root = place
    write(disk, f"{root}/a", b"abcdef")
    with disk.append_to(f"{root}/a") as file:
        file.truncate(2)
        assert file.size() == 2
        file.append(b"X")
    assert content(disk, f"{root}/a") == b"abX"


def test_reading_does_not_write(place: Place) -> None:
    """A file opened for reading refuses to be written."""
    disk, root = place
    write(disk, f"{root}/a", b"abc")
    with disk.open(f"{root}/a") as file:
        with pytest.raises(StorageError):
            file.append(b"d")
        with pytest.raises(StorageError):
            file.truncate(0)
    assert content(disk, f"{root}/a") == b"abc"


def test_a_closed_file_is_closed(place: Place) -> None:
    """Closing twice is harmless, using it afterwards is a storage error."""
    disk, root = place
    file = disk.create(f"{root}/a")
    file.close()
    file.close()
    for use in (file.size, file.datasync, lambda: file.append(b"x"), lambda: file.read(0, 1)):
        with pytest.raises(StorageError):
            use()


def test_a_lock_is_taken_once(place: Place) -> None:
    """The second one is told that it is held; released it can be taken again."""
    disk, root = place
    lease = disk.lock(f"{root}/lock", 0.0)
    with pytest.raises(SessionHeld):
        disk.lock(f"{root}/lock", 0.0)
    lease.release()
    lease.release()
    again = disk.lock(f"{root}/lock", 0.0)
    assert (lease.held, again.held) == (False, True)
    again.release()


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    """Files are 0600, folders 0700, however generous the umask is."""
    disk = PosixDisk()
    old = os.umask(0)
    try:
        disk.mkdir(f"{tmp_path}/d")
        disk.create(f"{tmp_path}/d/f").close()
        disk.lock(f"{tmp_path}/d/lock", 0.0).release()
    finally:
        os.umask(old)
    modes = [path.stat().st_mode & 0o7777 for path in sorted(tmp_path.rglob("*"))]
    assert modes == [0o700, 0o600, 0o600]


def test_a_deleted_file_is_noticed(tmp_path: Path) -> None:
    """What is written to a file without a name would be lost: its size is an error."""
    with PosixDisk().create(f"{tmp_path}/a") as file:
        (tmp_path / "a").unlink()
        with pytest.raises(StorageError, match="deleted"):
            file.size()


@pytest.mark.parametrize("path", ["/proc/no\nsuch", "/no\0such"])
def test_a_message_is_one_line(path: str) -> None:
    """Whatever the path holds, the message is one line."""
    with pytest.raises(StorageError) as caught:
        PosixDisk().open(path)
    assert str(caught.value).isprintable()


def test_a_full_disk_says_what_to_do(small_disk: Path) -> None:
    """A full disk is a storage error that names the file and the way out."""
    told = "/a: No space left on device: free some space, then resume"
    with PosixDisk().create(f"{small_disk}/a") as file, pytest.raises(StorageError, match=told):
        file.append(bytes(1024 * 1024))

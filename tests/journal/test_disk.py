"""What every disk does, the real one and the simulated one alike."""

import errno
import os
import subprocess
import sys
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


def test_a_touch_makes_a_file_young(place: Place) -> None:
    """Its time of change is now, its content stays; what is not there is not made."""
    disk, root = place
    with disk.create(f"{root}/file") as file:
        file.append(b"content")
    if isinstance(disk, PosixDisk):
        os.utime(f"{root}/file", (1.0, 1.0))
    disk.touch(f"{root}/file")
    assert disk.stat(f"{root}/file").mtime != 1.0
    with disk.open(f"{root}/file") as file:
        assert file.read(0, 100) == b"content"
    with pytest.raises(Absent):
        disk.touch(f"{root}/missing")
    assert disk.list(root) == ["file"]


def test_a_rename_replaces(place: Place) -> None:
    """A rename moves over what has the name, and the old name is gone."""
    disk, root = place
    write(disk, f"{root}/a", b"new")
    write(disk, f"{root}/b", b"old")
    disk.rename(f"{root}/a", f"{root}/b")
    disk.sync_directory(root)
    assert disk.list(root) == ["b"]
    assert content(disk, f"{root}/b") == b"new"


def test_a_file_is_no_folder_and_a_folder_no_file(place: Place) -> None:
    """What is of the other sort is refused, and stays as it is."""
    disk, root = place
    write(disk, f"{root}/f", b"kept")
    disk.mkdir(f"{root}/d")
    for attempt in (disk.list, disk.sync_directory):
        with pytest.raises(Absent):
            attempt(f"{root}/f")
    for refused in (disk.append_to, disk.unlink):
        with pytest.raises(StorageError):
            refused(f"{root}/d")
    assert disk.list(root) == ["d", "f"]
    assert content(disk, f"{root}/f") == b"kept"


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


def test_a_folder_that_can_not_be_synced_need_not_be() -> None:
    """File systems that refuse to sync a folder as senseless (EINVAL) are no failure."""
    if not os.path.isdir("/proc/self"):
        pytest.skip("needs /proc, whose folders refuse it")
    fd = os.open("/proc", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            os.fsync(fd)
    finally:
        os.close(fd)
    PosixDisk().sync_directory("/proc")


BAD_DISK = """
import ctypes, struct, sys
from backstay.errors import StorageError
from backstay.journal import PosixDisk

file = PosixDisk().create(sys.argv[1] + "/a")
load, jump, answer = 0x20, 0x15, 0x06
program = [
    (load, 0, 0, 0),
    *((jump, 0, 1, number) if n == 0 else (answer, 0, 0, 0x00050005)
      for number in map(int, sys.argv[2:]) for n in (0, 1)),
    (answer, 0, 0, 0x7FFF0000),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in program))
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):
    sys.exit("no seccomp")
for sync in (file.datasync, lambda: PosixDisk().sync_directory(sys.argv[1])):
    try:
        sync()
    except StorageError as error:
        print(error)
file.close()
"""
SYNCS = {"x86_64": ("74", "75"), "aarch64": ("82", "83")}
"""The numbers of fsync and fdatasync on Linux."""


def test_a_sync_that_fails_is_told(tmp_path: Path) -> None:
    """A disk that is broken (EIO, here the kernel's answer to the call) is never kept quiet."""
    system = os.uname()
    if system.sysname != "Linux" or system.machine not in SYNCS:
        pytest.skip("the filter of system calls is written for Linux on x86_64 and aarch64")
    command = [sys.executable, "-c", BAD_DISK, str(tmp_path), *SYNCS[system.machine]]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.stderr.startswith("no seccomp"):
        pytest.skip("this kernel takes no filter of system calls")
    said = done.stdout.splitlines()
    assert [line.split(":")[0] for line in said] == [f"{tmp_path}/a", str(tmp_path)], done.stderr
    assert all(os.strerror(errno.EIO) in line and "check the disk" in line for line in said)


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

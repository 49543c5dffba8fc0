"""One writer a session, whatever becomes of processes (P9)."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backstay.errors import SessionHeld, StorageError
from backstay.journal import Holder, holder
from backstay.journal.lock import acquire

HOLD = """
import sys, time
from backstay.journal.lock import acquire
lease = acquire(sys.argv[1], 1760000000.0)
print("held", flush=True)
sys.stdin.read()
"""
TRY = """
import sys
from backstay.errors import SessionHeld
from backstay.journal.lock import acquire
try:
    acquire(sys.argv[1], 0.0)
except SessionHeld as error:
    sys.exit(str(error))
"""


@contextmanager
def holding(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock until its stdin is closed."""
    command = [sys.executable, "-c", HOLD, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def refusal(path: Path) -> str:
    """What a third process is told when it tries; "" if it gets the lock."""
    command = [sys.executable, "-c", TRY, str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True).stderr


def is_free(path: Path) -> bool:
    """Whether the lock can be taken here and now."""
    try:
        acquire(str(path), 0.0).release()
    except SessionHeld:
        return False
    return True


def test_a_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    """Pid, host and since are in the message and in what readers get."""
    path = tmp_path / "lock"
    with holding(path) as other:
        with pytest.raises(SessionHeld) as caught:
            acquire(str(path), 0.0)
        message = str(caught.value)
        assert f"pid {other.pid} on {os.uname().nodename} since 2025-10-0" in message
        assert message.isprintable()
        found = holder(str(path))
        start = int(Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19])
        assert found == Holder(other.pid, os.uname().nodename, start, 1_760_000_000.0)
        assert str(other.pid) in refusal(path)
    assert holder(str(path)) is None


def test_a_second_writer_in_the_same_process_is_refused(tmp_path: Path) -> None:
    """The lock is of the session, not of the process."""
    path = tmp_path / "lock"
    lease = acquire(str(path), 0.0)
    with pytest.raises(SessionHeld, match=f"pid {os.getpid()} "):
        acquire(str(path), 0.0)
    lease.release()
    assert is_free(path)


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    """After kill -9 the lock is free at once; what the file still says means nothing."""
    path = tmp_path / "lock"
    with holding(path) as other:
        other.kill()
        other.wait()
        assert str(other.pid) in path.read_text()
        assert holder(str(path)) is None
        assert is_free(path)


def test_a_stopped_holder_holds(tmp_path: Path) -> None:
    """The lock is not timed: a process that is stopped is still the writer."""
    path = tmp_path / "lock"
    with holding(path) as other:
        other.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, other.pid, os.WSTOPPED)
        assert not is_free(path)
        found = holder(str(path))
        assert found is not None
        assert found.pid == other.pid


def test_a_command_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """A child that was exec'ed keeps nothing: the lock is free when its parent gives it up."""
    path = tmp_path / "lock"
    lease = acquire(str(path), 0.0)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        try:
            assert not any(
                os.path.samefile(f"/proc/{child.pid}/fd/{fd}", path)
                for fd in os.listdir(f"/proc/{child.pid}/fd")
                if os.path.exists(f"/proc/{child.pid}/fd/{fd}")
            )
            lease.release()
            assert is_free(path)
        finally:
            child.kill()


def test_a_forked_child_has_no_lock_and_takes_none_away(tmp_path: Path) -> None:
    """Forking neither shares the lock nor drops it; it is free when the parent gives it up."""
    path = tmp_path / "lock"
    lease = acquire(str(path), 0.0)
    outer, inner = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(inner)
        os.read(outer, 1)
        os._exit(3 if lease.held else 0)
    os.close(outer)
    assert lease.held
    assert refusal(path), "the parent still has it"
    lease.release()
    assert is_free(path), "the child, which still runs, has it not"
    os.close(inner)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_text_without_a_lock_is_no_lock(tmp_path: Path) -> None:
    """Stale or foreign content does not keep anybody out."""
    path = tmp_path / "lock"
    for content in (b"", b"nonsense\0", b'{"pid":1,"host":"x","start":1,"since":1.0}'):
        path.write_bytes(content)
        assert holder(str(path)) is None
        assert is_free(path)


def test_an_unreadable_name_still_holds(tmp_path: Path) -> None:
    """A lock whose file says nothing is a lock; the holder is said to be unknown."""
    path = tmp_path / "lock"
    with holding(path):
        path.write_bytes(b"")
        with pytest.raises(SessionHeld, match="another process"):
            acquire(str(path), 0.0)
        found = holder(str(path))
        assert found is not None
        assert found.pid == 0


def test_asking_does_not_get_in_the_way(tmp_path: Path) -> None:
    """A writer that comes while others ask who holds the session gets it all the same."""
    path = tmp_path / "lock"
    acquire(str(path), 0.0).release()
    asking = (
        "import sys\nfrom backstay.journal import holder\n"
        "print(1, flush=True)\nwhile True: holder(sys.argv[1])"
    )
    command = [sys.executable, "-c", asking, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(500):
                acquire(str(path), 0.0).release()
        finally:
            process.kill()


def test_a_replaced_file_is_not_the_lock(tmp_path: Path) -> None:
    """A lock on a file that lost its name guards nothing: the new file is locked."""
    path = tmp_path / "lock"
    old = acquire(str(path), 0.0)
    path.unlink()
    new = acquire(str(path), 0.0)
    assert not is_free(path)
    new.release()
    old.release()


RACE = """
import os, sys
path, left = sys.argv[1], [sys.argv[2]]

def between(event, args):
    if event == "fcntl.flock" and left:
        if left.pop() == "replaced":
            os.rename(path + ".new", path)
        else:
            os.unlink(path)

from backstay.journal.lock import acquire
sys.addaudithook(between)
lease = acquire(path, 0.0)
print("held", left, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("what", ["replaced", "unlinked"])
def test_a_file_that_is_replaced_while_it_is_locked_is_not_the_lock(
    tmp_path: Path, what: str
) -> None:
    """Between the opening and the locking another one may come: the file of that name counts."""
    path = tmp_path / "lock"
    (tmp_path / "lock.new").touch()
    command = [sys.executable, "-c", RACE, str(path), what]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held []\n"
            assert not is_free(path)
            process.communicate()
        finally:
            process.kill()
    assert process.returncode == 0


REFUSED = """
import errno, os, sys
event, found = sys.argv[2], []

def refuse(name, args):
    if name == event and (name != "open" or args[0] == "/proc/self/stat"):
        found.append(name)
        raise OSError(errno.ENOLCK, "no locks")

from backstay.errors import StorageError
from backstay.journal.lock import acquire, holder
before = os.listdir("/dev/fd")
sys.addaudithook(refuse)
try:
    lease = acquire(sys.argv[1], 0.0)
except StorageError as error:
    print(error)
else:
    print(holder(sys.argv[1]).start)
    lease.release()
assert found
assert os.listdir("/dev/fd") == before
"""


def refused(path: Path, event: str) -> str:
    """What a process prints to whom the system refuses this; it leaves no descriptor open."""
    command = [sys.executable, "-c", REFUSED, str(path), event]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_a_disk_without_locks_says_what_to_do(tmp_path: Path) -> None:
    """Some network disks lock nothing: a storage error at once, with advice."""
    said = refused(tmp_path / "lock", "fcntl.flock")
    assert "no locks" in said
    assert "BACKSTAY_HOME" in said


def test_where_no_start_time_is_told_the_lock_holds_without(tmp_path: Path) -> None:
    """Systems without /proc have locks as well; the start time is then said to be 0."""
    assert refused(tmp_path / "lock", "open") == "0\n"


def test_nobody_holds_what_is_not_there(tmp_path: Path) -> None:
    """Asking for a session that does not exist is harmless and makes nothing."""
    assert holder(str(tmp_path / "lock")) is None
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_disk_gives_no_lock(small_disk: Path) -> None:
    """Where no lock file can be made there is a storage error, not a traceback."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match=os.strerror(errno.EROFS)):
        acquire(str(small_disk / "lock"), 0.0)


def test_a_full_disk_gives_no_lock(small_disk: Path) -> None:
    """A lock that could not name its holder is not taken."""
    (small_disk / "lock").touch()
    ballast = (small_disk / "ballast").open("wb", buffering=0)
    with ballast, pytest.raises(OSError, match="No space left"):
        while True:
            ballast.write(bytes(4096))
    with pytest.raises(StorageError, match="free some space"):
        acquire(str(small_disk / "lock"), 0.0)
    (small_disk / "ballast").unlink()
    assert is_free(small_disk / "lock")

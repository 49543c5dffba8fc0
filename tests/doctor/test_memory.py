"""Large sessions in bounded memory: examined and repaired by a process that may not have more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doctor.rollouts import NAME, PNG, call, compacted, image, meta, numbered, out, said, text

MB = 1024 * 1024
SCRIPT = """
import resource, sys
from backstay.doctor.repair import repair
from backstay.doctor.survey import Place, survey
room, path = int(sys.argv[1]), sys.argv[2]
list(survey([], lambda *_: None, detail=True))
held = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (held + room, held + room))
(one,) = survey([Place("codex", path)], lambda *_: None, detail=True)
done = repair(path)
print(one.findings.counts, len(done.words))
"""


def grow(path: Path, size: int) -> None:
    """A session of at least so many bytes: calls, images, outputs of 200 kB, compactions of all."""
    picture = PNG.rstrip("=") + "A" * 40_002
    turn = [said("go"), image(picture), call("c"), out("c", "x" * 200_000), said("ok", "assistant")]
    copies = compacted(*[said("y" * 10_000) for _ in range(100)])
    one = text(*numbered([*turn, copies], 0))
    number = 1
    with path.open("wb") as file:
        file.write(text(*numbered([meta(), said("x")])))
        while file.tell() < size:
            for line in one.splitlines():
                number += 1
                record = json.loads(line) | {"ordinal": number}
                file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        last = json.dumps(numbered([call("open")], number + 1)[0], separators=(",", ":"))
        file.write(last.encode() + b"\n")


def within(path: Path, room: int) -> str:
    """What the process says that may have so much address space more than its start took."""
    argv = [sys.executable, "-c", SCRIPT, str(room), str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_a_file_larger_than_the_memory(tmp_path: Path) -> None:
    """60 MB with 40 MB of room: what is wrong is found, and repaired."""
    path = tmp_path / NAME
    grow(path, 60 * MB)
    assert within(path, 40 * MB) == "{'call-without-output': 1} 1"


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_hundreds_of_megabytes(tmp_path: Path) -> None:
    """400 MB in the same room."""
    path = tmp_path / NAME
    grow(path, 400 * MB)
    said_of = within(path, 40 * MB)
    assert "'call-without-output': 1" in said_of
    assert "'oversize-payload': 1" in said_of

"""`backstay demo`: the main job, offline, with the faults that this project is about.

A small real repository with a failing test; a scripted model that reads, patches and runs it; the
real command as a process of its own. The stream is cut behind a finished patch, a later turn is
killed with SIGKILL and resumed. At the end the claims are checked, not only printed.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any, Final

from backstay.chaos import (
    ChaosServer,
    call,
    custom_call,
    cut,
    hold,
    judge,
    message,
    reasoning,
    response,
)
from backstay.cli.page import Page, print_page
from backstay.core.record import AnyRecord, Attempt, AttemptEnd, Call, Output, TurnEnd
from backstay.errors import BackstayError
from backstay.journal import PosixDisk, journal_path, read
from backstay.journal.sessions import list_sessions

PAGE: Final = Page(
    name="demo",
    text="""\
usage: backstay demo

Show, offline, what this is for: a cut stream and a kill -9 in the middle of real work, and what is
left of them. A small repository and a scripted model are made for it, and removed. Exit code 1 if
anything that it claims does not hold.
""",
)
_BROKEN: Final = """\
def total(prices, discount=0):
    \"\"\"The sum of the prices, less a discount in percent.\"\"\"
    return sum(prices) - discount
"""
_TEST: Final = """\
import unittest

from prices import total


class TotalTest(unittest.TestCase):
    def test_discount_is_a_percentage(self):
        self.assertEqual(total([40, 60], discount=10), 90)
        self.assertEqual(total([100, 100], discount=50), 100)


if __name__ == "__main__":
    unittest.main()
"""
_FIX: Final = """\
*** Begin Patch
*** Update File: prices.py
@@
     \"\"\"The sum of the prices, less a discount in percent.\"\"\"
-    return sum(prices) - discount
+    return sum(prices) * (100 - discount) / 100
*** Add File: CHANGES.txt
+discounts are percentages
*** End Patch
"""
_WAIT: Final = 60.0
"""Seconds; nothing in the demonstration takes nearly as long."""


class _Stage:
    """The folder of one demonstration and what is in it."""

    def __init__(self) -> None:
        self.root = os.path.realpath(tempfile.mkdtemp(prefix="backstay-demo-"))
        self.project = os.path.join(self.root, "project")
        self.home = os.path.join(self.root, "home")
        self.ledger = os.path.join(self.root, "effects.txt")
        """Every command of the model writes its name here when it runs: the effects, counted."""
        os.mkdir(self.project)
        for name, text in (("prices.py", _BROKEN), ("test_prices.py", _TEST)):
            with open(os.path.join(self.project, name), "w", encoding="utf-8") as file:
                file.write(text)
        if shutil.which("git"):
            _git(self.project, "init", "-q")
            _git(self.project, "add", "-A")
            _git(self.project, "commit", "-qm", "A small shop")

    def tests(self) -> str:
        return f"{_quoted(sys.executable)} -B -m unittest -q 2>&1"

    def counted(self, name: str, command: str) -> dict[str, str]:
        """The arguments of an exec_command that leaves its name in the ledger."""
        return {"cmd": f"echo {name} >> {_quoted(self.ledger)}; {command}"}

    def runs(self, name: str) -> int:
        """How often the command of that name ran, by the ledger."""
        try:
            with open(self.ledger, encoding="utf-8") as file:
                return file.read().split().count(name)
        except FileNotFoundError:
            return 0

    def passes(self) -> bool:
        """Whether the project's test passes now, run by us."""
        argv = [sys.executable, "-B", "-m", "unittest", "-q"]
        done = subprocess.run(argv, cwd=self.project, capture_output=True, check=False)
        return done.returncode == 0

    def session(self) -> str:
        """The id of the one session of the demonstration's home."""
        return list_sessions(PosixDisk(), self.home)[0].id

    def journal(self) -> str:
        return journal_path(list_sessions(PosixDisk(), self.home)[0].path)

    def records(self) -> Sequence[AnyRecord]:
        try:
            return read(PosixDisk(), self.journal(), everything=True).records
        except (BackstayError, IndexError):
            return []


def script(stage: _Stage) -> list[dict[str, Any]]:
    """What the model says, response by response, and how the streams break."""
    patched = os.path.join(stage.project, "CHANGES.txt")
    slow = f"sleep 3; {stage.tests()} && echo all is well"
    return [
        response(
            reasoning("Look at the code and its test first."),
            call("exec_command", stage.counted("explore", "ls; cat prices.py test_prices.py")),
        ),
        response(call("exec_command", stage.counted("first-test", stage.tests()))),
        response(
            custom_call("apply_patch", _FIX),
            message("I have fixed the discount; now I"),
            fault=cut(after="call", when=patched),
        ),
        response(call("exec_command", stage.counted("second-test", stage.tests()))),
        response(message("A discount was subtracted as an amount. It is a percentage now.")),
        response(
            call("exec_command", stage.counted("note", "echo checked >> CHECKED.txt; echo noted")),
            call("exec_command", stage.counted("slow-check", slow) | {"yield_time_ms": 20000}),
            hold=hold(os.path.join(stage.root, "never"), before="terminal", seconds=_WAIT),
        ),
        response(message("Checked once more: the whole suite passes.")),
    ]


def main(argv: Sequence[str] = ()) -> int:
    """Run the demonstration; 0 if everything that it claims was seen to hold."""
    if argv and argv[0] in ("-h", "--help"):
        print_page(PAGE)
        return 0
    if argv:
        sys.stderr.write("backstay: demo takes no arguments\n")
        return 2
    stage = _Stage()
    with ChaosServer(script(stage), strict=True) as server:
        environ = _environ(stage, server.url)
        _say("A small repository with a failing test. The model fixes it; behind its finished")
        _say("patch the stream is cut, before `response.completed`.\n")
        _follow(_start(stage, environ, ["exec", "The test fails. Find out why and fix it."]))
        _say("\nA second turn: two commands run side by side. When the quick one is done and the")
        _say("slow one is running, the agent is killed with SIGKILL.\n")
        session = stage.session()
        prompt = "Check everything once more."
        _killed(stage, _start(stage, environ, ["exec", "resume", session, prompt]))
        _say("\nThe same session is resumed, without a new message.\n")
        code = _follow(_start(stage, environ, ["exec", "resume", session]))
        found = _claims(stage, server, code)
    return _report(stage, found)


def _environ(stage: _Stage, url: str) -> dict[str, str]:
    hidden = (
        "CODEX_API_KEY",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
    )
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return kept | {
        "BACKSTAY_HOME": stage.home,
        "OPENAI_BASE_URL": url,
        "OPENAI_API_KEY": "demo",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _start(stage: _Stage, environ: dict[str, str], arguments: list[str]) -> subprocess.Popen[str]:
    shown = " ".join(_quoted(word) for word in arguments)
    _say(f"  $ backstay {shown}")
    argv = [sys.executable, "-m", "backstay", *arguments]
    argv += ["-m", "demo-model", "--dangerously-bypass-approvals-and-sandbox"]
    return subprocess.Popen(
        argv,
        cwd=stage.project,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def _follow(process: subprocess.Popen[str]) -> int:
    """Show what the agent says, to its end."""
    _relay(process.stdout)
    return process.wait()


def _relay(stream: IO[str] | None) -> None:
    for line in stream or ():
        _say(f"  │ {line.rstrip()}")


def _killed(stage: _Stage, process: subprocess.Popen[str]) -> None:
    """Kill the agent once the quick command's output is recorded and the slow one runs."""
    reader = threading.Thread(target=_relay, args=(process.stdout,))
    reader.start()
    until = time.monotonic() + _WAIT
    while process.poll() is None and time.monotonic() < until:
        if _noted(stage) and stage.runs("slow-check"):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    reader.join()
    _say(f"  ✗ killed (exit {process.returncode})")


def _noted(stage: _Stage) -> bool:
    """Whether the quick command's output is in the journal."""
    return any(isinstance(one, Output) and "noted" in str(one.item) for one in stage.records())


def _claims(stage: _Stage, server: ChaosServer, code: int) -> list[tuple[str, str, bool]]:
    """What is claimed, what was found, and whether that is so."""
    records = stage.records()
    ends = [one for one in records if isinstance(one, AttemptEnd)]
    cuts = sum(one.outcome == "cut" for one in ends)
    died = sum(one.outcome == "died" for one in ends)
    calls = [one for one in records if isinstance(one, Call)]
    outputs = [one for one in records if isinstance(one, Output)]
    turns = [one for one in records if isinstance(one, TurnEnd)]
    verdict = judge(server.requests)
    retry = str(server.bodies[3].get("input")) if len(server.bodies) > 3 else ""
    last = str(server.bodies[-1].get("input"))
    true = all(one.status == "done" for one in outputs)
    return [
        ("streams cut before their end", f"{cuts}", cuts == 1),
        ("the retry holds the patch's true output", "A CHANGES.txt", "A CHANGES.txt" in retry),
        ("agents killed in the middle of a turn", f"{died}", died == 1),
        ("the resumed turn has the killed command's output", "all is well", "all is well" in last),
        ("calls / outputs", f"{len(calls)} / {len(outputs)}", len(calls) == len(outputs) == 6),
        ("outputs that are the tool's own", f"{sum(o.status == 'done' for o in outputs)}", true),
        (
            "turns completed",
            f"{sum(t.outcome == 'completed' for t in turns)}",
            code == 0 and [t.outcome for t in turns] == ["completed", "completed"],
        ),
        (
            "requests, judged by the server",
            f"{len(server.requests)}, {'all well-formed' if verdict.ok else verdict.table()}",
            verdict.ok and len(server.requests) == sum(isinstance(o, Attempt) for o in records),
        ),
        ("the project's test", "passes" if stage.passes() else "fails", stage.passes()),
    ]


def _effects(stage: _Stage) -> Iterator[tuple[str, int]]:
    for name in ("explore", "first-test", "second-test", "note", "slow-check"):
        yield name, stage.runs(name)
    with open(os.path.join(stage.project, "prices.py"), encoding="utf-8") as file:
        yield "apply_patch", file.read().count("(100 - discount) / 100")


def _report(stage: _Stage, found: list[tuple[str, str, bool]]) -> int:
    _say("\nWhat happened")
    for claim, seen, holds in found:
        _say(f"  {'✓' if holds else '✗'} {claim:<50} {seen}")
    effects = list(_effects(stage))
    _say("\nHow often each effect ran")
    for name, count in effects:
        _say(f"  {'✓' if count == 1 else '✗'} {name:<50} {count}")
    _say(f"\nProject   {stage.project}\nJournal   {stage.journal()}")
    _say(f"Read it   BACKSTAY_HOME={stage.home} backstay sessions show {stage.session()}")
    good = all(holds for _, _, holds in found) and all(count == 1 for _, count in effects)
    _say("\nEverything held." if good else "\nSomething did not hold: see ✗ above.")
    return 0 if good else 1


def _git(folder: str, *arguments: str) -> None:
    who = ("-c", "user.name=Backstay demo", "-c", "user.email=demo@localhost")
    argv = ["git", *who, *arguments]
    subprocess.run(argv, cwd=folder, check=False, capture_output=True)


def _quoted(text: str) -> str:
    plain = all(char.isalnum() or char in "/._-" for char in text)
    return text if plain and text else "'" + text.replace("'", "'\\''") + "'"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

"""`backstay` as a process on a bench: a scripted provider, real commands, a ledger of effects.

Owns starting, watching, killing and resuming. What a test claims is the test's own.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import backstay
from backstay.chaos import ChaosProxy, ChaosServer, Request, call, hold, judge, response
from backstay.core.items import message_text
from backstay.core.record import AnyRecord, Call, Output, Start, TurnEnd
from backstay.errors import BackstayError
from backstay.journal import PosixDisk, journal_path, read
from backstay.journal.sessions import list_sessions

JSON = dict[str, Any]
PATIENCE = 20.0
"""Seconds; nothing that a test waits for takes nearly as long."""
_NOT_INHERITED = (
    "ALL_PROXY",
    "BACKSTAY_DEBUG",
    "CODEX_API_KEY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "OPENAI_BASE_URL",
)


class Ended(NamedTuple):
    """How a run of the command line ended."""

    code: int
    out: str
    err: str

    def one_line(self) -> str:
        """The one line on stderr; fails if there are more, or none."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


class Agent:
    """One process of the command line; its output goes to files, so that nothing ever blocks."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._out = out
        self._err = err

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self.process.poll() is None

    @property
    def out(self) -> str:
        """Its stdout so far."""
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        """Its stderr so far."""
        return self._err.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`, and wait for the end."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def end(self, patience: float = PATIENCE) -> Ended:
        """Wait for its own end, so many seconds."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the agent does not end; stderr:\n{self.err}") from None
        return Ended(code, self.out, self.err)


class Bench:
    """A home, a folder to work in, a provider that plays a script, and a ledger."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        self.home = home
        self.cwd = root / "work"
        self.cwd.mkdir(exist_ok=True)
        self.ledger = root / "ledger"
        """Every counted command writes its name here when it begins, and `NAME-end` at its end."""
        self.server: ChaosServer | ChaosProxy = ChaosServer([])
        self.requests: list[Request] = []
        """What all servers so far were sent, but for the one that serves now."""
        self.environ: dict[str, str] = {}
        """What is set for the agents beside the usual."""
        self._agents: list[Agent] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for agent in self._agents:
            if agent.running:
                agent.kill()
        self.server.stop()

    def serve(self, *script: JSON, **options: Any) -> None:
        """Play this script from now on; the provider is strict unless it is told otherwise."""
        self._play(list(script), options)

    def improvise(self, script: Callable[[JSON], JSON], **options: Any) -> None:
        """Answer each request from now on with what this function makes of its body."""
        self._play(script, options)

    def _play(self, script: Any, options: JSON) -> None:
        self.server.stop()
        self.requests += self.server.requests
        self.server = ChaosServer(script, **({"strict": True} | options))
        self.server.start()

    # Running it

    def start(self, *words: str, stdin: bytes = b"", out: Any = None, program: str = "") -> Agent:
        """Start `backstay WORDS`, or a program in Python; `out` takes the place of stdout's file."""
        number = len(self._agents)
        given = self.root / f"stdin-{number}"
        given.write_bytes(stdin)
        files = self.root / f"stdout-{number}", self.root / f"stderr-{number}"
        with given.open("rb") as source, files[0].open("wb") as sink, files[1].open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, *(["-c", program] if program else ["-m", "backstay"]), *words],
                cwd=self.cwd,
                env=self._environment(),
                stdin=source,
                stdout=sink if out is None else out,
                stderr=err,
                start_new_session=True,
            )
        self._agents.append(Agent(process, *files))
        return self._agents[-1]

    def exec(self, *words: str, **more: Any) -> Agent:
        """Start `backstay exec WORDS` with a model and without a word about confinement."""
        return self.start("exec", "-m", "m", "--yolo", *words, **more)

    def resume(self, *words: str, **more: Any) -> Agent:
        """Start `backstay exec resume ID WORDS` on the one session of this home."""
        return self.exec("resume", self.session, *words, **more)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if name.upper() not in _NOT_INHERITED
        }
        source = os.path.dirname(os.path.dirname(os.path.abspath(backstay.__file__)))
        return kept | {
            "BACKSTAY_HOME": str(self.home),
            "OPENAI_API_KEY": "sk-test-key",
            "OPENAI_BASE_URL": self.server.url,
            "PYTHONPATH": source,
            **self.environ,
        }

    def errors(self) -> str:
        """What all agents so far have written to stderr."""
        return "\n".join(agent.err for agent in self._agents)

    # The model's commands

    def counted(self, name: str, command: str) -> str:
        """A shell command that leaves its name in the ledger when it begins and when it has ended."""
        ledger = shlex.quote(str(self.ledger))
        return f"echo {name} >> {ledger}\n{command}\necho {name}-end >> {ledger}"

    def command(
        self, name: str, command: str = "true", call_id: str | None = None, **more: Any
    ) -> JSON:
        """A call of a counted command; it prints `NAME-output` when it is done."""
        counted = self.counted(name, f"{command}\necho {name}-output")
        return call("exec_command", {"cmd": counted, "yield_time_ms": 30_000} | more, call_id)

    def held(self, *items: JSON) -> JSON:
        """A response whose stream stays open behind its items until the client is gone."""
        return response(*items, hold=hold(self.root / "never", before="terminal", seconds=60))

    def runs(self, name: str) -> int:
        """How often a counted command began, or with `NAME-end` came to its end."""
        return self.ledger.read_text().split().count(name) if self.ledger.exists() else 0

    # What is there

    def wait(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
        """Wait until the condition holds, so many seconds."""
        until = time.monotonic() + patience
        while not condition():
            if time.monotonic() > until:
                raise AssertionError(f"waited in vain: {what}; stderr:\n{self.errors()}")
            time.sleep(0.01)

    @property
    def session(self) -> str:
        """The id of the one session in this home."""
        (one,) = list_sessions(PosixDisk(), str(self.home))
        return one.id

    @property
    def folder(self) -> Path:
        """The folder of the one session in this home."""
        (one,) = list_sessions(PosixDisk(), str(self.home))
        return Path(one.path)

    @property
    def journal(self) -> Path:
        """Its journal."""
        return Path(journal_path(str(self.folder)))

    def records(self) -> Sequence[AnyRecord]:
        """What the journal holds now; nothing if there is none yet."""
        try:
            return read(PosixDisk(), str(self.journal), everything=True).records
        except (BackstayError, ValueError):
            return []

    def calls(self) -> list[Call]:
        """The call records."""
        return [one for one in self.records() if isinstance(one, Call)]

    def starts(self) -> list[Start]:
        """The start records."""
        return [one for one in self.records() if isinstance(one, Start)]

    def outputs(self) -> list[Output]:
        """The output records."""
        return [one for one in self.records() if isinstance(one, Output)]

    def statuses(self) -> list[str]:
        """How the calls came to their outputs, in call order."""
        return [one.status for one in sorted(self.outputs(), key=lambda one: one.call)]

    def turns(self) -> list[str]:
        """How the turns ended."""
        return [one.outcome for one in self.records() if isinstance(one, TurnEnd)]

    def exited(self) -> int:
        """How many effects have their exit recorded by the supervisor."""
        return len(list(self._effects("exit.json")))

    def spooled(self) -> int:
        """Bytes that the supervisor has saved of what the commands printed."""
        return sum(path.stat().st_size for path in self._effects("spool-*"))

    def _effects(self, name: str) -> Iterator[Path]:
        return self.home.glob(f"sessions/*/*/*/*/effects/*/{name}")

    def inputs(self) -> list[list[JSON]]:
        """The input of every request, in order."""
        return [request.body["input"] for request in (*self.requests, *self.server.requests)]

    def sent(self) -> list[str]:
        """The outputs in the last request, in order, as texts."""
        last = self.inputs()[-1]
        return [message_text(one) for one in last if str(one["type"]).endswith("_output")]

    def check(self) -> None:
        """The provider's judgement: paired, no output lost, each request extends the last."""
        verdict = judge([*self.requests, *self.server.requests])
        assert verdict.ok, verdict.table()
        assert not self.server.problems


def alive(mark: str) -> list[int]:
    """The processes with this text in their command line, zombies and our own left out (/proc)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if mark.encode() in words and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found

"""The command line as a process, with a home of its own and a scripted provider."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LINE = "sandbox workspace-write: commands are not confined yet"
"""How the one line that every unconfined run says begins."""


class Command:
    """Starts `backstay` with this home, working folder and provider."""

    def __init__(self, home: Path, cwd: Path, url: str = "http://127.0.0.1:9/v1") -> None:
        self.home = home
        self.cwd = cwd
        self.url = url

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Nothing of the tester's own configuration gets in."""
        kept = {
            name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ
        }
        own = {
            "HOME": str(self.home.parent),
            "BACKSTAY_HOME": str(self.home),
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": self.url,
        }
        return kept | own | dict(more or {})

    def start(
        self, *args: str, env: Mapping[str, str] | None = None, **how: Any
    ) -> subprocess.Popen[bytes]:
        """The process, its output on pipes unless told otherwise, in a session of its own."""
        pipes: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "backstay", *args],
            cwd=self.cwd,
            env=self.environment(env),
            start_new_session=True,
            **(pipes | how),
        )

    def run(
        self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, **how: Any
    ) -> "Done":
        """The process to its end."""
        process = self.start(*args, env=env, stdin=subprocess.PIPE, **how)
        out, err = process.communicate(stdin, timeout=50)
        return Done(process.returncode, (out or b"").decode(), (err or b"").decode())


class Done:
    """A process that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of stdout as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def types(self) -> list[str]:
        """The events' types, with the items' behind a colon."""
        return [
            event["type"] + (f":{event['item']['type']}" if "item" in event else "")
            for event in self.events
        ]

    @property
    def complaint(self) -> str:
        """What stderr says beside what every run says: one line, or the assertion fails."""
        lines = [line for line in self.err.splitlines() if not line.startswith(LINE)]
        assert len(lines) == 1, self.err
        return lines[0]

    @property
    def session(self) -> str:
        """The session's id, as the first event says it."""
        return str(self.events[0]["thread_id"])


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, killed at the end of the block if it still runs, its pipes closed."""
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

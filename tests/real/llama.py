"""A real llama.cpp server with a real model, and `backstay` in front of it behind a recording proxy.

Owns starting the server (or finding the one that runs) and the settings of the agent.

BACKSTAY_LLAMA_URL     a server that runs: http://127.0.0.1:8080/v1
BACKSTAY_LLAMA_SERVER  otherwise: the program `llama-server`, which is started on a free port,
BACKSTAY_LLAMA_MODEL   with this GGUF file
BACKSTAY_LLAMA_ARGS    and with these arguments too: --chat-template-file FILE
"""

import os
import shlex
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from backstay.chaos import ChaosProxy
from backstay.core.items import message_text
from backstay.core.record import Call, ItemRecord
from tests.process.agent import Agent, Bench, Ended

PATIENCE = 900.0
"""Seconds for a turn, or for loading a model: a small machine reads 20 tokens a second."""
CONTEXT = 16384
SETTINGS = """\
model = "any"
model_provider = "llamacpp"
model_context_window = {context}
model_instructions_file = "short.md"

[model_providers.llamacpp]
base_url = "{url}"
stream_idle_timeout_ms = 900000
"""
SHORT = """\
You are a coding agent. You work in a folder on the user's computer, through tools. Do what the user \
asks, then say in a sentence what came out. Make no call that the task does not need.
"""
"""A model of 1.5B does better with it than with a prompt of 1600 tokens, and reads it sooner."""


class Real(Bench):
    """A bench whose provider is the real server; what it is sent goes through a proxy."""

    def __init__(self, root: Path, home: Path, url: str) -> None:
        super().__init__(root, home)
        self.url = url
        (home / "short.md").write_text(SHORT)
        self.through()

    def through(self, *plan: Any) -> None:
        """Break the next answers like this, as a plan of the proxy has it; without one, none."""
        self.server.stop()
        self.requests += self.server.requests
        self.server = ChaosProxy(self.url, plan)
        self.server.start()
        text = SETTINGS.format(url=self.server.url, context=CONTEXT)
        (self.home / "config.toml").write_text(text)

    def exec(self, *words: str, **more: Any) -> Agent:
        """Start `backstay exec WORDS`, a few requests long at most."""
        return self.start("exec", "--yolo", "--max-steps", "5", *words, **more)

    def end(self, agent: Agent) -> Ended:
        """Wait for its own end."""
        return agent.end(PATIENCE)

    def said(self) -> str:
        """What the model said and called, for people who wonder why a test failed."""
        items = [one.item for one in self.records() if isinstance(one, ItemRecord | Call)]
        return "\n".join(
            f"  {one.get('name') or one['type']}: {one.get('arguments') or message_text(one)}"
            for one in items
        )


@contextmanager
def serving(program: str, model: str, log: Path) -> Iterator[str]:
    """Start `llama-server` on a free port of loopback; gives its base URL, ends it at the end."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    line = [program, "-m", model, "--host", "127.0.0.1", "--port", str(port), "--jinja"]
    line += ["-c", str(CONTEXT), "-np", "1", "--temp", "0", "--offline"]
    line += shlex.split(os.environ.get("BACKSTAY_LLAMA_ARGS", ""))
    with log.open("wb") as sink:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    try:
        until = time.monotonic() + PATIENCE
        while not healthy(f"http://127.0.0.1:{port}/health"):
            text = log.read_text(errors="replace")
            assert process.poll() is None, f"it ended:\n{text[-2000:]}"
            assert time.monotonic() < until, f"it is not ready:\n{text[-2000:]}"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def healthy(url: str) -> bool:
    """It answers with 200: its model is loaded."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

"""The agent that is tried: its command, filled in, started, watched, killed and resumed.

Owns the process and what it prints. Which faults it meets and what is claimed of it is elsewhere.
"""

import os
import re
import shlex
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from backstay.chaos.script import ScriptError
from backstay.chaos.trial import processes

KEY = "sk-chaos-trial-key"
PLACES = ("url", "key", "cwd", "home", "prompt", "session")
_UUID = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE
)
_COMPLAINT = re.compile("error|fail|refuse|denied|panic", re.IGNORECASE)
_PLACE = re.compile("{(" + "|".join(PLACES) + ")}")
# Another agent's home would show the trial sessions that are not its own, or keep the trial's.
_DROPPED = re.compile(
    r"BACKSTAY_.*|CODEX_.*|OPENAI_.*|XDG_(CONFIG|DATA|STATE|CACHE)_HOME|(HTTPS?|ALL|NO)_PROXY",
    re.IGNORECASE,
)


class Recipe(Struct, frozen=True):
    """How the agent is run: its command's words, the resuming one's, where its session's id stands."""

    command: list[str]
    resume: list[str] | None = None
    session_from: str | None = None
    timeout: float = 60.0


class Ended(Struct, frozen=True):
    """How a run came to its end; no code: it did not within the time limit and was killed."""

    code: int | None
    out: str
    err: str

    @property
    def last_words(self) -> str:
        """The last line that speaks of an error, else the last one; at most 200 characters."""
        lines = [line.strip() for line in f"{self.out}\n{self.err}".splitlines() if line.strip()]
        complaints = [line for line in lines if _COMPLAINT.search(line)]
        spoken = complaints or lines
        return spoken[-1][:200] if spoken else "nothing was printed"


class Run:
    """One process of the agent; what it prints goes to files, so that it never blocks on us."""

    def __init__(
        self, argv: list[str], environ: dict[str, str], cwd: str, files: str, stdin: str
    ) -> None:
        self._paths = (f"{files}.out", f"{files}.err")
        with open(f"{files}.in", "w+", encoding="utf-8") as given:
            given.write(stdin)
            given.seek(0)
            with open(self._paths[0], "wb") as out, open(self._paths[1], "wb") as err:
                try:
                    self.process = subprocess.Popen(
                        argv,
                        cwd=cwd,
                        env=environ,
                        stdin=given,
                        stdout=out,
                        stderr=err,
                        start_new_session=True,
                    )
                except OSError as error:
                    raise ScriptError(f"{argv[0]}: cannot be run: {error.strerror}") from None

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self.process.poll() is None

    def end(self, seconds: float) -> Ended:
        """Wait for its own end, at most so long; then kill it."""
        try:
            code: int | None = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        return Ended(code, *map(_text, self._paths))

    def kill(self, mark: str, spared: str) -> None:
        """`kill -9` the agent: its process group, but no process whose command line has `spared`."""
        group = self.process.pid
        for one in processes.marked(mark):
            if one.group == group and one.pid != group and spared not in one.words:
                processes.send(one.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it: SIGINT to the whole process group."""
        try:
            os.killpg(self.process.pid, signal.SIGINT)
        except ProcessLookupError:
            pass

    @property
    def printed(self) -> str:
        """Both outputs so far."""
        return "\n".join(map(_text, self._paths))


class Agent:
    """The agent in one trial: a home, a folder to work in, a provider's URL, one session."""

    def __init__(self, recipe: Recipe, root: str, mark: str) -> None:
        self.recipe = recipe
        self.root = root
        self.mark = mark
        self.cwd = os.path.join(root, "work")
        self.home = os.path.join(root, "home")
        self.url = ""
        self.session: str | None = None
        self.runs: list[Run] = []
        if any("{session}" in word for word in recipe.command):
            self.session = str(uuid.uuid4())
        os.makedirs(self.cwd)
        os.makedirs(self.home, mode=0o700)

    def start(self, prompt: str) -> Run:
        """Start the agent on a prompt."""
        return self._run(self.recipe.command, prompt)

    def resume(self, prompt: str) -> Run:
        """Start it again on the same session; the session's id must be known, if it is asked for."""
        return self._run(self.recipe.resume or [], prompt)

    def learn_session(self) -> str | None:
        """The session's id from what the first run printed so far."""
        if self.session is None and self.runs:
            self.session = session_in(self.runs[0].printed, self.recipe.session_from)
        return self.session

    @property
    def can_name_session(self) -> bool:
        """Resuming needs no id, or the id is known."""
        needed = any("{session}" in word for word in self.recipe.resume or ())
        return not needed or self.learn_session() is not None

    def close(self) -> None:
        """End everything that was started here."""
        for run in self.runs:
            if run.running:
                run.process.kill()
        processes.end(self.mark)
        for run in self.runs:
            run.process.wait()

    def _run(self, words: Sequence[str], prompt: str) -> Run:
        values = {
            "url": self.url,
            "key": KEY,
            "cwd": self.cwd,
            "home": self.home,
            "prompt": prompt,
            "session": self.session or "",
        }
        argv = [filled(word, values) for word in words]
        stdin = "" if any("{prompt}" in word for word in words) else prompt
        files = os.path.join(self.root, f"run-{len(self.runs)}")
        self.runs.append(Run(argv, self._environ(), self.cwd, files, stdin))
        return self.runs[-1]

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not _DROPPED.fullmatch(name)}
        return kept | {
            "HOME": self.home,
            "OPENAI_BASE_URL": self.url,
            "OPENAI_API_KEY": KEY,
            "CODEX_API_KEY": KEY,
            "NO_PROXY": "127.0.0.1",
            processes.MARK: self.mark,
        }


def filled(word: str, values: dict[str, str]) -> str:
    """A word of a command with its placeholders replaced; other braces stay."""
    return _PLACE.sub(lambda hit: values[hit[1]], word)


def words_of(command: str) -> list[str]:
    """A command given as one text. Raises ScriptError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ScriptError(f"--resume {command}: {error}") from None
    if not words:
        raise ScriptError("--resume: the command is empty")
    return words


def session_in(printed: str, pattern: str | None) -> str | None:
    """The session's id: what the pattern finds, else a `thread.started` line's, else the first UUID."""
    if pattern is not None:
        hit = re.search(pattern, printed, re.MULTILINE)
        return hit and hit[hit.re.groups and 1]
    for line in printed.splitlines():
        if "thread.started" in line and (found := _thread_id(line)):
            return found
    hit = _UUID.search(printed)
    return hit and hit[0]


def _thread_id(line: str) -> str | None:
    try:
        event: Any = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    found = event.get("thread_id") if isinstance(event, dict) else None
    return found if isinstance(found, str) else None


def wait_for(condition: Callable[[], Any], seconds: float) -> bool:
    """Wait until the condition holds; False if it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()

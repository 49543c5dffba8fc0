"""One turn from the command line: configuration, session, output, signals, exit code.

Owns the order of things at the start and at the end; what happens between is the session's.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Final

from backstay import __version__
from backstay.cli.arguments import Run
from backstay.cli.face import Face
from backstay.cli.prompt import read_prompt
from backstay.cli.signals import Signals
from backstay.cli.sink import Sink
from backstay.core.record import Attempt, Known, TurnEnd
from backstay.errors import BackstayError, UnknownSession, UsageError
from backstay.runtime.config import Loaded, default_home, load
from backstay.runtime.session import Session
from backstay.runtime.settings import Settings, settings
from backstay.runtime.watch import Finished, Recorded, WatchEvent

if TYPE_CHECKING:
    from backstay.runtime.attached import Attached
    from backstay.runtime.schema import Schema
    from backstay.runtime.trace import Trace

_CODES: Final = {
    "completed": 0,
    "failed": 1,
    "superseded": 1,
    "storage": 4,
    "nothing": 2,
    "compacted": 0,
}
DEBUG_LOG: Final = "BACKSTAY_DEBUG_LOG"
"""A file that the debug log is appended to, instead of one in `log/` of the home."""
_LIVE_TICK: Final = 0.2
_TICK: Final = 1.0
"""Seconds between two looks at the clock, on a terminal and elsewhere."""
UNCONFINED: Final = (
    "sandbox workspace-write: commands are not confined yet, they can do what you can; "
    "-s danger-full-access says that this is wanted"
)


def run(asked: Run) -> int:
    """Do what the command line asks for; gives the exit code. Raises `BackstayError`."""
    signals = Signals()
    signals.install()
    if not asked.debug and not os.environ.get(DEBUG_LOG):
        return _run(asked, signals, None)
    from backstay.cli.debug import debugged

    return debugged(asked.action, lambda trace: _run(asked, signals, trace))


def _run(asked: Run, signals: Signals, trace: "Trace | None") -> int:
    if not asked.ephemeral:
        home = default_home(os.environ)
        return asyncio.run(_Conversation(asked, home, signals, trace).run())
    import shutil

    home = _ephemeral_home()
    signals.on_exit = lambda: shutil.rmtree(home, ignore_errors=True)
    try:
        return asyncio.run(_Conversation(asked, home, signals, trace).run())
    finally:
        shutil.rmtree(home, ignore_errors=True)


class _Conversation:
    """The one turn, from the first check to the exit code."""

    def __init__(self, asked: Run, home: str, signals: Signals, trace: "Trace | None") -> None:
        self._asked = asked
        self._trace = trace
        self._home = home
        self._signals = signals
        self._out, self._err = Sink(1), Sink(2)
        self._session: Session | None = None
        self._local_model = ""
        self._reasoning = True
        self._key_from = ""
        """The variable that the provider's key is in, where a block names one."""
        self._settings = self._configure()
        _check_output(asked.output)
        self._schema = _schema(asked.schema)
        self._images = self._attach()
        self._prompt = ""
        if asked.action not in ("continue", "compact"):
            self._prompt = read_prompt(asked.prompt, optional=asked.action != "new")
        if self._images and not self._prompt:
            raise UsageError("-i needs a prompt: as an argument behind --, or on stdin")
        if self._schema and not self._prompt:
            raise UsageError(
                "--output-schema needs a prompt: a turn that goes on keeps the schema it began with"
            )
        self._every = _TICK
        self._face = self._make_face()
        self._current = 0
        """The turn that runs, once its first attempt is recorded."""
        self._over: TurnEnd | None = None
        self._answer: str | None = None
        """That of the turn that was asked for, once another one has begun."""

    async def run(self) -> int:
        """Open the session, run the turn, close the session, say how it went."""
        if self._asked.action == "fork" and not self._prompt:
            return self._only_fork()
        try:
            self._session = session = await self._open()
            self._opened(session)
            turn = self._turn(session)
            with _Ticking(self._tick, self._every):
                ended = last = await turn
                while self._asked.action != "compact" and (other := await session.next_turn()):
                    last = other
                lines = await session.close()
        except BackstayError as error:
            self._failed(str(error))
            raise
        except BaseException:
            self._failed("it ended unexpectedly")
            raise
        return self._ended(ended, last, lines)

    def _turn(self, session: Session) -> Coroutine[None, None, Finished]:
        if self._asked.action == "compact":
            return session.compact()
        if not self._prompt:
            return session.resume()
        return session.prompt(self._prompt, images=self._images, schema=self._schema)

    # Before

    def _attach(self) -> "list[Attached]":
        """The images of the prompt, decoded. Raises `UsageError` for one that can't be sent."""
        names, provider = self._asked.images, self._settings.provider
        if not names:
            return []
        if not provider.dialect.images:
            raise UsageError(f"-i: the provider {provider.name} takes no images (dialect.images)")
        from backstay.runtime.attached import attach

        try:
            return [attach(name) for name in names]
        except UsageError as error:
            hint = "; behind -i, a prompt needs -- before it" if len(names) > 1 else ""
            raise UsageError(f"-i: {error}{hint}") from None

    def _configure(self) -> Settings:
        """Everything that can be wrong before anything has happened."""
        asked = self._asked
        cwd = _folder(asked.cwd)
        # An ephemeral session has a home of its own, but is configured like any other.
        home = default_home(os.environ)
        loaded = self._load(home, cwd)
        self._reasoning = not loaded.configuration.hide_agent_reasoning
        table = loaded.providers.get(loaded.configuration.model_provider)
        self._key_from = table.env_key if table else ""
        mode = asked.sandbox or loaded.configuration.sandbox_mode or "workspace-write"
        if mode == "read-only":
            raise UsageError(
                "sandbox_mode read-only can't be enforced yet, so it is refused: set another one"
            )
        made = settings(
            loaded,
            os.environ,
            home=self._home,
            cwd=cwd,
            model=asked.model or self._local_model,
            moved=bool(asked.cwd),
            add_dirs=asked.add_dirs,
            ephemeral=asked.ephemeral,
            fallback=self._model_of_session,
        )
        for note in (*asked.notes, *loaded.warnings):
            self._say(note)
        if mode == "workspace-write":
            self._say(UNCONFINED)
        if self._trace is not None:
            from msgspec.structs import replace

            made = replace(made, trace=self._trace)
            self._trace.configured(made)
        return made

    def _load(self, home: str, cwd: str) -> Loaded:
        """The configuration; with `--oss` its provider is a local one."""
        asked = self._asked
        how = {"user_file": asked.user_config, "strict": asked.strict}
        overrides = [*asked.overrides, *asked.budget]
        loaded = load(home, cwd, overrides, profile=asked.profile, **how)
        if not asked.oss:
            return loaded
        from backstay.runtime.local import local_provider
        from backstay.runtime.presets import LOCAL

        name = local_provider(asked.local_provider, loaded.configuration.oss_provider)
        self._local_model = LOCAL[name]
        chosen = [*overrides, f'model_provider="{name}"']
        return load(home, cwd, chosen, profile=asked.profile, **how)

    def _model_of_session(self) -> str:
        """The model that the session to be resumed ran on; "" for a new one."""
        if self._asked.action == "new":
            return ""
        from backstay.cli.kept import Past
        from backstay.journal import PosixDisk
        from backstay.journal.sessions import find

        return Past(find(PosixDisk(), self._home, self._which())).model()

    def _which(self) -> str:
        """The id of the session that is meant. Raises `UnknownSession`."""
        asked = self._asked
        if asked.last and not asked.session:
            from backstay.journal import PosixDisk
            from backstay.journal.sessions import last

            folder = last(PosixDisk(), self._home, None if asked.any_folder else _folder(asked.cwd))
            if folder is None:
                where = "" if asked.any_folder else " in this folder (--all looks at every folder)"
                raise UnknownSession(f"there is no session to resume{where}")
            asked.session = folder.rpartition("/")[2]
        return asked.session

    def _make_face(self) -> Face:
        """The one output that is used is loaded."""
        resuming = not self._prompt and self._asked.action != "compact"
        if self._asked.json:
            from backstay.cli.jsonl import JsonLines

            return JsonLines(self._out.write, resuming=resuming, reasoning=self._reasoning)
        from backstay.cli.human import Human
        from backstay.cli.terminal import style, width

        looks = style(self._asked.color, self._err, os.environ)
        self._every = _LIVE_TICK if looks.live else _TICK
        return Human(
            self._out,
            self._err,
            looks,
            time.monotonic,
            streaming=self._out.is_terminal,
            width=width,
            resuming=resuming,
            reasoning=self._reasoning,
            prices=self._settings.budget.prices,
        )

    async def _open(self) -> Session:
        if self._asked.action == "new":
            return await Session.create(self._settings, self._watched)
        if self._asked.action == "fork":
            turn = self._asked.turn
            return await Session.fork(self._settings, self._which(), self._watched, turn=turn)
        return await Session.open(self._settings, self._which(), self._watched)

    def _only_fork(self) -> int:
        """A fork without a prompt is made, and nothing runs."""
        from backstay.runtime.forking import make_fork

        made = make_fork(self._home, self._which(), self._asked.turn)
        if self._asked.json:
            self._face.opened(made.id, made.folder, "")
        else:
            self._out.text(f"{made.id}\n")
            self._say(f"to go on: backstay resume {made.id}")
        return 0

    def _opened(self, session: Session) -> None:
        """From here on a signal, or a closed stdout, interrupts the turn."""
        self._signals.bind(session.interrupt)
        self._signals.on_exit = lambda: self._say(f"ended at once; {self._again()}")
        # Soon, not now: it may be found out before the prompt is given, and is to end its turn.
        loop = asyncio.get_running_loop()

        def closed(why: str) -> None:
            loop.call_soon(session.interrupt, f"stdout was closed: {why}")

        self._out.on_closed = closed
        provider = self._settings.provider.name
        headline = f"backstay {__version__}, {self._settings.model} at {provider}, "
        self._face.opened(session.id, session.folder, headline)

    def _tick(self) -> None:
        self._out.look()
        self._face.tick()

    # After

    def _watched(self, event: WatchEvent) -> None:
        """One turn after the other, where prompts were queued."""
        if isinstance(event, Recorded):
            self._follow(event.record)
        self._face(event)

    def _follow(self, record: Known) -> None:
        if isinstance(record, TurnEnd) and record.turn == self._current:
            self._over = record
        if not isinstance(record, Attempt):
            return
        over = self._over
        if over is not None and record.turn != self._current:
            if self._answer is None:
                self._answer = self._face.answer
            self._face.ended(Finished(over.turn, over.outcome, over.reason), [], "")
            self._face.next_turn()
        self._current, self._over = record.turn, None

    def _ended(self, ended: Finished, last: Finished, lines: list[str]) -> int:
        """`ended` is the turn that was asked for, `last` the last one that was queued meanwhile."""
        if self._asked.action == "compact" and ended.outcome == "nothing":
            self._say(ended.reason)
            return 0
        hint = self._hint(last)
        self._face.ended(last, lines, "\n".join(filter(None, (hint, self._again()))))
        answer = self._face.answer if self._answer is None else self._answer
        code = _CODES.get(ended.outcome, self._signals.code)
        if ended.outcome == "nothing":
            self._say(f"backstay: nothing to continue: {ended.reason}; give a prompt")
        elif ended.outcome == "completed" and self._asked.output:
            code = self._write_answer(answer)
        elif code and self._asked.json:
            said = (f"backstay: {ended.reason}", hint, self._again())
            self._say("; ".join(filter(None, said)))
        if ended.mismatch:
            self._say(f"backstay: the answer does not match its schema: {ended.mismatch}")
        return code or int(bool(ended.mismatch))

    def _hint(self, ended: Finished) -> str:
        """What a person can do about a provider that refuses or can't be reached; else ""."""
        if ended.outcome != "failed":
            return ""
        from backstay.cli.hints import hint

        return hint(ended, self._settings.provider, self._settings.model, self._key_from)

    def _failed(self, message: str) -> None:
        """What was begun is still there: say where."""
        self._face.failed(message)
        if self._session is not None and self._again():
            self._say(self._again())

    def _again(self) -> str:
        """How to go on, "" if nothing is kept."""
        if self._asked.ephemeral or self._session is None:
            return ""
        return f"to go on: backstay resume {self._session.id}"

    def _write_answer(self, text: str) -> int:
        if not text:
            self._say(f"there was no answer: {self._asked.output} is empty")
        try:
            _write(self._asked.output, text.encode("utf-8", "replace"))
        except OSError as error:
            self._say(f"backstay: -o {self._asked.output}: {error.strerror}")
            return 1
        return 0

    def _say(self, line: str) -> None:
        self._err.text(f"{_line(line)}\n")


def _line(text: str) -> str:
    """On one line, with nothing in it that a terminal would act on."""
    from backstay.cli.terminal import harmless

    return " ".join(harmless(text).split())


class _Ticking:
    """Calls something every so many seconds. No task: there is one place for those."""

    def __init__(self, tick: Callable[[], None], every: float) -> None:
        self._tick = tick
        self._every = every
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._again()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _again(self) -> None:
        if self._timer is not None:
            self._tick()
        self._timer = self._loop.call_later(self._every, self._again)


def _folder(named: str) -> str:
    """The folder to work in, absolute. Raises `UsageError`."""
    path = os.path.abspath(os.path.expanduser(named or "."))
    if not os.path.isdir(path):
        why = "it is no folder" if os.path.exists(path) else "there is no such folder"
        raise UsageError(f"-C {named}: {why}")
    return path


def _ephemeral_home() -> str:
    """A home of its own for one session, removed at its end."""
    base = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - the name is random, the mode 0700
    home = os.path.join(base, f"backstay-{os.urandom(8).hex()}")
    try:
        os.mkdir(home, 0o700)
    except OSError as error:
        raise UsageError(f"--ephemeral: {home}: {error.strerror}") from None
    return home


def _check_output(path: str) -> None:
    """Find out before the turn that the answer can't be written."""
    if not path:
        return
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.path.isdir(folder):
        raise UsageError(f"-o {path}: it is a folder, or its folder is not there")
    place = path if os.path.exists(path) and not os.path.isfile(path) else folder
    if not os.access(place, os.W_OK):
        raise UsageError(f"-o {path}: it can't be written")


def _schema(path: str) -> "Schema | None":
    """The schema of the answer. Raises `UsageError` for a file that holds none."""
    if not path:
        return None
    from backstay.runtime.schema import read

    try:
        return read(path)
    except UsageError as error:
        raise UsageError(f"--output-schema {error}") from None


def _write(path: str, content: bytes) -> None:
    """Write a file so that it is never seen half; what is no regular file is written in place."""
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            file.write(content)
        return
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "xb") as file:
            if os.path.exists(path):
                os.fchmod(file.fileno(), os.stat(path).st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, path)
    except BaseException:
        try:
            os.unlink(part)
        except OSError:
            pass
        raise

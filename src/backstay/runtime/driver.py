"""The driver: feeds events to the turn machine and carries its commands out.

The only place where tasks are made. It decides nothing: what follows from an event is the
machine's to say. All that it does is bounded: tools by their deadlines, a stop by `STOP_WITHIN`.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal, Protocol

import msgspec

from backstay.core import commands as c
from backstay.core import events as e
from backstay.core.items import is_call
from backstay.core.record import Known, Process, Start
from backstay.core.stream import Added, Delta, Done, Ended, Notice, StreamEvent
from backstay.core.turn import Turn
from backstay.errors import StorageError, UsageError
from backstay.journal import Batch, Waiting
from backstay.runtime import watch
from backstay.tools.tool import Invocation, Tool, bounded, raised, too_large
from backstay.tools.whole import Keep

STOP_WITHIN: Final = 5.0
"""Seconds that a stopped tool gets to say what is known, before it is cancelled and given up."""
CANCEL_WITHIN: Final = 2.0
ABORT_TRIES: Final = 8
PREPARE_WITHIN: Final = 600.0
"""Seconds for the plan of a tool that has no time limit of its own."""

_NOT_THE_TOOLS: Final = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)
"""What a tool raises that is not its failure: somebody ends the task, or the whole program."""

_GIVEN_UP: Final = e.Outcome(kind="interrupted", reason="interrupted")

Deliver = Callable[[StreamEvent], None]
Sender = Callable[[c.Request, Deliver], Awaitable[object]]
"""Makes one attempt: delivers what the stream says, one `Ended` last. Never raises."""


class Store(Protocol):
    """What the driver needs of a journal: blocking, called from one thread at a time."""

    def commit(self, batch: tuple[Known, ...]) -> int:
        """Write and make durable; the highest durable number."""
        ...

    def write(self, batch: tuple[Known, ...]) -> None:
        """Write without making durable."""
        ...


class Crew(Protocol):
    """What keeps commands alive: it is spawned early and named in every start record."""

    @property
    def boot(self) -> str:
        """The boot of this machine."""
        ...

    @property
    def supervisor(self) -> Process | None:
        """Who supervises commands, once that is known."""
        ...

    def spawn(self) -> None:
        """Begin to bring the supervisor up, without waiting for it."""
        ...


class Driver:
    """Runs one session's machine on the event loop that `start` was called in."""

    def __init__(
        self,
        machine: Turn,
        store: Store,
        send: Sender,
        *,
        tools: Mapping[str, Tool],
        crew: Crew,
        watcher: watch.Watcher,
        keep: Keep | None = None,
    ) -> None:
        """`keep` stores the whole of outputs that are too large for a request."""
        self.machine = machine
        self._keep = keep
        self._store = store
        self._send = send
        self._tools = tools
        self._crew = crew
        self._watcher = watcher
        self._events: asyncio.Queue[e.Event] = asyncio.Queue()
        self._waiting = Waiting()
        self._unsaid: list[Known] = []
        self._writing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempt: asyncio.Task[None] | None = None
        self._unended = 0
        """The attempt whose end was not posted yet, or 0."""
        self._summary: asyncio.Task[None] | None = None
        self._said: list[dict[str, Any]] | None = None
        """What was said of the summary that is under way; None without one."""
        self._disk = ThreadPoolExecutor(1)
        """For the journal alone: tools that block threads must not hold up the records."""
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._preparing: set[asyncio.Task[None]] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._finished: list[Callable[[watch.Finished], None]] = []
        self.crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception of a defect, ours or the watcher's: whoever waits is to be told."""
        self._main = asyncio.create_task(self._run())
        self._main.add_done_callback(self._ended)

    def post(self, event: e.Event) -> None:
        """Take an event in; it is handled in its turn."""
        self._events.put_nowait(event)

    @property
    def alive(self) -> bool:
        """Whether events are still handled."""
        return not self._main.done()

    def on_finish(self, callback: Callable[[watch.Finished], None]) -> None:
        """Call back with the end of every turn, after the watcher."""
        self._finished.append(callback)

    async def handled(self) -> None:
        """Wait until all events so far are handled, or never will be."""
        while self.alive and not self._events.empty():
            joined = asyncio.ensure_future(self._events.join())
            await asyncio.wait({joined, self._main}, return_when=asyncio.FIRST_COMPLETED)
            joined.cancel()

    async def written(self) -> None:
        """Wait until all events are handled and their records are on disk, or never will be."""
        while not self._main.done():
            await self.handled()
            if self._writing is None:
                return
            await asyncio.wait({self._writing})

    async def close(self) -> None:
        """Stop all tasks. What was issued before is written first, as far as the disk takes it.

        A task that does not react to being cancelled is left behind.
        """
        self._main.cancel()
        await asyncio.wait({self._main})
        for timer in self._timers.values():
            timer.cancel()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_WITHIN)
        if self._writing is not None:
            await asyncio.wait({self._writing})
        self._disk.shutdown(wait=False)

    async def _run(self) -> None:
        while True:
            event = await self._events.get()
            try:
                for command in self.machine.handle(event):
                    self._carry_out(command)
                if isinstance(event, e.Interrupted):
                    for task in self._preparing:  # without an effect: nothing to be stopped
                        task.cancel()
            finally:
                self._events.task_done()

    def _ended(self, main: asyncio.Task[None]) -> None:
        """Nothing is handled any more: it was closed, or somebody cancels all tasks of the loop."""
        self._check(main)
        self._crash(UsageError("the session was closed meanwhile: open it again"))

    def _check(self, task: asyncio.Task[None]) -> None:
        """A task that failed is a defect; whoever waits for the session is told."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._crash(error)

    def _crash(self, error: BaseException) -> None:
        if not self.crashed.done():
            self.crashed.set_exception(error)
            self.crashed.exception()  # it may be that nobody waits

    def _carry_out(self, command: c.Command) -> None:
        match command:
            case c.Append(records):
                self._append(records)
            case c.Send() | c.Abort() | c.Summarize() | c.AbortSummary():
                self._exchange(command)
            case c.Prepare(call, item):
                task = self._task(self._prepare(Invocation(call, item, "")))
                self._preparing.add(task)
                task.add_done_callback(lambda task: self._prepared(call, task))
            case c.StartCall(call, item, start):
                self._watch(watch.Started(call, item))
                self._call(call, item, start, adopt=False)
            case c.Adopt(call, item, start):
                self._watch(watch.Started(call, item, adopted=True))
                self._call(call, item, start, adopt=True)
            case c.StopCall(call, why):
                self._task(self._stop(call, why))
            case c.Probe(call, item, start):
                self._task(self._probe(call, item, start))
            case c.Wait() as wait:
                self._watch(watch.Waiting(wait))
                self._task(self._wait(wait))
            case c.Finish(turn, outcome, reason, code):
                self._finish(watch.Finished(turn, outcome, reason, code))

    def _exchange(self, command: c.Send | c.Abort | c.Summarize | c.AbortSummary) -> None:
        """What is for the provider."""
        match command:
            case c.Send(attempt, request):
                self._unended = attempt
                self._attempt = self._task(self._make_attempt(attempt, request))
                self._attempt.add_done_callback(lambda _: self._give_up(attempt))
            case c.Abort(attempt):
                if self._attempt is not None:
                    self._task(_abort(self._attempt, lambda: self._give_up(attempt)))
            case c.Summarize(request, reason):
                self._summarize(request, reason)
            case c.AbortSummary():
                if self._summary is not None:
                    said = self._said
                    self._task(_abort(self._summary, lambda: self._end_summary(said)))

    def _watch(self, event: watch.WatchEvent) -> None:
        try:
            self._watcher(event)
        except Exception as error:  # noqa: BLE001 - a defect of the watcher is nobody else's
            self._crash(error)

    def _finish(self, finished: watch.Finished) -> None:
        self._watch(finished)
        for callback in list(self._finished):
            callback(finished)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._check)
        return task

    # The journal

    def _append(self, records: tuple[Known, ...]) -> None:
        for record in records:
            if isinstance(record, Start):
                record.boot = self._crew.boot
                record.supervisor = self._crew.supervisor
        self._waiting.add(records)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
            self._writing.add_done_callback(self._check)

    async def _write(self) -> None:
        """Write batch after batch: what comes while one is written goes into the next."""
        loop = asyncio.get_running_loop()
        try:
            while (batch := self._waiting.take()) is not None:
                upto = await loop.run_in_executor(self._disk, self._commit, batch)
                self._unsaid += batch.records
                if upto:
                    self._say(upto)
                    self.post(e.Appended(upto))
        except StorageError as error:
            self.post(e.AppendFailed(str(error)))
        finally:
            self._writing = None

    def _commit(self, batch: Batch) -> int:
        if batch.sync:
            return self._store.commit(batch.records)
        self._store.write(batch.records)
        return 0

    def _say(self, upto: int) -> None:
        due = [record for record in self._unsaid if record.n <= upto]
        self._unsaid = [record for record in self._unsaid if record.n > upto]
        for record in due:
            self._watch(watch.Recorded(record))

    # Attempts

    async def _make_attempt(self, attempt: int, request: c.Request) -> None:
        self._watch(watch.Sent(attempt))
        seen = False

        def deliver(event: StreamEvent) -> None:
            nonlocal seen
            if not seen:
                seen = True
                self._watch(watch.Answered(attempt))
            if isinstance(event, Ended):
                self._end_attempt(attempt, event.outcome)
            else:
                self._deliver(attempt, event)

        await self._send(request, deliver)

    def _give_up(self, attempt: int) -> None:
        """An attempt whose task is done has ended, even if it was cancelled before it began."""
        self._end_attempt(attempt, _GIVEN_UP)

    def _end_attempt(self, attempt: int, outcome: e.Outcome) -> None:
        if self._unended != attempt:
            return
        self._unended = 0
        self.post(e.AttemptEnded(attempt, outcome, _roll()))

    def _summarize(self, request: c.Request, reason: str) -> None:
        """One exchange that is no attempt: what it says goes to the machine in one piece."""
        self._watch(watch.Compacting(reason))
        said: list[dict[str, Any]] = []

        def deliver(event: StreamEvent) -> None:
            if isinstance(event, Ended):
                self._end_summary(said, event.outcome)
            elif isinstance(event, Done):
                said.append(event.item)

        async def ask() -> None:
            await self._send(request, deliver)

        self._said = said
        self._summary = self._task(ask())
        self._summary.add_done_callback(lambda _: self._end_summary(said))

    def _end_summary(
        self, said: list[dict[str, Any]] | None, outcome: e.Outcome = _GIVEN_UP
    ) -> None:
        if said is None or self._said is not said:
            return
        self._said = None
        self.post(e.Summarized(outcome, said, _roll()))

    def _deliver(self, attempt: int, event: StreamEvent) -> None:
        match event:
            case Delta(channel, index, text):
                self._watch(watch.Streamed(attempt, index, channel, text))
            case Added(index, item):
                if is_call(item):
                    self._crew.spawn()
                self._watch(watch.Began(attempt, index, item))
            case Done(index, item):
                self.post(e.ItemDone(attempt, index, item))
            case Notice(text):
                self._watch(watch.Noticed(text))

    async def _wait(self, wait: c.Wait) -> None:
        await asyncio.sleep(wait.seconds)
        self.post(e.Woke(wait.attempt))

    # Calls

    async def _prepare(self, invocation: Invocation) -> None:
        tool = self._tools[_name(invocation)]
        try:
            async with asyncio.timeout(tool.timeout or PREPARE_WITHIN):
                plan = await tool.prepare(invocation)
            kind: Any = e.Result if isinstance(plan, e.Result) else dict[str, Any]
            plan = msgspec.convert(msgspec.to_builtins(plan), kind)
        except TimeoutError:
            text = f"{tool.name} found no plan within its time limit; it was not run."
            plan = e.Result(content=text, status="failed")
        except _NOT_THE_TOOLS:
            raise
        except BaseException as error:  # noqa: BLE001 - a tool's failure is its output
            plan = _failure(tool.name, error)
        if isinstance(plan, e.Result):
            self.post(e.Prepared(invocation.call, result=plan))
        else:
            self.post(e.Prepared(invocation.call, plan=plan))

    def _prepared(self, call: int, task: asyncio.Task[None]) -> None:
        """A task that was cancelled, perhaps before its first step, has said nothing itself."""
        self._preparing.discard(task)
        if task.cancelled():
            result = e.Result(content="It was cancelled before it began.", status="interrupted")
            self.post(e.Prepared(call, result=result))

    def _call(self, call: int, item: dict[str, Any], start: Start, *, adopt: bool) -> None:
        invocation = Invocation(
            call, item, start.effect, start.t, lambda data: self._watch(watch.Printed(call, data))
        )
        tool = self._tools[_name(invocation)]
        if tool.timeout is not None:
            loop = asyncio.get_running_loop()
            passed = e.DeadlinePassed(call)
            self._timers[call] = loop.call_later(tool.timeout, self.post, passed)
        self._calls[call] = self._task(self._run_call(tool, invocation, adopt=adopt))

    async def _run_call(self, tool: Tool, invocation: Invocation, *, adopt: bool) -> None:
        try:
            result = await (tool.adopt(invocation) if adopt else tool.run(invocation))
            result = msgspec.convert(msgspec.to_builtins(result), e.Result)
            if too_large(result):
                result = await asyncio.to_thread(bounded, result, self._keep)
        except asyncio.CancelledError:
            result = e.Result(content="It was cancelled.", status="interrupted")
        except StorageError as error:
            self._forget(invocation.call)
            self.post(e.AppendFailed(str(error)))
            return
        except _NOT_THE_TOOLS:
            raise
        except BaseException as error:  # noqa: BLE001 - a tool's failure is its output
            result = _failure(tool.name, error)
        self._forget(invocation.call)
        self.post(e.CallFinished(invocation.call, result))

    def _forget(self, call: int) -> None:
        self._calls.pop(call, None)
        timer = self._timers.pop(call, None)
        if timer is not None:
            timer.cancel()

    async def _stop(self, call: int, why: Literal["interrupted", "deadline"]) -> None:
        """Stop a call; one that does not react is given up, and what it says later is late."""
        task = self._calls.get(call)
        record = self.machine.history.calls[call].record
        if task is None:
            return
        invocation = Invocation(call, record.item, f"{self.machine.history.id}-{call}")
        tool = self._tools[_name(invocation)]
        if await _asked_to_stop(tool, invocation):
            await asyncio.wait({task}, timeout=STOP_WITHIN)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_WITHIN)
        if not task.done():
            self._timers.pop(call, None)
            told = "It did not react to being stopped: it may still be running."
            given_up = e.Result(content=told, status=why)
            self.post(e.CallFinished(call, given_up))

    async def _probe(self, call: int, item: dict[str, Any], start: Start) -> None:
        invocation = Invocation(call, item, start.effect)
        tool = self._tools.get(_name(invocation))
        if tool is None:
            why = f"there is no tool {_name(invocation)} any more"
            self.post(e.Settled(call, e.Evidence(found="unknown", detail=why)))
            return
        try:
            evidence = await tool.probe(invocation, start)
            evidence = msgspec.convert(msgspec.to_builtins(evidence), e.Evidence)
        except StorageError as error:
            self.post(e.AppendFailed(str(error)))
            return
        except _NOT_THE_TOOLS:
            raise
        except BaseException as error:  # noqa: BLE001 - what can't be found out is unknown
            detail = f"what became of it can't be found out: {raised(error)}"
            evidence = e.Evidence(found="unknown", detail=detail)
        self.post(e.Settled(call, evidence))


async def _abort(task: asyncio.Task[None], give_up: Callable[[], None]) -> None:
    """Cancel until it is heard: a transport that has its answer at that moment may miss it."""
    for _ in range(ABORT_TRIES):
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_WITHIN / ABORT_TRIES)
        if task.done():
            return
    give_up()


def _roll() -> float:
    return int.from_bytes(os.urandom(4)) / 2**32


async def _asked_to_stop(tool: Tool, invocation: Invocation) -> bool:
    """Whether the tool will end by itself now; one that can't even say so is cancelled."""
    try:
        async with asyncio.timeout(STOP_WITHIN):
            return await tool.stop(invocation)
    except Exception:  # noqa: BLE001 - whatever it is, there is another way
        return False


def _name(invocation: Invocation) -> str:
    return str(invocation.item.get("name", ""))


def _failure(name: str, error: BaseException) -> e.Result:
    return e.Result(content=f"{name} failed: {raised(error)}", status="failed")

"""The fault proxy: passes requests on to a real provider, and breaks the answers as it is told.

Owns the numbering of requests, the log, and the carrying out of what `live` decides. What is not to
be broken passes byte for byte, as fast as the slower side takes it. `ChaosProxy` runs it in a
background thread.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

from backstay.chaos.breaks import Breaks, parse
from backstay.chaos.entry import Request, entry_of, entry_of_garbled
from backstay.chaos.http import ClientLeft, Connection, Garbled, HttpRequest, attended
from backstay.chaos.listening import Background
from backstay.chaos.live import Breaker, name_of
from backstay.chaos.plan import (
    IN_DOCUMENTS,
    Await,
    End,
    Head,
    Plan,
    Silence,
    Step,
    Write,
    alter,
    document,
    early,
    refused,
)
from backstay.chaos.script import Passage, Placed
from backstay.chaos.server import (
    POLL_SECONDS,
    error_of,
    exists,
    headers_of,
    is_websocket,
    no_websockets,
    write,
)
from backstay.chaos.splitter import Splitter
from backstay.chaos.upstream import Answer, Broken, Fields, Provider, Unreachable, ask, provider

JSON = dict[str, Any]


class Relay:
    """The proxy's state: the provider, what to break, how many requests for responses there were.

    `on_answer` is given a request once its answer is over, and the names of the faults that struck;
    `on_problem` a line about a file that was waited for in vain.
    """

    def __init__(self, to: Provider, breaks: Breaks, on_request: Callable[[Request], None]) -> None:
        self.to = to
        self.breaks = breaks
        self.on_request = on_request
        self.on_answer: Callable[[Request, list[str]], None] | None = None
        self.on_problem: Callable[[str], None] | None = None
        self.numbers = 0
        self.asked = 0
        self.connections = 0

    async def attend(self, sock: socket.socket) -> None:
        """Pass on the requests of one connection until it ends."""
        self.connections += 1
        connection = Connection(sock, self.connections, encoded=True)
        await attended(connection, self._converse)

    async def _converse(self, connection: Connection) -> str:
        while True:
            try:
                request = await connection.request()
            except Garbled as error:
                await self._refuse(connection, error)
                return "close"
            if request is None:
                return "close"
            how = await self._attended(connection, request)
            if how != "clean" or not request.keep_alive:
                return how

    async def _refuse(self, connection: Connection, error: Garbled) -> None:
        entry = entry_of_garbled(error, self.numbers, connection.number)
        self.numbers += 1
        self.on_request(entry)
        request = HttpRequest("", "", {}, b"", keep_alive=False)
        made = error_of(400, entry.refusal or "", "bad_request")
        await _Passing(self, connection, request, entry).perform(made)

    async def _attended(self, connection: Connection, request: HttpRequest) -> str:
        """Answer one request; its upstream is dropped when the client leaves."""
        entry = entry_of(request, self.numbers, connection.number)
        self.numbers += 1
        passing = _Passing(self, connection, request, entry)
        if request.method == "POST" and request.path.rstrip("/").endswith("/responses"):
            passing.passage, passing.drawn = self.breaks.of(self.asked)
            entry.drawn = passing.passage if passing.drawn else None
            self.asked += 1
        self.on_request(entry)
        answering = asyncio.ensure_future(passing.answer())
        leaving = asyncio.ensure_future(connection.left())
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ClientLeft
            entry.ended = await answering
        except ClientLeft:
            entry.ended = "client left"
            raise
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
            if self.on_answer:
                self.on_answer(entry, passing.struck)
        return entry.ended


class _Passing:
    """One request on its way to the provider, and its answer on the way back."""

    def __init__(
        self, relay: Relay, connection: Connection, request: HttpRequest, entry: Request
    ) -> None:
        self.relay = relay
        self.connection = connection
        self.request = request
        self.entry = entry
        self.passage: Passage | None = None
        self.drawn = False
        self.chunked = False
        self.struck: list[str] = []

    async def answer(self) -> str:
        """Answer the request; returns how that ended."""
        passage = self.passage or Passage()
        if is_websocket(self.request.headers):
            return await self.perform(no_websockets())
        if passage.delay:
            self.struck.append("delay")
            await asyncio.sleep(passage.delay)
        if passage.status is not None:
            self.struck.append("status")
            return await self.perform(refused(passage))
        faults = [f for f in passage.faults if isinstance(f, Placed) and f.before == "headers"]
        self.struck += map(name_of, faults)
        ended = await self._carry_out_all(early(passage), passage)
        if ended:
            return ended
        try:
            answer = await self._ask()
        except Unreachable as error:
            message = f"{self.relay.to.authority} {error}."
            return await self.perform(error_of(502, message, "upstream_unreachable"))
        self.entry.status = answer.status
        try:
            return await self._pass(answer, passage)
        finally:
            answer.close()

    async def perform(self, made: Plan) -> str:
        """Answer with a document of our own."""
        self.entry.status = made.status
        for step in made.steps:
            if isinstance(step, Head):
                fields = headers_of(made, keep_alive=self.request.keep_alive)
                await self.connection.send_head(made.status, fields)
            else:
                ended = await self._carry_out(step, Passage())
                if ended:
                    return ended
        return "clean"

    async def _ask(self) -> Answer:
        request = self.request
        return await ask(
            self.relay.to, request.method, request.target, request.fields, request.body
        )

    # ----- the answer

    async def _pass(self, answer: Answer, passage: Passage) -> str:
        """Pass the answer on, broken if it is one that can be."""
        breakable = self.passage is not None and answer.status == 200
        if not breakable or answer.framing == "none":
            return await self._untouched(answer)
        if answer.kind == "text/event-stream":
            return await self._stream(answer, passage)
        return await self._document(answer, passage)

    async def _untouched(self, answer: Answer) -> str:
        await self._head(answer, chunked=answer.framing in ("chunked", "close"))
        try:
            async with aclosing(answer.pieces()) as pieces:
                async for piece in pieces:
                    await self.connection.send_pieces([piece], chunked=self.chunked)
        except Broken as error:
            return "reset" if error.reset else "close"
        return await self._finish("clean")

    async def _stream(self, answer: Answer, passage: Passage) -> str:
        """Pass a stream on through its faults."""
        await self._head(answer, chunked=True)
        breaker = Breaker(passage, lenient=self.drawn)
        self.struck += ["trickle"] if passage.trickle else []
        splitter = Splitter()
        try:
            async with aclosing(answer.pieces()) as pieces:
                async for piece in pieces:
                    steps = self._steps(breaker, splitter, piece, slow=bool(passage.trickle))
                    ended = await self._carry_out_all(steps, passage)
                    if ended:
                        return ended
            rest = breaker.feed(splitter.rest())
            ended = await self._carry_out_all(rest, passage)
            return ended or await self._carry_out_all(breaker.finish(), passage) or "clean"
        except Broken as error:
            await self._carry_out(Write([breaker.abandon(), splitter.raw()]), passage)
            return "reset" if error.reset else "close"
        finally:
            self.struck += breaker.struck

    def _steps(
        self, breaker: Breaker, splitter: Splitter, piece: bytes, *, slow: bool
    ) -> Iterable[Step]:
        """The steps for what came; without faults to come it passes as it is."""
        if breaker.idle and not slow:
            yield Write([splitter.raw() + piece])
            return
        yield from breaker.feed(splitter.feed(piece))

    async def _document(self, answer: Answer, passage: Passage) -> str:
        """Pass on an answer that is one document, whole before it is broken."""
        try:
            async with aclosing(answer.pieces()) as pieces:
                text = b"".join([piece async for piece in pieces])
        except Broken as error:
            return "reset" if error.reset else "close"
        status, text = alter(passage, answer.status, text)
        made = document(passage, status, {}, text)
        fields = [*answer.kept, ("content-length", str(len(text)))]
        fields.append(("connection", "keep-alive" if self.request.keep_alive else "close"))
        self.entry.status = status
        self.struck += [name_of(f) for f in passage.faults if isinstance(f, IN_DOCUMENTS)]
        await self.connection.send_head(status, fields)
        steps = made.steps[made.steps.index(Head()) + 1 :]
        return await self._carry_out_all(steps, passage) or "clean"

    async def _head(self, answer: Answer, *, chunked: bool) -> None:
        self.chunked = chunked
        fields: Fields = answer.kept
        if chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        elif answer.framing == "length":
            fields.append(("Content-Length", str(answer.length)))
        fields.append(("Connection", "keep-alive" if self.request.keep_alive else "close"))
        await self.connection.send_head(answer.status, fields)

    # ----- steps

    async def _carry_out_all(self, steps: Iterable[Step], passage: Passage) -> str | None:
        """Carry out steps; how the answer ended, if it did."""
        for step in steps:
            ended = await self._carry_out(step, passage)
            if ended:
                return ended
        return None

    async def _carry_out(self, step: Step, passage: Passage) -> str | None:
        """Carry out a step; how the answer ended, if it did."""
        match step:
            case Write():
                step.pieces = [piece for piece in step.pieces if piece]
                if step.pieces or step.missing:
                    await write(self.connection, step, passage.trickle, chunked=self.chunked)
            case Silence():
                await asyncio.sleep(step.seconds if step.seconds is not None else 1e9)
            case Await():
                await self._await(step)
            case End():
                return await self._finish(step.how)
        return None

    async def _finish(self, how: str) -> str:
        if self.chunked and how in ("clean", "trap"):
            await self.connection.send(b"0\r\n\r\n")
        return how

    async def _await(self, step: Await) -> None:
        deadline = self.connection.loop.time() + step.seconds
        while not exists(step.file):
            if self.connection.loop.time() > deadline:
                if self.relay.on_problem:
                    self.relay.on_problem(f"{step.file} did not appear in {step.seconds:g} s")
                return
            await asyncio.sleep(POLL_SECONDS)


class ChaosProxy(Background):
    """A fault proxy in a background thread, for tests: `with ChaosProxy(to, plan) as proxy:`.

    `to`: the provider's base URL; `plan`: as in a plan file (a list is its `requests`); `ca_file`:
    whom to trust instead of the system's authorities. `struck` has the names of the faults that
    struck, by request number. Raises ScriptError at once if something is wrong with them.
    """

    def __init__(
        self, to: str, plan: Any = (), *, ca_file: str | None = None, port: int = 0
    ) -> None:
        log: list[Request] = []
        self.struck: dict[int, list[str]] = {}
        self.problems: list[str] = []
        relay = Relay(provider(to, ca_file), parse(plan), self._came)
        relay.on_answer = self._over
        relay.on_problem = self.problems.append
        super().__init__(relay, log, port)

    def _came(self, request: Request) -> None:
        self._log.append(request)
        self.on_request(request)

    def _over(self, request: Request, struck: list[str]) -> None:
        self.struck[request.number] = struck

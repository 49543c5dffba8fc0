"""The fault server: plays a script to whoever asks on loopback, and logs what it was asked.

Owns the listening socket, the order of responses, the log, and the carrying out of plans.
`ChaosServer` runs it in a background thread, `serve` in the calling task.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec
from msgspec import Struct

from backstay.chaos.draw import befall, draw
from backstay.chaos.http import ClientLeft, Connection, Garbled, HttpRequest
from backstay.chaos.plan import Await, End, Head, Plan, Silence, Write, check, plan
from backstay.chaos.script import Passage, Response, Script, ScriptError, Trickle, parse
from backstay.chaos.stream import Play
from backstay.chaos.strict import Refusal, refusal

JSON = dict[str, Any]
LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.005
_SECRET = ("authorization", "api-key", "apikey", "cookie", "token", "secret")


class Request(Struct, kw_only=True):
    """A request that the server was sent, and what became of it.

    `body` is the parsed JSON (None if it is none), `raw` its bytes; `headers` have lower-case names
    and no secrets; `time` is in Unix seconds; `response` is the number of the response that was
    played, `drawn` what befell the answer by chance. `ended` is set when the answer is over: "clean", "close", "reset", "trap", "client left".
    """

    number: int
    time: float
    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes
    status: int = 0
    response: int | None = None
    refusal: str | None = None
    drawn: Passage | None = None
    ended: str | None = None

    def entry(self) -> JSON:
        """The request as a line of the log."""
        names = ("number", "time", "connection", "method", "path", "headers", "body")
        entry = {name: getattr(self, name) for name in (*names, "status", "response", "refusal")}
        if self.drawn:
            entry["drawn"] = msgspec.to_builtins(self.drawn)
        if self.body is None and self.raw:
            entry["raw"] = self.raw.decode("utf-8", "replace")
        return entry


class Playhouse:
    """The script's state: what is played next, to whom, and the log of all requests."""

    def __init__(
        self,
        script: Script,
        on_request: Callable[[Request], None],
        improvise: Callable[[JSON], JSON] | None = None,
    ) -> None:
        check(script)
        self.script = script
        self.on_request = on_request
        self.improvise = improvise
        self.problems: list[str] = []
        self.on_problem: Callable[[str], None] = self.problems.append
        self.nonce = script.seed or os.urandom(4).hex()
        self.log: list[Request] = []
        self.asked = 0
        self.next = 0
        self.played = 0
        self.connections = 0

    def answer(self, request: HttpRequest, connection: int) -> tuple[Request, Plan, Response]:
        """Log a request and decide its answer."""
        entry = entry_of(request, len(self.log), connection)
        made, response = self._decide(entry)
        entry.status = made.status
        self._note(entry)
        return entry, made, response

    def refuse(self, error: Garbled, connection: int) -> Plan:
        """Log what is not an HTTP request, and answer it."""
        message = f"Bad request: {error}."
        secret = _is_secret(error.received.decode("latin-1").lower())
        received = b"[redacted]" if secret else error.received
        request = HttpRequest("", "", {}, received, keep_alive=False)
        entry = entry_of(request, len(self.log), connection)
        entry.status, entry.refusal, entry.body, entry.ended = 400, message, None, "close"
        self._note(entry)
        return _document(400, Refusal(400, message, "bad_request", None).body())

    def _note(self, entry: Request) -> None:
        self.log.append(entry)
        self.on_request(entry)

    def _decide(self, entry: Request) -> tuple[Plan, Response]:
        simple = Response(status=200)
        route = (entry.method, entry.path.rstrip("/"))
        if route == ("POST", "/v1/responses"):
            return self._respond(entry)
        if route == ("GET", "/v1/models"):
            return _document(200, _MODELS), simple
        if route[1] in ("/v1/responses", "/v1/models"):
            message = f"Method {entry.method} is not allowed for {entry.path}."
            return _error(405, message, "method_not_allowed"), simple
        return _error(
            404, f"Unknown request URL: {entry.method} {entry.path}.", "unknown_url"
        ), simple

    def _respond(self, entry: Request) -> tuple[Plan, Response]:
        simple = Response(status=200)
        self.asked += 1
        if not isinstance(entry.body, dict):
            return _error(400, "The request body is not a JSON object.", "invalid_json"), simple
        refused = refusal(entry.body, self.script.dialect) if self.script.strict else None
        if refused:
            entry.refusal = refused.message
            return _document(refused.status, refused.body()), simple
        if self.improvise:
            problem = self._improvise(self.improvise, entry.body)
            if problem:
                return _error(500, problem, "script_error"), simple
        number = self._next()
        if number is None:
            count = len(self.script.responses)
            message = f"script exhausted: it has {count} responses and all were played"
            entry.refusal = message
            return _error(400, message, "script_exhausted"), simple
        entry.response = number
        return self._play(entry, self.script.responses[number])

    def _next(self) -> int | None:
        """The number of the response to play; None when all were played."""
        count = len(self.script.responses)
        if self.improvise:
            return count - 1
        number = min(self.next, count - 1) if self.script.repeat else self.next
        return number if 0 <= number < count else None

    def _play(self, entry: Request, response: Response) -> tuple[Plan, Response]:
        """Play a response, with what befalls it by chance; it is used up if the client got enough."""
        entry.drawn = self._draw(response)
        if entry.drawn:
            response = befall(response, entry.drawn)
        play = Play(
            self.played,
            self.nonce,
            response.style or self.script.style,
            0 if self.script.seed else int(entry.time),
            entry.body,
            len(entry.raw),
            bool(entry.body.get("stream")),
        )
        self.played += 1
        recording = self.script.recordings.get(response.sse or "", b"")
        made = plan(response, play, recording, lenient=entry.drawn is not None)
        if entry.drawn is None or (made.spent and entry.drawn.status is None):
            self.next += 1
        return made, response

    def _draw(self, response: Response) -> Passage | None:
        """What befalls an answer; the script's own faults and errors are left alone."""
        chaos = response.chaos or self.script.chaos
        if chaos is None or (response.chaos is None and (response.fault or response.status)):
            return None
        return draw(chaos, self.asked - 1)

    def _improvise(self, improvise: Callable[[JSON], JSON], body: JSON) -> str:
        """Let the caller's function make the next response; what is wrong with it, or nothing."""
        try:
            made = parse([improvise(body)])
            check(made)
        except Exception as error:  # noqa: BLE001  the function is the caller's
            problem = f"{type(error).__name__}: {error}"
            self.on_problem(problem)
            return problem
        self.script.responses += made.responses
        self.script.recordings |= made.recordings
        return ""

    async def attend(self, sock: socket.socket) -> None:
        """Answer the requests of one connection until it ends."""
        self.connections += 1
        connection = Connection(sock, self.connections)
        how = "close"
        try:
            how = await self._converse(connection)
        except ClientLeft:
            pass
        finally:
            if how == "reset":
                await connection.reset()
            else:
                connection.close()

    async def _converse(self, connection: Connection) -> str:
        while True:
            try:
                request = await connection.request()
            except Garbled as error:
                refused = self.refuse(error, connection.number)
                await self._perform(connection, refused, keep_alive=False)
                return "close"
            if request is None:
                return "close"
            entry, made, response = self.answer(request, connection.number)
            try:
                if response.delay and await connection.client_leaves(response.delay):
                    raise ClientLeft
                entry.ended = await self._perform(
                    connection, made, keep_alive=request.keep_alive, trickle=response.trickle
                )
            except ClientLeft:
                entry.ended = "client left"
                raise
            if entry.ended != "clean" or not request.keep_alive or made.framing == "close":
                return entry.ended

    async def _perform(
        self,
        connection: Connection,
        made: Plan,
        *,
        keep_alive: bool,
        trickle: float | Trickle | None = None,
    ) -> str:
        """Carry out a plan; returns how the answer ended."""
        for step in made.steps:
            match step:
                case Head():
                    await connection.send_head(made.status, _headers(made, keep_alive=keep_alive))
                case Write():
                    await _write(connection, made, step, trickle)
                case Silence():
                    if await connection.client_leaves(step.seconds):
                        raise ClientLeft
                case Await():
                    await self._await(connection, step)
                case End():
                    if made.framing == "chunked" and step.how in ("clean", "trap"):
                        await connection.send(b"0\r\n\r\n")
                    return step.how
        return "clean"

    async def _await(self, connection: Connection, step: Await) -> None:
        deadline = connection.loop.time() + step.seconds
        while not _exists(step.file):
            if connection.loop.time() > deadline:
                self.on_problem(f"{step.file} did not appear within {step.seconds:g} s")
                return
            if await connection.client_leaves(POLL_SECONDS):
                raise ClientLeft


def _exists(path: str) -> bool:
    return os.path.exists(path)


async def _write(
    connection: Connection, made: Plan, step: Write, trickle: float | Trickle | None
) -> None:
    chunked = made.framing == "chunked"
    if not trickle:
        await connection.send_pieces(step.pieces, chunked=chunked, missing=step.missing)
        return
    pieces, seconds = step.pieces, trickle
    if isinstance(trickle, Trickle):
        seconds = trickle.seconds
        if trickle.bytes:
            whole, size = b"".join(pieces), trickle.bytes
            pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    for number, piece in enumerate(pieces, 1):
        missing = step.missing if number == len(pieces) else 0
        await connection.send_pieces([piece], chunked=chunked, missing=missing)
        await asyncio.sleep(seconds if isinstance(seconds, float | int) else 0)


def _headers(made: Plan, *, keep_alive: bool) -> dict[str, str]:
    headers = dict(made.headers)
    if made.framing == "chunked":
        headers["transfer-encoding"] = "chunked"
    elif made.framing == "length":
        headers["content-length"] = str(made.length)
    stays = keep_alive and made.framing != "close"
    headers["connection"] = "keep-alive" if stays else "close"
    return headers


def _document(status: int, value: Any) -> Plan:
    text = msgspec.json.encode(value)
    headers = {"content-type": "application/json"}
    return Plan(status, headers, "length", len(text), [Head(), Write([text]), End("clean")])


def _error(status: int, message: str, code: str) -> Plan:
    return _document(status, Refusal(status, message, code, None).body())


_MODELS = {
    "object": "list",
    "data": [{"id": "chaos", "object": "model", "created": 0, "owned_by": "backstay"}],
}


def entry_of(request: HttpRequest, number: int, connection: int) -> Request:
    """A request as it is logged, without its secrets."""
    try:
        body = msgspec.json.decode(request.body) if request.body else None
    except msgspec.DecodeError:
        body = None
    return Request(
        number=number,
        time=time.time(),
        connection=connection,
        method=request.method,
        path=request.path,
        headers={k: _redacted(k, v) for k, v in request.headers.items()},
        body=body,
        raw=request.body,
    )


def _redacted(name: str, value: str) -> str:
    return "[redacted]" if _is_secret(name) else value


def _is_secret(name: str) -> bool:
    return any(word in name for word in _SECRET)


def listen(port: int = 0) -> socket.socket:
    """A listening socket on loopback. Raises ScriptError if the port can't be had."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LOOPBACK, port))
        sock.listen(128)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ScriptError(f"cannot listen on {LOOPBACK}:{port}: {error.strerror}") from None
    return sock


async def serve(house: Playhouse, listener: socket.socket) -> None:
    """Accept connections until cancelled; then end them all."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    try:
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(house.attend(sock))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class ChaosServer:
    """A fault server in a background thread, for tests: `with ChaosServer(script) as server:`.

    `script` is a list of responses, a whole script, a `Script`, or a list with `options` beside it
    (repeat, style, strict, dialect, seed, chaos). Raises ScriptError at once if the script is wrong.
    It may also be a function that is given each request's body and returns the response to it; it
    runs in the server's thread, and what it raises is HTTP 500 and noted in `problems`.
    """

    def __init__(self, script: Any, *, port: int = 0, **options: Any) -> None:
        improvise = script if callable(script) else None
        script = [] if improvise else script
        if options:
            script = ({"responses": script} if isinstance(script, list) else dict(script)) | options
        self._arrived = threading.Condition()
        self._house = Playhouse(parse(script), self._on_request, improvise)
        self.problems = self._house.problems
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    @property
    def log(self) -> list[Request]:
        """All requests in the order in which they came, those to other paths too."""
        return list(self._house.log)

    @property
    def requests(self) -> list[Request]:
        """The requests for responses (POST /v1/responses), in order."""
        return [r for r in self.log if r.method == "POST" and r.path.rstrip("/") == "/v1/responses"]

    @property
    def bodies(self) -> list[JSON]:
        """The parsed bodies of `requests`."""
        return [r.body for r in self.requests]

    def wait(self, count: int, seconds: float = 10.0) -> list[Request]:
        """Wait until so many requests for responses came; raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, seconds):
                raise TimeoutError(f"{len(self.requests)} of {count} requests after {seconds:g} s")
        return self.requests

    def start(self) -> None:
        """Listen and serve; `url` is set when this returns."""
        listener = listen(self._port)
        self.url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/v1"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop, listener), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End all connections and the thread."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop_serving)
            self._thread.join()
            self._loop = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        self._serving = loop.create_task(serve(self._house, listener))
        try:
            loop.run_until_complete(self._serving)
        except asyncio.CancelledError:
            pass
        finally:
            loop.close()

    def _stop_serving(self) -> None:
        self._serving.cancel()

    def _on_request(self, request: Request) -> None:
        with self._arrived:
            self._arrived.notify_all()

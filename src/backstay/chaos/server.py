"""The fault server: plays a script to whoever asks on loopback, and logs what it was asked.

Owns the order of responses, the log, and the carrying out of plans. `ChaosServer` runs it in a
background thread, `listening.serve` in the calling task.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from backstay.chaos.draw import befall, draw
from backstay.chaos.entry import Request, entry_of, entry_of_garbled
from backstay.chaos.http import ClientLeft, Connection, Garbled, HttpRequest, attended
from backstay.chaos.listening import Background
from backstay.chaos.plan import Await, End, Head, Plan, Silence, Write, check, plan, taken_up
from backstay.chaos.script import Passage, Response, Script, Trickle, parse
from backstay.chaos.stream import Play, identity
from backstay.chaos.strict import Refusal, refusal

__all__ = [
    "ChaosServer",
    "Playhouse",
    "Request",
    "document_of",
    "error_of",
    "headers_of",
    "is_websocket",
    "no_websockets",
    "write",
]

JSON = dict[str, Any]
POLL_SECONDS = 0.005


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
        self._kept: dict[str, tuple[Response, Play, bytes]] = {}
        """Background responses by their id: how each was played."""
        self._struck: dict[str, int] = {}
        """How often each was cut."""

    def answer(self, request: HttpRequest, connection: int) -> tuple[Request, Plan, Response]:
        """Log a request and decide its answer."""
        entry = entry_of(request, len(self.log), connection)
        made, response = self._decide(entry)
        entry.status = made.status
        self._note(entry)
        return entry, made, response

    def refuse(self, error: Garbled, connection: int) -> Plan:
        """Log what is not an HTTP request, and answer it."""
        entry = entry_of_garbled(error, len(self.log), connection)
        self._note(entry)
        return error_of(400, entry.refusal or "", "bad_request")

    def _note(self, entry: Request) -> None:
        self.log.append(entry)
        self.on_request(entry)

    def _decide(self, entry: Request) -> tuple[Plan, Response]:
        simple = Response(status=200)
        route = (entry.method, entry.path.rstrip("/"))
        if route == ("POST", "/v1/responses"):
            return self._respond(entry)
        if route == ("POST", "/v1/responses/compact") and self.script.compact:
            return self._respond(entry)
        if route == ("GET", "/v1/models"):
            return document_of(200, _MODELS), simple
        if route[1].startswith("/v1/responses/"):
            return self._take_up(entry), simple
        if is_websocket(entry.headers):
            return no_websockets(), simple
        if route[1] in ("/v1/responses", "/v1/models"):
            message = f"Method {entry.method} is not allowed for {entry.path}."
            return error_of(405, message, "method_not_allowed"), simple
        return error_of(
            404, f"Unknown request URL: {entry.method} {entry.path}.", "unknown_url"
        ), simple

    def _respond(self, entry: Request) -> tuple[Plan, Response]:
        simple = Response(status=200)
        self.asked += 1
        if not isinstance(entry.body, dict):
            return error_of(400, "The request body is not a JSON object.", "invalid_json"), simple
        refused = refusal(entry.body, self.script.dialect) if self.script.strict else None
        if refused:
            entry.refusal = refused.message
            return document_of(refused.status, refused.body()), simple
        if self.improvise:
            problem = self._improvise(self.improvise, entry.body)
            if problem:
                return error_of(500, problem, "script_error"), simple
        number = self._next()
        if number is None:
            count = len(self.script.responses)
            message = f"script exhausted: it has {count} responses and all were played"
            entry.refusal = message
            return error_of(400, message, "script_exhausted"), simple
        entry.response = number
        return self._play(entry, self.script.responses[number])

    def _take_up(self, entry: Request) -> Plan:
        """The rest of a background response, or its end on the client's wish."""
        name, _, action = entry.path.removeprefix("/v1/responses/").partition("/")
        if (entry.method, action) == ("POST", "cancel"):
            self._kept.pop(name, None)
            return document_of(200, {"id": name, "object": "response", "status": "cancelled"})
        asked = dict(part.partition("=")[::2] for part in entry.query.split("&"))
        found = self._kept.get(name)
        if entry.method != "GET" or found is None or asked.get("stream") != "true":
            return error_of(404, f"Response with id '{name}' not found.", "response_not_found")
        after = asked.get("starting_after", "")
        struck = self._struck[name] = self._struck.get(name, 0) + 1
        return taken_up(*found, int(after) if after.isdecimal() else -1, struck)

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
        if entry.body.get("background") and play.streaming and response.kept:
            self._kept[identity(play)] = (response, play, recording)
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
        await attended(connection, self._converse)

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
                    await connection.send_head(made.status, headers_of(made, keep_alive=keep_alive))
                case Write():
                    await write(connection, step, trickle, chunked=made.framing == "chunked")
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
        while not exists(step.file):
            if connection.loop.time() > deadline:
                self.on_problem(f"{step.file} did not appear within {step.seconds:g} s")
                return
            if await connection.client_leaves(POLL_SECONDS):
                raise ClientLeft


def exists(path: str) -> bool:
    """Whether a file that somebody waits for is there."""
    return os.path.exists(path)


async def write(
    connection: Connection, step: Write, trickle: float | Trickle | None, *, chunked: bool
) -> None:
    """Send pieces of a body, slowly where they shall trickle."""
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


def headers_of(made: Plan, *, keep_alive: bool) -> Iterable[tuple[str, str]]:
    """The headers of an answer, with those of its framing."""
    headers = dict(made.headers)
    if made.framing == "chunked":
        headers["transfer-encoding"] = "chunked"
    elif made.framing == "length":
        headers["content-length"] = str(made.length)
    stays = keep_alive and made.framing != "close"
    headers["connection"] = "keep-alive" if stays else "close"
    return headers.items()


def document_of(status: int, value: Any) -> Plan:
    """An answer that is a JSON document."""
    text = msgspec.json.encode(value)
    headers = {"content-type": "application/json"}
    return Plan(status, headers, "length", len(text), [Head(), Write([text]), End("clean")])


def error_of(status: int, message: str, code: str) -> Plan:
    """An answer that is an error in the API's shape."""
    return document_of(status, Refusal(status, message, code, None).body())


def is_websocket(headers: Mapping[str, str]) -> bool:
    """Whether a request asks for a WebSocket."""
    return headers.get("upgrade", "").lower() == "websocket"


def no_websockets() -> Plan:
    """What a client is told that tries one: use HTTP. Codex then does at once."""
    return error_of(426, "There are no WebSockets here; use HTTP.", "upgrade_required")


_MODELS = {
    "object": "list",
    "data": [{"id": "chaos", "object": "model", "created": 0, "owned_by": "backstay"}],
}


class ChaosServer(Background):
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
        house = Playhouse(parse(script), self.on_request, improvise)
        super().__init__(house, house.log, port)
        self.problems = house.problems

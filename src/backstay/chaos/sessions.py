"""The sessions of a log, told apart and judged one by one.

Pure. A request names its session by `prompt_cache_key`. Without one, a request goes on with the
session whose last input it extends, else with one whose first input it extends (its history was
changed, which the judge then says); else it opens a session. So two sessions that run at the same
time, begin alike and have no key are taken for one.
"""

from collections.abc import Collection, Iterable
from typing import Any

from msgspec import Struct, field

from backstay.chaos.judge import Dialect, Verdict, body_of, items_of, judge

JSON = dict[str, Any]


class Session(Struct):
    """Requests of one session: its key (None: none was sent), their numbers in the log, bodies."""

    key: str | None
    numbers: list[int] = field(default_factory=list)
    bodies: list[JSON] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The key, or where the session begins."""
        return self.key if self.key is not None else f"from request {self.numbers[0]}"


class Verdicts(Struct):
    """What is wrong in each session of a log; `unread`: numbers of requests without a JSON body."""

    sessions: list[tuple[Session, Verdict]]
    unread: list[int]

    @property
    def ok(self) -> bool:
        """Nothing is wrong in any session; notes and what could not be read do not count."""
        return all(verdict.ok for _, verdict in self.sessions)

    @property
    def codes(self) -> list[str]:
        """The codes of what is wrong, session by session."""
        return [code for _, verdict in self.sessions for code in verdict.codes]

    def table(self) -> str:
        """The verdicts as lines of text; requests are counted from 0 in each session."""
        lines = []
        for session, verdict in self.sessions:
            first, *findings = verdict.table().splitlines()
            lines.append(f"session {session.name}: {first}")
            if findings and session.numbers != list(range(len(session.numbers))):
                numbers = ", ".join(map(str, session.numbers))
                lines.append(f"  its requests are numbers {numbers} of the log")
            lines += [f"  {line}" for line in findings]
        if self.unread:
            numbers = ", ".join(map(str, self.unread))
            lines.append(f"not judged, since their bodies are no JSON objects: {numbers}")
        return "\n".join(lines) or "no requests"


def judge_sessions(
    requests: Iterable[Any], *, dialect: Dialect = "openai", ignore: Collection[str] = ()
) -> Verdicts:
    """Judge each session of a log by itself; `requests`, `dialect` and `ignore` as for `judge`."""
    sessions, unread = split(requests)
    judged = [(one, judge(one.bodies, dialect=dialect, ignore=ignore)) for one in sessions]
    return Verdicts(judged, unread)


def split(requests: Iterable[Any]) -> tuple[list[Session], list[int]]:
    """The sessions in the order of their first requests, and the numbers that can't be read."""
    sessions: list[Session] = []
    unread: list[int] = []
    for place, request in enumerate(requests):
        number = _number(request, place)
        body = body_of(request)
        if body is None:
            if _is_for_a_response(request):
                unread.append(number)
            continue
        session = _session(body, sessions)
        if session is None:
            session = Session(_key(body))
            sessions.append(session)
        session.numbers.append(number)
        session.bodies.append(body)
    return sessions, unread


def _session(body: JSON, sessions: list[Session]) -> Session | None:
    """The session that a request goes on with, the latest where several fit."""
    key = _key(body)
    alike = [session for session in reversed(sessions) if session.key == key]
    if key is not None:
        return alike[0] if alike else None
    items = items_of(body)
    longest = sorted(alike, key=lambda one: len(items_of(one.bodies[-1])), reverse=True)
    for session in longest:
        if _extends(items, items_of(session.bodies[-1])):
            return session
    for session in alike:
        first = items_of(session.bodies[0])
        if len(items) > len(first) and _extends(items, first):
            return session
    return None


def _extends(items: list[JSON], before: list[JSON]) -> bool:
    return items[: len(before)] == before


def _key(body: JSON) -> str | None:
    key = body.get("prompt_cache_key")
    return key if isinstance(key, str) and key else None


def _number(request: Any, place: int) -> int:
    number = request.get("number") if isinstance(request, dict) else None
    number = getattr(request, "number", number)
    return number if isinstance(number, int) else place


def _is_for_a_response(request: Any) -> bool:
    """Whether a body is missed: the request has a log entry, and it is for a response or garbled."""
    entry = request if isinstance(request, dict) else {}
    path = getattr(request, "path", entry.get("path"))
    method = getattr(request, "method", entry.get("method"))
    return method == "" or (method == "POST" and str(path).rstrip("/").endswith("/responses"))

"""What the plugin's fixtures give to a test: the server with its judge, and the faults by name."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pytest

from backstay.chaos import ChaosServer, Request, Verdict, build, judge
from backstay.chaos.sessions import judge_sessions

JSON = dict[str, Any]


class Faults:
    """The builders of faults, and `at` and `hold` for places and pauses; each gives a JSON value.

    All but `truncated_call` and `keepalive_trap` take `after=` or `before=` a place in the stream
    (an event's number or type, `"call"`, `"terminal"`, `fault.at(...)`) and `when=` a file that must
    exist before the fault strikes.
    """

    close = staticmethod(build.cut)
    reset = staticmethod(build.reset)
    half_event = staticmethod(build.half_event)
    clean_end = staticmethod(build.clean_end)
    stall = staticmethod(build.stall)
    repeat = staticmethod(build.repeat)
    reorder = staticmethod(build.reorder)
    garbage = staticmethod(build.garbage)
    unknown = staticmethod(build.unknown)
    failed = staticmethod(build.failed)
    incomplete = staticmethod(build.incomplete)
    error = staticmethod(build.error)
    truncated_call = staticmethod(build.truncated_call)
    keepalive_trap = staticmethod(build.keepalive_trap)
    at = staticmethod(build.at)
    hold = staticmethod(build.hold)


class ResponsesServer:
    """A strict fault server for one test; `url` is what a client takes as its base URL.

    It refuses what the real API would refuse, and has nothing to say until it is told by `play`.
    """

    def __init__(self) -> None:
        self._server = ChaosServer([], strict=True)
        self._earlier: list[Request] = []
        self._problems: list[str] = []
        self._tolerated: set[str] = set()
        self._checked = True

    def __enter__(self) -> Self:
        self._server.start()
        self.url = self._server.url
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()

    def play(self, *responses: JSON | Callable[[JSON], JSON], **options: Any) -> None:
        """Answer the next requests with these responses, in this order.

        Instead of responses one function may be given: it gets each request's body and returns the
        response to it. `options` are those of a script: repeat, style, dialect, seed; the server is
        strict unless `strict=False` is said. What was played before is over; `url` stays, and so
        do the requests. Raises ScriptError if a response is wrong.
        """
        script: Any = list(responses)
        if len(responses) == 1 and callable(responses[0]):
            script = responses[0]
        port = int(self.url.split(":")[2].partition("/")[0])
        following = ChaosServer(script, port=port, **{"strict": True, **options})
        self._server.stop()
        self._earlier, self._problems = self.log, self.problems
        self._server = following
        self._server.start()

    @property
    def log(self) -> list[Request]:
        """All requests of the test in the order in which they came."""
        return [*self._earlier, *self._server.log]

    @property
    def requests(self) -> list[Request]:
        """The requests for responses (POST /v1/responses)."""
        return _for_responses(self.log)

    @property
    def bodies(self) -> list[Any]:
        """The parsed bodies of `requests`."""
        return [one.body for one in self.requests]

    @property
    def problems(self) -> list[str]:
        """What went wrong in playing: a file that never came, a function that raised."""
        return [*self._problems, *self._server.problems]

    def wait(self, count: int, seconds: float = 10.0) -> list[Request]:
        """Wait until so many requests for responses came; raises TimeoutError."""
        self._server.wait(count - len(_for_responses(self._earlier)), seconds)
        return self.requests

    def judge(self, **options: Any) -> Verdict:
        """What is wrong with the requests, taken as one session; options as for `backstay.chaos.judge`."""
        return judge(self.requests, **options)

    def tolerate(self, *codes: str) -> None:
        """Let the test pass with these findings of the judge; without a code, whatever is found."""
        self._tolerated.update(codes)
        self._checked = self._checked and bool(codes)

    def check(self) -> None:
        """Fail the test if a request was refused or judged wrong, or if playing went wrong.

        Sessions are told apart and judged one by one. It is called at the end of the test.
        """
        __tracebackhide__ = True
        if not self._checked:
            return
        refused = [
            f"request {number} was refused: {one.refusal}"
            for number, one in enumerate(self.requests)
            if one.refusal
        ]
        verdicts = judge_sessions(self.requests, ignore=self._tolerated)
        wrong = [] if verdicts.ok else [verdicts.table()]
        lines = [*refused, *self.problems, *wrong]
        if lines:
            pytest.fail("\n".join(["responses_server:", *lines]), pytrace=False)


def _for_responses(log: list[Request]) -> list[Request]:
    return [one for one in log if one.method == "POST" and one.path.rstrip("/") == "/v1/responses"]

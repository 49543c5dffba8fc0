"""The way of a session's requests to its provider: one attempt, one outcome, never an exception.

The HTTP library is loaded with the first request.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backstay.core import events as e
from backstay.core.commands import Request
from backstay.core.record import Basis
from backstay.core.stream import Ended
from backstay.model.provider import Provider
from backstay.runtime.driver import Deliver

if TYPE_CHECKING:
    from backstay.model.http import HttpTransport


class Sending:
    """Sends the requests of one session."""

    def __init__(self, provider: Provider, texts: Callable[[Basis], tuple[str, bytes]]) -> None:
        """`texts` gives the instructions and the tools' JSON of a basis."""
        self._provider = provider
        self._texts = texts
        self._transport: HttpTransport | None = None

    async def attempt(self, request: Request, deliver: Deliver) -> None:
        """Make one attempt: delivers what the stream says, one `Ended` last."""
        from backstay.model.http import HttpTransport
        from backstay.model.provider import body, http_request
        from backstay.model.responses import attempt

        try:
            if self._transport is None:
                self._transport = HttpTransport()
            instructions, tools = self._texts(request.basis)
            form = _form(request)
            content = body(request, instructions, tools, self._provider, text=form)
            await attempt(self._transport, http_request(self._provider, content), deliver)
        except Exception as error:  # noqa: BLE001 - the one way out is an outcome
            reason = f"{type(error).__name__}: {error}"
            deliver(Ended(e.Outcome(kind="failed", code="client", reason=reason)))

    async def close(self) -> None:
        """Give the connections up."""
        if self._transport is not None:
            await self._transport.close()


def _form(request: Request) -> dict[str, Any] | None:
    """What the request says of the answer's form, where its turn has a schema."""
    if request.schema is None:
        return None
    from backstay.runtime.schema import text_format

    return text_format(request.schema)

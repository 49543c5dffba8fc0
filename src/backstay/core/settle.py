"""What becomes of a call that ended otherwise than by its tool: never a falsehood (P10).

Decides from evidence that others gathered; says in every output why it exists.
"""

from typing import Final, Literal

import msgspec

from backstay.core.events import Evidence, Result
from backstay.core.items import message_text
from backstay.core.pairing import output_item
from backstay.core.record import Call, Output

Replay = Literal["never", "safe"]

NEVER_STARTED: Final = (
    "This call was never started{why}. It had no effect; it is safe to make it again."
)
UNKNOWN: Final = (
    "The outcome of this call is unknown{why}. It may have taken effect: "
    "verify before repeating it."
)
INTERRUPTED: Final = (
    "The user interrupted this call while it ran. It may have taken effect, in part or in full."
)
DEADLINE: Final = (
    "The time limit of this call passed. It may have taken effect, in part or in full."
)


class Close(msgspec.Struct, frozen=True):
    """Give the call this output."""

    result: Result


class TakeOver(msgspec.Struct, frozen=True):
    """Adopt the effect that still runs."""


class RunAgain(msgspec.Struct, frozen=True):
    """Start the effect again: it is declared safe to repeat."""


def settle(evidence: Evidence, replay: Replay) -> Close | TakeOver | RunAgain:
    """What to do with an open call whose start is recorded (DESIGN section 5)."""
    match evidence.found:
        case "running":
            return TakeOver()
        case "recovered" | "answered" if evidence.result is not None:
            return Close(evidence.result)
        case "unstarted":
            return Close(never_started(evidence.detail))
        case _ if replay == "safe":
            return RunAgain()
        case _:
            result = unknown(evidence.detail, evidence.partial)
            return Close(msgspec.structs.replace(result, whole=evidence.whole))


def never_started(why: str) -> Result:
    """The result of a call whose effect did not begin and never will."""
    return Result(content=NEVER_STARTED.format(why=_because(why)), status="never_started")


def unknown(why: str, partial: str) -> Result:
    """The result of a call of which nobody knows whether it took effect."""
    text = UNKNOWN.format(why=_because(why))
    return Result(content=_with_partial(text, partial), status="unknown")


def stopped(result: Result, why: Literal["interrupted", "deadline"]) -> Result:
    """The result of a call that was stopped: what is known, and what it had printed.

    A tool that was done all the same keeps its true result.
    """
    if result.status in ("done", "failed", "yielded"):
        return result
    text = INTERRUPTED if why == "interrupted" else DEADLINE
    if isinstance(result.content, str):
        return msgspec.structs.replace(
            result, content=_with_partial(text, result.content), status=why
        )
    return msgspec.structs.replace(
        result, content=[{"type": "input_text", "text": text}, *result.content], status=why
    )


def output(n: int, call: Call, result: Result) -> Output:
    """The record that closes a call with this result."""
    return Output(
        n=n,
        call=call.n,
        item=output_item(call.item, result.content),
        status=result.status,
        spool=result.spool,
        show=result.show,
        whole=result.whole,
    )


def late(call: Call, result: Result) -> str:
    """What the model is told of a result that came after its call was closed."""
    text = message_text({"output": result.content}) or "(not a text)"
    return f"A late result of the call {call.item.get('call_id', call.n)}:\n{text}"


def _because(why: str) -> str:
    return f" ({why})" if why else ""


def _with_partial(text: str, partial: str) -> str:
    return f"{text}\nIts output until then:\n{partial}" if partial else text

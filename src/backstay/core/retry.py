"""What follows when an attempt did not complete: wait and try again, repair, or end the turn.

Counted from the recorded attempts, so that a restart does not forget (DESIGN 4.4, FACTS 9 and 10).
"""

from typing import Final

import msgspec

from backstay.core.events import Outcome
from backstay.core.history import AttemptState, TurnState, made_calls

RETRY_STATUS: Final = frozenset({408, 409, 425, 429})
"""HTTP statuses below 500 that are worth another try; all of 5xx are too."""
RETRY_CODES: Final = frozenset(
    {"server_error", "rate_limit_exceeded", "overloaded_error", "slow_down", "internal_error"}
)
"""What a `response.failed` or an `error` event may say without being final."""
FINAL_CODES: Final = frozenset(
    {"insufficient_quota", "context_length_exceeded", "invalid_prompt", "usage_limit_reached"}
)
"""Codes that end the turn whatever the status: waiting changes nothing."""


TOO_LONG: Final = (
    "context_length_exceeded",
    "context length exceeded",
    "maximum context length",
    "exceeds the available context size",
    "exceeds the context window",
    "exceeds the model's context",
    "exceeds the context length",
    "greater than the context length",
    "larger than the context",
    "maximum prompt length",
    "prompt is too long",
    "input is too long",
    "exceeds the maximum number of tokens",
    "reduce the length of the messages",
    "reduce the length of your prompt",
)
"""What providers say of a request that the model can't hold."""
_SMALLEST_WINDOW: Final = 512


class Policy(msgspec.Struct, frozen=True):
    """How often and how patiently. Seconds."""

    stream_retries: int = 5
    request_retries: int = 4
    first_wait: float = 0.2
    longest_asked: float = 300.0
    """A `Retry-After` beyond this ends the turn."""
    most_cut: int = 20
    """Cut attempts in one turn, whatever they achieved."""


class Again(msgspec.Struct, frozen=True):
    """Try the step again after so many seconds."""

    seconds: float
    tries: int
    limit: int


class GiveUp(msgspec.Struct, frozen=True):
    """The turn ends as failed."""

    reason: str


def decide(turn: TurnState, outcome: Outcome, policy: Policy, roll: float) -> Again | GiveUp:
    """What follows an attempt of `turn` (its end recorded already) that did not complete.

    `roll` in [0, 1) spreads the waits by a tenth either way.
    """
    counted = [one for one in turn.attempts if one.record.n > turn.reopened_at]
    if not retryable(outcome):
        return GiveUp(explain(outcome))
    request = outcome.kind in ("refused", "unreachable")
    verdict = patience(outcome, _streak(counted, request=request), policy, roll)
    cut = turn.carried.cut + sum(map(is_cut, counted))
    if isinstance(verdict, Again) and cut >= policy.most_cut:
        return GiveUp(f"{explain(outcome)} ({policy.most_cut} attempts of this turn were cut)")
    return verdict


def patience(outcome: Outcome, tries: int, policy: Policy, roll: float) -> Again | GiveUp:
    """How long to wait after something that is worth another try and failed `tries` times."""
    request = outcome.kind in ("refused", "unreachable")
    limit = policy.request_retries if request else policy.stream_retries
    if tries > limit:
        return GiveUp(
            f"{explain(outcome)} (gave up after {limit} {'retry' if limit == 1 else 'retries'})"
        )
    asked = outcome.retry_after
    if asked is not None and asked > policy.longest_asked:
        return GiveUp(f"{explain(outcome)} (asked to wait for {asked:.0f} s; try again later)")
    wait = policy.first_wait * 2 ** (tries - 1) * (0.9 + 0.2 * roll)
    return Again(max(wait, asked or 0.0), tries, limit)


def retryable(outcome: Outcome) -> bool:
    """Whether trying the same again can help."""
    if any(_names(outcome, code) for code in FINAL_CODES):
        return False
    if outcome.kind == "refused":
        status = outcome.status or 0
        return status in RETRY_STATUS or status >= 500
    if outcome.kind == "failed":
        return not outcome.code or outcome.code in RETRY_CODES or _is_server_status(outcome.code)
    return outcome.kind in ("cut", "stalled", "unreachable")


def is_too_long(outcome: Outcome) -> bool:
    """Whether the provider says, in whatever words, that the request is too long for the model."""
    if outcome.kind not in ("refused", "failed") or outcome.status in (401, 403, 429):
        return False
    said = f"{outcome.code} {outcome.reason}".lower()
    return outcome.status == 413 or any(words in said for words in TOO_LONG)


def said_window(outcome: Outcome) -> int:
    """The window that such a refusal names, in tokens: the smallest number in it; else 0."""
    spaced = "".join(c if c.isalnum() else " " for c in outcome.reason.replace(",", ""))
    numbers = [int(word) for word in spaced.split() if word.isdecimal() and 3 <= len(word) <= 8]
    return min((one for one in numbers if one >= _SMALLEST_WINDOW), default=0)


def explain(outcome: Outcome) -> str:
    """One line for people."""
    said = " ".join(outcome.reason.split()) or outcome.code
    if outcome.kind == "refused":
        return f"the provider refused the request (HTTP {outcome.status}): {said}".rstrip(": ")
    if outcome.kind == "failed":
        return f"the provider reported a failure: {said}" if said else "the provider failed"
    if outcome.kind == "incomplete":
        return f"the response is incomplete: {said}"
    return said or outcome.kind


def _names(outcome: Outcome, code: str) -> bool:
    return outcome.code == code or (outcome.kind == "refused" and code in outcome.reason)


def _is_server_status(code: str) -> bool:
    return code.isdigit() and (int(code) in RETRY_STATUS or int(code) >= 500)


def is_cut(attempt: AttemptState) -> bool:
    """Whether it counts among a turn's cut attempts."""
    end = attempt.end
    return end is not None and end.outcome in ("cut", "stalled", "failed")


def _streak(attempts: list[AttemptState], *, request: bool) -> int:
    """How many attempts in a row failed in this way, the last one included.

    An attempt that completed, or one that was cut but made a call, starts the count anew; one whose
    process died is nobody's failure.
    """
    count = 0
    for one in reversed(attempts):
        outcome = one.end.outcome if one.end else "died"
        if outcome in ("completed", "incomplete"):
            break
        if one is not attempts[-1] and made_calls(one):
            break
        if outcome in ("refused", "unreachable"):
            count += request
        elif outcome != "died":
            count += not request
        if made_calls(one):
            break
    return max(count, 1)

"""Retries: which failures are worth another try, how often, and how long the wait is."""

from collections.abc import Iterator

import pytest

from backstay.core.events import Outcome, OutcomeKind
from backstay.core.history import REOPENED
from backstay.core.record import Note
from backstay.core.retry import Again, GiveUp, Policy, decide, explain, retryable
from tests.core.past import Past
from tests.core.wire import function, said

CUT = Outcome(kind="cut", reason="closed")


def refused(status: int, code: str = "", **fields: str | float) -> Outcome:
    """An HTTP refusal."""
    return Outcome(kind="refused", status=status, code=code, **fields)  # type: ignore[arg-type]


def after(past: Past, outcome: Outcome, roll: float = 0.5) -> Again | GiveUp:
    """What follows the last attempt of the journal's turn, which ended like this."""
    turn = past.history().turn
    assert turn is not None
    return decide(turn, outcome, Policy(), roll)


def numbers(found: Again | GiveUp) -> list[object]:
    """The seconds, tries and limit of a retry."""
    assert isinstance(found, Again)
    return [found.seconds, found.tries, found.limit]


def tried(*outcomes: str, **fields: str) -> Past:
    """A turn whose attempts ended like these; `+` behind one: it made a call."""
    past = Past()
    turn = past.prompt()
    for outcome in outcomes:
        attempt = past.attempt(turn)
        if outcome.endswith("+"):
            past.answered(attempt, 0, function("c"))
        past.ended(attempt, outcome.removesuffix("+"), **fields)
    return past


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529, 599])
def test_statuses_that_are_tried_again(status: int) -> None:
    """Overload, conflict and every server error (FACTS 10)."""
    assert retryable(refused(status))
    assert isinstance(after(tried("refused"), refused(status)), Again)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_statuses_that_are_final(status: int) -> None:
    """A bad request, key or model doesn't get better by repetition (FACTS 10)."""
    assert not retryable(refused(status))
    assert isinstance(after(tried("refused"), refused(status)), GiveUp)


def test_a_refusal_without_a_status_is_final() -> None:
    """Nothing says that it would help."""
    assert not retryable(Outcome(kind="refused"))


@pytest.mark.parametrize("code", ["insufficient_quota", "context_length_exceeded"])
@pytest.mark.parametrize("kind, status", [("refused", 429), ("refused", 500), ("failed", None)])
def test_codes_that_are_final_whatever_the_status(
    code: str, kind: OutcomeKind, status: int | None
) -> None:
    """An empty account says 429 too (FACTS 10)."""
    assert not retryable(Outcome(kind=kind, status=status, code=code))


def test_a_final_code_may_stand_in_the_sentence() -> None:
    """Some gateways put the provider's error into their own message."""
    assert not retryable(refused(429, reason="upstream said insufficient_quota"))


@pytest.mark.parametrize(
    "code, again",
    [
        ("server_error", True),
        ("rate_limit_exceeded", True),
        ("", True),
        ("500", True),
        ("429", True),
        ("400", False),
        ("content_filter", False),
        ("invalid_prompt", False),
    ],
)
def test_failures_in_a_stream(code: str, *, again: bool) -> None:
    """The provider's code decides; llama.cpp's is a number (FACTS 10 and 15)."""
    assert retryable(Outcome(kind="failed", code=code)) is again


@pytest.mark.parametrize("kind", ["cut", "stalled", "unreachable"])
def test_what_the_network_does_is_tried_again(kind: OutcomeKind) -> None:
    """Cut and stalled streams and failed connections."""
    assert retryable(Outcome(kind=kind))


@pytest.mark.parametrize("kind", ["completed", "incomplete", "interrupted", "died"])
def test_what_is_no_failure_of_the_provider_is_not(kind: OutcomeKind) -> None:
    """These are decided elsewhere."""
    assert not retryable(Outcome(kind=kind))


def waits(outcome: Outcome, kind: str) -> Iterator[Again]:
    """The waits after one failure, two, three, until it is given up."""
    for count in range(1, 50):
        found = after(tried(*[kind] * count), outcome)
        if not isinstance(found, Again):
            return
        yield found


def test_streams_are_retried_five_times() -> None:
    """200 ms, doubled each time (DESIGN 4.4)."""
    found = list(waits(CUT, "cut"))
    assert [one.seconds for one in found] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2])
    assert [(one.tries, one.limit) for one in found] == [(n, 5) for n in range(1, 6)]


def test_requests_are_retried_four_times() -> None:
    """Refusals and failed connections have a count of their own."""
    assert len(list(waits(refused(503), "refused"))) == 4
    assert len(list(waits(Outcome(kind="unreachable"), "unreachable"))) == 4
    mixed = tried("unreachable", "refused", "unreachable", "refused", "unreachable")
    assert isinstance(after(mixed, Outcome(kind="unreachable")), GiveUp)


def test_giving_up_says_why_and_after_how_many() -> None:
    """One line for people."""
    assert after(tried(*["cut"] * 6), CUT) == GiveUp("closed (gave up after 5 retries)")


def test_streams_and_requests_are_counted_apart() -> None:
    """Cut streams between refusals use up no request retries, nor the other way round."""
    past = tried("cut", "refused", "cut", "refused", "cut")
    assert numbers(after(past, CUT)) == [pytest.approx(0.8), 3, 5]
    past = tried("cut", "cut", "cut", "refused")
    assert numbers(after(past, refused(503))) == [pytest.approx(0.2), 1, 4]


def test_the_wait_is_spread_by_a_tenth() -> None:
    """`roll` moves it from nine to eleven tenths."""
    low, high = after(tried("cut"), CUT, roll=0.0), after(tried("cut"), CUT, roll=1.0)
    assert isinstance(low, Again)
    assert isinstance(high, Again)
    assert [low.seconds, high.seconds] == pytest.approx([0.18, 0.22])


def test_an_attempt_that_made_a_call_starts_the_count_anew() -> None:
    """Progress is progress: the failure of that attempt is the first again."""
    assert numbers(after(tried("cut", "cut", "cut", "cut+"), CUT)) == [pytest.approx(0.2), 1, 5]
    assert numbers(after(tried("cut", "cut", "cut+", "cut"), CUT)) == [pytest.approx(0.2), 1, 5]
    assert numbers(after(tried("cut", "cut+", "cut", "cut"), CUT)) == [pytest.approx(0.4), 2, 5]


def test_a_step_that_completed_starts_the_count_anew() -> None:
    """Each step has all of its retries."""
    assert numbers(after(tried(*["cut"] * 4, "completed+", "cut"), CUT)) == [
        pytest.approx(0.2),
        1,
        5,
    ]


def test_twenty_cut_attempts_end_the_turn_whatever_they_achieved() -> None:
    """A provider that cuts after every call can't keep a turn alive for ever."""
    assert isinstance(after(tried(*["cut+"] * 19), CUT), Again)
    found = after(tried(*["cut+"] * 20), CUT)
    assert isinstance(found, GiveUp)
    assert "20 attempts" in found.reason


def test_attempts_whose_process_died_are_nobodys_failure() -> None:
    """A resume neither forgets the failures before it nor adds one (DESIGN 4.4)."""
    past = tried("cut", "cut", "died", "died", "cut")
    assert numbers(after(past, CUT)) == [pytest.approx(0.8), 3, 5]
    assert isinstance(after(tried(*["cut"] * 5, "died", "cut"), CUT), GiveUp)


def test_counters_start_anew_in_a_turn_that_was_reopened() -> None:
    """`continue` is a new will to try."""
    past = tried(*["cut"] * 6)
    past.closed(2, "failed")
    past.add(Note, topic=REOPENED, turn=2)
    past.ended(past.attempt(2, 2), "cut")
    assert numbers(after(past, CUT)) == [pytest.approx(0.2), 1, 5]


@pytest.mark.parametrize("asked, seconds", [(0.0, 0.2), (0.05, 0.2), (7.5, 7.5), (300.0, 300.0)])
def test_the_provider_may_ask_for_a_longer_wait(asked: float, seconds: float) -> None:
    """`Retry-After` is honoured up to five minutes."""
    outcome = refused(429, retry_after=asked)
    assert numbers(after(tried("refused"), outcome)) == [pytest.approx(seconds), 1, 4]


def test_a_wait_of_more_than_five_minutes_ends_the_turn() -> None:
    """And says how long it would have been."""
    found = after(tried("refused"), refused(429, retry_after=301.0))
    assert isinstance(found, GiveUp)
    assert "301 s" in found.reason


@pytest.mark.parametrize(
    "outcome, text",
    [
        (
            refused(401, reason="bad\n  key"),
            "the provider refused the request (HTTP 401): bad key",
        ),
        (refused(401, "no_key"), "the provider refused the request (HTTP 401): no_key"),
        (refused(500), "the provider refused the request (HTTP 500)"),
        (Outcome(kind="failed", reason="x"), "the provider reported a failure: x"),
        (Outcome(kind="failed"), "the provider failed"),
        (
            Outcome(kind="incomplete", reason="max_output_tokens"),
            "the response is incomplete: max_output_tokens",
        ),
        (CUT, "closed"),
        (Outcome(kind="stalled"), "stalled"),
    ],
)
def test_every_failure_is_one_line_for_people(outcome: Outcome, text: str) -> None:
    """The provider's words, and where they came from."""
    assert explain(outcome) == text


def test_an_item_that_is_no_call_is_no_progress() -> None:
    """Messages of cut attempts are said again, so they start no count anew."""
    past = tried("cut", "cut")
    attempt = past.attempt(2)
    past.item(attempt, 0, said("half"))
    past.ended(attempt, "cut")
    assert numbers(after(past, CUT)) == [pytest.approx(0.8), 3, 5]

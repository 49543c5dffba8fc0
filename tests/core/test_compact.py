"""A view that is replaced by a shorter one: when, how, and what is left. Scripts and pure parts."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.core import events as e
from backstay.core.budget import Budget, spent
from backstay.core.commands import Summarize
from backstay.core.compact import estimate, is_full, limit, tokens, window
from backstay.core.dialect import Dialect
from backstay.core.history import COMMAND_ENDED
from backstay.core.items import Item, message, message_text
from backstay.core.record import (
    Compaction,
    Late,
    Note,
    Output,
    Prompt,
    Repair,
    SpoolRange,
    Start,
)
from backstay.core.retry import Policy, is_too_long, said_window
from backstay.core.rules import Rules
from backstay.core.summary import (
    Choice,
    Goal,
    Making,
    is_summary,
    mechanical,
    newest,
    shortened,
    summed,
    transcript,
)
from backstay.core.table import Phase
from backstay.core.told import DOCUMENTS, ENVIRONMENT, notice
from tests.core.past import BASIS, Past
from tests.core.playbook import SYNCED, Playbook, done, ended, finished, prompt
from tests.core.watch import replay
from tests.core.wire import custom, function, said, thought

Make = Callable[..., Playbook]
TOO_LONG: dict[str, Any] = {"status": 400, "code": "context_length_exceeded"}
SHORT = [said("what was done")]


def summarized(kind: e.OutcomeKind = "completed", items: list[Item] | None = None, **fields: Any) \
        -> e.Summarized:  # fmt: skip
    """The request for a summary ends; a complete one has a text unless it is told otherwise."""
    if items is None:
        items = SHORT if kind == "completed" else []
    return e.Summarized(e.Outcome(kind=kind, **fields), items)


def refused(make: Make, **fields: Any) -> Playbook:
    """A session with one answered step whose second is refused for its length."""
    return (
        make(**fields)
        >> prompt("go")
        << "append prompt 2; attempt 3"
        >> SYNCED
        << "send 3: go"
        >> done(3, 0, function("c1"))
        << "append call 4; start of 4"
        >> SYNCED
        << "start 4 c1"
        >> finished(4)
        << "append output of 4 done"
        >> ended(3)
        << "append end of 3 completed; attempt 8"
        >> SYNCED
        << "send 8: go c1 =c1"
        >> ended(8, "refused", **TOO_LONG)
        << "append end of 8 refused"
        >> SYNCED
        << "summarize: text"
    )


# The machine


def test_a_refusal_for_length_is_answered_with_a_shorter_view(playbook: Make) -> None:
    """The record is on disk before the step is tried again, with prompt and summary alone."""
    play = refused(playbook, dialect=Dialect()) >> summarized()
    play << "append compaction 10; attempt 11"
    play >> SYNCED
    play << "send 11: go <summary>"
    machine = play.check(Phase.STREAMING)
    (made,) = [one for one in machine.world.records if isinstance(one, Compaction)]
    assert (made.turn, made.tally.steps, made.tally.counted) == (2, 1, 1)
    attempt = machine.turn.history.attempts[11].record
    assert (attempt.step, attempt.turn) == (2, 2)


def test_a_second_refusal_for_length_in_the_same_step_ends_the_turn(playbook: Make) -> None:
    """It says so; continued it is tried once more, and a new prompt gets a compaction of its own."""
    (
        refused(playbook)
        >> summarized()
        << "append compaction 10; attempt 11"
        >> SYNCED
        << "send 11: go <summary>"
        >> ended(11, "refused", **TOO_LONG)
        << "append end of 11 refused; turn 2 failed"
        >> SYNCED
        << "finish 2 failed"
        >> e.Continued()
        << "append note reopened; attempt 15"
        >> SYNCED
        << "send 15: go <summary> The turn above was cut: the provider refused the request "
        "(HTTP 400): context_length_exceeded (the conversation was compacted for this step already)."
        >> ended(15, "refused", **TOO_LONG)
        << "append end of 15 refused; turn 2 failed"
        >> SYNCED
        << "finish 2 failed"
        >> prompt("less")
        << "append prompt 18; attempt 19"
        >> SYNCED
        << "send 19: go <summary> The turn above was cut: the provider refused the request "
        "(HTTP 400): context_length_exceeded (the conversation was compacted for this step already)."
        " The turn above was cut: the provider refused the request (HTTP 400): "
        "context_length_exceeded (the conversation was compacted for this step already). less"
        >> ended(19, "refused", **TOO_LONG)
        << "append end of 19 refused"
        >> SYNCED
        << "summarize: text"
        >> summarized()
        << "append compaction 21; attempt 22"
        >> SYNCED
        << "send 22: go <summary> less"
    ).check(Phase.STREAMING)


def test_a_summary_is_retried_as_an_attempt_is(playbook: Make) -> None:
    """With waits that are seen, as often as the policy says; then the turn fails, resumable."""
    play = refused(playbook)
    for tries in (1, 2, 3, 4, 5):
        play >> summarized("cut", SHORT)
        play << f"wait 0: {0.2 * 2 ** (tries - 1):.1f} s {tries}/5"
        play >> e.Woke(0)
        play << "summarize: text"
    (
        play
        >> summarized("cut")
        << "append turn 2 failed"
        >> SYNCED
        << "finish 2 failed"
        >> e.Continued()
        << "append note reopened; attempt 12"
    ).check(Phase.STREAMING)


def test_what_happens_while_a_summary_is_made(playbook: Make) -> None:
    """A prompt waits, a note and a late result stay in the view; stale wakes change nothing."""
    machine = (
        refused(playbook)
        >> prompt("more")
        << "append prompt 10"
        >> e.Noted("ended", "", message("developer", "noted"))
        << "append note ended"
        >> e.Woke(3)
        >> e.Woke(0)
        >> e.DeadlinePassed(4)
        >> finished(4, "late")
        << "append late 12"
        >> summarized()
        << "append compaction 13; attempt 14"
        >> SYNCED
        << "send 14: go <summary> noted A late result of the call c1:\nlate"
        >> done(14, 0, said("ok"))
        << "append item 15"
        >> ended(14)
        << "append end of 14 completed; turn 2 completed; attempt 18"
    ).check(Phase.STREAMING)
    assert machine.turn.history.turn is not None
    assert machine.turn.history.turn.n == 10


@pytest.mark.parametrize("waiting", [False, True])
def test_an_interrupt_ends_it_without_a_record(playbook: Make, waiting: bool) -> None:
    """At once where there is a wait, else once the request has ended."""
    play = refused(playbook)
    if waiting:
        play >> summarized("cut")
        play << "wait 0: 0.2 s 1/5"
        play >> e.Interrupted()
    else:
        play >> e.Interrupted()
        play << "abort summary"
        play >> summarized("interrupted")
    play << "append turn 2 interrupted"
    play >> SYNCED
    play << "finish 2 interrupted"
    play >> e.Woke(0)
    play.check(Phase.IDLE)


def test_a_summary_is_asked_for_once_what_it_holds_is_on_disk(playbook: Make) -> None:
    """P4; an interrupt or a disk that refuses before that leaves nobody to be told to stop."""
    past = Past()
    past.ended(past.attempt(past.prompt()))
    (
        playbook(records=past.records, compact_at=2000)
        >> prompt("x" * 9000)
        << "append prompt 5; turn 2 superseded"
        >> e.Interrupted()
        << "append turn 5 interrupted"
        >> SYNCED
        << "finish 2 superseded"
        << "finish 5 interrupted"
        >> prompt("more")
        << "append prompt 8"
        >> e.AppendFailed("full")
        << "finish 5 storage"
    ).check(Phase.BROKEN)


def test_a_disk_that_refuses_ends_it(playbook: Make) -> None:
    """Nothing that can't be recorded is asked for."""
    (
        refused(playbook)
        >> e.AppendFailed("full")
        << "abort summary"
        << "finish 2 storage"
        >> summarized()
    ).check(Phase.BROKEN)


def test_on_demand_while_nothing_runs(playbook: Make) -> None:
    """Behind an ended turn there is no prompt to go on with; what fails changes nothing."""
    (
        playbook()
        >> e.CompactionAsked()
        << "finish 0 nothing"
        >> prompt("go")
        << "append prompt 2; attempt 3"
        >> SYNCED
        << "send 3: go"
        >> ended(3)
        << "append end of 3 completed; turn 2 completed"
        >> SYNCED
        << "finish 2 completed"
        >> e.CompactionAsked("other", "p")
        << "summarize: go"
        >> summarized("refused", status=401)
        << "finish 0 failed"
        >> e.CompactionAsked()
        << "summarize: go"
        >> e.Interrupted()
        << "abort summary"
        >> summarized("interrupted")
        << "finish 0 interrupted"
        >> e.CompactionAsked()
        << "summarize: go"
        >> prompt("more")
        << "append prompt 6"
        >> summarized()
        << "append compaction 7; attempt 8"
        >> SYNCED
        << "finish 0 compacted"
        << "send 8: go <summary> more"
    ).check(Phase.STREAMING)


@pytest.mark.parametrize("outcome, step", [("completed", 3), ("died", 2), ("cut", 2)])
def test_a_cut_turn_goes_on_behind_one_that_was_asked_for(
    playbook: Make, outcome: str, step: int
) -> None:
    """With the step that is next: the same one where its answer was cut."""
    past = Past()
    turn = past.prompt()
    attempt = past.attempt(turn)
    past.answered(attempt, 0, function("c1"))
    past.ended(attempt)
    attempt = past.attempt(turn, 2)
    past.answered(attempt, 0, function("c2"))
    if outcome != "died":
        past.ended(attempt, outcome)
    play = playbook(records=past.records)
    if outcome == "died":
        play << "append end of 7 died"
        play >> SYNCED
    n = 11
    (
        play
        >> e.CompactionAsked()
        << "summarize: go c1 =c1 c2 =c2"
        >> summarized()
        << f"append compaction {n}"
        >> SYNCED
        << "finish 0 compacted"
        >> e.Continued()
        << f"append attempt {n + 1}"
    )
    machine = play.check(Phase.STREAMING)
    assert machine.turn.history.attempts[n + 1].record.step == step


def test_asked_for_while_what_a_crash_left_is_settled(playbook: Make) -> None:
    """It waits until every call has its output."""
    past = Past()
    attempt = past.attempt(past.prompt())
    past.start(past.call(attempt, 0, function("c1")))
    (
        playbook(records=past.records)
        << "probe 4"
        >> e.CompactionAsked()
        >> e.Settled(4, e.Evidence(found="unstarted"))
        << "append output of 4 never_started; end of 3 died"
        >> SYNCED
        << "summarize: go c1 =c1"
    ).check(Phase.COMPACTING)


def test_a_budget_counts_over_a_compaction(playbook: Make) -> None:
    """Steps and tokens of before stand in the record, the summary's among them."""
    usage = {"input_tokens": 400, "output_tokens": 100}
    machine = (
        playbook(budget=Budget(tokens=1200))
        >> prompt("go")
        << "append prompt 2; attempt 3"
        >> SYNCED
        << "send 3: go"
        >> done(3, 0, function("c1", name="gone"))
        << "append call 4; output of 4 rejected"
        >> ended(3, usage=usage)
        << "append end of 3 completed; attempt 7"
        >> SYNCED
        << "send 7: go c1 =c1"
        >> ended(7, "refused", **TOO_LONG)
        << "append end of 7 refused"
        >> SYNCED
        << "summarize: text"
        >> summarized(usage=usage)
        << "append compaction 9; attempt 10"
        >> SYNCED
        << "send 10: go <summary>"
        >> done(10, 0, function("c1", name="gone"))
        << "append call 11; output of 11 rejected"
        >> ended(10, usage=usage)
        << "append end of 10 completed; turn 2 failed"
        >> SYNCED
        << "finish 2 failed"
    ).check(Phase.IDLE)
    turn = machine.turn.history.turns[2]
    assert (spent(turn).tokens, spent(turn).steps) == (1500, 2)


def test_no_summary_is_asked_for_once_the_budget_is_used_up(playbook: Make) -> None:
    """It would be paid for and never used."""
    (
        playbook(budget=Budget(tokens=1))
        >> prompt("go")
        << "append prompt 2; attempt 3"
        >> SYNCED
        << "send 3: go"
        >> ended(3, "refused", usage={"input_tokens": 2}, **TOO_LONG)
        << "append end of 3 refused; turn 2 failed"
    ).check(Phase.IDLE)


def test_a_failed_turn_can_be_continued_behind_one(playbook: Make) -> None:
    """The record says how the turn ended: a reader from the tail would not know."""
    past = Past()
    turn = past.prompt()
    past.ended(past.attempt(turn), "refused", status=401)
    past.closed(turn, "failed")
    (
        playbook(records=past.records)
        >> e.CompactionAsked()
        << "summarize: go"
        >> summarized()
        << "append compaction 6"
        >> SYNCED
        << "finish 0 compacted"
        >> e.Continued()
        << "append note reopened; attempt 8"
    ).check(Phase.STREAMING)


def test_an_endpoint_that_is_overloaded_gives_way_to_a_summary(playbook: Make) -> None:
    """After its retries; one that is missing is not asked a second time."""
    past = Past()
    past.ended(past.attempt(past.prompt()))
    past.closed(2, "completed")
    play = playbook(
        records=past.records,
        dialect=Dialect(compact_endpoint=True),
        policy=Policy(request_retries=1),
    )
    (
        play
        >> e.CompactionAsked()
        << "endpoint: go"
        >> summarized("refused", status=503)
        << "wait 0: 0.2 s 1/1"
        >> e.Woke(0)
        << "endpoint: go"
        >> summarized("refused", status=503)
        << "summarize: go"
        >> summarized("refused", status=401)
        << "finish 0 failed"
        >> e.CompactionAsked()
        << "endpoint: go"
        >> summarized("refused", status=404)
        << "summarize: go"
        >> summarized("refused", status=401)
        << "finish 0 failed"
        >> e.CompactionAsked()
        << "summarize: go"
        >> summarized(items=[])
        << "summarize: go"
        >> summarized(items=[function("c1")])
        << "summarize: text"
        >> summarized(items=[])
        << "append compaction 6"
        >> SYNCED
        << "finish 0 compacted"
    ).check(Phase.IDLE)


# When


def test_a_prompt_for_which_there_is_no_room_is_made_room_for_once(playbook: Make) -> None:
    """Before its turn begins; then it is sent, however long it is."""
    past = Past()
    turn = past.prompt("one")
    past.ended(past.attempt(turn))
    past.closed(turn, "completed")
    long = "x" * 9000
    (
        playbook(records=past.records, compact_at=2000)
        >> prompt(long)
        << "append prompt 6"
        >> SYNCED
        << "summarize: one"
        >> summarized()
        << "append compaction 7; attempt 8"
        >> SYNCED
        << f"send 8: one <summary> {long}"
        >> ended(8, "cut")
        << "append end of 8 cut"
        << "wait 8: 0.2 s 1/5"
        >> e.Woke(8)
        << "append attempt 10"
    ).check(Phase.STREAMING)


def test_what_a_retry_will_say_again_is_not_summed_up(playbook: Make) -> None:
    """A cut answer's last words leave the view, and the summary's request too."""
    past = Past()
    turn = past.prompt("one")
    attempt = past.attempt(turn)
    past.answered(attempt, 0, function("c1"), "x" * 9000)
    past.item(attempt, 1, said("half"))
    past.ended(attempt, "cut")
    (
        playbook(records=past.records, compact_at=2000)
        >> e.Continued()
        << "summarize: one c1 =c1"
        >> summarized()
        << "append compaction 8; attempt 9"
    ).check(Phase.STREAMING)


def test_before_the_window_is_full(playbook: Make) -> None:
    """By what the provider counted, and by what came since."""
    past = Past()
    turn = past.prompt()
    attempt = past.attempt(turn)
    past.answered(attempt, 0, function("c1"), "x" * 4000)
    past.ended(attempt, usage={"input_tokens": 100, "output_tokens": 20})
    history = past.history()
    assert 1120 <= estimate(history) <= 1200
    assert is_full(history, turn, 1100)
    assert not is_full(history, turn, 1300)
    assert not is_full(history, turn, None)
    uncounted = replay(past.records[:-1])
    assert abs(estimate(uncounted) - 1100) < 100
    kept = [message("user", "short")]
    past.add(Compaction, id="s", cwd="/w", basis=BASIS, items=kept, turn=turn, after=1090)
    assert not is_full(past.history(), turn, 1)
    past.ended(past.attempt(turn, 2), usage={"input_tokens": 1150})
    assert not is_full(past.history(), turn, 1100)
    past.ended(past.attempt(turn, 3), usage={"input_tokens": 1250})
    assert is_full(past.history(), turn, 1100)


def test_a_prompt_that_waits_counts() -> None:
    """Its turn is about to begin with it."""
    past = Past()
    past.prompt("x" * 40_000)
    assert is_full(past.history(), 2, 9000)


def test_an_image_counts_as_an_image() -> None:
    """Not by the bytes that it is encoded in."""
    picture = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 400_000}
    text = {"type": "input_text", "text": "see"}
    item = {"type": "message", "role": "user", "content": [text, picture]}
    assert 1500 <= tokens([item]) < 1600


@pytest.mark.parametrize(
    "model, configured, at, found",
    [
        ("m", None, None, None),
        ("m", None, 5000, 5000),
        ("gpt-5.1-codex", None, 0, None),
        ("m", 32_000, None, 24_800),
        ("openai/gpt-5-mini", None, None, 228_800),
        ("gpt-5", 100_000, None, 77_500),
    ],
)
def test_the_limit(model: str, configured: int | None, at: int | None, found: int | None) -> None:
    """What is configured goes before what is known of the model."""
    assert limit(model, configured, at) == found


def test_windows_are_known_by_name() -> None:
    """Behind a gateway's prefix too; of others nothing is guessed."""
    assert window("gpt-4.1-mini") == 1_047_576
    assert window("o3-pro") == 200_000
    assert window("my-gpt-5") is None


@pytest.mark.parametrize(
    "words, size",
    [
        ("This model's maximum context length is 8192 tokens. However, you sent 9001.", 8192),
        ("request (9001 tokens) exceeds the available context size (8192 tokens)", 8192),
        ("prompt is too long: 213462 tokens > 200000 maximum", 200_000),
        ("Your input exceeds the context window of this model", 0),
        ("This model's maximum prompt length is 131,072 but it contains 537,812", 131_072),
    ],
)
def test_what_providers_say_of_length(words: str, size: int) -> None:
    """As a refusal or in the stream; the window that they name."""
    for outcome in (
        e.Outcome(kind="refused", status=400, reason=words),
        e.Outcome(kind="failed", reason=words),
        e.Outcome(kind="refused", status=500, reason=words),
    ):
        assert is_too_long(outcome)
        assert said_window(outcome) == size


@pytest.mark.parametrize(
    "outcome",
    [
        e.Outcome(kind="refused", status=429, reason="maximum context length per minute"),
        e.Outcome(kind="refused", status=401, reason="prompt is too long"),
        e.Outcome(kind="cut", reason="prompt is too long"),
        e.Outcome(kind="refused", status=400, reason="a bad request"),
        e.Outcome(kind="incomplete", reason="max_output_tokens"),
    ],
)
def test_other_refusals_are_not_about_length(outcome: e.Outcome) -> None:
    """A rate, a key, a cut, anything else."""
    assert not is_too_long(outcome)


# What is kept


def made(past: Past, goal: Goal, *, most: int = 0, at: int | None = None, **rules: Any) -> Making:
    """A compaction of this past in the making."""
    rule = Rules(tools={}, compact_at=at, **rules)
    return Making(past.history(), rule, goal, Choice("m", "p", "", BASIS), "why", most=most)


def long_past() -> tuple[Past, int]:
    """Two turns with all that may be told, the second under way."""
    past = Past()
    place = notice(ENVIRONMENT, "<environment_context>\n old")
    first = past.add(
        Prompt,
        id="s",
        cwd="/w",
        basis=BASIS,
        items=[place, notice(DOCUMENTS, "# AGENTS.md instructions for /w"), message("user", "one")],
        model="m",
    )
    attempt = past.attempt(first)
    past.item(attempt, 0, thought("r", "sealed"))
    past.answered(attempt, 1, custom("c1"))
    past.ended(attempt, usage={"input_tokens": 10, "output_tokens": 1})
    past.closed(first, "interrupted", message("developer", "It was cut."))
    past.add(Note, topic="environment", item=notice(ENVIRONMENT, "<environment_context>\n new"))
    past.add(Repair, action="drop_field", reason="refused", field="include")
    past.add(Repair, action="drop_reasoning", reason="refused")
    second = past.prompt("two", schema={"type": "object"})
    attempt = past.attempt(second)
    call = past.call(attempt, 0, function("c2"))
    past.start(call)
    start = past.records[-1]
    assert isinstance(start, Start)
    start.boot = "boot"
    spool = SpoolRange(f"s-{call}", 0, 7)
    past.add(Output, call=call, item={"type": "function_call_output", "call_id": "c2", "output": ""},
             status="yielded", spool=spool)  # fmt: skip
    past.add(Late, call=call, item=message("developer", "late"))
    past.ended(attempt, "cut")
    past.prompt("three")
    return past, second


def test_what_a_compaction_keeps() -> None:
    """The newest of what was told, the user's words, the prompt; queue, counts and commands."""
    past, turn = long_past()
    making = made(past, Goal(turn=turn, step=1))
    assert making.request() is not None
    assert making.heard(summarized(usage={"input_tokens": 5})) is None
    record = making.record()
    texts = [message_text(item) for item in record.items]
    assert texts[:4] == [
        "<environment_context>\n new",
        "# AGENTS.md instructions for /w",
        "one",
        "two",
    ]
    assert is_summary(record.items[4])
    assert len(texts) == 5
    assert [one.n for one in record.carried if isinstance(one, Prompt)] == [past.records[-1].n]
    assert [one.field for one in record.carried if isinstance(one, Repair)] == ["include"]
    assert record.tally.cut == 1
    assert record.tally.usage == {"input_tokens": 5}
    assert (record.shown, record.running) == ({"s-14": 7}, {"s-14": "boot"})
    assert record.schema == {"type": "object"}
    assert record.prompt is not None
    past.records.append(record)
    live, tail = past.history(), replay([record])
    assert tail.turn == live.turn
    assert tail.queued == live.queued
    assert tail.mends == live.mends
    assert (tail.shown, tail.running) == (live.shown, live.running)
    past.add(Note, topic=COMMAND_ENDED, text="s-14")
    assert past.history().running == {}


def test_a_summary_of_a_turn_that_has_done_nothing_stands_before_its_prompt() -> None:
    """It tells of what was before that."""
    past = Past()
    turn = past.prompt("one")
    past.ended(past.attempt(turn))
    past.closed(turn, "completed")
    turn = past.prompt("two")
    past.ended(past.attempt(turn), "refused")
    making = made(past, Goal(turn=turn, step=1), most=1000)
    making.request()
    making.heard(summarized())
    items = making.record().items
    assert message_text(items[0]) == "one"
    assert is_summary(items[1])
    assert message_text(items[2]) == "two"


def test_a_summary_of_a_summary() -> None:
    """The older one is no word of the user's: it is summed up, not kept."""
    past, turn = long_past()
    for _ in range(3):
        making = made(past, Goal(turn=turn, step=past.history().turns[turn].step + 1))
        making.request()
        making.heard(summarized(usage={"input_tokens": 7}))
        past.records.append(making.record())
        past.ended(past.attempt(turn, past.history().turns[turn].step + 1))
    record = past.records[-3]
    assert isinstance(record, Compaction)
    assert record.tally.usage == {"input_tokens": 21}
    items = record.items
    assert sum(map(is_summary, items)) == 1
    assert [message_text(one) for one in items if one["role"] == "user"][1:3] == ["one", "two"]


@given(st.lists(st.text(min_size=1, max_size=3000), max_size=20), st.integers(0, 3000))
def test_the_newest_words_are_kept_within_their_budget(words: list[str], budget: int) -> None:
    """In their order, whole but for the oldest that is kept, never more than the budget."""
    items = [message("user", word) for word in words]
    kept = newest(items, budget)
    assert tokens(kept) <= budget
    whole = kept[1:] if kept and kept[0] not in items else kept
    assert whole == items[len(items) - len(whole) :]


@given(st.text(max_size=5000), st.integers(100, 5000))
def test_a_shortened_text_is_short(text: str, most: int) -> None:
    """Head and tail stay; what fits is not touched."""
    found = shortened(text, most)
    size = len(text.encode("utf-8", "replace"))
    if size <= most:
        assert found == text
    else:
        assert len(found.encode()) <= most + 40


@given(st.integers(200, 20_000), st.integers(1, 60))
def test_a_transcript_fits_its_budget(budget: int, steps: int) -> None:
    """However long the conversation; the newest entry is always there."""
    items = [message("user", "the task")]
    for step in range(steps):
        items += [
            function(f"c{step}", f'{{"cmd": "step {step}"}}'),
            {"type": "function_call_output", "call_id": f"c{step}", "output": f"{step} " * 3000},
            thought("r", "sealed"),
        ]
    text = transcript(items, budget)
    assert len(text) // 4 <= budget + 100
    assert f"{steps - 1} {steps - 1}" in text
    assert "sealed" not in text


def test_a_list_without_a_model_names_calls_and_files() -> None:
    """The last words, the commands, the files of patches, and the summary before."""
    patch = custom("c2", "*** Begin Patch\n*** Update File: a.py\n@@\n-1\n+2\n*** End Patch")
    patch["name"] = "apply_patch"
    old = message("user", "<conversation_summary>\nolder things\n</conversation_summary>")
    items = [
        old,
        function("c1", '{"cmd": "make test"}', name="exec_command"),
        patch,
        said("It works."),
    ]
    text = mechanical(items, 4000)
    for part in ("older things", "make test", "Update File: a.py", "It works."):
        assert part in text
    many = [function(f"c{n}", f'{{"cmd": "step {n}"}}') for n in range(1000)]
    assert len(mechanical(many, 4000)) < 4500
    assert "step 999" in mechanical(many, 4000)


def test_usages_are_added_up() -> None:
    """Number by number, as deep as they go."""
    one = {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 2}, "model": "m"}
    other = {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5}
    assert summed(None, other) == other
    assert summed(one, None) == one
    assert summed(one, other) == {
        "input_tokens": 4,
        "input_tokens_details": {"cached_tokens": 6},
        "output_tokens": 5,
        "model": "m",
    }


# An encrypted summary


SEALED = {"type": "compaction", "id": "cmp", "encrypted_content": "sealed"}


def test_an_encrypted_summary_goes_to_its_maker_alone() -> None:
    """Others, and the maker once it has refused it, are told what was run."""
    past, turn = long_past()
    making = made(past, Goal(turn=turn, step=1), dialect=Dialect(compact_endpoint=True))
    request = making.request()
    assert request is not None
    assert request.compact
    there = message("user", "two")
    making.heard(summarized(items=[message("developer", "stale"), there, SEALED]))
    record = making.record()
    assert [message_text(one) for one in record.items[2:]] == ["two", ""]
    past.records.append(record)
    sent = {"type": "compaction", "encrypted_content": "sealed"}
    past.attempt(turn, 1)
    past.records[-1].provider = "p"  # type: ignore[union-attr]
    assert sent in past.view()
    past.records[-1].provider = "q"  # type: ignore[union-attr]
    assert sent not in past.view()
    (told,) = [one for one in past.view() if is_summary(one)]
    assert "c2" in message_text(told) or "look" in message_text(told)
    past.records[-1].provider = "p"  # type: ignore[union-attr]
    past.add(Repair, action="drop_reasoning", reason="refused")
    assert sent not in past.view()


def test_a_request_for_a_summary_has_the_view_as_its_beginning(playbook: Make) -> None:
    """Prompt caches keep hitting (P6), and the turn's schema is not asked of it."""
    past, turn = long_past()
    making = made(past, Goal(turn=turn, step=1), at=100)
    request = making.request()
    assert request is not None
    assert request.input[:-1] == past.view()
    assert request.schema is None
    assert Summarize(request, "why").request.basis == BASIS

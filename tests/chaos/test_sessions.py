"""Sessions in one log: told apart by key, else by prefix, and judged one by one."""

from typing import Any

from backstay.chaos import ChaosServer, judge_sessions, message, response
from backstay.chaos.sessions import split
from tests.chaos.bodies import JSON, assistant, body, called, output, user
from tests.chaos.client import Client, fetch


def numbers(*bodies: JSON) -> list[list[int]]:
    """Which requests belong together."""
    return [session.numbers for session in split(bodies)[0]]


def keyed(key: str, *items: JSON) -> JSON:
    """A request of a session that is named by a key."""
    return body(*items, prompt_cache_key=key)


def test_sessions_are_told_apart_by_their_keys() -> None:
    """Requests of two sessions in turn, alike but for the key: nothing is wrong."""
    step = [user(), called(), output()]
    log = [keyed("a", *step[:1]), keyed("b", *step[:1]), keyed("a", *step), keyed("b", *step)]
    assert numbers(*log) == [[0, 2], [1, 3]]
    assert judge_sessions(log).ok
    assert judge_sessions(log).table().splitlines() == [
        "session a: 2 requests, nothing wrong",
        "session b: 2 requests, nothing wrong",
    ]


def test_a_change_within_a_key_is_found_in_its_session() -> None:
    """However different a request is, its key says where it belongs; the other session is fine."""
    log = [keyed("a", user("x")), keyed("b", user("y")), keyed("a", user("z"))]
    verdicts = judge_sessions(log)
    assert [verdict.codes for _, verdict in verdicts.sessions] == [["changed_prefix"], []]
    assert verdicts.codes == ["changed_prefix"]
    assert not verdicts.ok
    table = verdicts.table()
    assert "session a: 2 requests, 1 wrong\n  its requests are numbers 0, 2 of the log" in table
    assert "session b: 1 requests, nothing wrong" in table


def test_without_keys_a_request_goes_on_with_the_session_that_it_extends() -> None:
    """Interleaved, with retries, and a key beside them that changes nothing."""
    log = [
        *(body(user("x")), body(user("y")), keyed("k", user("x")), body(user("x"))),
        *(body(user("y"), called(), output()), body(user("x"), assistant(), user())),
        body(user("y"), called(), output(), assistant(), user()),
    ]
    assert numbers(*log) == [[0, 3, 5], [1, 4, 6], [2]]
    assert judge_sessions(log).ok


def test_the_longest_history_that_fits_wins() -> None:
    """A session whose input is a mere beginning of another's does not take its requests."""
    log = [body(user("x"), assistant(), user("y")), body(user("x"))]
    more = body(user("x"), assistant(), user("y"), assistant(), user("z"))
    assert numbers(*log, more) == [[0, 2], [1]]


def test_a_changed_history_is_no_new_session() -> None:
    """A request that keeps the first input of a session but lost an output is judged with it."""
    log = [
        body(user()),
        body(user(), called("a"), output("a")),
        body(user(), called("b"), output("b")),
    ]
    assert numbers(*log) == [[0, 1, 2]]
    assert set(judge_sessions(log).codes) == {"changed_prefix", "lost_output"}


def test_the_same_prompt_again_is_a_new_session() -> None:
    """Nothing but the first input, when the session has gone on: somebody begins anew."""
    log = [body(user()), body(user(), assistant(), user()), body(user())]
    assert numbers(*log) == [[0, 1], [2]]


def test_what_cannot_be_read_is_named() -> None:
    """Garbled requests and bodies that are no objects are not judged, other paths not missed."""
    with ChaosServer([response(message("a"))], repeat=True) as server:
        fetch(server.url)
        with Client(server.url) as client:
            client.ask(method="GET", path="/models")
            client.ask(b"[1]")
            client.sock.sendall(b"HELLO\r\n\r\n")
            client.answer()
        for log in (server.log, [entry.entry() for entry in server.log]):
            verdicts = judge_sessions(log)
            assert (verdicts.unread, verdicts.ok) == ([2, 3], True)
            assert verdicts.table().endswith("bodies are no JSON objects: 2, 3")


def test_an_empty_log() -> None:
    """No requests: nothing is wrong, and the table says why."""
    assert (judge_sessions([]).ok, judge_sessions([]).table()) == (True, "no requests")


def test_options_reach_the_judge() -> None:
    """The dialect and the codes to ignore are those of `judge`."""
    log: list[Any] = [body(called(), assistant(), output())]
    assert judge_sessions(log).ok
    assert judge_sessions(log, dialect="deepseek").codes == ["calls_apart"]
    assert judge_sessions(log, dialect="deepseek", ignore=["calls_apart"]).ok

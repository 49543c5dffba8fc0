"""Output for people: the answer on stdout, progress on stderr, nothing that moves a cursor."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backstay.cli.human import HEARTBEAT, Human
from backstay.cli.shown import HEAD, TAIL, Shown
from backstay.cli.sink import Sink
from backstay.cli.terminal import Style, columns, dollars, harmless, one_line, style
from backstay.core.record import Attempt
from backstay.core.usage import Price
from backstay.runtime.watch import (
    Finished,
    Noticed,
    Printed,
    Recorded,
    Sent,
    Started,
    Streamed,
    WatchEvent,
)
from tests.cli import script as s
from tests.cli.test_jsonl import write_journal


class Screen:
    """A renderer that writes to files, with a clock that is set by hand."""

    def __init__(self, folder: Path, **how: Any) -> None:
        self.now = 0.0
        self._paths = folder / "out", folder / "err"
        self._fds = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in self._paths]
        looks = how.pop("looks", Style())
        out, err = map(Sink, self._fds)
        self.face = Human(out, err, looks, lambda: self.now, **how)
        self.face.opened("ID", str(folder), "")

    def __call__(self, *events: WatchEvent) -> "Screen":
        for event in events:
            self.face(event)
        return self

    def end(self, ended: Finished, again: str = "to go on: backstay resume ID") -> "Screen":
        """The turn is over."""
        self.face.ended(ended, [], again)
        return self

    @property
    def out(self) -> str:
        """What went to stdout."""
        return self._paths[0].read_bytes().decode()

    @property
    def err(self) -> str:
        """What went to stderr."""
        return self._paths[1].read_bytes().decode()

    def close(self) -> None:
        """Close the files."""
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
def screens(tmp_path: Path) -> Iterator[Any]:
    """Makes screens and closes them."""
    made: list[Screen] = []

    def make(**how: Any) -> Screen:
        made.append(Screen(tmp_path, **how))
        return made[-1]

    yield make
    for screen in made:
        screen.close()


ONE_TURN = [s.prompt(), s.attempt(3), Sent(3), s.message(4, 3, 0, "Hi"), s.end(5, 3, "completed")]


def test_only_the_last_word_goes_to_stdout(screens: Any) -> None:
    """What is said between steps is progress; the answer is written once, at the end."""
    screen = screens()(s.prompt(), s.attempt(3), s.message(4, 3, 0, "Let me look"), s.call(5, 3, 1))
    screen(s.output(6, 5, show={"exit_code": 0}), s.end(7, 3, "completed"))
    screen(s.attempt(8), s.message(9, 8, 0, "Done"), s.end(10, 8, "completed"), s.turn_end(11))
    assert screen.out == ""
    screen.end(s.finished())
    assert screen.out == "Done\n"
    assert "Let me look" in screen.err
    assert "backstay resume ID" in screen.err


def test_an_answer_that_streamed_and_is_said_again_is_told(screens: Any) -> None:
    """On a terminal the text comes as it does; a retry says plainly that it starts again."""
    screen = screens(streaming=True)(s.prompt(), s.attempt(3), Streamed(3, 0, "text", "The ans"))
    screen(
        s.end(4, 3, "cut"),
        s.waiting(),
        s.attempt(5, why="cut"),
        Streamed(5, 0, "text", "The answer"),
    )
    screen(s.message(6, 5, 0, "The answer"), s.end(7, 5, "completed"), s.turn_end(8))
    screen.end(s.finished())
    assert screen.out == "The ans\nThe answer\n"
    assert screen.err.count("-- cut; the answer starts again --") == 1


def test_text_that_was_kept_is_not_said_to_start_again(screens: Any) -> None:
    """A message before a completed call stays, so its retry does not repeat it."""
    screen = screens(streaming=True)(s.prompt(), s.attempt(3), Streamed(3, 0, "text", "Look"))
    screen(s.message(4, 3, 0, "Look"), s.call(5, 3, 1), s.output(6, 5, show={"exit_code": 0}))
    screen(s.end(7, 3, "cut"), s.attempt(8, why="cut"))
    assert "starts again" not in screen.err


def test_tokens_name_cut_attempts(screens: Any) -> None:
    """The provider counts nothing for an attempt that was cut: that is said."""
    usage = {
        "input_tokens": 1234,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 1000},
    }
    screen = screens()(s.prompt(), s.attempt(3), s.end(4, 3, "cut"), s.attempt(5))
    screen(s.end(6, 5, "refused"), s.attempt(7), s.end(8, 7, "completed", usage))
    screen.end(s.finished())
    line = "tokens: 1,234 in (1,000 cached), 5 out; 1 cut attempt not counted by the provider"
    assert line in screen.err


@pytest.mark.parametrize(
    "model, said",
    [("mine", "2,000 in, 1,000 out; $3.00\n"), ("unheard-of", "2,000 in, 1,000 out\n")],
)
def test_a_turn_says_what_it_cost_where_that_is_known(screens: Any, model: str, said: str) -> None:
    """Dollars by the price of the model that was asked; of an unknown one no word, and not 0."""
    usage = {"input_tokens": 2000, "output_tokens": 1000}
    prices = {"mine": Price(input=1000.0, output=1000.0)}
    asked = Recorded(Attempt(n=3, turn=2, step=1, model=model))
    screen = screens(prices=prices)(s.prompt(), asked, s.end(8, 3, "completed", usage))
    screen.end(s.finished())
    assert said in screen.err


@pytest.mark.parametrize(
    "amount, said",
    [(0.0, "$0.00"), (0.00001, "under $0.0001"), (0.01234, "$0.0123"), (1234.5, "$1,234.50")],
)
def test_dollars_are_told_from_nothing(amount: float, said: str) -> None:
    """Small amounts have four digits, and never read as zero."""
    assert dollars(amount) == said


def test_a_failed_turn_says_why_and_how_to_go_on(screens: Any) -> None:
    """stdout stays empty."""
    screen = screens()(s.prompt(), s.attempt(3), s.end(4, 3, "refused"))
    screen.end(s.finished("failed", "the provider refused"))
    assert screen.out == ""
    assert "failed after 0.0 s: the provider refused" in screen.err
    assert screen.err.endswith("to go on: backstay resume ID\n")


def test_a_log_gets_a_line_a_change_and_a_heartbeat(screens: Any) -> None:
    """No cursor movement; silence is broken every half minute with what is waited for."""
    screen = screens()(s.prompt(), s.attempt(3), Sent(3))
    lines = screen.err.count("\n")
    for _ in range(70):
        screen.now += 1
        screen.face.tick()
    assert screen.err.count("\n") == lines + 70 // int(HEARTBEAT)
    assert "still waiting for the model (30 s)" in screen.err
    assert "\r" not in screen.err
    assert "\x1b" not in screen.err


def test_a_terminal_has_a_line_that_counts(screens: Any) -> None:
    """It is drawn over, says for how long, counts a wait down, and is gone at the end."""
    screen = screens(looks=Style(live=True), width=lambda: 60)(s.prompt(), s.attempt(3), Sent(3))
    screen.now = 3
    screen.face.tick()
    assert screen.err.endswith("\rwaiting for the model (3.0 s)")
    screen(s.waiting(2, 8.0))
    screen.now = 5
    screen.face.tick()
    assert screen.err.endswith("\rtrying again in 6.0 s")
    assert "(2 of 5): closed" in screen.err
    screen(Sent(3), Started(4, s.call_item("exec_command", '{"cmd":"make %s"}' % ("x" * 99))))
    screen.now = 7
    screen.face.tick()
    assert len(screen.err.rpartition("\r")[2]) == 59
    screen.end(s.finished("failed", "no"))
    assert f"\r{' ' * 59}\rfailed after" in screen.err
    assert "\x1b" not in screen.err


def test_a_commands_output_is_bounded_and_its_end_is_shown(screens: Any) -> None:
    """The first lines as they come, then a count and the last ones with the exit code."""
    screen = screens()(s.prompt(), s.attempt(3), s.call(4, 3, 0))
    screen(Started(4, s.call_item("exec_command", '{"cmd":"seq 100"}')))
    for number in range(100):
        screen(Printed(4, f"line {number}\n".encode()))
    assert f"line {HEAD - 1}\n" in screen.err
    assert f"line {HEAD}\n" not in screen.err
    screen.now = 2.5
    screen(s.output(5, 4, show={"exit_code": 1}))
    assert f"... {100 - HEAD - TAIL} lines left out ..." in screen.err
    assert "line 99\n  exit 1 after 2.5 s\n" in screen.err


@pytest.mark.parametrize("count", range(HEAD - 2, HEAD + TAIL + 3))
def test_no_line_is_shown_twice_or_lost_uncounted(count: int) -> None:
    """Whatever the number of lines, head, note and tail add up."""
    shown = Shown()
    lines = shown.feed("".join(f"{n}\n" for n in range(count)).encode()) + shown.rest()
    numbers = [int(line) for line in lines if line.isdecimal()]
    left_out = [int(line.split()[1]) for line in lines if "left out" in line]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + sum(left_out) == count


def test_output_that_comes_in_pieces_is_put_together() -> None:
    """Letters and sequences cut in two, overprinted lines, a last line without an end."""
    shown = Shown()
    data = "10%\r100%\r\n\x1b[1;31mr\u00e9d\x1b[0m\x1b]0;title\x07\nbell\x07 end".encode()
    lines = [line for place in range(len(data)) for line in shown.feed(data[place : place + 1])]
    assert [*lines, *shown.rest()] == ["100%", "r\u00e9d", "bell\\x07 end"]


def test_nothing_reaches_a_terminal_raw(screens: Any) -> None:
    """Prompt injection by control characters: in text, titles, output, paths, notices, reasons."""
    evil = "\x1b]0;x\x07\x9b2J\u202e"
    patch = {"changes": [{"path": evil, "kind": "add"}]}
    screen = screens(streaming=True)(s.prompt(), s.attempt(3), Streamed(3, 0, "text", evil))
    screen(s.thought(4, 3, 0, evil), s.call(5, 3, 1, "exec_command", '{"cmd":"\\u001b[2J"}'))
    screen(
        Started(5, s.call_item("exec_command", '{"cmd":"\\u001b[2J"}')), Printed(5, evil.encode())
    )
    screen(s.output(6, 5, evil, show={"exit_code": 0}), s.call(7, 3, 2, "apply_patch", evil))
    screen(s.output(8, 7, evil, status="failed", show=patch), Noticed(evil, "warning"))
    screen.end(s.finished("failed", evil))
    for text in (screen.out, screen.err):
        assert not set(text) & set("\x1b\x07\x9b\u202e\r")
    assert harmless("\x1b\u202e\n\t") == "\\x1b\\u202e\n\t"


def test_one_line_fits_whatever_it_holds() -> None:
    """Wide letters count twice, newlines are folded."""
    assert one_line("a\nb  c", 80) == "a b c"
    assert columns(one_line("\u6f22" * 50, 20)) <= 20
    assert one_line("x" * 50, 20) == "x" * 17 + "..."


def test_colours_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    """`--color` decides; else a terminal that is not dumb, without NO_COLOR."""
    master, terminal = os.openpty()
    file = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        tty, plain = Sink(terminal), Sink(file)
        term = {"TERM": "xterm"}
        assert style("auto", tty, term) == Style(color=True, live=True)
        assert style("auto", tty, term | {"NO_COLOR": "1"}) == Style(color=False, live=True)
        assert style("auto", tty, {"TERM": "dumb"}) == Style()
        assert style("never", tty, term) == Style(color=False, live=True)
        assert style("auto", plain, term) == Style()
        assert style("always", plain, term) == Style(color=True, live=False)
    finally:
        for fd in (master, terminal, file):
            os.close(fd)


def test_a_sink_finds_out_that_its_reader_is_gone() -> None:
    """With and without a write; told once, and further writes are dropped."""
    for act in (Sink.look, lambda sink: Sink.write(sink, b"x")):
        reading, writing = os.pipe()
        sink = Sink(writing)
        told: list[str] = []
        sink.on_closed = told.append
        sink.look()
        assert told == []
        os.close(reading)
        act(sink)
        sink.write(b"more")
        sink.look()
        assert len(told) == 1
        os.close(writing)


def test_an_output_that_was_not_watched_is_shown_from_its_record(screens: Any) -> None:
    """A call that an earlier process started: its text, bounded, beginning and end."""
    screen = screens()(s.prompt(), s.attempt(3), s.call(4, 3, 0))
    text = "".join(f"line {n}\n" for n in range(100))
    screen(s.output(5, 4, text, show={"exit_code": 0}))
    assert "$ ls\n  line 0\n  line 1\n" in screen.err
    assert "line 99\n  exit 0\n" in screen.err


@pytest.mark.parametrize(
    "status, told",
    [
        ("done", "$ ls (it had ended; its output is recovered)"),
        ("never_started", "$ ls (it was never started)"),
        ("unknown", "$ ls (its outcome is unknown: it may have taken effect)"),
        ("interrupted", "$ ls (it was stopped)"),
    ],
)
def test_a_call_of_a_cut_turn_says_what_became_of_it(
    screens: Any, tmp_path: Path, status: str, told: str
) -> None:
    """One line, behind the command; nothing of the kind for a call of this process."""
    write_journal(tmp_path, s.prompt(), s.attempt(3), s.call(4, 3, 0))
    screen = screens()(s.output(5, 4, "x", status=status))
    assert f"{told}\n" in screen.err


def test_a_call_of_this_process_is_nothing_that_was_found(screens: Any) -> None:
    """A call that was refused before it began shows its name alone."""
    screen = screens()(s.attempt(3), s.call(4, 3, 0), s.output(5, 4, "no", status="rejected"))
    assert "$ ls\n" in screen.err


@pytest.mark.parametrize("hidden", [False, True])
def test_reasoning_is_left_out_where_it_is_hidden(screens: Any, hidden: bool) -> None:
    """`hide_agent_reasoning`: no summary on stderr."""
    screen = screens(reasoning=not hidden)
    screen(s.attempt(3), s.thought(4, 3, 0, "pondering"), s.call(5, 3, 1))
    assert ("pondering" in screen.err) is not hidden

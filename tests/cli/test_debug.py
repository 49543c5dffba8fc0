"""`--debug`: a log that says what was done, holds nothing secret, and never stands in the way."""

import os
import re
import signal
from pathlib import Path

import pytest

from backstay.chaos import call, cut, http_error, message, response, stall
from backstay.runtime.trace import Trace
from tests.cli.command import Command, Done
from tests.cli.test_turn import provider

pytestmark = pytest.mark.processes

PROMPT = "a prompt that nobody else may read"
OUTPUT = "what-the-command-printed"
SECRETS = {"OPENAI_API_KEY": "sk-very-secret-key", "TENANT": "tenant-token-77"}
CONFIG = """
model_provider = "p"
[model_providers.p]
base_url = "{url}"
env_key = "OPENAI_API_KEY"
env_http_headers = {{ "X-Tenant" = "TENANT" }}
http_headers = {{ "X-Plain" = "plain-header-value" }}
query_params = {{ "api-key" = "query-secret-5" }}
"""
EXEC = ("exec", "-m", "m", "--yolo")


def log_of(command: Command) -> str:
    """The one log of the home; its mode is checked."""
    (log,) = (command.home / "log").iterdir()
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700
    return log.read_text()


def talk(command: Command, *words: str, **env: str) -> Done:
    """A turn with a command, a cut stream and a refusal, under a provider full of secrets."""
    printing = call("exec_command", {"cmd": f"echo {OUTPUT}; echo $((40 + 2))-xyzzy-42"})
    script = [
        response(message("Private words."), printing, fault=cut(after="call")),
        http_error(503, headers={"Retry-After": "0", "Set-Cookie": "session=cookie-9"}),
        response(message("The private answer.")),
    ]
    with provider(command, *script) as server:
        (command.home / "config.toml").write_text(CONFIG.format(url=server.url))
        return command.run(*EXEC, *words, PROMPT, env=SECRETS | env)


def test_the_log_tells_what_was_done(command: Command) -> None:
    """Configuration, events, commands, requests, retries, tools, supervisor, commits, the end."""
    done = talk(command, "--debug")
    assert (done.code, done.out) == (0, "The private answer.\n")
    assert done.err.splitlines()[0] == f"backstay: the log is {next(command.home.glob('log/*'))}"
    log = log_of(command)
    for said in (
        r"configuration home=",
        r"provider name=p base_url=http://127\.0\.0\.1:\d+/v1 key=set headers=\[X-Plain, X-Tenant\]",
        r"event PromptGiven phase=idle->streaming",
        r"commands=\[Append\(2:prompt 3:attempt\)\]",
        r"request number=1 method=POST url=http://127\.0\.0\.1:\d+/v1/responses ",
        r"answer number=1 ms=[\d.]+ status=200",
        r"answer ended number=1 how='broken: .* bytes=\d+",
        r"answer number=2 .*status=503 .*retry-after=0 .*set-cookie",
        r"Wait\(attempt=\d+",
        r"tool run tool=exec_command call=\d+",
        r"tool run ended .* status=done output=\d+:[0-9a-f]{12}",
        r"supervisor is asked id=\d+ do=start",
        r"supervisor says event=exited",
        r"journal commit records='?2:prompt 3:attempt'? bytes=\d+ ms=",
        r"turn ended turn=2 outcome=completed",
        r"exit code=0",
    ):
        assert re.search(said, log), said
    stamps = [line.split()[1] for line in log.splitlines()]
    assert all(re.fullmatch(r"\+\d+\.\d{3}", stamp) for stamp in stamps)


def test_the_log_holds_no_secret_and_nothing_of_the_conversation(command: Command) -> None:
    """Neither key, headers, query, cookie nor prompt, answer, command, output: sizes instead."""
    talk(command, "--debug")
    log = log_of(command)
    for word in (
        *SECRETS.values(),
        "plain-header-value",
        "query-secret-5",
        "cookie-9",
        PROMPT,
        "nobody else",
        "rivate",
        OUTPUT,
        "42-xyzzy-42",
        "echo",
    ):
        assert word not in log, word


def test_a_secret_that_an_error_quotes_is_taken_out(command: Command) -> None:
    """A provider that repeats the key in its refusal, as some do."""
    said = f"Incorrect API key: {SECRETS['TENANT']}, plain-header-value, query-secret-5"
    refusal = http_error(401, body={"error": {"message": said, "code": "invalid_api_key"}})
    with provider(command, refusal) as server:
        (command.home / "config.toml").write_text(CONFIG.format(url=server.url))
        done = command.run(*EXEC, "--debug", PROMPT, env=SECRETS)
    assert done.code == 1
    log = log_of(command)
    assert "Incorrect API key" in log
    assert SECRETS["TENANT"] not in log
    assert "plain-header-value" not in log
    assert "query-secret-5" not in log


def test_a_secret_is_left_out_wherever_it_stands(tmp_path: Path) -> None:
    """In facts, quoted ones too, and in tracebacks."""
    trace = Trace(str(tmp_path / "log"), print)
    trace.hide(["s3cret", "it's \\ odd"])
    trace.say("topic", fact="a s3cret", other=["s3cret"], odd="it's \\ odd")
    try:
        raise ValueError("of s3cret")
    except ValueError as error:
        trace.failure("a test", error)
    trace.close()
    log = (tmp_path / "log").read_text()
    assert log.count("[redacted]") == 5
    assert "s3cret" not in log
    assert "Traceback" in log


def test_without_the_flag_there_is_no_log(command: Command) -> None:
    """Nor a folder for one."""
    assert talk(command).code == 0
    assert not (command.home / "log").exists()


def test_the_variable_names_a_file_that_is_added_to(command: Command, tmp_path: Path) -> None:
    """For programs that start Backstay: no flag, one file, also for what is refused."""
    log = tmp_path / "own.log"
    log.write_text("before\n")
    done = command.run(
        "exec", "-m", "m", "-C", "nowhere", "x", env={"BACKSTAY_DEBUG_LOG": str(log)}
    )
    assert done.code == 2
    assert log.read_text().startswith("before\n")
    assert "refused kind=UsageError" in log.read_text()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("place", ["/dev/full", "/no/such/folder/x.log"])
def test_a_log_that_cannot_be_written_costs_one_line(command: Command, place: str) -> None:
    """The turn is what it would have been."""
    done = talk(command, BACKSTAY_DEBUG_LOG=place)
    assert (done.code, done.out) == (0, "The private answer.\n")
    said = [line for line in done.err.splitlines() if "log" in line and place in line]
    assert len([line for line in said if "the log is" not in line]) == 1


def test_a_kill_leaves_the_log_up_to_then(command: Command) -> None:
    """Each line is written at once."""
    with provider(command, response(message("never"), fault=stall(before="headers"))) as server:
        process = command.start(*EXEC, "--debug", PROMPT)
        server.wait(1)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=50)
    assert log_of(command).splitlines()[-1].split()[2] == "request"

"""One scripted session that makes records of every kind, and what must hold of it after any kill.

Owns the script, running it through a kill to its end, and the judgement from outside: what the
provider was sent, the ledger and the folder, what the journal says, which processes are left.
"""

import json
import shutil
import signal
from collections import Counter
from pathlib import Path

from backstay.chaos import (
    call,
    custom_call,
    cut,
    http_error,
    judge,
    message,
    reasoning,
    response,
)
from backstay.core.items import Item, message_text
from backstay.core.record import Note, Output, Repair
from tests.process.agent import JSON, Bench
from tests.processes import processes_of

PATCH = """*** Begin Patch
*** Add File: sub/new.txt
+new
*** Update File: old.txt
@@
-before
+after
*** Delete File: gone.txt
*** End Patch"""
FOLDERS = (
    {"old.txt": "before\n", "gone.txt": "gone\n"},
    {"old.txt": "after\n", "sub/new.txt": "new\n"},
)
"""The files before the patch and after it."""
LISTENER = 14
"""The number of the record of the call that starts `listener`, where no kill comes before it."""
NAMES = ("one", "two", "three", "cut", "listener")
"""The commands; `heard` is what `listener` does when it is told something."""
PATCHED = "Success. Updated the following files:\nA sub/new.txt\nM old.txt\nD gone.txt\n"
EFFECTS = ("command_execution", "file_change", "mcp_tool_call")
"""The item types of the reported events that stand for a call."""
KILLED = -signal.SIGKILL


def script(bench: Bench) -> list[JSON]:
    """Parallel calls; a patch; a stream that is cut; a refusal; a command that is left running."""
    refused = {"error": {"code": "invalid_encrypted_content", "message": "can't be verified"}}
    listens = f"read -r word\n{bench.counted('heard', 'true')}\nsleep 300"
    listener = bench.command("listener", listens, tty=True, yield_time_ms=250)
    tell = {"session_id": LISTENER, "chars": "word\n", "yield_time_ms": 250}
    return [
        response(
            reasoning("think"),
            message("I look."),
            bench.command("one", "sleep 0.05"),
            bench.command("two"),
        ),
        response(listener, bench.command("cut"), fault=cut(before="terminal")),
        response(call("write_stdin", tell)),
        response(custom_call("apply_patch", PATCH)),
        http_error(400, body=refused),
        response(bench.command("three", "echo crash=${BACKSTAY_CRASH-unset}")),
        response(message("done")),
    ]


def prepare(bench: Bench) -> None:
    """Lay out the files, and let the provider play the script, its last response for ever."""
    for name, text in FOLDERS[0].items():
        (bench.cwd / name).write_text(text)
    bench.serve(*script(bench), repeat=True)


# Running it


def start(bench: Bench, crash: str) -> int:
    """Run the session from its prompt with this in BACKSTAY_CRASH; the exit code.

    What it has reported must be recorded by then, and a turn's end only after all else.
    """
    bench.environ = {"BACKSTAY_CRASH": crash}
    ended = bench.exec("--json", "go").end()
    events = [json.loads(line) for line in ended.out.splitlines()]
    finished = [
        one["item"]
        for one in events
        if one["type"] == "item.completed" and one["item"]["type"] in EFFECTS
    ]
    recorded = len(bench.outputs()) if finished else 0
    assert len(finished) == recorded if ended.code == 0 else len(finished) <= recorded
    if events and events[-1]["type"] == "turn.completed":
        assert bench.turns() == ["completed"]
        assert processes_of(bench.home) == {}
    return ended.code


def go_on(bench: Bench, crash: str = "") -> int:
    """Go on without a prompt, or with it where it never became durable; the exit code."""
    bench.environ = {"BACKSTAY_CRASH": crash}
    (journal,) = bench.home.glob("sessions/*/*/*/*/journal.jsonl")
    session = journal.parent.name
    kinds = {type(one).__name__ for one in bench.records()}
    if not kinds:  # a session that was not acknowledged is none
        ended = bench.exec("resume", session).end()
        assert ended.code == 3, ended.err
        shutil.rmtree(journal.parent)
        return bench.exec("go").end().code
    words = [] if "Prompt" in kinds else ["go"]
    return bench.exec("resume", session, *words).end().code


def finish(bench: Bench) -> None:
    """Go on to the end: exit 0, or 2 where the turn had ended before the kill."""
    over = bench.turns() == ["completed"]
    code = go_on(bench)
    assert code == (2 if over else 0), bench.errors()


def passed(log: Path) -> Counter[str]:
    """How often each point was passed, as `count:FILE` has written it."""
    return Counter(log.read_text().split())


# Judging it


def judged(bench: Bench) -> None:
    """All that must hold of a session that has ended, whatever kills it went through."""
    assert bench.turns() == ["completed"]
    assert processes_of(bench.home) == {}
    told_rightly(bench)
    outputs = {one.call: one for one in bench.outputs()}
    assert [one.n for one in bench.calls()] == sorted(outputs)
    assert len(outputs) == len(bench.outputs())
    assert bench.sent() == [message_text(outputs[n].item) for n in sorted(outputs)]
    told = [one for one in bench.records() if isinstance(one, Note) and "ended" in one.topic]
    assert len(told) == bench.runs("listener")
    assert max(Counter(bench.ledger.read_text().split()).values(), default=1) == 1
    names = set()
    patched = False
    for call_ in bench.calls():
        output = outputs[call_.n]
        if call_.item.get("name") == "apply_patch":
            patched = patch_told(output)
        elif call_.item.get("name") == "write_stdin":
            write_told(bench, output)
        else:
            names.add(command_told(bench, call_.item, output))
    assert names >= {name for name in NAMES if bench.runs(name)}
    found = {
        str(path.relative_to(bench.cwd)): path.read_text()
        for path in bench.cwd.rglob("*")
        if path.is_file()
    }
    assert found == FOLDERS[patched]


def told_rightly(bench: Bench) -> None:
    """The provider's judgement; what the one repair took away it may miss once."""
    verdict = judge([*bench.requests, *bench.server.requests])
    repairs = [one for one in bench.records() if isinstance(one, Repair)]
    # Where a kill took the reasoning that is refused, asking for it is what is left to leave out.
    assert [one.action for one in repairs] in ([], ["drop_reasoning"], ["drop_field"])
    assert verdict.codes in ([], ["changed_prefix"] * len(repairs)), verdict.table()
    assert not bench.server.problems
    prompts = [one for one in bench.inputs()[-1] if message_text(one) == "go"]
    assert len(prompts) == 1


def command_told(bench: Bench, item: Item, output: Output) -> str:
    """A command's output is true: done is done once, never started is not in the ledger."""
    (name,) = [one for one in NAMES if f"echo {one} >>" in str(item)]
    text = message_text(output.item)
    if output.status == "never_started":
        assert not bench.runs(name)
    elif name == "listener":
        assert output.status == "yielded", text
        assert (bench.runs(name), bench.runs("listener-end")) == (1, 0)
    else:
        assert output.status == "done", text
        assert (bench.runs(name), bench.runs(f"{name}-end")) == (1, 1)
        assert f"{name}-output" in text
    return name


def patch_told(output: Output) -> bool:
    """Whether the patch is said to be applied; one that is not is said to be not."""
    text = message_text(output.item)
    if output.status == "done":
        assert text == PATCHED
        return True
    assert output.status == "never_started" or "not applied" in text, text
    return False


def write_told(bench: Bench, output: Output) -> None:
    """What is said to be delivered was heard, what is not was not; only here may be doubt."""
    text = message_text(output.item)
    if output.status in ("never_started", "failed"):
        assert not bench.runs("heard"), text
    elif output.status != "unknown":
        assert bench.runs("heard") == 1, text
    else:
        assert "verify before repeating" in text

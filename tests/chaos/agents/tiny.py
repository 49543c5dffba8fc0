"""A tiny agent with a durable session, and its bad habits: `tiny.py HABIT SESSION PROMPT`.

With the habit `good` it holds every property that a trial asks for. Every other habit breaks some.
It finds its provider in OPENAI_BASE_URL and keeps its session in $HOME. It is not a test itself.
"""

import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JSON = dict[str, Any]
TOOL = {
    "type": "function",
    "name": "bash",
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "string"}, "why": {"type": "string"}},
        "required": ["command", "why"],
    },
}
UNKNOWN = "The outcome is unknown: it may have taken effect. Verify before repeating."


class Session:
    """A file of lines: the items, and the process groups of commands that were started."""

    def __init__(self, habit: str, path: Path) -> None:
        self.habit = habit
        self.path = path
        self.file = path.open("a+b")
        if habit != "shares":
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sys.exit("the session is held by another process")
        self.items: list[JSON] = []
        self.groups: dict[str, int] = {}
        for line in path.read_text().splitlines():
            value = json.loads(line)
            if "group" in value:
                self.groups[value["call_id"]] = value["group"]
            else:
                self.items.append(value)
        self.settle()

    def settle(self) -> None:
        """Answer the calls that a crash left open, and end what they started."""
        answered = {item["call_id"] for item in self.items if "output" in item}
        for item in list(self.items):
            if item["type"] == "function_call" and item["call_id"] not in answered:
                if item["call_id"] in self.groups and self.habit != "orphans":
                    end_group(self.groups[item["call_id"]])
                said = "aborted" if self.habit == "asserts" else UNKNOWN
                self.answer(item, said)

    def append(self, item: JSON) -> None:
        """Keep an item, on disk before anything else happens."""
        self.items.append(item)
        self.write(item)

    def write(self, line: JSON) -> None:
        """Write a line; one who is late puts it off until the turn is over."""
        self.file.write(json.dumps(line).encode() + b"\n")
        if self.habit != "late":
            self.file.flush()

    def answer(self, call: JSON, text: str) -> None:
        """The output of a call."""
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": text}
        self.append(output)


def end_group(group: int) -> None:
    """Kill a command and what it started."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(session: Session, call: JSON) -> None:
    """Run a call's command and record its output."""
    command = json.loads(call["arguments"])["command"]
    session.append(call)
    process = subprocess.Popen(
        ["sh", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    session.write({"call_id": call["call_id"], "group": process.pid})
    try:
        printed = process.communicate()[0].decode(errors="replace")
    except KeyboardInterrupt:
        if session.habit != "orphans":
            end_group(process.pid)
        session.answer(call, "Interrupted by the user. " + UNKNOWN)
        os._exit(130)
    if session.habit != "floods" and len(printed) > 8000:
        printed = printed[:4000] + "[...]" + printed[-4000:]
    session.answer(call, printed)


def events(answer: Any, habit: str) -> Iterator[JSON]:
    """The events of a stream; raises OSError where it ends without a terminal one."""
    text = b""
    for line in answer:
        if line.startswith(b"data:"):
            text += line[5:].strip()
        elif not line.strip() and text:
            try:
                event = json.loads(text)
            except ValueError as error:
                event = {} if habit != "fragile" else sys.exit(f"error: {error}")
            if habit == "fragile" and not event["type"].startswith(("response.", "error")):
                sys.exit(f"error: what is {event['type']}?")
            text = b""
            yield event
            if event.get("type") in ("response.completed", "response.incomplete"):
                return
            if event.get("type") in ("response.failed", "error"):
                break
    raise OSError("the stream was cut")


def attempt(session: Session, items: list[JSON]) -> bool:
    """One request; runs its calls; whether the model has said its last word."""
    body = {"model": "m", "store": False, "stream": True, "tools": [TOOL], "input": items}
    if session.habit == "restates":
        body["instructions"] = f"It is now {time.time()}."
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/responses",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": "Bearer k"},
    )
    seen: set[str] = set()
    if session.habit == "by-call-id":
        seen = {item["call_id"] for item in session.items if "output" in item}
    calls: list[JSON] = []
    with urllib.request.urlopen(request, timeout=1.5) as answer:
        for event in events(answer, session.habit):
            for item in done(event, session.habit):
                if item["type"] != "function_call" or is_cut(item, session.habit):
                    continue
                if item["call_id"] in seen and session.habit != "repeats":
                    continue
                seen.add(item["call_id"])
                calls.append({key: item[key] for key in ("type", "call_id", "name", "arguments")})
                if session.habit != "waits":
                    run(session, calls[-1])
    for call in calls if session.habit == "waits" else ():
        run(session, call)
    return not calls


def done(event: JSON, habit: str) -> list[JSON]:
    """The items that an event says are done."""
    if habit == "final-only":
        over = event.get("type") == "response.completed"
        return list(event["response"]["output"]) if over else []
    return [event["item"]] if event.get("type") == "response.output_item.done" else []


def is_cut(call: JSON, habit: str) -> bool:
    """Whether a call's arguments are not whole; the eager one makes the best of them."""
    if call.get("status") == "incomplete" and habit == "eager":
        call["arguments"] = json.dumps({"command": "sh trial/work"})
        return False
    return call.get("status") == "incomplete"


def turn(session: Session) -> None:
    """Attempts until the model has said its last word."""
    first = list(session.items)
    stale = False
    for _ in range(6):
        try:
            while not attempt(session, first if stale else session.items):
                stale = False
            return
        except urllib.error.HTTPError as error:
            if error.code in (400, 401) and session.habit != "hammers":
                sys.exit(f"refused: {error.code} {error.read().decode()}")
            wait = 0 if session.habit == "hammers" else int(error.headers.get("Retry-After", 0))
            time.sleep(wait)
        except (OSError, http.client.HTTPException) as error:
            if session.habit == "gives-up":
                sys.exit(f"error: {error}")
            stale = session.habit == "stale"
            if session.habit == "hangs":
                time.sleep(60)
    sys.exit("error: too many failures")


def main(habit: str, name: str, prompt: str) -> None:
    """One turn of a session."""
    session = Session(habit, Path(os.environ["HOME"]) / f"{name}.jsonl")
    session.append({"type": "message", "role": "user", "content": prompt})
    turn(session)
    session.file.flush()
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:4])

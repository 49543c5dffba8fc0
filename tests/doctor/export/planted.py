"""Secrets in every place where a session holds text, and sessions that hold them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from backstay.core.items import message
from backstay.core.record import (
    Attempt,
    AttemptEnd,
    Call,
    Compaction,
    ItemRecord,
    Known,
    Note,
    Output,
    Prompt,
    Repair,
    Start,
    TurnEnd,
)
from backstay.journal import Blobs, PosixDisk
from tests.journal.homes import FIRST, head, put
from tests.journal.sample import BASIS

PEM: Final = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gt\n"
    "QyNTUxOQAAACBplantedkeyplantedkeyplantedkeyAAAA\n"
    "-----END OPENSSH PRIVATE KEY-----"
)
SECRETS: Final[dict[str, tuple[str, str]]] = {
    "openai-key": ("the key is {}", "sk-proj-a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0"),
    "anthropic-key": ("{}", "sk-ant-api03-AbCd1234efGH5678ijKL9012mnOP3456"),
    "github-token": ("git clone https://x:{}@github.com/a/b", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
    "gitlab-token": ("token {}", "glpat-AbCdEfGhIjKlMnOpQrSt"),
    "aws-key": ("id={}", "AKIAIOSFODNN7QWERTYU"),
    "google-key": ("key={}&x=1", "AIzaSyA1bcDefGhIjKlMnOpQrStUvWxYz01234_"),
    "slack-token": ("'{}'", "xoxb-123456789012-abcdefghij"),
    "stripe-key": ("{}", "sk_live_4eC39HqLyjWDarjtT1zdp7dc"),
    "npm-token": ("//registry.example/:_authToken={}", "npm_abcdefghijABCDEFGHIJ0123456789abcdef"),
    "sendgrid-key": ("{}", "SG.aBcDeFgHiJkLmNoPqRsTuV.aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789abcdefg"),
    "jwt": ("{}", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"),
    "private-key": ("{}", PEM),
    "authorization": ('curl -H "Authorization: Bearer {}" x', "0123abcd.EFGH-4567_ijkl"),
    "password": ("postgres://app:{}@db.example/x", "pg9Pass-word-77"),
    "db-password": ("export DB_PASSWORD={}", "hunter2"),
    "deploy-token": ("DEPLOY_TOKEN='{}'", "zx81zx81zx81q"),
    "client-secret": ('{{"client_secret": "{}"}}', "n0t-S0-s3cr3t-aNyMore"),
    "huggingface-token": ("{}", "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345"),
}  # fmt: skip
"""By kind: how it stands in a text, and the secret itself."""

ORDINARY: Final = """\
The commit 3f2504e04f8911d39a0c0305e82c3301aabbccdd changed max_tokens=4096 and primary_key = True.
digest sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 and a uuid
0199c82c-c3e8-7101-8101-010101010101, password = getpass(), token = tokens[0], key = "name",
OPENAI_API_KEY=$OPENAI_API_KEY, API_KEY=your-key-here, Authorization: Bearer $TOKEN, PASSWORD=...
SECRET_KEY = os.environ["SECRET_KEY"], "token": "access_token", https://example.org:8080/path@2
def task-oriented risk-free sk-learn: ask-me-anything-about-this, GET /api?key=value&token=none
METADATA_KEY = "pydantic-mypy-metadata" ROOT_KEY = "__root__" PRIMARY_KEY=id MAX_TOKEN=100 KEY=value PATH=/usr/bin:/bin PWD=/home/me/project
"""


def text_of(kind: str) -> str:
    """How a secret stands in a text."""
    shape, secret = SECRETS[kind]
    return shape.format(secret)


def everything() -> str:
    """All of them, a line or more each."""
    return "\n".join(text_of(kind) for kind in SECRETS)


def records(text: str, *, data_url: str = "") -> list[Known]:
    """A session that holds this text wherever one can: prompt, arguments, output, patch, reasons."""
    shell = {"type": "function_call", "call_id": "c6", "name": "exec_command"}
    shell["arguments"] = json.dumps({"cmd": text})
    patch = {"type": "custom_tool_call", "call_id": "c9", "name": "apply_patch"}
    added = "\n".join(f"+{line}" for line in text.splitlines())
    patch["input"] = f"*** Begin Patch\n*** Add File: a\n{added}\n*** End Patch"
    thought = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": text}],
    }
    prompt = message("user", text)
    if data_url:
        prompt["content"].append({"type": "input_image", "image_url": data_url})
    return [
        head(),
        Prompt(n=2, t=FIRST, id="x", cwd="/place", basis=BASIS, items=[prompt], model="gpt-5"),
        Attempt(n=3, t=FIRST, turn=2, step=1, model="gpt-5"),
        ItemRecord(n=4, attempt=3, index=0, item=thought),
        ItemRecord(n=5, attempt=3, index=1, item=message("assistant", text)),
        Call(n=6, attempt=3, index=2, item=shell),
        Start(n=7, call=6, effect="x-6"),
        Output(n=8, call=6, item=_answer("function_call_output", "c6", text)),
        Call(n=9, attempt=3, index=3, item=patch),
        Start(n=10, call=9, effect="x-9", plan={"files": [{"path": text}]}),
        Output(n=11, call=9, item=_answer("custom_tool_call_output", "c9", text), status="failed"),
        AttemptEnd(n=12, attempt=3, outcome="cut", reason=text),
        Attempt(n=13, t=FIRST, turn=2, step=1, why=text, superseded=[5]),
        Repair(n=14, action="drop_reasoning", reason=text),
        Note(n=15, topic="command_ended", text=text),
        AttemptEnd(n=16, attempt=13, outcome="completed"),
        TurnEnd(n=17, turn=2, outcome="failed", reason=text),
        Compaction(n=18, id="x", cwd="/place", basis=BASIS, items=[message("user", text)]),
    ]  # fmt: skip


def _answer(kind: str, call: str, text: str) -> dict[str, Any]:
    return {"type": kind, "call_id": call, "output": text}


def session(home: Path, made: Sequence[Known], seed: int = 1) -> Path:
    """These records as a session whose instructions and tools are there."""
    blobs = Blobs(PosixDisk(), str(home), "test")
    names = {
        BASIS.instructions: blobs.put(b"You are a coding agent."),
        BASIS.tools: blobs.put(b"[]"),
    }
    plain = [msgspec.to_builtins(record) for record in made]
    for record in plain:
        if "basis" in record:
            record["basis"] = {key: names[name] for key, name in record["basis"].items()}
    kinds = [type(record) for record in made]
    again = [msgspec.convert(one, kind) for one, kind in zip(plain, kinds, strict=True)]
    return put(home, again, seed)


def printing(made: Sequence[Known], output: Any) -> list[Known]:
    """The same records, where every call was answered with this."""
    return [
        msgspec.structs.replace(one, item=one.item | {"output": output})
        if isinstance(one, Output)
        else one
        for one in made
    ]

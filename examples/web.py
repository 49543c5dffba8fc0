"""An endpoint that streams: `MODEL=… uvicorn --app-dir examples web:app` (needs fastapi, uvicorn).

`curl -N localhost:8000/ask -d '{"prompt": "hi"}' -H 'Content-Type: application/json'` prints an
event a line; `"session": "ID"` beside the prompt goes on with a conversation. A client that goes away
interrupts its turn, which is recorded.
"""

import os
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from backstay import Agent, BackstayError

app = FastAPI()
agent = Agent(os.environ.get("MODEL", ""), shell_tools=False)


class Question(BaseModel):
    prompt: str
    session: str | None = None


@app.post("/ask")
async def ask(question: Question) -> StreamingResponse:
    return StreamingResponse(lines(question), media_type="application/x-ndjson")


async def lines(question: Question) -> AsyncIterator[bytes]:
    try:
        async with aclosing(agent.run(question.session, question.prompt)) as events:
            async for event in events:
                yield msgspec.json.encode(event) + b"\n"
    except BackstayError as error:  # no such session, one that another process holds, a full disk
        yield msgspec.json.encode({"type": "error", "text": str(error)}) + b"\n"

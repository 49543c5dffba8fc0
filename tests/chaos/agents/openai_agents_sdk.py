"""An agent built on the OpenAI Agents SDK, as its documentation shows it: a shell tool, a SQLiteSession.

python openai_agents_sdk.py SESSION PROMPT. Needs the package openai-agents; not a test itself.
"""

import asyncio
import importlib
import os
import sys
from typing import Any

agents: Any = importlib.import_module("agents")


async def shell(command: str) -> str:
    """Run a command in a shell and give what it printed."""
    process = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    return f"exit code {process.returncode}\n{printed.decode(errors='replace')}"


async def main(session_id: str, prompt: str) -> None:
    """One turn of the session."""
    agents.set_tracing_disabled(True)
    agent = agents.Agent(
        name="trial",
        model="gpt-5",
        instructions="Use the shell.",
        tools=[agents.function_tool(shell)],
    )
    session = agents.SQLiteSession(session_id, os.path.expanduser("~/sessions.sqlite"))
    result = agents.Runner.run_streamed(agent, prompt, session=session, max_turns=20)
    async for _ in result.stream_events():
        pass
    print(result.final_output)


asyncio.run(main(*sys.argv[1:3]))

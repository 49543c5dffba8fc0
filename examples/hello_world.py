"""An agent with a tool of its own: `python hello_world.py MODEL "How warm is it in Oslo?"`."""

import asyncio
import sys

from backstay import Agent, TextDelta, TurnFailed, tool


@tool
def temperature(city: str) -> float:
    """The temperature in a city now, in degrees Celsius."""
    return {"Oslo": 3.5, "Lisbon": 17.0}.get(city, 10.0)


async def main(model: str, prompt: str) -> None:
    agent = Agent(model, tools=[temperature], shell_tools=False)
    async for event in agent.run(None, prompt):
        if isinstance(event, TextDelta):
            print(event.text, end="", flush=True)
        elif isinstance(event, TurnFailed):
            raise event.error()
    print()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))

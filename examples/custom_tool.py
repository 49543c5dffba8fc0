"""A tool that must not act twice: `python custom_tool.py MODEL "Charge Ada 12 euros."`.

Killed at any moment and started again as `python custom_tool.py MODEL --resume ID`, the turn goes on
where it was, and the customer is charged once. The shop stands for a payment service that takes an
idempotency key: here it is a SQLite file, `shop.db`.
"""

import asyncio
import sqlite3
import sys
from contextlib import closing

from backstay import Agent, Context, ToolFinished, TurnCompleted, TurnFailed, TurnStarted, tool


def shop() -> sqlite3.Connection:
    database = sqlite3.connect("shop.db")
    database.execute("CREATE TABLE IF NOT EXISTS charges (key PRIMARY KEY, customer, cents)")
    return database


def receipt(ctx: Context) -> str | None:
    """What became of a charge that a crash left open: its receipt, None if there was no charge."""
    with closing(shop()) as database, database:
        row = database.execute("SELECT * FROM charges WHERE key = ?", [ctx.effect_id]).fetchone()
    return f"Charged {row[1]} {row[2] / 100:.2f} EUR." if row else None


@tool(check=receipt, timeout=30)
def charge(customer: str, cents: int, ctx: Context) -> str:
    """Charge a customer.

    Args:
        customer: The customer's name.
        cents: How much, in euro cents.
    """
    ctx.progress(f"charging {customer}")
    with closing(shop()) as database, database:
        row = (ctx.effect_id, customer, cents)
        database.execute("INSERT OR IGNORE INTO charges VALUES (?, ?, ?)", row)
    return receipt(ctx) or "There was no charge."


async def main(model: str, prompt: str, session: str = "") -> None:
    agent = Agent(model, tools=[charge], shell_tools=False)
    async for event in agent.run(session, None if prompt == "--resume" else prompt):
        match event:
            case TurnStarted():
                print(f"session {event.session_id}", flush=True)
            case ToolFinished():
                print(f"{event.name}: {event.output} ({event.status})")
            case TurnCompleted():
                print(event.text)
            case TurnFailed():
                raise event.error()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

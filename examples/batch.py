"""Many sessions in one process: `python batch.py MODEL < prompts.txt`, a prompt a line.

Prints a JSON line for each, in the order in which they end, with the session's id: one that failed
can be gone on with.
"""

import asyncio
import json
import sys

from backstay import Agent, Answer, BackstayError

AT_ONCE = 8


async def main(model: str, prompts: list[str]) -> None:
    agent = Agent(model, shell_tools=False, max_steps=20)
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(prompt: str) -> tuple[str, Answer | BackstayError]:
        async with slots:
            try:
                return prompt, await agent.ask(prompt)
            except BackstayError as error:
                return prompt, error

    tokens = 0
    for ended in asyncio.as_completed([ask(prompt) for prompt in prompts]):
        prompt, answer = await ended
        line = {"prompt": prompt, "session": answer.session_id}
        if isinstance(answer, Answer):
            tokens += answer.usage.total
            line["answer"] = answer.text
        else:
            line["error"] = str(answer)
        print(json.dumps(line), flush=True)
    print(f"{len(prompts)} prompts, {tokens} tokens", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.stdin.read().splitlines()))

"""Times `backstay exec` as a whole process, as ratios against a baseline in the same run.

    python -m benchmarks [--runs N] [--codex PATH]

The baseline is the bare interpreter with asyncio, msgspec and pyreqwest imported; with `--codex`
(the binary of the npm package `@openai/codex`) the same work is also done by `codex exec`, in turns.
Machines are noisy: read the medians and the ratios.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import msgspec

from backstay.chaos import ChaosServer, call, message, response

BARE = "import asyncio, msgspec, pyreqwest.client; asyncio.run(asyncio.sleep(0))"
WORKS: dict[str, list[dict[str, Any]]] = {
    "answer": [response(message("done"))],
    "tool turn": [
        response(call("exec_command", {"cmd": "echo hello"})),
        response(message("done")),
    ],
    "20,000 deltas": [response(message(deltas=20_000))],
}


class Run(msgspec.Struct):
    """One process: seconds of wall and CPU, its peak memory in MB, seconds to its first request."""

    wall: float
    cpu: float
    memory: float
    first: float | None = None
    code: int = 0


def measured(argv: list[str], environ: dict[str, str], cwd: str) -> Run:
    """Run a command to its end, its output thrown away."""
    began = time.monotonic()
    with open(os.devnull, "r+b") as null:
        process = subprocess.Popen(argv, env=environ, cwd=cwd, stdin=null, stdout=null, stderr=null)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    cpu = usage.ru_utime + usage.ru_stime
    return Run(wall, cpu, usage.ru_maxrss / 1024, code=process.returncode)


def bare(work: str, folder: str) -> Run:
    """The baseline: the interpreter and the libraries that are not ours."""
    del work
    return measured([sys.executable, "-c", BARE], dict(os.environ), folder)


def served(
    argv: Callable[[str], list[str]], environ: dict[str, str], work: str, folder: str
) -> Run:
    """A client's process against a fresh scripted server."""
    with ChaosServer(WORKS[work]) as server:
        began = time.time()
        env = environ | {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "bench"}
        run = measured(argv(server.url), env, folder)
        run.first = server.requests[0].time - began if server.requests else None
    if run.code:
        raise SystemExit(f"{argv('URL')[:2]} ended with exit code {run.code} at {work!r}")
    return run


def backstay(work: str, folder: str) -> Run:
    """`backstay exec --json`."""
    flags = ["--dangerously-bypass-approvals-and-sandbox", "--json", "-m", "bench"]
    argv = [sys.executable, "-m", "backstay", "exec", *flags, "go"]
    home = os.path.join(folder, "backstay-home")
    return served(lambda _: argv, dict(os.environ) | {"BACKSTAY_HOME": home}, work, folder)


def codex(path: str) -> Callable[[str, str], Run]:
    """`codex exec --json` of that binary, with a provider of our own."""

    def run(work: str, folder: str) -> Run:
        home = os.path.join(folder, "codex-home")
        os.makedirs(home, exist_ok=True)

        def argv(url: str) -> list[str]:
            table = (
                f'{{name="bench", base_url="{url}", env_key="OPENAI_API_KEY", '
                'wire_api="responses", request_max_retries=0, stream_max_retries=0}'
            )
            provider = ["-c", f"model_providers.bench={table}", "-c", 'model_provider="bench"']
            flags = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
            return [path, "exec", *flags, *provider, "--json", "-m", "gpt-5", "go"]

        return served(argv, dict(os.environ) | {"CODEX_HOME": home}, work, folder)

    return run


def median(runs: list[Run], figure: str) -> float:
    """The median of one figure over the runs."""
    values = [value for run in runs if (value := getattr(run, figure)) is not None]
    return statistics.median(values) if values else float("nan")


def compare(work: str, runs: int, peers: dict[str, Callable[[str, str], Run]]) -> None:
    """All peers in turns, one uncounted round first; a table of medians and ratios."""
    found: dict[str, list[Run]] = {name: [] for name in peers}
    with tempfile.TemporaryDirectory(prefix="backstay-bench-") as folder:
        for number in range(runs + 1):
            for name, peer in peers.items():
                run = peer(work, folder)
                if number:
                    found[name].append(run)
    print(f"\n{work}, {runs} runs each, medians")
    print(f"  {'':<10}{'first request s':>16}{'wall s':>9}{'CPU s':>9}{'memory MB':>11}")
    for name in peers:
        first, wall, cpu, memory = (
            median(found[name], figure) for figure in ("first", "wall", "cpu", "memory")
        )
        print(f"  {name:<10}{first:>16.3f}{wall:>9.3f}{cpu:>9.3f}{memory:>11.1f}")
    start = median(found["backstay"], "first") / median(found["bare"], "wall")
    print(f"  backstay's first request / bare interpreter: {start:.2f}")
    for name in list(peers)[1:]:
        ratios = [
            median(found["backstay"], figure) / median(found[name], figure)
            for figure in ("first", "wall", "cpu", "memory")
        ]
        shown = "  ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"  backstay / {name}: first, wall, CPU, memory = {shown}")


def main() -> None:
    """Parse the arguments and run every work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--codex", default=os.environ.get("BACKSTAY_BENCH_CODEX", ""))
    options = parser.parse_args()
    peers: dict[str, Callable[[str, str], Run]] = {"backstay": backstay, "bare": bare}
    if options.codex:
        peers["codex"] = codex(os.path.abspath(options.codex))
    for work in WORKS:
        compare(work, options.runs, peers)


if __name__ == "__main__":
    main()

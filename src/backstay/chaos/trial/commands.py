"""The commands that the model asks for: small shell scripts that leave their names in a ledger.

A command's output holds a token that nothing else holds, so that a request which has it proves that
the output reached the model. The ledger proves how often a command ran, whatever anybody says.
"""

import os
import shlex

from msgspec import Struct


class Command(Struct, frozen=True):
    """A script on disk, what its output holds, and the file that exists once it is done."""

    name: str
    line: str
    path: str
    token: str
    done: str


class Bench:
    """The folder of the scripts and their ledger, within the agent's working folder."""

    def __init__(self, folder: str) -> None:
        os.makedirs(folder)
        self.folder = folder
        self.ledger = os.path.join(folder, "ledger")
        self.release = os.path.join(folder, "release")
        """A command that waits goes on once this file exists."""

    def command(self, name: str, body: str = "", *, seconds: float = 0.0) -> Command:
        """A command that runs `body`, or sleeps, between its two lines in the ledger."""
        path = os.path.join(self.folder, name)
        token, done = f"token-{os.urandom(6).hex()}", f"{path}.done"
        if seconds:
            body = f"sleep {seconds:g}"
        ledger = shlex.quote(self.ledger)
        lines = [
            f"echo begin {name} >> {ledger}",
            f"echo {name} begins",
            body,
            f"echo end {name} >> {ledger}",
            f"echo {token}",
            f": > {shlex.quote(done)}",
        ]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        return Command(name, f"sh {shlex.quote(path)}", path, token, done)

    def waiting(self, name: str, *, seconds: float = 60.0) -> Command:
        """A command that runs until it is released, at most so long."""
        release = shlex.quote(self.release)
        rounds = int(seconds * 10)
        body = (
            f"n=0; while [ ! -e {release} ] && [ $n -lt {rounds} ]; do sleep 0.1; n=$((n+1)); done"
        )
        return self.command(name, body)

    def delegating(self, name: str, *, seconds: float) -> Command:
        """A command that waits for a process that it has started, as `make` or a test runner does."""
        child = self.waiting(f"{name}-child", seconds=seconds)
        return self.command(name, f"{child.line} & wait")

    def let_go(self) -> None:
        """Release the commands that wait."""
        with open(self.release, "w", encoding="utf-8"):
            pass

    def begun(self, command: Command) -> int:
        """How often the command began."""
        return self._lines().count(f"begin {command.name}")

    def ended(self, command: Command) -> int:
        """How often the command came to its end."""
        return self._lines().count(f"end {command.name}")

    def _lines(self) -> list[str]:
        try:
            with open(self.ledger, encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

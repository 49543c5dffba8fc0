"""The command line of `backstay chaos test`."""

from fnmatch import fnmatch
from typing import Any, Final

from msgspec import Struct

from backstay.chaos.script import ScriptError
from backstay.chaos.trial.agent import Recipe, words_of
from backstay.chaos.trial.shape import parse_template

USAGE: Final = """\
usage: backstay chaos test [OPTIONS] -- COMMAND...

Run an agent's own command against a Responses API server that breaks, one fault at a time, and tell
what held and what did not. Every scenario has a fresh working folder and a fresh HOME.

COMMAND is given the server through OPENAI_BASE_URL, OPENAI_API_KEY and CODEX_API_KEY, and these words
of it are replaced: {url} {key} {cwd} {home} {prompt} {session}. Without {prompt} the prompt comes on
stdin; with {session} the session has the id that it is given (a UUID).

  --resume 'COMMAND'      how a session is resumed, {session} and {prompt} in it; without this no
                          scenario kills the agent
  --session-from REGEX    where the agent prints its session's id (the first group, else the whole);
                          else thread_id of a JSON line thread.started, else the first UUID printed
  --tool NAME             the agent's shell tool; else found among the tools that it offers
  --tool-shape SHAPE      exec_command, shell, bash, or a template in JSON with {command} in it: an
                          object for a function's arguments, a string for a custom tool's input
  --only NAME, --skip NAME  scenarios by name or pattern (cut-*); may be repeated
  --list                  the scenarios and what each claims; runs nothing
  --repeat N              every scenario N times; it held if it held every time
  --timeout SECONDS       for each run of the command (60)
  --json                  the result as JSON on stdout
  --junit FILE            the result as JUnit XML
  --keep                  keep the folders, and say where they are

Exit codes: 0 all that ran held, 1 something did not, 2 usage, or an agent that can't be tried.
"""
_FLAGS: Final = ("--list", "--json", "--keep")
_VALUES: Final = (
    "--resume",
    "--session-from",
    "--tool",
    "--tool-shape",
    "--only",
    "--skip",
    "--repeat",
    "--timeout",
    "--junit",
)


class Options(Struct, kw_only=True):
    """What was asked for; `template` is None where the tool's arguments are to be found out."""

    recipe: Recipe
    tool: str | None = None
    template: Any = None
    only: list[str] = []
    skip: list[str] = []
    repeat: int = 1
    listed: bool = False
    json: bool = False
    junit: str | None = None
    keep: bool = False

    def wants(self, name: str) -> bool:
        """Whether a scenario is to be run."""
        chosen = not self.only or any(fnmatch(name, pattern) for pattern in self.only)
        return chosen and not any(fnmatch(name, pattern) for pattern in self.skip)


def parse(argv: list[str]) -> Options:
    """The options of a command line. Raises ScriptError."""
    flags, values, command = _split(argv)
    if not command and "--list" not in flags:
        raise ScriptError("give the agent's command behind --; see --help")
    shape = _one(values, "--tool-shape")
    tool = _one(values, "--tool")
    resume = _one(values, "--resume")
    pattern = _one(values, "--session-from")
    recipe = Recipe(
        command,
        resume=None if resume is None else words_of(resume),
        session_from=None if pattern is None else _regex(pattern),
        timeout=_number(_one(values, "--timeout") or "60", "--timeout"),
    )
    return Options(
        recipe=recipe,
        tool=tool or (shape if shape in ("exec_command", "shell", "bash") else None),
        template=None if shape is None else parse_template(shape),
        only=values.get("--only", []),
        skip=values.get("--skip", []),
        repeat=int(_number(_one(values, "--repeat") or "1", "--repeat")),
        listed="--list" in flags,
        json="--json" in flags,
        junit=_one(values, "--junit"),
        keep="--keep" in flags,
    )


def _split(argv: list[str]) -> tuple[set[str], dict[str, list[str]], list[str]]:
    """The flags, the options' values and the agent's command."""
    at = argv.index("--") if "--" in argv else len(argv)
    rest, command = argv[:at], argv[at + 1 :]
    flags: set[str] = set()
    values: dict[str, list[str]] = {}
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in _FLAGS:
            flags.add(word)
        elif name in _VALUES:
            if not equals and not rest:
                raise ScriptError(f"{name} needs a value")
            values.setdefault(name, []).append(value if equals else rest.pop(0))
        elif word.startswith("-"):
            raise ScriptError(f"unknown option {word}; see --help")
        else:
            raise ScriptError(f"{word}: the agent's command stands behind --; see --help")
    return flags, values, command


def _one(values: dict[str, list[str]], name: str) -> str | None:
    return values[name][-1] if name in values else None


def _number(text: str, name: str) -> float:
    """A number of at least one half; `--repeat` takes its whole part."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.5 <= number < 1e6 or (name == "--repeat" and number != int(number)):
        raise ScriptError(f"{name} {text}: not a number that makes sense here")
    return number


def _regex(pattern: str) -> str:
    import re

    try:
        re.compile(pattern)
    except re.error as error:
        raise ScriptError(f"--session-from {pattern}: {error}") from None
    return pattern

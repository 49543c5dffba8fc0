"""The flags of the commands that run a turn, and what a command line asks for.

`exec` and `exec resume` take what Codex 0.169.0 takes; what is not honoured says so in one line.
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from backstay.cli.options import Given, Option, read
from backstay.errors import UsageError

SANDBOX_MODES: Final = ("read-only", "workspace-write", "danger-full-access")

_COMMON: Final = (
    Option(("-h", "--help"), "print this help"),
    Option(("-V", "--version"), "print the version"),
    Option(("-m", "--model"), "the model to use", "MODEL"),
    Option(
        ("-c", "--config"),
        "override a key of config.toml; VALUE is TOML, else taken as it stands",
        "KEY=VALUE",
    ),
    Option(("-C", "--cd"), "the folder to work in", "DIR"),
    Option(("--add-dir",), "one more folder that patches may write to", "DIR"),
    Option(
        ("-s", "--sandbox"),
        "workspace-write (default; not enforced yet), danger-full-access; "
        "read-only is refused until it can be enforced",
        "MODE",
        SANDBOX_MODES,
    ),
    Option(
        ("--dangerously-bypass-approvals-and-sandbox", "--yolo"),
        "the same as -s danger-full-access",
        key="bypass",
    ),
    Option(("-i", "--image"), "put images into the prompt: FILE[,FILE...]", "FILE", many=True),
    Option(("--json", "--experimental-json"), "print events as JSON lines on stdout", key="json"),
    Option(("-o", "--output-last-message"), "write the answer to FILE, once it is there", "FILE"),
    Option(
        ("--output-schema",),
        "hold the answer to the JSON Schema in FILE; exit 1 if it departs",
        "FILE",
    ),
    Option(("--color",), "auto (default), always or never", "WHEN", ("auto", "always", "never")),
    Option(("--debug",), "log what is done to a file: no secrets, prompts, answers, outputs"),
    Option(("--ephemeral",), "keep no session: it is removed at the end"),
    Option(
        ("-p", "--profile"), "[profiles.NAME] of config.toml, or NAME.config.toml beside it", "NAME"
    ),
    Option(("--oss",), "a local provider: the one that is configured as oss_provider, or runs"),
    Option(
        ("--local-provider",), "with --oss: which one (ollama, lmstudio, llamacpp, vllm)", "NAME"
    ),
    Option(("--max-steps",), "end the turn after N responses; it can be continued", "N"),
    Option(("--max-tokens",), "end the turn once it has used N tokens, in and out", "N"),
    Option(("--max-cost",), "end the turn once it has cost USD dollars", "USD"),
    Option(("--ignore-user-config",), "do not read config.toml of BACKSTAY_HOME"),
    Option(("--strict-config",), "an unknown key in config.toml is an error"),
    Option(("--skip-git-repo-check",), "accepted: no git repository is asked for"),
)

_IGNORED: Final = (
    Option(("--enable",), value="FEATURE", ignored="there are no feature flags to enable"),
    Option(("--disable",), value="FEATURE", ignored="there are no feature flags to disable"),
    Option(("--approve-for-me",), ignored="nothing asks for approval yet, nothing is reviewed"),
    Option(("--dangerously-bypass-hook-trust",), ignored="there are no hooks to run"),
    Option(("--worktree",), ignored="no worktree is made; the session runs in the folder itself"),
    Option(("--thread-source",), value="SOURCE", ignored="the source is not recorded"),
    Option(("--cyber-access-program",), value="PROGRAM", ignored="no access program is asked for"),
    Option(("--trust",), ignored="no project is marked as trusted, nothing is saved"),
    Option(("--ignore-rules",), ignored="there are no rules files to ignore"),
)

_RESUMING: Final = (
    Option(("--last",), "the newest session of this folder"),
    Option(("--all",), "with --last: the newest session of any folder"),
    Option(("--turn",), "with fork: go on behind turn N, counted from 1; else the last", "N"),
)

EXEC: Final = (*_COMMON, *_RESUMING, *_IGNORED)
"""One table for `exec` and what stands behind it: flags may stand on either side of `resume`."""
SHOWN: Final = (*_COMMON, *_RESUMING)
"""The part of it that the help explains."""
NOT_HONOURED: Final = _IGNORED


_HELP: Final[dict[str, Literal["resume", "fork"]]] = {"resume": "resume", "fork": "fork"}


class Run(msgspec.Struct, kw_only=True):
    """What a command line asks for: a new session, or one to go on with."""

    action: Literal["new", "resume", "continue", "fork", "compact"] = "new"
    session: str = ""
    last: bool = False
    any_folder: bool = False
    turn: int | None = None
    """Of the session to fork, counted from 1; None for the last that has ended."""
    prompt: str | None = None
    """As it was given: None without one, "-" where it comes on stdin."""
    model: str = ""
    overrides: list[str] = []
    cwd: str = ""
    add_dirs: list[str] = []
    sandbox: str = ""
    images: list[str] = []
    json: bool = False
    output: str = ""
    schema: str = ""
    """The file of the JSON Schema that the answer is to have."""
    color: str = "auto"
    ephemeral: bool = False
    user_config: bool = True
    strict: bool = False
    debug: bool = False
    """A log of what is done is wanted."""
    profile: str = ""
    oss: bool = False
    local_provider: str = ""
    budget: list[str] = []
    """`max_steps`, `max_tokens` and `max_cost` as overrides, those that were given."""
    notes: list[str] = []
    """What was asked for and is not done, one line each."""
    help: Literal["", "exec", "resume", "continue", "fork", "compact"] = ""
    version: bool = False


def parse_exec(argv: Sequence[str]) -> Run:
    """The command line behind `exec`. Raises `UsageError`."""
    given = read(argv, EXEC, "exec")
    words = given.words
    action = words[0] if len(words) > given.verbatim else ""
    if action == "review":
        raise UsageError("exec review is not there yet; exec, exec resume and exec fork are")
    if action == "help":
        return Run(help=_HELP.get(" ".join(words[1:]), "exec"))
    if action == "resume":
        return _resuming(given, words[1:], "exec resume")
    if action == "fork":
        return _forking(given, words[1:], "exec fork")
    if given.has("last") or given.has("all") or given.has("turn"):
        raise UsageError(
            "--last and --all belong to exec resume and exec fork, --turn to exec fork"
        )
    if given.has("help"):
        return Run(help="exec")
    run = _common(given)
    run.prompt = _one_prompt(words)
    return run


def parse_resume(argv: Sequence[str]) -> Run:
    """The command line behind `resume`, the same as `exec resume`. Raises `UsageError`."""
    given = read(argv, EXEC, "resume")
    return _resuming(given, given.words, "resume")


def parse_fork(argv: Sequence[str]) -> Run:
    """The command line behind `fork`, the same as `exec fork`. Raises `UsageError`."""
    given = read(argv, EXEC, "fork")
    return _forking(given, given.words, "fork")


def parse_continue(argv: Sequence[str]) -> Run:
    """The command line behind `continue`: a session or --last (the default), and no prompt."""
    given = read(argv, EXEC, "continue")
    if given.has("help"):
        return Run(help="continue")
    if len(given.words) > 1:
        raise UsageError("continue takes a session and no prompt (that is: backstay resume ID ...)")
    run = _common(given)
    run.action = "continue"
    run.session = given.words[0] if given.words else ""
    run.last = not run.session
    run.any_folder = given.has("all")
    return run


def parse_compact(argv: Sequence[str]) -> Run:
    """The command line behind `compact`: a session or --last, and no prompt."""
    given = read(argv, EXEC, "compact")
    if given.has("help"):
        return Run(help="compact")
    if len(given.words) != 1 - given.has("last"):
        raise UsageError("compact takes one session, or --last")
    run = _common(given)
    run.action = "compact"
    run.session = given.words[0] if given.words else ""
    run.last = not run.session
    run.any_folder = given.has("all")
    return run


def _resuming(given: Given, words: list[str], command: str) -> Run:
    """A session, or --last, and then perhaps a prompt."""
    if given.has("help"):
        return Run(help="resume")
    if given.has("turn"):
        raise UsageError(f"--turn belongs to fork: {command} goes on behind the last one")
    run = _common(given)
    if run.version:
        return run
    run.action = "resume"
    return _of_session(run, given, words, command)


def _forking(given: Given, words: list[str], command: str) -> Run:
    """As for resuming, and perhaps a turn."""
    if given.has("help"):
        return Run(help="fork")
    run = _common(given)
    if run.version:
        return run
    run.action = "fork"
    if given.has("turn"):
        from backstay.cli.fork import turn_of

        run.turn = turn_of(given.last("turn"))
    return _of_session(run, given, words, command)


def _of_session(run: Run, given: Given, words: list[str], command: str) -> Run:
    if run.ephemeral:
        run.ephemeral = False
        done = "forked" if run.action == "fork" else "resumed"
        run.notes.append(f"--ephemeral: a session that is {done} is kept")
    words = list(words)
    if given.has("last"):
        run.last = True
    elif words:
        run.session = words.pop(0)
    else:
        raise UsageError(f"{command} needs a session: its id, or --last (see: backstay sessions)")
    run.any_folder = given.has("all")
    run.prompt = _one_prompt(words)
    return run


def _one_prompt(words: list[str]) -> str | None:
    if len(words) > 1:
        raise UsageError("there is more than one prompt: put quotes around it")
    return words[0] if words else None


def _common(given: Given) -> Run:
    """What the flags say, whatever the command."""
    sandbox = given.last("sandbox")
    if sandbox == "read-only":
        raise UsageError(
            "-s read-only can't be enforced yet, so it is refused: "
            "leave it away, or run in a container"
        )
    if given.has("bypass"):
        sandbox = "danger-full-access"
    notes = list(given.ignored)
    if given.has("local-provider") and not given.has("oss"):
        notes.append("--local-provider: without --oss it changes nothing")
    return Run(
        model=given.last("model"),
        overrides=given.all("config"),
        cwd=given.last("cd"),
        add_dirs=given.all("add-dir"),
        sandbox=sandbox,
        images=[name for names in given.all("image") for name in names.split(",") if name],
        json=given.has("json"),
        output=given.last("output-last-message"),
        schema=given.last("output-schema"),
        color=given.last("color", "auto"),
        ephemeral=given.has("ephemeral"),
        debug=given.has("debug"),
        user_config=not given.has("ignore-user-config"),
        strict=given.has("strict-config"),
        profile=given.last("profile"),
        oss=given.has("oss"),
        local_provider=given.last("local-provider"),
        budget=_budget(given),
        notes=notes,
        version=given.has("version"),
    )


def _budget(given: Given) -> list[str]:
    """The budget's flags as `KEY=VALUE`. Raises `UsageError` for what is no amount."""
    found = []
    for name in ("max-steps", "max-tokens"):
        if given.has(name):
            text = given.last(name).replace("_", "")
            if not (text.isascii() and text.isdecimal()) or int(text) < 1:
                raise UsageError(f"--{name} {given.last(name)}: it takes a whole number above 0")
            found.append(f"{name.replace('-', '_')}={int(text)}")
    if given.has("max-cost"):
        try:
            dollars = float(given.last("max-cost").removeprefix("$"))
        except ValueError:
            dollars = 0.0
        if not 0 < dollars < float("inf"):
            raise UsageError(f"--max-cost {given.last('max-cost')}: it takes US dollars, as 1.50")
        found.append(f"max_cost={dollars}")
    return found

"""`doctor --provider`: asks a provider what it supports, and prints a table and a dialect.

Without that flag it is about sessions, which are `health`'s.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from backstay.cli.options import Option, columns, read
from backstay.cli.page import Page, help_width, print_page
from backstay.core.dialect import Dialect
from backstay.errors import UsageError
from backstay.runtime.config import default_home, load
from backstay.runtime.settings import Settings, settings

if TYPE_CHECKING:
    from backstay.model.checkup import Report

OPTIONS: Final = (
    Option(("-h", "--help"), "print this help"),
    Option(("--provider",), "the provider that is configured, or the one that is named behind it"),
    Option(("-m", "--model"), "the model to ask", "MODEL"),
    Option(("-c", "--config"), "override a key of config.toml", "KEY=VALUE"),
    Option(("-p", "--profile"), "[profiles.NAME] of config.toml", "NAME"),
    Option(("--timeout",), "how long one answer may take (default: 60)", "SECONDS"),
    Option(("--json",), "the same as data; of sessions one object a line"),
    Option(("--repair",), "write a repaired file beside each damaged one of Codex's"),
    Option(("--in-place",), "with --repair: put it in its place, keep NAME.before-repair"),
    Option(("-n", "--limit"), "at most so many damaged sessions (default 20, 0 for all)", "COUNT"),
    Option(("-a", "--all"), "list the sound ones too"),
)
_OF_SESSIONS: Final = ("repair", "in-place", "limit", "all")
_OF_PROVIDERS: Final = ("model", "config", "profile", "timeout")
PAGE: Final = Page(
    name="doctor",
    text="""\
usage: backstay doctor [PATH|ID ...] [--repair [--in-place]] [OPTIONS]
       backstay doctor --provider [NAME] [OPTIONS]

Look at Backstay's own sessions and at Codex's ($CODEX_HOME, ~/.codex) and say what
is wrong with them, the worst first; with files, folders or ids at those alone.
Nothing is written without --repair. Exit code 0: sound, 1: damaged.

With --provider ask a provider what it supports and how it misbehaves, in a few small
requests. Prints a table, and the [model_providers.NAME.dialect] that follows from it.
Exit code 1: an agent can't run on it.
""",
    options=OPTIONS,
)
_WORDS: Final = {"yes": "yes", "no": "no", "unclear": "?"}


def main(argv: Sequence[str]) -> int:
    """Run `doctor`; gives the exit code. Raises `BackstayError`."""
    words = [part for word in argv for part in _split(word)]
    given = read(words, OPTIONS, "doctor")
    if given.has("help"):
        print_page(PAGE)
        return 0
    about_provider = given.has("provider")
    for name in _OF_SESSIONS if about_provider else _OF_PROVIDERS:
        if given.has(name):
            what = "about sessions" if about_provider else "for --provider"
            raise UsageError(f"--{name} is {what} (backstay doctor --help)")
    if not about_provider:
        from backstay.cli.health import main as health

        return health(given)
    if len(given.words) > 1:
        raise UsageError("doctor --provider takes one NAME")
    overrides = [*given.all("config"), *(f'model_provider="{name}"' for name in given.words)]
    home = default_home(os.environ)
    loaded = load(home, os.getcwd(), overrides, profile=given.last("profile"))
    made = settings(
        loaded, os.environ, home=home, cwd=os.getcwd(), model=given.last("model"), ephemeral=True
    )
    report = asyncio.run(_examine(made, _seconds(given.last("timeout", "60"))))
    if given.has("json"):
        print(msgspec.json.encode(_shown(report, made)).decode())
    else:
        print(text_of(report, made.provider.dialect), end="")
    return 0 if report.works else 1


def _split(word: str) -> list[str]:
    """`--provider=NAME` is a switch and a word."""
    name, equals, value = word.partition("=")
    return [name, value] if equals and name == "--provider" else [word]


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 3600:
        raise UsageError(f"--timeout {text}: it takes seconds, up to 3600")
    return found


async def _examine(made: Settings, seconds: float) -> "Report":
    from backstay.model.checkup import FEWEST, MOST, TOKENS, Asked, Checkup
    from backstay.model.http import HttpTransport
    from backstay.model.transport import shown

    provider = made.provider
    print(
        f"asking {provider.name} at {shown(provider.base_url)} with {made.model}: "
        f"{FEWEST} to {MOST} requests, some {TOKENS:,} tokens",
        file=sys.stderr,
        flush=True,
    )
    transport = HttpTransport()
    try:
        return await Checkup(Asked(provider, made.model, transport, seconds)).run()
    finally:
        await transport.close()


def _shown(report: "Report", made: Settings) -> dict[str, object]:
    return {
        **msgspec.to_builtins(report),
        "works": report.works,
        "suggested": suggested(report.dialect),
        "differs": differing(report.dialect, made.provider.dialect),
    }


def suggested(found: dict[str, bool]) -> dict[str, bool]:
    """The flags that a block has to say: those that are not the defaults."""
    usual = msgspec.structs.asdict(Dialect())
    return {name: value for name, value in found.items() if value != usual[name]}


def differing(found: dict[str, bool], configured: Dialect) -> list[str]:
    """The flags that are configured otherwise than was found."""
    have = msgspec.structs.asdict(configured)
    return [name for name, value in found.items() if have[name] != value]


def text_of(report: "Report", configured: Dialect) -> str:
    """The table, the dialect and one line on what differs."""
    from backstay.cli.terminal import harmless
    from backstay.model.checkup.findings import QUESTIONS

    rows = []
    for one in report.findings:
        detail = f" ({harmless(one.detail)})" if one.detail else ""
        rows.append((_WORDS[one.verdict], f"{QUESTIONS[one.name]}{detail}"))
    lines = [columns(rows, help_width(), 8)]
    block = suggested(report.dialect)
    if report.dialect:
        lines.append(f"\n[model_providers.{report.provider}.dialect]\n")
        lines += [f"{name} = {str(value).lower()}\n" for name, value in block.items()]
        lines += [] if block else ["# nothing: it does what api.openai.com does\n"]
        differs = differing(report.dialect, configured)
        said = f"# configured otherwise: {', '.join(differs)}" if differs else "# as configured"
        lines.append(f"{said}\n")
    verdict = "an agent can run on it" if report.works else "an agent can't run on it as it is"
    count = f"{report.requests} request{'' if report.requests == 1 else 's'}"
    lines.append(f"\n{verdict} ({count}, {report.tokens:,} tokens)\n")
    return "".join(lines)

"""A command's flags as a table, and reading a command line by it: flags and words in any order.

Owns the grammar (`-m X`, `-mX`, `--model=X`, `--`), not what a flag means. Instead of argparse for
two reasons: that costs 8 ms of every start, and it can't take a flag on both sides of `resume ID`.
"""

from collections.abc import Sequence

import msgspec

from backstay.errors import UsageError


class Option(msgspec.Struct, frozen=True):
    """One flag. Without `value` (the name of its value in the help) it is a switch."""

    names: tuple[str, ...]
    help: str = ""
    value: str = ""
    choices: tuple[str, ...] = ()
    many: bool = False
    """Takes every word up to the next flag (as Codex's `exec --image` does, not its `resume`)."""
    ignored: str = ""
    """What it does not do here; said in one line when it is given."""
    key: str = ""
    """Under which its values are found; by default its longest name without dashes."""

    @property
    def name(self) -> str:
        """What its values are found under."""
        return self.key or max(self.names, key=len).lstrip("-")


class Given(msgspec.Struct):
    """A command line as it was read: each flag's values in order ("" for a switch), the words."""

    values: dict[str, list[str]]
    words: list[str]
    ignored: list[str]
    """One line for each flag that does nothing here."""
    verbatim: int = 0
    """How many of the words stood behind `--`."""

    def has(self, name: str) -> bool:
        """Whether the flag was given."""
        return name in self.values

    def last(self, name: str, default: str = "") -> str:
        """The value that was given last."""
        return self.values.get(name, [default])[-1]

    def all(self, name: str) -> list[str]:
        """All values that were given, in order."""
        return self.values.get(name, [])


def read(argv: Sequence[str], options: Sequence[Option], command: str) -> Given:
    """Read a command line. Raises `UsageError` for an unknown flag, a missing or a bad value."""
    return _Reader(options, command).read(argv)


class _Reader:
    def __init__(self, options: Sequence[Option], command: str) -> None:
        self._known = {name: option for option in options for name in option.names}
        self._command = command
        self._given = Given({}, [], [])

    def read(self, argv: Sequence[str]) -> Given:
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if word == "--":
                self._given.words += rest
                self._given.verbatim = len(rest)
                break
            if not word.startswith("-") or word == "-":
                self._given.words.append(word)
            elif word.startswith("--"):
                self._long(word, rest)
            else:
                self._short(word, rest)
        return self._given

    def _long(self, word: str, rest: list[str]) -> None:
        name, equals, value = word.partition("=")
        option = self._option(name)
        if option.value:
            self._take(option, name, value if equals else None, rest)
        elif equals:
            raise UsageError(f"{name} takes no value")
        else:
            self._keep(option, name, "")

    def _short(self, word: str, rest: list[str]) -> None:
        for place in range(1, len(word)):
            name = f"-{word[place]}"
            option = self._option(name, word)
            if option.value:
                value = word[place + 1 :].removeprefix("=")
                self._take(option, name, value or None, rest)
                return
            self._keep(option, name, "")

    def _take(self, option: Option, name: str, value: str | None, rest: list[str]) -> None:
        if value is None:
            if not rest:
                raise UsageError(f"{name} needs a value ({option.value})")
            value = rest.pop(0)
            self._keep(option, name, value)
            greedy = option.many and "resume" not in (self._command, *self._given.words[:1])
            while greedy and rest and not rest[0].startswith("-"):
                self._given.values[option.name].append(rest.pop(0))
        else:
            self._keep(option, name, value)

    def _keep(self, option: Option, name: str, value: str) -> None:
        if option.choices and value not in option.choices:
            choices = ", ".join(option.choices)
            raise UsageError(f"{name} {value}: it takes one of {choices}")
        if option.ignored and option.name not in self._given.values:
            self._given.ignored.append(f"{name}: {option.ignored}")
        self._given.values.setdefault(option.name, []).append(value)

    def _option(self, name: str, word: str = "") -> Option:
        option = self._known.get(name)
        if option is None:
            near = nearest(name, self._known)
            hint = f", did you mean {near}?" if near else ""
            raise UsageError(
                f"{self._command} has no flag {word or name}{hint} (backstay {self._command} --help)"
            )
        return option


def nearest(name: str, known: Sequence[str] | dict[str, Option]) -> str:
    """The known name that is closest to this one, or ""."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1)), "")


def table(options: Sequence[Option], width: int = 80) -> str:
    """The flags and their help in two columns."""
    rows = [(", ".join(one.names) + (f" {one.value}" if one.value else ""), one) for one in options]
    return columns([(left, one.help or one.ignored) for left, one in rows], width)


def columns(rows: Sequence[tuple[str, str]], width: int = 80, indent: int = 28) -> str:
    """Names at the left, wrapped text at the right, each row ended by a newline.

    Below 60 columns the text stands below the names.
    """
    import textwrap

    indent = indent if width >= 60 else 6
    lines = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, width - indent, break_on_hyphens=False) or [""]
        first = f"  {left}"
        if len(first) > indent - 2:
            lines += textwrap.wrap(
                first,
                width,
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            first = ""
        lines.append(first.ljust(indent) + wrapped[0])
        lines += [" " * indent + line for line in wrapped[1:]]
    return "".join(f"{line.rstrip()}\n" for line in lines)

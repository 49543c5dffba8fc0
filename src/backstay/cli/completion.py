"""`completion`: a script for a shell, and what the script asks when Tab is pressed.

The scripts know nothing: they ask this module, which knows what the help knows.
"""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from backstay.cli.options import Option, read
from backstay.cli.page import Page, print_page
from backstay.errors import BackstayError, UsageError

if TYPE_CHECKING:
    from backstay.runtime.keys import Configuration

_IDS: Final = 50
"""Sessions of this folder that are offered, the last active ones."""
_FILES, _FOLDERS = ":files", ":folders"
"""Lines of a reply that leave the rest to the shell."""

PAGE: Final = Page(
    name="completion",
    text="""\
usage: backstay completion bash|zsh|fish

Print a script that completes commands, flags, their values and the IDs of sessions of this folder.
It asks backstay itself when Tab is pressed, so that it stays right when backstay is renewed.
""",
    options=(Option(("-h", "--help"), "print this help"),),
    examples=(
        ('eval "$(backstay completion bash)"', "in ~/.bashrc"),
        ('eval "$(backstay completion zsh)"', "in ~/.zshrc, behind compinit"),
        (
            "backstay completion fish > ~/.config/fish/completions/backstay.fish",
            "once",
        ),
    ),
)
SCRIPTS: Final = {
    "bash": r"""
_backstay() {
    local line word=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files) while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$word")
                compopt -o filenames 2>/dev/null ;;
            :folders) while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -d -- "$word")
                compopt -o filenames 2>/dev/null ;;
            *) line=${line%%$'\t'*}; COMPREPLY+=("$line")
                [[ $line == *= ]] && compopt -o nospace 2>/dev/null ;;
        esac
    done < <("$1" completion reply -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _backstay backstay
""",
    "zsh": r"""
#compdef backstay
_backstay() {
    local line
    local -a found open
    for line in "${(@f)$($words[1] completion reply -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            :files) _files ;;
            :folders) _files -/ ;;
            *=) open+=("$line") ;;
            ?*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    (( $#open )) && compadd -S '' -- $open
    (( $#found )) && _describe backstay found
}
compdef _backstay backstay
""",
    "fish": r"""
function __backstay_reply
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    for line in (backstay completion reply -- $words[2..-1] "$word" 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path "$word"
            case :folders
                __fish_complete_directories "$word" ''
            case '*'
                echo $line
        end
    end
end
complete -c backstay -f -a '(__backstay_reply)'
""",
}


def main(argv: Sequence[str]) -> int:
    """Run `completion`; gives the exit code. Raises `UsageError`."""
    if argv[:2] == ["reply", "--"]:
        for line in replies(list(argv[2:])):
            print(line)
        return 0
    given = read(argv, PAGE.options, "completion")
    if given.has("help"):
        print_page(PAGE)
        return 0
    shell = given.words[0] if len(given.words) == 1 else ""
    if shell not in SCRIPTS:
        raise UsageError("completion takes one of bash, zsh, fish")
    print(SCRIPTS[shell].lstrip("\n"), end="")
    return 0


def replies(words: Sequence[str]) -> Iterator[str]:
    """What may stand in the place of the last word: a value and perhaps, behind a tab, a comment.

    `words` are those behind `backstay` up to the cursor; the last one may be empty.
    """
    *before, word = _joined(words) or [""]
    try:
        offered = list(_offered(before, word))
    except (BackstayError, OSError, ImportError):  # nobody presses Tab to read about errors
        return
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    behind = value if equals or not flag else flag
    whole = f"{flag}=" if equals and words[-1].startswith("--") else ""
    yield from (
        one if one in (_FILES, _FOLDERS) else f"{whole}{one}"
        for one in offered
        if one.startswith((behind, _FILES, _FOLDERS))
    )


def _joined(words: Sequence[str]) -> list[str]:
    """The words as the user sees them: bash splits at =."""
    found: list[str] = []
    for word in words:
        if found and (word == "=" or found[-1].endswith("=")) and found[-1].startswith("--"):
            found[-1] += word
        else:
            found.append(word)
    return found


def _offered(before: list[str], word: str) -> Iterator[str]:
    page, position = _where(before)
    if page is None:
        from backstay.cli.main import COMMANDS

        every = {usage.split()[0]: text for usage, text in reversed(COMMANDS)}
        yield from (f"{name}\t{every[name]}" for name in sorted(every))
        yield from ("--help\tthe commands", "--version")
        return
    known = {name: one for one in (*page.options, *page.unhonoured) for name in one.names}
    option = known.get(before[-1]) if before else None
    flag, equals, _ = word.partition("=")
    if equals and flag in known and word.startswith("--"):
        option = known[flag]
    if option is not None and option.value:
        yield from _values(option)
    elif word.startswith("-"):
        yield from _flags(page)
    else:
        yield from _words(page, position)


def _where(before: list[str]) -> tuple[Page | None, int]:
    """The page of the command that is being written, and how many words of its own it has."""
    from backstay.cli.pages import CHAOS, NAMES, page

    if not before:
        return None, 0
    name = {"e": "exec"}.get(before[0], before[0])
    words = [one for one in before[1:] if not one.startswith("-")]
    if name == "exec" and words[:1] in (["resume"], ["fork"]):
        return page(words[0]), len(words) - 1
    if name == "chaos" and f"chaos {' '.join(words[:1])}" in CHAOS:
        return page(f"chaos {words[0]}"), len(words) - 1
    if name == "sessions" and words:
        return _action(words[0]), len(words) - 1
    return (page(name), len(words)) if name in NAMES else (Page(name=name, text=""), len(words))


def _action(name: str) -> Page:
    """The page of one of the `sessions` commands."""
    from backstay.cli.sessions import ACTIONS

    action = ACTIONS.get(name)
    usage, flags = (action.usage, action.flags) if action else ("", ())
    return Page(name=f"sessions {name}", text=usage, options=(*flags, *PAGE.options))


def _flags(page: Page) -> Iterator[str]:
    for one in (*page.options, *page.unhonoured):
        comment = one.help or one.ignored
        yield from (f"{name}\t{comment}" for name in one.names if name.startswith("--"))
    if not page.options:  # the fault kit's flags stand in its texts alone
        found = [word for line in page.text.splitlines() for word in line.split()[:1]]
        yield from dict.fromkeys(word for word in found if word.startswith("--") and word != "--")
        yield "--help"


def _words(page: Page, position: int) -> Iterator[str]:
    usage = page.text.partition("\n\n")[0]
    if page.rows:
        for written, text in page.rows:
            name = written.split()[0].strip("[]")
            if name.islower():
                yield f"{name}\t{text}"
    elif page.name == "exec" and not position:
        yield from ("resume\tgo on with a session", "fork\tgo on behind a turn of a session")
    elif page.name == "doctor":
        from backstay.runtime.presets import PRESETS

        yield from dict.fromkeys([*_configured().model_providers, *PRESETS])
    elif page.name == "completion":
        yield from SCRIPTS
    elif page.name == "chaos":
        yield from ("serve", "proxy", "test")
    elif page.name == "chaos serve":
        yield _FILES
    elif " ID..." in usage or (" ID" in usage.replace("[ID", " ID") and not position):
        yield from _sessions()


def _values(option: Option) -> Iterator[str]:
    if option.choices:
        yield from option.choices
        return
    match option.value, option.name:
        case "FILE", _:
            yield _FILES
        case "DIR", _:
            yield _FOLDERS
        case "MODEL", _:
            yield from _models()
        case _, "profile":
            yield from _configured().profiles
        case _, "local-provider":
            from backstay.runtime.presets import LOCAL

            yield from LOCAL
        case "KEY=VALUE", _:
            from backstay.runtime.keys import Configuration

            yield from (f"{name}=" for name in Configuration.__struct_fields__)


def _models() -> Iterator[str]:
    """Those that are configured; only a provider could say what else there is."""
    configured = _configured()
    yield from dict.fromkeys(filter(None, [configured.model, *configured.prices]))


def _configured() -> "Configuration":
    from backstay.runtime.config import default_home, load

    return load(default_home(os.environ), os.getcwd(), []).configuration


def _sessions() -> Iterator[str]:
    from backstay.cli.terminal import one_line
    from backstay.journal import PosixDisk
    from backstay.journal.sessions import newest
    from backstay.runtime.config import default_home

    for number, entry in enumerate(newest(PosixDisk(), default_home(os.environ), os.getcwd(), 200)):
        if number == _IDS:
            break
        yield f"{entry.id}\t{entry.ended}: {one_line(entry.name, 50)}"

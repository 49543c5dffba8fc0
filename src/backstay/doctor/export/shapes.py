"""What a secret looks like: detect-secrets' detectors, and what they do not know or only begin.

Finds, and replaces nothing. Heuristics that guess by entropy or by a word nearby are left out: in
transcripts of coding they hit ordinary text.
"""

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from re import Pattern
from typing import Final

import msgspec

_DETECTORS: Final = {
    "aws": ("AWSKeyDetector", "aws-key"),
    "azure_storage_key": ("AzureStorageKeyDetector", "azure-key"),
    "discord": ("DiscordBotTokenDetector", "discord-token"),
    "github_token": ("GitHubTokenDetector", "github-token"),
    "gitlab_token": ("GitLabTokenDetector", "gitlab-token"),
    "mailchimp": ("MailchimpDetector", "mailchimp-key"),
    "pypi_token": ("PypiTokenDetector", "pypi-token"),
    "sendgrid": ("SendGridDetector", "sendgrid-key"),
    "slack": ("SlackDetector", "slack-token"),
    "square_oauth": ("SquareOAuthDetector", "square-secret"),
    "stripe": ("StripeDetector", "stripe-key"),
    "telegram_token": ("TelegramBotTokenDetector", "telegram-token"),
    "twilio": ("TwilioKeyDetector", "twilio-key"),
    "basic_auth": ("BasicAuthDetector", "password"),
}
"""By module of detect-secrets: its detector, and how we call what it finds."""
_INNER: Final = ("aws", "azure_storage_key", "basic_auth")
"""Their expressions hold the secret in a group, and context around it."""
_NEEDED: Final = {
    "mailchimp": "-us",
    "azure_storage_key": "AccountKey=",
    "basic_auth": "://",
    "gitlab_token": "gl",
    "pypi_token": "pypi-",
    "sendgrid": "SG.",
    "slack": "xox",
    "square_oauth": "sq0csp-",
    "stripe": "k_live_",
}
"""What a text must hold for the detector to be asked at all; it saves most of the time."""

_OWN: Final = (
    ("anthropic-key", "sk-ant-", r"\bsk-ant-[\w-]{20,}"),
    ("openrouter-key", "sk-or-", r"\bsk-or-[\w-]{20,}"),
    ("openai-key", "sk-", r"(?<![\w-])sk-(?:(?:proj|svcacct|admin|None)-)?(?=[\w-]{0,200}\d)(?=[\w-]{0,200}[A-Z])[\w-]{20,400}"),
    ("google-key", "AIza", r"\bAIza[\w-]{35}(?![\w-])"),
    ("google-token", "ya29.", r"\bya29\.[\w-]{20,}"),
    ("github-token", "github_pat_", r"\bgithub_pat_\w{36,}"),
    ("huggingface-token", "hf_", r"\bhf_[A-Za-z0-9]{30,}\b"),
    ("xai-key", "xai-", r"\bxai-[A-Za-z0-9]{40,}"),
    ("groq-key", "gsk_", r"\bgsk_[A-Za-z0-9]{40,}"),
    ("npm-token", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("npm-token", "_authToken", r"_authToken\s*=\s*(?P<value>[^\s\"'\\$]{8,4096})"),
    ("jwt", "eyJ", r"(?<![\w-])eyJ[\w-]{10,4000}\.[\w-]{10,}(?:\.[\w-]*)?"),
    ("slack-token", "xapp-", r"\bxapp-\d-[A-Za-z0-9-]{20,}"),
    ("digitalocean-token", "_v1_", r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
    ("stripe-key", "k_test_", r"\b[rs]k_test_[0-9A-Za-z]{20,}"),
    ("age-key", "AGE-SECRET-KEY-", r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b"),
)  # fmt: skip
"""Kinds of key that detect-secrets 1.5 does not know, or only in an older form."""

_PEM: Final = re.compile(
    r"-----BEGIN (?P<sort>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----"
    r"(?:(?:(?!-----BEGIN )[\s\S]){1,32768}?-----END (?P=sort)-----|(?:\\[nrt]|[\w+/=:,.\s-])*)"
)
"""Over several lines, with newlines as they are or escaped; also one whose end was cut off."""
_PUTTY: Final = re.compile(
    r"PuTTY-User-Key-File-\d:[^\n]*(?:\n(?!PuTTY)[^\n]{1,200}){1,200}?\nPrivate-MAC: \w+"
)
_HEADER: Final = re.compile(
    r"(?i)\b(?:proxy-)?authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:(?:bearer|basic|token|digest|bot)\s{1,4})?"
    r"(?P<value>[\w.~+/=:-]{8,4096})"
)
_BEARER: Final = re.compile(r"\b[Bb]earer\s{1,4}(?P<value>[\w.~+/-]{16,4096}=*)")
_NAMED: Final = (
    r"(?:[A-Z0-9]{1,40}_){0,12}(?:PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|SECRET|TOKEN|CREDENTIALS?|APIKEY|KEY)"
    r"(?:_(?:ID|BASE64|B64|VALUE|[0-9]+))?"
)
_ASSIGNED: Final = r"[ \t]*=[ \t]*(?P<quote>\\?[\"'])?(?P<value>(?(quote)[^\"'\n\\]|[^\s\"'`;&|<>()\\,\]}#]){4,4096})"
_ENVIRONMENT: Final = re.compile(rf"(?<![A-Za-z0-9_$%])(?P<name>{_NAMED}){_ASSIGNED}")
_DOTENV: Final = re.compile(
    rf"(?m)^[+\-> \t]{{0,3}}(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]{{1,80}}){_ASSIGNED}"
)
_PAIR: Final = re.compile(
    r"(?i)(?<![\w-])[\"']?(?P<name>[\w.-]{0,40}(?:password|passwd|secret|token|api[_-]?key|private[_-]?key"
    r"|access[_-]?key|credentials?))\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"'](?P<value>[^\s\"'\\]{8,4096})\\?[\"']"
)
_DOTENV_FILE: Final = re.compile(
    r"(?:^|[\s/'\"=:])\.env(?:\.(?!example|sample|template|dist)[\w-]+)?(?![\w.-])"
)
_DATA_URL: Final = re.compile(r"data:[\w/+.;=-]{1,100};base64,[A-Za-z0-9+/=]*")
_PLACEHOLDER: Final = re.compile(
    r"(?i)^[\W_]*$|^__\w+__$|^[$%<{\[*]|\$\{|\{\{|^(?:x+|\.+|\*+|0+|1234\w*)$|your|example|changeme|change_me|placeholder"
    r"|redacted|dummy|insert|^(?:true|false|null|none|undefined|secret|password|token|test|string|value|key)s?$"
    r"|…|\.\.\.|^[a-z]+(?:[.][a-zA-Z_]+)+$|^os\.|^process\.|^(?:self|env|config|settings)\b"
)
_PLAIN_KEYS: Final = re.compile(
    r"^(?:[A-Z0-9]+_)*(?:PRIMARY|FOREIGN|PUBLIC|CACHE|SORT|PARTITION|GROUP|HASH|DICT|ROW|MAP|JSON|INDEX"
    r"|SHORTCUT|HOT|COLUMN|UNIQUE|IDEMPOTENCY|EOS|BOS|PAD|UNK|SEP|CLS|STOP|NEXT)_(?:KEY|TOKEN)S?(?:_ID)?$"
    r"|^(?:KEY|PASS|OLDPWD|PWD|TOKEN)$|^(?:[A-Z0-9]+_)*KEY_ID$"
)
"""Names that say secret and mean none, however they are used."""
_ANY_KEY: Final = re.compile(
    r"(?<!API)(?<!ACCESS)(?<!SECRET)(?<!PRIVATE)(?<!AUTH)(?<!SIGNING)(?<!ENCRYPTION)(?<!MASTER)_KEY$"
)
"""Of such a name a plain word is the name of a key and no secret."""
_SIMPLE: Final = re.compile(
    r"^(?:[a-z]+(?:[_-][a-z]+)*|[A-Z]+(?:_[A-Z]+)*|[A-Z]?[a-z]+(?:[A-Z][a-z]+)*|\d{1,7}|[/.~].*|\w+://.*)$"
)
_SHORTEST_ANYWHERE: Final = 12
"""Characters from which a value that is known by its context is looked for without it too."""


class Secret(msgspec.Struct, frozen=True):
    """A secret that was found: what it is, and what has to go."""

    kind: str
    value: str
    whole: str = ""
    """Where the value alone is too ordinary to be replaced wherever it stands: with its context."""


class Shapes:
    """The detectors, compiled once."""

    def __init__(self) -> None:
        self._library = [
            (name, kind, _expressions(name, detector))
            for name, (detector, kind) in _DETECTORS.items()
        ]
        self._own = [(kind, needed, re.compile(text)) for kind, needed, text in _OWN]

    def of(self, text: str, *, dotenv: bool = False) -> Iterator[Secret]:
        """The secrets in a text; `dotenv` takes every NAME=value at a line's begin for one."""
        if len(text) < 8:
            return
        if ";base64," in text:
            text = _DATA_URL.sub("data:", text)
        yield from self._known(text)
        yield from _blocks(text)
        yield from _named(text, dotenv=dotenv)

    def _known(self, text: str) -> Iterator[Secret]:
        for kind, needed, expression in self._own:
            if needed in text:
                for match in expression.finditer(text):
                    yield Secret(kind, match.groupdict().get("value") or match[0])
        for name, kind, expressions in self._library:
            if _NEEDED.get(name, "") in text or name == "slack":
                for expression in expressions:
                    for match in expression.finditer(text):
                        value = _value(name, match)
                        if not _PLACEHOLDER.search(value):
                            yield _held(kind, value, match[0], sure=name != "basic_auth")

    def pairs(self, text: str) -> Iterator[Secret]:
        """The secrets in a text that is JSON whose strings are looked at one by one."""
        yield from _pairs(text)


def names_dotenv(text: str) -> bool:
    """Whether a command, a patch or a path names a file `.env` (but not `.env.example`)."""
    return ".env" in text and _DOTENV_FILE.search(text) is not None


def says_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    return re.fullmatch(_NAMED, name.upper()) is not None and not _PLAIN_KEYS.match(name)


def _expressions(module: str, detector: str) -> list[Pattern[str]]:
    made = getattr(import_module(f"detect_secrets.plugins.{module}"), detector)()
    found: Iterable[Pattern[str]] = made.denylist
    return list(found)


def _value(name: str, match: re.Match[str]) -> str:
    if name not in _INNER:
        return match[0]
    if name == "azure_storage_key":
        return match[0].removeprefix("AccountKey=")
    return max((one for one in match.groups() if one), key=len, default=match[0])


def _blocks(text: str) -> Iterator[Secret]:
    if "PRIVATE KEY" in text:
        for match in _PEM.finditer(text):
            yield Secret("private-key", match[0].rstrip())
    if "PuTTY-User-Key-File" in text:
        for match in _PUTTY.finditer(text):
            yield Secret("private-key", match[0])


def _named(text: str, *, dotenv: bool) -> Iterator[Secret]:
    """Values that are secrets because of what stands before them."""
    lower = text.lower()
    if "authorization" in lower:
        yield from _matches("authorization", _HEADER, text)
    if "bearer" in lower:
        yield from _matches("authorization", _BEARER, text)
    if "=" in text:
        for line in _lines_with(text, text, _UPPER):
            for match in _ENVIRONMENT.finditer(line):
                name, value = match["name"], match["value"]
                if not _PLAIN_KEYS.match(name) and (_mixed(value) or not _ANY_KEY.search(name)):
                    yield from _assigned(match)
        if dotenv:
            for match in _DOTENV.finditer(text):
                yield from _assigned(match)
    yield from _pairs(text)


def _pairs(text: str) -> Iterator[Secret]:
    for line in _lines_with(text, text.lower(), _LOWER):
        for match in _PAIR.finditer(line):
            value = match["value"]
            if _mixed(value) and not _SIMPLE.match(value) and not _PLACEHOLDER.search(value):
                yield _held(_kind(match["name"]), value, match[0])


_UPPER: Final = ("PASS", "PWD", "SECRET", "TOKEN", "CREDENTIAL", "KEY")
_LOWER: Final = (
    "passw", "secret", "token", "credential", "_key", "-key", "apikey", "privatekey", "accesskey",
)  # fmt: skip


def _lines_with(text: str, searched: str, words: tuple[str, ...]) -> Iterator[str]:
    """The lines in which one of the words stands: a search for words is faster than expressions."""
    present = [word for word in words if word in searched]
    if not present:
        return
    if len(searched) != len(text):  # some letters are longer in lower case
        yield from text.split("\n")
        return
    places = {word: searched.find(word) for word in present}
    while places:
        first = min(places.values())
        start, end = text.rfind("\n", 0, first) + 1, text.find("\n", first)
        end = len(text) if end < 0 else end
        yield text[start:end]
        for word, place in list(places.items()):
            if place <= end:
                places[word] = searched.find(word, end)
        places = {word: place for word, place in places.items() if place >= 0}


def _matches(kind: str, expression: Pattern[str], text: str) -> Iterator[Secret]:
    for match in expression.finditer(text):
        if not _PLACEHOLDER.search(match["value"]) and not _SIMPLE.match(match["value"]):
            yield _held(kind, match["value"], match[0])


def _assigned(match: re.Match[str]) -> Iterator[Secret]:
    value = match["value"].rstrip()
    if value and not _PLACEHOLDER.search(value) and not (value.isdecimal() and len(value) < 6):
        yield _held(_kind(match["name"]), value, match[0].rstrip())


def _kind(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "secret"


def _held(kind: str, value: str, whole: str, *, sure: bool = True) -> Secret:
    """A value that is too short or too ordinary goes only where it stands in this context."""
    anywhere = (
        len(value) >= _SHORTEST_ANYWHERE and (sure or _mixed(value)) and not _SIMPLE.match(value)
    )
    return Secret(kind, value, "" if anywhere else whole)


def _mixed(value: str) -> bool:
    """Letters and digits, or signs: no word, no identifier."""
    digits = sum(letter.isdigit() for letter in value)
    return digits > 0 and digits < len(value)

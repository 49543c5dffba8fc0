"""Replaces secrets by marks: the same secret by the same mark, wherever it stands in one file.

In two passes: what is a secret in one place is one everywhere. Owns no shapes of secrets.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from backstay.core.items import OUTPUTS, Item, call_id, is_call, kind
from backstay.doctor.export.shapes import Secret, Shapes, names_dotenv, says_secret

_OPAQUE: Final = frozenset({"encrypted_content", "type", "role", "status", "k"})
"""Fields that hold what only the provider can read, or words of the wire."""
_SHORTEST_OF_OWN: Final = 8
_LONGEST_MEMORY: Final = 4096


class Redactor:
    """First `learn` all texts, then ask for each with its secrets replaced."""

    def __init__(self, environ: Mapping[str, str], names: frozenset[str] = frozenset()) -> None:
        """`environ` tells the user's own keys; `names` are variables that hold one for sure."""
        self._shapes = Shapes()
        self._marks: dict[str, str] = {}
        """By what has to go; a value with its context has its mark in there too."""
        self._identities: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._pattern: re.Pattern[str] | None = None
        self._seen: set[int] = set()
        self._dotenv: set[str] = set()
        self.replaced = 0
        """How many marks were written."""
        self._own = {
            value: Secret(name.lower().replace("_", "-")[:40], value)
            for name, value in environ.items()
            if len(value) >= _SHORTEST_OF_OWN and (name in names or says_secret(name))
        }

    @property
    def secrets(self) -> int:
        """How many different secrets are known by now."""
        return len(set(self._identities.values()))

    def learn(self, value: Any, *, dotenv: bool = False) -> None:
        """Take in what secrets a text holds, or a value with texts in it; items by what they are."""
        if isinstance(value, dict):
            inside = dotenv or self._is_of_dotenv(value)
            for name, part in value.items():
                self.learn(name)
                if name not in _OPAQUE:
                    self.learn(part, dotenv=inside)
        elif isinstance(value, list):
            for part in value:
                self.learn(part, dotenv=dotenv)
        elif isinstance(value, str) and len(value) >= _SHORTEST_OF_OWN:
            self._learn_text(value, dotenv=dotenv)

    def text(self, text: str) -> str:
        """The text with marks for secrets."""
        if not self._marks:
            return text
        if self._pattern is None:
            longest_first = sorted(self._marks, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        made, count = self._pattern.subn(self._mark, text)
        self.replaced += count
        return made

    def value(self, value: Any) -> Any:
        """The value with marks in all its texts; itself where nothing changed."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            made = {
                name: part if name in _OPAQUE else self.value(part) for name, part in value.items()
            }
            return made if any(made[name] is not value[name] for name in value) else value
        if isinstance(value, list):
            listed = [self.value(part) for part in value]
            return listed if any(a is not b for a, b in zip(listed, value, strict=True)) else value
        return value

    def _mark(self, match: re.Match[str]) -> str:
        return self._marks[match[0]]

    def _learn_text(self, text: str, *, dotenv: bool) -> None:
        seen = hash((text, dotenv))
        if seen in self._seen:
            return
        if len(text) <= _LONGEST_MEMORY:
            self._seen.add(seen)
        for value, secret in self._own.items():
            if value in text:
                self._keep(secret)
        decoded = _decoded(text) if text[0] in "{[" else None
        if isinstance(decoded, dict | list):
            self.learn(decoded, dotenv=dotenv)
        found = (
            self._shapes.pairs(text)
            if decoded is not None
            else self._shapes.of(text, dotenv=dotenv)
        )
        for secret in found:
            self._keep(secret)

    def _keep(self, secret: Secret) -> None:
        identity = re.sub(r"\\[nrt]|\s", "", secret.value)
        mark = self._identities.get(identity)
        if mark is None:
            number = self._counts[secret.kind] = self._counts.get(secret.kind, 0) + 1
            mark = self._identities[identity] = f"[redacted:{secret.kind}:{number}]"
        self._take(secret.whole or secret.value, secret.value, mark)

    def _take(self, gone: str, value: str, mark: str) -> None:
        for shape in (_same, _escaped):
            whole = shape(gone)
            if whole not in self._marks:
                before, _, after = whole.rpartition(shape(value))
                self._marks[whole] = f"{before}{mark}{after}"
                self._pattern = None

    def _is_of_dotenv(self, item: Item) -> bool:
        """Whether this is a call on a `.env` file, or the output of one that came before."""
        if is_call(item):
            asked = f"{item.get('arguments', '')}{item.get('input', '')}{item.get('action', '')}"
            if names_dotenv(asked):
                self._dotenv.add(call_id(item))
                return True
            self._dotenv.discard(call_id(item))
            return False
        return kind(item) in OUTPUTS and call_id(item) in self._dotenv


def _same(text: str) -> str:
    return text


def _escaped(text: str) -> str:
    """The text as it stands inside a JSON string."""
    try:
        return msgspec.json.encode(text).decode()[1:-1]
    except UnicodeEncodeError:  # a lone surrogate
        return text


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None

"""What every request holds beside its input: instructions and tools, as blobs (P6).

A session keeps those that it began with; what the user changes on purpose makes new ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from backstay.core.history import History
from backstay.core.record import NO_BASIS, Basis, scrub
from backstay.journal import Blobs, MissingBlob
from backstay.runtime.instructions import INSTRUCTIONS
from backstay.runtime.settings import Settings
from backstay.tools.tool import Tool


class Bases:
    """The bases of one session: stored, chosen, read back."""

    def __init__(
        self,
        settings: Settings,
        blobs: Blobs,
        tools: Mapping[str, Tool],
        given: Sequence[Tool],
        notice: Callable[[str], None],
    ) -> None:
        """`given`: the user's own among the `tools`. `notice` takes a warning, one line."""
        self._settings = settings
        self._blobs = blobs
        self._tools = tools
        self._given = given
        self._notice = notice
        self._loaded: dict[Basis, tuple[str, bytes]] = {}

    def today(self) -> Basis:
        """Instructions and tools as they are now, stored. Raises `StorageError`."""
        dialect = self._settings.provider.dialect
        own = [tool.spec(dialect) for tool in self._tools.values()]
        listed = msgspec.json.encode([*own, *self._hosted()])
        instructions = scrub(self._settings.instructions or INSTRUCTIONS)
        basis = Basis(self._blobs.put(instructions.encode()), self._blobs.put(listed))
        self._loaded[basis] = (instructions, listed)
        return basis

    def kept(self, history: History) -> Basis:
        """What the session began with, unless the user changed provider or tools (P6)."""
        kept = history.basis
        if kept is None or kept == NO_BASIS:
            return self.today()
        if history.provider not in ("", self._settings.provider.name):
            return self.today()
        return kept if self._offers(self.texts(kept)[1]) else self.today()

    def texts(self, basis: Basis) -> tuple[str, bytes]:
        """The instructions, and the JSON array of the tools; those of today if they are lost."""
        if basis == NO_BASIS:
            basis = self.today()
        if basis not in self._loaded:
            try:
                loaded = (
                    self._blobs.get(basis.instructions).decode(),
                    self._blobs.get(basis.tools),
                )
            except MissingBlob as error:
                self._notice(f"{error}; going on with the instructions and tools of today")
                loaded = self._loaded[self.today()]
            self._loaded[basis] = loaded
        return self._loaded[basis]

    def _offers(self, listed: bytes) -> bool:
        """Whether a list has the user's and the provider's tools of now, and none that is gone.

        Our own tools stay as they were, whatever a new version of Backstay says of them.
        """
        tools = msgspec.json.decode(listed)
        if [tool for tool in tools if "name" not in tool] != self._hosted():
            return False
        found = {tool["name"]: tool for tool in tools if "name" in tool}
        dialect = self._settings.provider.dialect
        given = [msgspec.to_builtins(tool.spec(dialect)) for tool in self._given]
        return found.keys() <= self._tools.keys() and all(
            found.get(spec.get("name")) == spec for spec in given
        )

    def _hosted(self) -> list[dict[str, Any]]:
        """The tools that the provider runs itself: a search of the web, where that is asked for."""
        settings = self._settings
        if settings.web_search == "disabled" or not settings.provider.dialect.web_search:
            return []
        cached = {"external_web_access": False} if settings.web_search == "cached" else {}
        return [{"type": "web_search", **cached}]

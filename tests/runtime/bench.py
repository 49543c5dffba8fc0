"""A session on a bench: the real runtime, real commands and files, a scripted provider."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from backstay.chaos import ChaosServer, judge
from backstay.core.dialect import Dialect
from backstay.core.record import AnyRecord, Output
from backstay.journal import PosixDisk, journal_path, read
from backstay.model.provider import Provider, Secret
from backstay.runtime.session import Session
from backstay.runtime.settings import Settings
from backstay.runtime.watch import WatchEvent
from backstay.tools.tool import Tool

JSON = dict[str, Any]


class Bench:
    """A home, a folder and a provider that plays a script."""

    def __init__(
        self, tmp_path: Path, home: Path, script: list[JSON] | Callable[[JSON], JSON]
    ) -> None:
        self.cwd = tmp_path / "work"
        self.cwd.mkdir(exist_ok=True)
        self.home = home
        self.server = ChaosServer(script, strict=True)
        self.silence = 10_000
        self.provider = "test"
        self.dialect = Dialect()
        self.events: list[WatchEvent] = []
        self.folder = ""
        self.id = ""

    def settings(self, **changes: Any) -> Settings:
        """Settings that point at the scripted provider."""
        provider = Provider(
            name=self.provider,
            base_url=self.server.url,
            key=Secret("sk-test"),
            stream_idle_timeout_ms=self.silence,
            dialect=self.dialect,
        )
        fields: JSON = {"home": str(self.home), "cwd": str(self.cwd), "model": "m"}
        return Settings(**(fields | {"provider": provider} | changes))

    def run(
        self,
        work: Callable[[Session], Awaitable[Any]],
        *,
        tools: Sequence[Tool] = (),
        name: str = "",
        **changes: Any,
    ) -> Any:
        """Open (or with `name` reopen) a session, do the work, close it."""

        async def main() -> Any:
            settings = self.settings(**changes)
            if name:
                session = await Session.open(settings, name, self.events.append, tools)
            else:
                session = await Session.create(settings, self.events.append, tools)
            self.folder, self.id = session.folder, session.id
            try:
                return await work(session)
            finally:
                await session.close()

        with self.server:
            return asyncio.run(main())

    def records(self) -> Sequence[AnyRecord]:
        """What the journal holds."""
        return read(PosixDisk(), journal_path(self.folder), everything=True).records

    def outputs(self) -> list[Output]:
        """The output records, in order."""
        return [one for one in self.records() if isinstance(one, Output)]

    def inputs(self) -> list[list[JSON]]:
        """The input of every request, in order."""
        return [body["input"] for body in self.server.bodies]

    def check(self) -> None:
        """The provider's judgement: paired, no output lost, each request extends the last."""
        verdict = judge(self.server.requests)
        assert verdict.ok, verdict.table()

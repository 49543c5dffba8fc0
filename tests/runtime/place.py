"""A home and a project with their `config.toml`, and the settings that come of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backstay.runtime.config import Loaded, load
from backstay.runtime.settings import Settings, settings


class Place:
    """A home and a project, and what is read from them."""

    def __init__(self, root: Path) -> None:
        self.home, self.project = root / "home", root / "project"
        self.home.mkdir()
        (self.project / ".backstay").mkdir(parents=True)

    def user(self, text: str) -> None:
        """The home's config.toml."""
        (self.home / "config.toml").write_text(text)

    def of_project(self, text: str) -> None:
        """The project's config.toml."""
        (self.project / ".backstay" / "config.toml").write_text(text)

    def load(self, *overrides: str, **how: Any) -> Loaded:
        """The configuration, as a command in the project gets it."""
        return load(str(self.home), str(self.project), overrides, **how)

    def settings(
        self, *overrides: str, env: Mapping[str, str] | None = None, **how: Any
    ) -> Settings:
        """The settings, with a model and a key unless told otherwise."""
        environ = {"OPENAI_API_KEY": "sk-openai"} if env is None else env
        how = {"model": "m"} | how
        loaded = self.load(*overrides)
        return settings(loaded, environ, home=str(self.home), cwd=str(self.project), **how)

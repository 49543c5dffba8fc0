"""Providers without a block: where they are, their keys, their dialects, and what overrides them."""

import socket
from pathlib import Path

import pytest

from backstay.core.dialect import Dialect
from backstay.errors import UsageError
from backstay.runtime.local import listens, local_provider
from backstay.runtime.presets import ADDRESSES, LOCAL, PRESETS
from tests.runtime.place import Place

AZURE = 'model_providers.azure.base_url="https://r.openai.azure.com/openai/v1"'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty home and a project."""
    return Place(tmp_path)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_provider_that_is_built_in_needs_its_name_and_its_key(place: Place, name: str) -> None:
    """And Azure the address of a resource; nothing is warned about."""
    given = [f"model_provider={name}", *([AZURE] if name == "azure" else [])]
    variable = PRESETS[name].get("env_key", "OPENAI_API_KEY" if name == "openai" else "")
    made = place.settings(*given, env={variable: "sk-it"} if variable else {})
    assert made.provider.name == name
    assert made.provider.base_url.startswith(("https://", "http://127.0.0.1:"))
    assert made.provider.key.reveal() == ("sk-it" if variable else "")
    assert place.load(*given).warnings == []
    if variable and name != "openai":
        assert variable in made.hidden
        with pytest.raises(UsageError, match=f"set {variable}"):
            place.settings(*given, env={})


def test_azure_says_what_its_address_looks_like(place: Place) -> None:
    """The one thing that nobody can know for the user."""
    with pytest.raises(UsageError, match=r"needs a base_url: https://RESOURCE") as caught:
        place.settings("model_provider=azure", env={"AZURE_OPENAI_API_KEY": "k"})
    assert ADDRESSES["azure"] in str(caught.value)


def test_a_block_of_the_same_name_overrides_single_keys(place: Place) -> None:
    """Of the provider and of its dialect; the others stay."""
    place.user(
        'model_provider = "ollama"\n[model_providers.ollama]\nbase_url = "http://10.0.0.2:11434/v1"\n'
        "[model_providers.ollama.dialect]\ncustom_tools = true\n"
    )
    made = place.settings(env={}).provider
    assert made.base_url == "http://10.0.0.2:11434/v1"
    assert made.dialect.custom_tools
    assert not made.dialect.encrypted_reasoning


def test_openai_has_the_defaults_and_the_endpoint_that_compacts(place: Place) -> None:
    """Every other default of the dialect is that of api.openai.com."""
    assert place.settings().provider.dialect == Dialect(compact_endpoint=True)
    other = place.settings("model_provider=x", "model_providers.x.base_url='http://h/v1'")
    assert other.provider.dialect == Dialect()


@pytest.mark.parametrize("name", sorted(LOCAL))
def test_local_servers_get_functions_and_plain_roles(place: Place, name: str) -> None:
    """What llama.cpp drops silently or refuses is not sent to it, nor to its like."""
    dialect = place.settings(f"model_provider={name}", env={}).provider.dialect
    assert not dialect.custom_tools
    assert not dialect.encrypted_reasoning
    assert not dialect.unknown_items
    assert not dialect.web_search


def test_a_key_of_a_provider_that_is_not_used_stays_visible(place: Place) -> None:
    """Only blocks and the chosen provider hide their variables from commands."""
    assert "OPENROUTER_API_KEY" not in place.settings().hidden
    env = {"OPENROUTER_API_KEY": "k"}
    assert "OPENROUTER_API_KEY" in place.settings("model_provider=openrouter", env=env).hidden


def test_an_unknown_provider_names_those_that_are_built_in(place: Place) -> None:
    """And how a block for it is called."""
    with pytest.raises(UsageError, match=r"no \[model_providers.olama\].*azure, .*ollama"):
        place.settings("model_provider=olama")


def test_oss_means_the_named_the_configured_or_one_that_is_running() -> None:
    """In this order; without any, one line says what to do."""
    assert local_provider("lmstudio", "ollama", lambda _: False) == "lmstudio"
    assert local_provider("", "vllm", lambda _: False) == "vllm"
    assert local_provider("", "", lambda url: ":1234/" in url) == "lmstudio"
    with pytest.raises(UsageError, match="--local-provider openai: it takes one of llamacpp"):
        local_provider("openai", "")
    with pytest.raises(UsageError, match="oss_provider gpt: it takes one of"):
        local_provider("", "gpt")
    with pytest.raises(UsageError, match="neither of ollama, lmstudio is running"):
        local_provider("", "", lambda _: False)


def test_a_port_is_listened_to_or_not() -> None:
    """A connection is all that is asked for."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listens(f"http://127.0.0.1:{port}/v1")
    assert not listens(f"http://127.0.0.1:{port}/v1")

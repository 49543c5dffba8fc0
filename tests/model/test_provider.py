"""Providers: the bytes of a request, its headers, and what nobody gets to see."""

import copy
import pickle
import subprocess
import sys
import traceback
from typing import Any

import msgspec
import pytest

from backstay import __version__
from backstay.core.commands import Request
from backstay.core.dialect import Dialect
from backstay.core.items import Item, message
from backstay.core.record import Basis
from backstay.errors import UsageError
from backstay.model.provider import Provider, Secret, body, http_request

KEY = "sk-very-secret-key"
TOOLS = b'[{"type":"function" , "name":"f"}]'


def _provider(**fields: Any) -> Provider:
    return Provider(**{"name": "p", "base_url": "http://127.0.0.1:1/v1", **fields})


def _request(*items: Item, effort: str = "") -> Request:
    return Request(input=list(items), basis=Basis("i", "t"), model="m", effort=effort, session="s1")


def test_the_body_is_what_the_api_takes() -> None:
    """All fields in a fixed order, tools byte for byte as they are stored."""
    found = body(_request(message("user", "hi"), effort="high"), "Be brief.", TOOLS, _provider())
    assert found == (
        b'{"model":"m","instructions":"Be brief.","input":[{"type":"message","role":"user",'
        b'"content":[{"type":"input_text","text":"hi"}]}],"tools":'
        + TOOLS
        + b',"tool_choice":"auto",'
        b'"parallel_tool_calls":true,"reasoning":{"effort":"high","summary":"auto"},"store":false,'
        b'"stream":true,"include":["reasoning.encrypted_content"],"prompt_cache_key":"s1"}'
    )


def test_the_body_of_a_longer_history_extends_the_shorter_one() -> None:
    """Up to the end of the input every byte is the same: prompt caches keep hitting (P6)."""
    first = body(_request(message("user", "hi")), "i", TOOLS, _provider())
    longer = body(
        _request(message("user", "hi"), message("assistant", "ho")), "i", TOOLS, _provider()
    )
    end = first.index(b'],"tools":')
    assert longer[:end] == first[:end]
    assert longer[longer.index(b'],"tools":') :] == first[end:]


@pytest.mark.parametrize(
    "fields, dialect, effort, expected",
    [
        ({}, {}, "", {"store": False, "include": ["reasoning.encrypted_content"]}),
        ({"reasoning": True}, {}, "", {"reasoning": {"summary": "auto"}}),
        ({}, {}, "low", {"reasoning": {"effort": "low", "summary": "auto"}}),
        ({}, {"encrypted_reasoning": False}, "", {"include": None, "reasoning": None}),
        ({}, {"store": True}, "", {"store": True}),
    ],
)
def test_the_body_follows_the_dialect(
    fields: dict[str, Any], dialect: dict[str, bool], effort: str, expected: dict[str, Any]
) -> None:
    """What a provider doesn't understand is not sent (None: not there)."""
    provider = _provider(dialect=Dialect(**dialect), **fields)
    found = msgspec.json.decode(body(_request(effort=effort), "i", TOOLS, provider))
    assert {key: found.get(key) for key in expected} == expected


def test_a_provider_without_the_developer_role_gets_system_messages() -> None:
    """The role is replaced on the way out; the item itself stays as it is."""
    item = message("developer", "hi")
    found = body(_request(item), "i", b"", _provider(dialect=Dialect(developer_role=False)))
    assert msgspec.json.decode(found)["input"][0]["role"] == "system"
    assert item["role"] == "developer"


def test_without_tools_nothing_is_said_about_tools() -> None:
    """`parallel_tool_calls` without tools is refused by some."""
    found = msgspec.json.decode(body(_request(), "i", b"[]", _provider()))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(found)


def test_an_output_schema_goes_out_as_text_format() -> None:
    """`text` is passed on."""
    text = {"format": {"type": "json_schema", "name": "o", "schema": {}}}
    assert msgspec.json.decode(body(_request(), "i", b"", _provider(), text=text))["text"] == text


def test_a_lone_surrogate_does_not_stop_a_request() -> None:
    """It goes out as U+FFFD, since UTF-8 can't carry it; the tools stay as they are."""
    found = body(_request(message("user", "a\ud800b")), "i", TOOLS, _provider())
    assert msgspec.json.decode(found)["input"][0]["content"][0]["text"] == "a�b"
    assert TOOLS in found


def test_the_request_has_url_headers_and_deadlines() -> None:
    """Bearer key, content types, our name and version; deadlines in seconds."""
    provider = _provider(
        base_url="https://api.test/v1/",
        key=Secret(f" {KEY}\n"),
        stream_idle_timeout_ms=1500,
        connect_timeout_ms=500,
    )
    found = http_request(provider, b"{}", {})
    assert (found.method, found.url, found.body) == ("POST", "https://api.test/v1/responses", b"{}")
    assert found.headers == {
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "User-Agent": f"backstay/{__version__}",
        "Authorization": f"Bearer {KEY}",
    }
    assert (found.deadlines.connect, found.deadlines.silence) == (0.5, 1.5)
    assert found.deadlines.first_byte == 1.5


def test_without_a_key_there_is_no_authorization() -> None:
    """Local servers need none."""
    assert "Authorization" not in http_request(_provider(), b"", {}).headers


def test_query_parameters_are_added_to_the_url() -> None:
    """Encoded, behind what the base URL has already."""
    provider = _provider(base_url="https://x.test/o?a=1", query_params={"api-version": "2 & 3"})
    assert (
        http_request(provider, b"", {}).url == "https://x.test/o/responses?a=1&api-version=2+%26+3"
    )


def test_configured_headers_replace_ours_and_come_from_the_environment() -> None:
    """Names are compared without case; a variable that is not set leaves its header out."""
    provider = _provider(
        key=Secret(KEY),
        http_headers={"user-agent": "mine", "X-A": "1"},
        env_http_headers={"authorization": "TOKEN", "X-B": "UNSET", "X-C": "EMPTY"},
    )
    found = http_request(provider, b"", {"TOKEN": "Basic abc\n", "EMPTY": " "}).headers
    assert found == {
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "user-agent": "mine",
        "X-A": "1",
        "authorization": "Basic abc",
    }


@pytest.mark.parametrize("url", ["", "api.test/v1", "ftp://x", "https://", "file:///etc/passwd"])
def test_a_base_url_that_is_none_is_a_usage_error(url: str) -> None:
    """It names the provider and shows the URL."""
    with pytest.raises(UsageError, match="provider p: base_url must be an http or https URL"):
        _provider(base_url=url)


def test_a_secret_is_in_no_text() -> None:
    """Not in repr, str, format, a traceback, a copy or an encoding of anything that holds it."""
    provider = _provider(
        base_url=f"https://user:{KEY}@x.test",
        key=Secret(KEY),
        query_params={"key": KEY},
        http_headers={"X": KEY},
    )
    asked = http_request(provider, KEY.encode(), {})
    texts = [f"{one!r} {one!s} {one}" for one in (provider, provider.key, asked)]
    with pytest.raises(TypeError) as caught:
        msgspec.json.encode(provider.key)
    texts += traceback.format_exception(caught.value)
    with pytest.raises(UsageError) as wrong:
        _provider(base_url=f"ftp://user:{KEY}@x.test/?{KEY}")
    texts += traceback.format_exception(wrong.value)
    assert not [text for text in texts if KEY in text]
    for leak in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="secret"):
            leak(provider.key)


def test_importing_the_package_loads_no_http_library() -> None:
    """Nor anything else that costs start-up time; the transport's module loads it."""
    code = (
        "import sys, backstay.model, backstay.model.provider, backstay.model.responses, "
        "backstay.model.scripted; "
        "print(*sorted({'pyreqwest', 'ssl', 'email', 'pathlib', 'dataclasses', 'inspect'} "
        "& set(sys.modules) - base)"
    )
    code = "import sys, asyncio, msgspec; base = set(sys.modules); " + code + ")"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

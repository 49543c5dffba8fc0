"""HTTP errors, read: every recorded body gives a code or a reason on one line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.model.refusal import LONGEST, refusal


def _read(body: object, status: int = 400, **headers: str) -> tuple[str, str]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = refusal(status, headers, raw, 0.0)
    assert (found.kind, found.status) == ("refused", status)
    return found.code, found.reason


@pytest.mark.parametrize(
    "body, code, reason",
    [
        (
            {"error": {"message": "No.", "type": "t", "code": "c", "param": None}},
            "c",
            "No.",
        ),
        ({"error": {"message": "No.", "type": "t", "code": None}}, "t", "No."),
        ({"error": {"message": "No.", "type": "t", "param": "input[1].x"}}, "t", "No. (param: input[1].x)"),
        ({"error": {"message": "At input[1].x.", "param": "input[1].x"}}, "", "At input[1].x."),
        ({"code": "invalid-argument", "error": "Bad key."}, "invalid-argument", "Bad key."),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}, "overloaded_error", "Busy"),
        ({"detail": "Sign in again."}, "", "Sign in again."),
        ({"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]}, "missing", "field required"),
        ({"errors": [{"code": 7003, "message": "No route"}]}, "", "No route"),
        ([{"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}], "", "Overloaded"),
        ({"message": "No."}, "", "No."),
        ("just text", "", "just text"),
        (
            {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}},
            "context_length_exceeded",
            "too long",
        ),
        (b"upstream connect error\r\n or disconnect", "", "upstream connect error or disconnect"),
        (b"<html>\n<head><title>502 Bad &amp; Gateway</title></head><body>x", "", "502 Bad & Gateway"),
        (b"<!DOCTYPE html><body><h1>No</h1> <p>way", "", "No way"),
        (b"\xff\xfe", "", "��"),
        (b"", "", "Bad Request"),
        ({}, "", "Bad Request"),
        (None, "", "Bad Request"),
    ],
)  # fmt: skip
def test_each_shape_gives_code_and_reason(body: object, code: str, reason: str) -> None:
    """OpenAI's, xAI's, ChatGPT's, FastAPI's, llama.cpp's, a gateway's text and HTML, nothing."""
    assert _read(body) == (code, reason)


@pytest.mark.parametrize(
    "headers, seconds",
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"Retry-After-Ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:40 GMT"}, 60.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "Thu, 99 Foo 99999 99:99:99 GMT"}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    """Milliseconds, seconds, a date (it is 40 s past the epoch); nonsense is no answer."""
    assert refusal(429, headers, b"", 40.0).retry_after == seconds


@given(st.binary(max_size=2000) | st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["error", "errors", "message", "code", "type", "detail", "param"]), inner
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_body_gives_a_line(body: bytes) -> None:
    """No body raises, and a reason is never empty, long, or more than a line."""
    found = refusal(599, {}, body, 0.0)
    assert found.reason
    assert len(found.reason) <= LONGEST
    assert found.reason.isprintable()


def test_a_deeply_nested_body_is_read_as_text() -> None:
    """Nesting beyond the decoder's depth is not an error of ours."""
    assert _read(b"[" * 100_000)[1].startswith("[[[")


@pytest.mark.data
def test_every_recorded_refusal_is_understood(data_dir: Path) -> None:
    """All recorded error bodies give the message that stands in them."""
    count = 0
    for path in sorted((data_dir / "sse").glob("*/http_errors/*.json")):
        recorded = json.loads(path.read_text())
        body = recorded["response_body"]
        if not isinstance(body, dict):
            continue
        inner = body["error"] if isinstance(body.get("error"), dict) else body
        said = inner.get("message") or inner.get("error") or inner.get("detail")
        code, reason = _read(body, recorded["status"])
        assert reason.startswith(" ".join(str(said).split())[:200]), path.name
        assert (inner.get("param") or "") in reason, path.name
        assert code == (inner.get("code") or inner.get("type") or ""), path.name
        count += 1
    assert count >= 20


@pytest.mark.data
def test_every_recorded_refusal_of_a_local_server_is_understood(data_dir: Path) -> None:
    """The error bodies of llama.cpp, whose codes are numbers, give type and message."""
    count = 0
    for path in sorted((data_dir / "sse" / "llama.cpp").glob("*.sse")):
        body = path.read_bytes()
        if body.startswith(b'{"error"'):
            error = json.loads(body)["error"]
            code, reason = _read(body, error["code"])
            assert code in (error["type"], "context_length_exceeded")
            assert reason[:200] == " ".join(error["message"].split())[:200]
            count += 1
    assert count >= 5

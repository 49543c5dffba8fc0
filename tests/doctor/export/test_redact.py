"""What counts as a secret, what doesn't, and that one mark stands for one secret."""

import json
import re
from pathlib import Path

import pytest

from backstay.doctor.export.redact import Redactor
from tests.conftest import REPOSITORY
from tests.doctor.export.planted import ORDINARY, PEM, SECRETS, text_of

MARK = re.compile(r"\[redacted:[a-z0-9-]+:\d+\]")


def redacted(*texts: object, **environ: str) -> list[object]:
    """The values with marks, after all were learnt."""
    redactor = Redactor(environ)
    for text in texts:
        redactor.learn(text)
    return [redactor.value(text) for text in texts]


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_replaced_by_a_mark_of_its_kind(kind: str) -> None:
    """In its usual surroundings, which stay, and inside a JSON string."""
    secret = SECRETS[kind][1]
    (plain,) = redacted(text_of(kind))
    (inside,) = redacted(json.dumps({"cmd": text_of(kind)}))
    assert f"[redacted:{kind}:1]" in str(plain)
    for line in secret.split("\n"):
        assert line not in str(plain)
        assert line not in str(inside)
    assert MARK.sub(secret.replace("\\", ""), str(plain)) == text_of(kind)
    assert MARK.search(json.loads(str(inside))["cmd"])


def test_ordinary_text_stays_as_it_is() -> None:
    """Hashes, ids, code about tokens, placeholders and variables are no secrets."""
    assert redacted(ORDINARY) == [ORDINARY]


def test_one_secret_has_one_mark_wherever_it_stands() -> None:
    """Also where nothing around it tells what it is, before and after; others have others."""
    before, told, other = redacted(
        "it said zx81zx81zx81q", "DEPLOY_TOKEN=zx81zx81zx81q", "DEPLOY_TOKEN=yx81zx81zx81q"
    )
    assert before == "it said [redacted:deploy-token:1]"
    assert told == "DEPLOY_TOKEN=[redacted:deploy-token:1]"
    assert other == "DEPLOY_TOKEN=[redacted:deploy-token:2]"


def test_a_short_password_goes_where_it_is_one() -> None:
    """And does not take ordinary words with it."""
    told, word = redacted("DB_PASSWORD=dragon\n", "a dragon in the cave")
    assert (told, word) == ("DB_PASSWORD=[redacted:db-password:1]\n", "a dragon in the cave")


def test_keys_of_the_environment_are_known_whatever_they_look_like() -> None:
    """Those whose name says so; other variables are left alone."""
    made = redacted(
        "plainvalue then /usr/local/lib", MY_API_KEY="plainvalue", LIBRARY="/usr/local/lib"
    )
    assert made == ["[redacted:my-api-key:1] then /usr/local/lib"]


def test_a_private_key_is_one_secret_raw_and_escaped_and_cut() -> None:
    """The same mark for both forms; a key without its end is gone too."""
    cut = PEM[: PEM.index("QyNT") + 10]
    raw, escaped, torn = redacted(f"a {PEM} b", json.dumps(f"a {PEM} b"), f"x {cut}")
    assert raw == "a [redacted:private-key:1] b"
    assert escaped == '"a [redacted:private-key:1] b"'
    assert torn == "x [redacted:private-key:2]"


def test_values_of_a_dotenv_file_are_secrets_whatever_they_are_called() -> None:
    """In what a command on such a file printed; not in what `.env.example` holds."""

    def call(cmd: str) -> dict[str, str]:
        arguments = json.dumps({"cmd": cmd})
        return {"type": "function_call", "call_id": "c1", "name": "x", "arguments": arguments}

    output = {"type": "function_call_output", "call_id": "c1", "output": "REGION=eu-1\n# b\nB=\n"}
    assert redacted(call("cat ./.env.production"), output)[1] == output | {
        "output": "REGION=[redacted:region:1]\n# b\nB=\n"
    }
    assert redacted(call("cat .env.example"), output)[1] == output
    assert redacted(call("cat main.environment"), output)[1] == output


def test_images_and_what_only_the_provider_reads_stay() -> None:
    """A data URL and encrypted reasoning keep every byte, whatever they look like inside."""
    key = SECRETS["aws-key"][1]
    item = {"type": "reasoning", "encrypted_content": key, "summary": []}
    url = f"data:image/png;base64,iVBOR{key}AAAA"
    assert redacted(item, url) == [item, url]


def test_odd_texts_do_no_harm() -> None:
    """Lone surrogates, deep nesting in a string, NULs, and long lines without any end."""
    odd = [
        "\ud800 DB_PASSWORD=abc\ud800def1 ",
        "[" * 5000,
        "\0" * 100,
        "a" * 300_000,
        "-----BEGIN " * 9999,
    ]
    made = redacted(*odd)
    assert made[1:] == odd[1:]
    assert "abc" not in str(made[0])


def test_real_text_is_hardly_touched(data_dir: Path) -> None:
    """This project's own sources and pages, and recorded sessions: under one mark in 100,000 bytes."""
    files = [
        *REPOSITORY.glob("src/**/*.py"),
        *REPOSITORY.glob("docs/**/*.md"),
        *sorted((data_dir / "rollouts").rglob("*.jsonl"))[:40],
    ]
    redactor, size = Redactor({}), 0
    for file in files:
        text = file.read_text(errors="replace")[:400_000]
        redactor.learn(text)
        size += len(text)
    assert size > 1_000_000
    assert redactor.secrets < size / 100_000, sorted(redactor._marks)[:20]  # noqa: SLF001


@pytest.mark.parametrize(
    "text", ["sk-", "eyJ-", "A_", "token=", "PASS", "-----BEGIN PRIVATE KEY-----"]
)
def test_no_text_holds_the_search_up(text: str) -> None:
    """Beginnings of secrets, over and over: an expression that runs away would meet the time limit."""
    assert redacted(text * 50_000) is not None

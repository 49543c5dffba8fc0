"""Sessions as Markdown, HTML and lines: what is in them, and that no content breaks out."""

import base64
import io
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backstay.core.items import message
from backstay.core.record import Known
from backstay.core.usage import Usage
from backstay.doctor.export import markdown, page, stream
from backstay.doctor.export.redact import Redactor
from backstay.doctor.export.source import Source, source
from backstay.journal import PosixDisk
from backstay.journal.label import Label
from tests.doctor.export.planted import SECRETS, everything, printing, records, session
from tests.journal.homes import command, done, head, put, turn
from tests.journal.sample import lines

FORMATS = {"md": markdown, "html": page, "jsonl": stream}
HOSTILE = (
    "</pre></details><script>alert(1)</script><img src=x onerror=alert(1)>\n"
    '````\n~~~~~~\n</summary>" onmouseover="alert(1)\' <!-- ]]> &lt;b&gt; \x1b[2J \u202e \0\n'
)


def read(home: Path, made: Sequence[Known], redactor: Redactor | None = None) -> Source:
    """A session of these records, read for export."""
    return source(PosixDisk(), str(put(home, made)), redactor, {})


class Tags(HTMLParser):
    """What a browser would see: tags, and attributes by name."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def parsed(text: str) -> Tags:
    """The page as a browser reads it."""
    tags = Tags()
    tags.feed(text)
    return tags


ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "small", "dl", "dt", "dd", "section",
    "div", "p", "pre", "details", "summary", "header", "b", "span", "ul", "li", "img",
}  # fmt: skip


@pytest.mark.parametrize("text", [HOSTILE, everything()], ids=["hostile", "secrets"])
def test_no_content_becomes_markup(home: Path, text: str) -> None:
    """Wherever it stands: only our own tags, no handler, no address but data of images."""
    html = "".join(page.made(read(home, records(text, data_url="javascript:alert(1)"))))
    tags = parsed(html)
    assert tags.tags <= ALLOWED
    assert tags.attributes <= {
        "lang", "charset", "http-equiv", "content", "name", "class", "id", "style", "alt", "src",
    }  # fmt: skip
    assert tags.sources == []
    assert "\x1b" not in html
    assert "\0" not in html


@given(st.text(alphabet=st.characters(blacklist_categories=()), max_size=80))
def test_no_text_at_all_becomes_markup(text: str) -> None:
    """Any text, in a message and in an output."""
    made = Source(
        id="x", cwd=text, label=Label(title=text), damage=[text], order={2: 1}, usage=Usage(), cost=None,
        prices={}, holder=None, redacted=False, records=list(records(text)),
    )  # fmt: skip
    html = "".join(page.made(made)).encode("utf-8", "replace").decode()
    assert parsed(html).tags <= ALLOWED
    for one in "".join(stream.made(made)).encode("utf-8", "replace").decode().split("\n")[:-1]:
        json.loads(one)


def test_a_page_asks_nobody_for_anything(home: Path) -> None:
    """A policy forbids it; a remote image is named and not loaded; a real one stands in the page."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (9, 9, 9)).save(buffer, "PNG")
    real = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    prompt = message("user", "look")
    for url in (
        real,
        "https://example.org/x.png",
        "data:image/png;base64,AAAA",
        "data:text/html;base64,PGI+",
    ):
        prompt["content"].append({"type": "input_image", "image_url": url})
    made = turn(2, "look")
    made[0].items[0] = prompt  # type: ignore[union-attr]
    html = "".join(page.made(read(home, [head(), *made])))
    assert "default-src 'none'" in html
    (shown,) = parsed(html).sources
    assert shown.startswith("data:image/png;base64,")
    assert "an image at https://example.org/x.png, which this page does not load" in html
    assert html.count("an image that can&#x27;t be decoded") == 2


def test_fences_are_longer_than_what_they_hold(home: Path) -> None:
    """An output of backquotes, and a prompt that opens a fence, end where they end."""
    made = [head(), *turn(2, "see\n```\nopen", "fine\n~~~\nopen", "x")]
    made[3] = command(4, 3, "echo '`````'")
    text = "".join(markdown.made(read(home, printing(made, "```\n`````` six\n</details>"))))
    assert "\n```````text\n```\n`````` six\n</details>\n```````\n" in text
    assert "> see\n> ```\n> open" in text
    assert "\n``````sh\necho '`````'\n``````\n" in text


def test_what_became_of_each_call_is_said(home: Path) -> None:
    """Where it is more than done; a call without an output and an output without a call too."""
    made = [head(), *turn(2, "go")]
    made[5] = done(6, 4, status="unknown", show={"exit_code": 3})
    made += [command(10, 3, "later"), done(11, 999)]
    text = "".join(markdown.made(read(home, made)))
    assert "*outcome unknown: it may have taken effect; exit 3*" in text
    assert "*no output is recorded*" in text
    assert "the output of call 999, whose own record is missing" in text


def test_long_outputs_are_cut_with_a_count(home: Path) -> None:
    """In pages; lines for programs hold all of it."""
    found = read(home, printing([head(), *turn(2, "go")], "x" * 50_000))
    for one in ("md", "html"):
        text = "".join(FORMATS[one].made(found))
        assert "34,000 characters left out" in text
        assert "x" * 30_000 not in text
    assert "x" * 50_000 in "".join(stream.made(found))


def test_the_lines_have_the_words_of_the_page(home: Path) -> None:
    """`docs/export.md` names each type that any record becomes, and each is tried here."""
    from tests.conftest import REPOSITORY

    made = [json.loads(one) for one in stream.made(read(home, records("hi")))]
    types = {one["type"] for one in made}
    assert {"session", "turn", "message", "reasoning", "call", "output", "turn_end"} <= types
    table = (REPOSITORY / "docs" / "export.md").read_text()
    assert [one for one in types if f"| `{one}`" not in table] == []
    assert {one["turn"] for one in made if one["type"] in ("call", "output")} == {1}
    assert next(one["status"] for one in made if one["type"] == "output") == "done"


@pytest.mark.parametrize("name", FORMATS)
def test_no_planted_secret_is_left_anywhere(home: Path, name: str) -> None:
    """In prompts, arguments, outputs, patches, reasoning, reasons; the counts are told."""
    redactor = Redactor({})
    text = "".join(FORMATS[name].made(read(home, records(everything()), redactor)))
    left = [kind for kind, (_, secret) in SECRETS.items() for line in secret.split("\n")
            if line in text]  # fmt: skip
    assert left == []
    assert redactor.secrets >= len(SECRETS)
    assert redactor.replaced > 10 * len(SECRETS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_session_is_told_with_its_damage(home: Path, name: str) -> None:
    """Lines torn, zeroed and swapped: what is left is there, and what is wrong is said."""
    folder = put(home, [head()])
    whole = lines([head(), *turn(2, "fix the parser")])
    torn = [whole[0], whole[2], whole[1], b"\0" * 64, *whole[4:6], whole[6][:20]]
    (folder / "journal.jsonl").write_bytes(b"".join(torn))
    text = "".join(FORMATS[name].made(source(PosixDisk(), str(folder), None, {})))
    assert "fix the parser" in text
    assert "zeros where records should be" in text


def test_a_blob_that_is_gone_is_said_in_its_place(home: Path) -> None:
    """And the rest of the session is told."""
    lost = {"$blob": "ab" * 32, "bytes": 70_000}
    made = printing([head(), *turn(2, "go", "the end")], lost)
    text = "".join(markdown.made(read(home, made)))
    assert "70000 bytes stood here" in text
    assert "the end" in text


def test_a_home_is_not_written_to(home: Path) -> None:
    """Not one file changes or comes up."""
    folder = session(home, records(everything()))
    before = {path: path.stat().st_mtime_ns for path in sorted(home.rglob("*"))}
    for made in FORMATS.values():
        "".join(made.made(source(PosixDisk(), str(folder), Redactor({}), {})))
    assert {path: path.stat().st_mtime_ns for path in sorted(home.rglob("*"))} == before

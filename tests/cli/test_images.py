"""Images, plans and searches on the command line: what is sent, and what people and programs see."""

from pathlib import Path
from typing import Any

import pytest

from backstay.chaos import call, message, response, web_search
from tests.cli.command import LINE, Command
from tests.cli.test_turn import provider
from tests.tools import pictures

pytestmark = pytest.mark.processes

PLAN = {
    "plan": [
        {"step": "look", "status": "completed"},
        {"step": "fix", "status": "in_progress"},
        {"step": "test", "status": "pending"},
    ]
}


def parts(body: dict[str, Any]) -> list[str]:
    """What stands in the prompt: texts, and the types of images."""
    content = [item for item in body["input"] if item.get("role") == "user"][-1]["content"]
    return [part.get("text") or part["image_url"].partition(";")[0] for part in content]


@pytest.fixture
def files(command: Command) -> Path:
    """The working folder, with three images and a broken one."""
    (command.cwd / "a.png").write_bytes(pictures.image("PNG"))
    (command.cwd / "b.jpg").write_bytes(pictures.noise("JPEG", (30, 20)))
    (command.cwd / "c.gif").write_bytes(pictures.animation())
    (command.cwd / "half.png").write_bytes(pictures.noise("PNG", (64, 64))[:3000])
    return command.cwd


@pytest.mark.parametrize(
    "words",
    [
        ["-i", "a.png,b.jpg,c.gif", "--", "see"],
        ["-i", "a.png", "b.jpg", "c.gif", "--", "see"],
        ["see", "--image", "a.png", "-i", "b.jpg", "--image=c.gif"],
    ],
)
def test_images_stand_in_the_prompt(command: Command, files: Path, words: list[str]) -> None:
    """Behind its text, in order, each with its name; given as `codex exec` takes them."""
    with provider(command, response(message("ok"))) as server:
        done = command.run("exec", "-m", "m", *words)
        sent = server.requests[0].body
    assert (done.code, done.out) == (0, "ok\n")
    assert parts(sent) == [
        "see",
        "\n[Image 1: a.png, 4x3 pixels]",
        "data:image/png",
        "\n[Image 2: b.jpg, 30x20 pixels]",
        "data:image/jpeg",
        "\n[Image 3: c.gif, 4x3 pixels]",
        "data:image/png",
    ]


def test_the_prompt_may_come_on_stdin(command: Command, files: Path) -> None:
    """As Codex's own SDK gives it."""
    with provider(command, response(message("ok"))) as server:
        done = command.run("exec", "-m", "m", "--image", "a.png", "--image", "b.jpg", stdin=b"see")
        assert done.code == 0, done.err
        assert parts(server.requests[0].body)[::2] == ["see", "data:image/png", "data:image/jpeg"]


def test_a_session_takes_images_when_it_is_resumed(command: Command, files: Path) -> None:
    """There `-i` takes one word, as in Codex, and the prompt may follow it."""
    with provider(command, *[response(message("ok"))] * 2) as server:
        session = command.run("exec", "--json", "-m", "m", "one").session
        done = command.run("exec", "resume", session, "-i", "a.png", "two")
        assert done.code == 0, done.err
        assert parts(server.requests[1].body)[0] == "two"


@pytest.mark.parametrize(
    "words,said",
    [
        (["-i", "none.png", "--", "p"], "the image none.png can't be sent: No such file"),
        (["-i", "half.png", "--", "p"], "the image half.png can't be sent: it is broken"),
        (["-i", ".", "--", "p"], "the image . can't be sent: it is not a regular file"),
        (["-i", "a.png", "p"], "behind -i, a prompt needs -- before it"),
        (["-c", "model_provider=vllm", "-i", "a.png", "--", "p"], "vllm takes no images"),
    ],
)
def test_an_image_that_can_not_be_sent_is_a_usage_error(
    command: Command, files: Path, words: list[str], said: str
) -> None:
    """One line, exit 2; nothing is sent and no session is begun."""
    with provider(command, response(message("ok"))) as server:
        done = command.run("exec", "-m", "m", *words)
        assert server.requests == []
    assert done.code == 2
    assert said in done.complaint
    assert not (command.home / "sessions").exists()


def test_images_need_a_prompt(command: Command, files: Path) -> None:
    """A turn that is finished without a message has no place for them."""
    with provider(command, response(message("ok"))):
        session = command.run("exec", "--json", "-m", "m", "one").session
        done = command.run("continue", session, "-i", "a.png")
    assert done.code == 2
    assert "-i needs a prompt" in done.complaint


def test_people_see_plan_image_and_search(command: Command, files: Path) -> None:
    """A checklist, the image's size, what was searched for; a failure in one line."""
    calls = [call("update_plan", PLAN), call("view_image", {"path": "b.jpg"})]
    broken = call("view_image", {"path": "half.png"})
    script = [response(web_search("masts"), *calls), response(broken), response(message("ok"))]
    with provider(command, *script):
        done = command.run("exec", "-m", "m", "--color=never", "go")
    lines = done.err.splitlines()
    at = lines.index("$ update_plan")
    assert "searched the web: masts" in lines
    for line in ("  [x] look", "  [>] fix", "  [ ] test", "$ view_image b.jpg"):
        assert line in lines[at:]
    assert "  b.jpg: 30x20 pixels" in lines
    assert [line for line in lines if line.startswith("  half.png can't be shown: it is broken")]


def test_programs_see_plan_and_search_as_codex_tells_them(command: Command, files: Path) -> None:
    """`todo_list` and `web_search` with Codex's fields; an image is a call of a tool."""
    first = response(web_search("masts"), call("update_plan", PLAN))
    second = response(call("view_image", {"path": "b.jpg"}), call("update_plan", {"plan": "no"}))
    with provider(command, first, second, response(message("ok"))):
        done = command.run("exec", "-m", "m", "--json", "go")
    items = [(event["type"], event["item"]) for event in done.events if "item" in event]
    (search,) = [item for _, item in items if item["type"] == "web_search"]
    assert search["query"] == "masts"
    plans = [(kind, item["items"]) for kind, item in items if item["type"] == "todo_list"]
    steps = [
        {"text": "look", "completed": True},
        {"text": "fix", "completed": False},
        {"text": "test", "completed": False},
    ]
    assert plans == [("item.started", steps), ("item.completed", steps)]
    tools = {item["tool"]: item for kind, item in items if item["type"] == "mcp_tool_call"}
    shown = tools["view_image"]["result"]["content"]
    assert shown == [{"type": "text", "text": "b.jpg: 30x20 pixels"}]
    assert "plan must be a list" in tools["update_plan"]["error"]["message"]
    assert "base64" not in done.out


def test_a_search_that_the_provider_has_not_is_said(command: Command) -> None:
    """One line on stderr, and the turn runs without it; where there is one nothing is said."""
    for dialect, lines in (("{web_search=false}", 1), ("{}", 0)):
        with provider(command, response(message("ok"))) as server:
            block = f'model_providers.x={{base_url="{server.url}", dialect={dialect}}}'
            words = ["-c", block, "-c", "model_provider=x", "-c", "web_search=live"]
            done = command.run("exec", "--json", "-m", "m", *words, "p")
            tools = [tool["type"] for tool in server.requests[0].body["tools"]]
        assert done.code == 0
        said = [line for line in done.err.splitlines() if not line.startswith(LINE)]
        assert said == ["web_search live: the provider x has no web search"] * lines
        assert ("web_search" in tools) == (lines == 0)

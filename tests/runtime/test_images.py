"""Images and plans in whole turns, over resumes, and in sessions that began without such tools."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from backstay import chaos
from backstay.chaos import call, judge, message, response
from backstay.core.dialect import Dialect
from backstay.core.images import LEFT_OUT, SHOWN_BELOW
from backstay.core.record import Attempt, Basis, Call, Known, Output, Prompt, Start
from backstay.core.record import Session as Header
from backstay.errors import UsageError
from backstay.journal import Journal, PosixDisk, journal_path, uuid7
from backstay.runtime import watch
from backstay.runtime.attached import attach
from backstay.runtime.session import Session
from tests.runtime.bench import JSON, Bench
from tests.runtime.test_resumed import reopen, resume
from tests.runtime.test_session import prompt
from tests.tools import pictures

VIEW = call("view_image", {"path": "noise.png"})
PLAN = {"plan": [{"step": "look", "status": "completed"}, {"step": "fix", "status": "pending"}]}


def bench_with_noise(tmp_path: Path, home: Path, *script: JSON) -> Bench:
    """A bench whose folder holds an image of some 120 KB."""
    bench = Bench(tmp_path, home, list(script))
    (bench.cwd / "noise.png").write_bytes(pictures.noise("PNG", (400, 300)))
    return bench


def showing(path: str) -> Any:
    """Work that gives a prompt with an image."""

    async def work(session: Session) -> watch.Finished:
        return await session.prompt("what is it?", images=[attach(path)])

    return work


def image_urls(items: list[JSON]) -> list[str]:
    """The images in an input."""
    parts = [part for item in items for part in item.get("content") or item.get("output") or []]
    return [part["image_url"] for part in parts if isinstance(part, dict) and "image_url" in part]


def test_images_are_sent_again_byte_for_byte_after_a_resume(tmp_path: Path, home: Path) -> None:
    """From the prompt and from the tool; the journal holds digests, and each image is kept once."""
    bench = bench_with_noise(tmp_path, home, response(VIEW), response(message("noise")))
    bench.run(showing(str(bench.cwd / "noise.png")))
    before = bench.server.requests[-1].body["input"]
    urls = image_urls(before)
    assert len(urls) == 2
    assert urls[0] == urls[1]
    assert len(urls[0]) > 100_000
    content = before[-3]["content"]
    assert [part["type"] for part in content] == ["input_text", "input_text", "input_image"]
    assert content[0]["text"] == "what is it?"
    assert "noise.png, 400x300 pixels" in content[1]["text"]
    journal = Path(journal_path(bench.folder))
    assert journal.stat().st_size < 20_000
    assert b"data:image" not in journal.read_bytes()
    large = [one for one in (home / "blobs").iterdir() if one.stat().st_size > 100_000]
    assert len(large) == 1
    bench.check()
    (bench.cwd / "noise.png").unlink()
    reopen(bench, [response(message("still noise"))])
    bench.run(prompt("sure?"), name=bench.id)
    after = bench.server.requests[-1].body["input"]
    assert after[: len(before)] == before


def test_a_broken_image_never_enters_history(tmp_path: Path, home: Path) -> None:
    """The model reads why; the prompt isn't even recorded."""
    bench = bench_with_noise(tmp_path, home, response(VIEW), response(message("oh")))
    broken = bench.cwd / "noise.png"
    broken.write_bytes(broken.read_bytes()[:1000])
    with pytest.raises(UsageError, match="can't be sent: it is broken"):
        bench.run(showing(str(broken)))
    assert bench.server.requests == []
    bench.run(prompt())
    (output,) = bench.outputs()
    assert output.status == "failed"
    assert output.item["output"].startswith("noise.png can't be shown: it is broken")
    assert image_urls(bench.inputs()[-1]) == []


def test_images_follow_where_an_output_can_not_hold_them(tmp_path: Path, home: Path) -> None:
    """The history is the same; the view shows the image in a message behind the outputs."""
    bench = bench_with_noise(tmp_path, home, response(VIEW, VIEW), response(message("noise")))
    bench.dialect = Dialect(output_images=False)
    assert bench.run(prompt()).outcome == "completed"
    *_, first, second, shown = bench.inputs()[-1]
    assert first["output"] == f"noise.png: 400x300 pixels\n{SHOWN_BELOW}"
    assert second["type"] == "function_call_output"
    assert (shown["role"], len(image_urls([shown]))) == ("user", 2)
    assert all(isinstance(one.item["output"], list) for one in bench.outputs())
    bench.check()


def test_a_provider_without_images_gets_none(tmp_path: Path, home: Path) -> None:
    """A session with images goes on there: a text stands for each, the tool isn't offered."""
    bench = bench_with_noise(tmp_path, home, response(VIEW), response(message("noise")))
    bench.run(showing(str(bench.cwd / "noise.png")))
    bench.dialect, bench.provider = Dialect(images=False), "blind"
    reopen(bench, [response(VIEW), response(message("can't see"))])
    assert bench.run(prompt("and now?"), name=bench.id).outcome == "completed"
    for body in bench.server.bodies:
        assert image_urls(body["input"]) == []
        assert str(body["input"]).count(LEFT_OUT) == 2
        assert "view_image" not in [tool["name"] for tool in body["tools"]]
    assert "There is no tool 'view_image' here" in bench.inputs()[-1][-1]["output"]
    with pytest.raises(UsageError, match="blind takes no images"):
        bench.run(showing(str(bench.cwd / "noise.png")), name=bench.id)


def test_a_plan_is_in_history_after_a_resume(tmp_path: Path, home: Path) -> None:
    """It is in the call, so whoever goes on knows it."""
    script = [response(call("update_plan", PLAN)), response(message("begun"))]
    bench = Bench(tmp_path, home, script)
    bench.run(prompt())
    reopen(bench, [response(message("going on"))])
    bench.run(prompt("go on"), name=bench.id)
    calls = [one for one in bench.inputs()[-1] if one["type"] == "function_call"]
    assert [one["name"] for one in calls] == ["update_plan"]
    assert "look" in calls[0]["arguments"]
    assert bench.inputs()[-1][-3]["output"] == "Plan updated"
    bench.check()


def an_older_session(bench: Bench, *more: Known) -> str:
    """A session as an earlier version left it: its list of tools has a shell and patches only."""
    specs = [{"type": "function", "name": name} for name in ("exec_command", "apply_patch")]
    session = uuid7(time.time(), os.urandom(10))
    with Journal.create(PosixDisk(), str(bench.home), session, time.time) as journal:
        tools = repr(specs).replace("'", '"').encode()
        basis = Basis(journal.blobs.put(b"Be brief."), journal.blobs.put(tools))
        items = [{"type": "message", "role": "user", "content": "old"}]
        place: JSON = {"id": session, "cwd": str(bench.cwd), "basis": basis}
        given = Prompt(n=2, **place, items=items, model="m", provider="test")
        journal.commit(
            [Header(n=1, **place), given, Attempt(n=3, turn=2, step=1, model="m"), *more]
        )
    return session


def test_an_older_session_keeps_its_tools_and_survives_calls_of_newer_ones(
    tmp_path: Path, home: Path
) -> None:
    """The list of tools stays as it was (P6); a model that calls another one gets an answer."""
    script = [
        response(VIEW, call("update_plan", PLAN), call("no_such_tool", {})),
        response(message("done")),
    ]
    bench = bench_with_noise(tmp_path, home, *script)
    name = an_older_session(bench)
    assert bench.run(resume, name=name).outcome == "completed"
    for body in bench.server.bodies:
        assert [tool["name"] for tool in body["tools"]] == ["exec_command", "apply_patch"]
        assert body["instructions"] == "Be brief."
    assert [one.status for one in sorted(bench.outputs(), key=lambda one: one.call)] == [
        "done",
        "done",
        "rejected",
    ]
    assert judge(bench.server.requests).ok


@pytest.mark.parametrize("images", [True, False])
def test_a_view_that_a_crash_left_open_is_settled(tmp_path: Path, home: Path, images: bool) -> None:
    """It only reads, so it runs again; where the tool is gone its outcome is unknown."""
    bench = bench_with_noise(tmp_path, home, response(message("done")))
    item: JSON = {"type": "function_call", "name": "view_image", "call_id": "c"}
    item["arguments"] = '{"path":"noise.png"}'
    opened: list[Known] = [
        Call(n=4, attempt=3, index=0, item=item),
        Start(n=5, call=4, effect="e-4"),
    ]
    name = an_older_session(bench, *opened)
    bench.dialect = Dialect(images=images)
    assert bench.run(resume, name=name).outcome == "completed"
    (output,) = [one for one in bench.records() if isinstance(one, Output)]
    assert output.status == ("done" if images else "unknown")
    assert len(image_urls(bench.inputs()[-1])) == images


def hosted(body: JSON) -> list[JSON]:
    """The tools that the provider runs."""
    return [tool for tool in body["tools"] if tool["type"] != "function" and "name" not in tool]


@pytest.mark.parametrize(
    "mode,listed",
    [
        ("live", [{"type": "web_search"}]),
        ("cached", [{"type": "web_search", "external_web_access": False}]),
        ("disabled", []),
    ],
)
def test_a_search_of_the_web_is_listed_where_it_is_asked_for(
    tmp_path: Path, home: Path, mode: str, listed: list[JSON]
) -> None:
    """Last, and it stays the same over a resume; where the provider has none it is left out."""
    search = [response(chaos.web_search("masts"), message("found")) for _ in range(2)]
    bench = Bench(tmp_path, home, list(search))
    bench.run(prompt(), web_search=mode)
    assert hosted(bench.server.bodies[0]) == listed
    before = bench.server.bodies[0]["tools"]
    assert before[len(before) - len(listed) :] == listed
    reopen(bench, list(search))
    bench.run(prompt("again"), name=bench.id, web_search=mode)
    assert bench.server.bodies[0]["tools"] == before
    assert [one["type"] for one in bench.inputs()[0]].count("web_search_call") == 1
    bench.dialect = Dialect(web_search=False)
    reopen(bench, list(search))
    bench.run(prompt("and again"), name=bench.id, web_search=mode)
    assert hosted(bench.server.bodies[0]) == []


def test_a_search_that_is_turned_on_later_is_listed_from_then_on(
    tmp_path: Path, home: Path
) -> None:
    """The user changed it on purpose, so the session's list changes too, and back."""
    bench = Bench(tmp_path, home, [response(message("ok"))])
    bench.run(prompt())
    for mode, count in (("live", 1), ("cached", 1), ("disabled", 0)):
        reopen(bench, [response(message("ok"))])
        bench.run(prompt("more"), name=bench.id, web_search=mode)
        assert len(hosted(bench.server.bodies[0])) == count

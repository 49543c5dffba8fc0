"""The refusal ladder with a real session: providers that refuse for ever what they don't like."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backstay import chaos
from backstay.chaos import call, message, response
from backstay.core.record import Repair
from backstay.runtime.session import Session
from tests.runtime.bench import JSON, Bench

Dislike = Callable[[JSON], str]
"""The words in which a request is refused; "" where it is fine."""


def refuses(dislike: Dislike, status: int = 400, after: int = 1) -> Callable[[JSON], JSON]:
    """A provider that makes a call, then answers; the first so many requests it takes as they are."""
    asked = 0

    def answer(body: JSON) -> JSON:
        nonlocal asked
        asked += 1
        words = dislike(body) if asked > after else ""
        if words:
            return chaos.http_error(status, body={"error": {"message": words}})
        if any(item.get("type") == "function_call" for item in body["input"]) or asked > 1:
            return response(message("fine"))
        made: list[JSON] = [chaos.reasoning("think")]
        made.append(call("exec_command", {"cmd": "echo one; echo x >> runs"}))
        if dislike is no_custom_calls:
            made.append(chaos.custom_call("apply_patch", "*** Begin Patch\n*** End Patch"))
        return response(*made)

    return answer


def of_type(body: JSON, *names: str) -> list[int]:
    """Where items of these types stand."""
    return [at for at, item in enumerate(body["input"]) if item.get("type") in names]


def no_calls(body: JSON) -> str:
    """FACTS 8, in the words of the API, though the call has its output."""
    found = [item for item in body["input"] if item.get("type") == "function_call"]
    return f"No tool output found for function call {found[0]['call_id']}." if found else ""


def no_outputs(body: JSON) -> str:
    """An orphan, it says."""
    found = of_type(body, "function_call_output")
    ident = body["input"][found[0]]["call_id"] if found else ""
    return f"No tool call found for function call output with call_id {ident}." if found else ""


def no_reasoning(body: JSON) -> str:
    """An id that no request held."""
    found = of_type(body, "reasoning")
    wanted = "was provided without its required following item."
    return f"Item 'rs_abc' of type 'reasoning' {wanted}" if found else ""


def no_arguments(body: JSON) -> str:
    """Named by its place."""
    found = of_type(body, "function_call")
    return f"Missing required parameter: 'input[{found[0]}].arguments'." if found else ""


def no_include(body: JSON) -> str:
    """As models without reasoning answer."""
    return "Encrypted content is not supported with this model." if "include" in body else ""


def no_structure(body: JSON) -> str:
    """A server that only knows messages, and does not say so."""
    return "invalid request" if of_type(body, "function_call", "reasoning") else ""


def no_custom_calls(body: JSON) -> str:
    """llama.cpp, where nobody told us that it is one (FACTS 15)."""
    return "Cannot determine type of 'item'" if of_type(body, "custom_tool_call") else ""


def no_sealed_reasoning(body: JSON) -> str:
    """The same of reasoning that is encrypted only."""
    return "item['content'] is not an array" if of_type(body, "reasoning") else ""


def unparsed(body: JSON) -> str:
    """FACTS 15: a 500 for ever."""
    return "Failed to parse tool call arguments as JSON" if of_type(body, "function_call") else ""


@pytest.mark.parametrize(
    "dislike, status",
    [
        (no_calls, 400),
        (no_outputs, 400),
        (no_reasoning, 400),
        (no_arguments, 400),
        (no_structure, 400),
        (no_structure, 422),
        (no_custom_calls, 400),
        (no_sealed_reasoning, 400),
        (unparsed, 500),
    ],
)
def test_a_refused_history_goes_on_by_itself(
    tmp_path: Path, home: Path, dislike: Dislike, status: int
) -> None:
    """The turn completes, the tool ran once, its output is in the last request, in words."""
    bench = Bench(tmp_path, home, refuses(dislike, status))
    ended = bench.run(lambda session: session.prompt("go"))
    assert (ended.outcome, ended.reason) == ("completed", "")
    assert (bench.cwd / "runs").read_text() == "x\n"
    assert "Process exited with code 0" in msgspec.json.encode(bench.inputs()[-1]).decode()
    repairs = [one for one in bench.records() if isinstance(one, Repair)]
    assert repairs
    assert all(one.reason and one.attempt for one in repairs)


def test_a_field_that_the_provider_does_not_know_is_left_out_from_then_on(
    tmp_path: Path, home: Path
) -> None:
    """Also in the first request of a session, and after it was opened again."""
    bench = Bench(tmp_path, home, refuses(no_include, after=0))
    assert bench.run(lambda session: session.prompt("go")).outcome == "completed"
    bench.run(lambda session: session.prompt("more"), name=bench.id)
    assert ["include" in body for body in bench.server.bodies] == [True, False, False]


def test_what_did_not_help_is_taken_back(tmp_path: Path, home: Path) -> None:
    """The turn fails with the provider's words; once it relents the session is as it was."""
    relents = False

    def stubborn(_: JSON) -> str:
        return "" if relents else "No tool output found for function call zzz."

    bench = Bench(tmp_path, home, refuses(stubborn))

    async def work(session: Session) -> list[Any]:
        nonlocal relents
        first = await session.prompt("go")
        before = len(bench.server.bodies)
        relents = True
        second = await session.resume()
        return [first, before, second]

    first, before, second = bench.run(work)
    assert first.outcome == "failed"
    assert "No tool output found" in first.reason
    assert before < 10
    assert second.outcome == "completed"
    kinds = [item["type"] for item in bench.inputs()[-1]]
    assert "function_call" in kinds
    assert "reasoning" in kinds


def test_a_session_that_was_mended_stays_mended(tmp_path: Path, home: Path) -> None:
    """Opened again, its first request is what was accepted last, and more."""
    bench = Bench(tmp_path, home, refuses(no_calls))
    bench.run(lambda session: session.prompt("go"))
    accepted = bench.inputs()[-1]
    bench.run(lambda session: session.prompt("more"), name=bench.id)
    assert bench.inputs()[-1][: len(accepted)] == accepted

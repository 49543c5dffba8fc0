"""What became of calls that have no output: the true output where the same file holds it in an event.

Codex writes such an event the moment a tool ends, the output itself only when the response has
ended. Where there is none, what is known is said in the words of `core.settle`, never more.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from backstay.core.settle import never_started, unknown
from backstay.doctor.lines import Line, lines
from backstay.doctor.pairs import Call
from backstay.doctor.patches import look
from backstay.doctor.rollout import Entry, entries

MOST: Final = 64 * 1024
"""Characters of an output that are given back; of a longer one head and tail."""
_MOST_PARTIAL: Final = 1024 * 1024
WHY: Final = "the agent was ended before it recorded the output"
_PATCHES: Final = ("apply_patch", "apply_patch_call")

Source = Literal["event", "partial", "files", "none"]


class Salvaged(msgspec.Struct, frozen=True):
    """An output for a call, and where it comes from."""

    text: str
    source: Source
    """event: the true output; partial: what it had printed; files: told by the working folder."""
    says: str
    """One sentence for people."""
    line: int = 0
    """Of the event."""


def salvage(path: str, calls: Sequence[Call], *, files: bool = True) -> list[Salvaged]:
    """An output for each of the calls of a file, in the order of the calls.

    `files`: also compare patches with the files of the working folder; reads only.
    Raises `StorageError` if the file can't be read again.
    """
    return salvage_from(lines(path), calls, files=files)


def salvage_from(
    found: Iterable[Line], calls: Sequence[Call], *, files: bool = True
) -> list[Salvaged]:
    """The same from lines."""
    if not calls:
        return []
    evidence = _Evidence(calls)
    for one in entries(found):
        if one.type == "event_msg":
            evidence.take(one)
    return [_told(call, evidence, files=files) for call in calls]


class _Evidence:
    """The events of a file that concern some calls."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._wanted: dict[str, list[Call]] = {}
        for call in calls:
            self._wanted.setdefault(call.call_id, []).append(call)
        self.ended: dict[int, tuple[str, int]] = {}
        self.printed: dict[int, str] = {}
        self.begun: set[int] = set()

    def take(self, one: Entry) -> None:
        payload = one.payload
        name = payload.get("type")
        item = payload.get("item")
        if name in ("item_completed", "item_started") and isinstance(item, dict):
            call = self._call(item.get("id"), one)
            text = _of_item(item) if name == "item_completed" else None
        else:
            call = self._call(payload.get("call_id"), one)
            text = _of_event(payload) if isinstance(name, str) else None
        if call is None:
            return
        if text is not None:
            self.ended[id(call)] = (text, one.line.number)
        elif name == "exec_command_output_delta":
            before = self.printed.get(id(call), "")
            self.printed[id(call)] = (before + _chunk(payload))[-_MOST_PARTIAL:]
        elif name in ("item_started", "exec_command_begin", "patch_apply_begin"):
            self.begun.add(id(call))

    def _call(self, ident: object, one: Entry) -> Call | None:
        """The newest call with this id that stands before the event and has not ended."""
        if not isinstance(ident, str):
            return None
        before = [
            call
            for call in self._wanted.get(ident, ())
            if call.offset <= one.line.offset and id(call) not in self.ended
        ]
        return before[-1] if before else None


def _told(call: Call, evidence: _Evidence, *, files: bool) -> Salvaged:
    ended = evidence.ended.get(id(call))
    if ended is not None:
        text, line = ended
        return Salvaged(shortened(text), "event", f"its true output stands in line {line}", line)
    printed = evidence.printed.get(id(call), "")
    if printed:
        says = "it was running; what it had printed by then is in the file"
        return Salvaged(_unknown(printed), "partial", says)
    if files and call.name in _PATCHES:
        verdict = look(call.given, call.cwd)
        if verdict is not None:
            return Salvaged(verdict.text, "files", verdict.says)
    if call.cut:
        never = str(never_started("its arguments had not arrived in full").content)
        return Salvaged(never, "none", "its arguments are cut off, so it can't have run")
    says = "its outcome is not known"
    if id(call) in evidence.begun:
        says = "it had begun; its outcome is not known"
    return Salvaged(_unknown(""), "none", says)


def _unknown(partial: str) -> str:
    return str(unknown(WHY, shortened(partial)).content)


def shortened(text: str) -> str:
    """Head and tail of a text that is longer than what is given back."""
    if len(text) <= MOST:
        return text
    left = len(text) - MOST
    return (
        f"{text[: MOST // 2]}\n[... {left} characters are left out here ...]\n{text[-MOST // 2 :]}"
    )


def _of_event(payload: dict[str, Any]) -> str | None:
    """The output that an event of an older version tells, or None."""
    name = payload.get("type")
    if name == "exec_command_end":
        return _command(payload)
    if name == "patch_apply_end":
        return _patch(payload)
    if name == "mcp_tool_call_end":
        return _result(payload.get("result"))
    if name == "dynamic_tool_call_response":
        return _content(payload.get("content_items")) or _said(payload.get("error"))
    return None


def _of_item(item: dict[str, Any]) -> str | None:
    """The output that a finished item tells, or None."""
    name = item.get("type")
    if name == "CommandExecution":
        return None if item.get("status") == "inProgress" else _command(item)
    if name == "FileChange":
        return None if item.get("status") == "inProgress" else _patch(item)
    if name == "McpToolCall":
        return _result(item.get("result")) or _said(item.get("error"))
    return None


def _command(of: dict[str, Any]) -> str | None:
    printed = _first(of, "aggregated_output", "formatted_output")
    if printed is None:
        streams = [of.get(name) for name in ("stdout", "stderr")]
        parts = [one for one in streams if isinstance(one, str)]
        if not parts:
            return None
        printed = "".join(parts)
    code = of.get("exit_code")
    lines_: list[str] = []
    took = of.get("duration")
    if isinstance(took, dict):
        lines_ += _seconds(took)
    if isinstance(code, int):
        lines_.append(f"Process exited with code {code}")
    elif of.get("status") == "declined":
        lines_.append("The command was declined; it did not run.")
    return "\n".join([*lines_, "Output:", printed])


def _seconds(took: dict[str, Any]) -> list[str]:
    whole, parts = took.get("secs"), took.get("nanos")
    if not isinstance(whole, int) or not isinstance(parts, int) or not 0 <= whole < 1e12:
        return []
    return [f"Wall time: {whole + min(abs(parts), 10**9) / 1e9:.4f} seconds"]


def _patch(of: dict[str, Any]) -> str | None:
    said = "".join(one for one in (of.get("stdout"), of.get("stderr")) if isinstance(one, str))
    if said:
        return said
    done = of.get("success")
    if done is None:
        done = {"completed": True, "failed": False, "declined": False}.get(str(of.get("status")))
    if done is None:
        return None
    changes = of.get("changes")
    names = [name for name in changes if isinstance(name, str)] if isinstance(changes, dict) else []
    if not done:
        return "The patch was not applied."
    return "\n".join(["Success. Updated the following files:", *names])


def _result(result: object) -> str | None:
    if not isinstance(result, dict):
        return None
    failed = _said(result.get("Err"))
    if failed is not None:
        return failed
    inner = result.get("Ok", result)
    if not isinstance(inner, dict):
        return None
    text = _content(inner.get("content"))
    if text is None and inner.get("structuredContent") is not None:
        return msgspec.json.encode(inner["structuredContent"]).decode()
    return text


def _content(parts: object) -> str | None:
    if not isinstance(parts, list):
        return None
    texts = []
    for part in parts:
        if isinstance(part, dict):
            text = part.get("text")
            texts.append(text if isinstance(text, str) else f"[{str(part.get('type'))[:40]}]")
    return "\n".join(texts)


def _said(error: object) -> str | None:
    if isinstance(error, dict):
        error = error.get("message")
    return error if isinstance(error, str) and error else None


def _first(of: dict[str, Any], *names: str) -> str | None:
    values = [of.get(name) for name in names]
    return next((value for value in values if isinstance(value, str)), None)


def _chunk(payload: dict[str, Any]) -> str:
    """Printed bytes: base64 in newer files, a list of numbers in the oldest."""
    chunk = payload.get("chunk")
    try:
        if isinstance(chunk, str):
            from binascii import a2b_base64

            return a2b_base64(chunk).decode(errors="replace")
        if isinstance(chunk, list):
            return bytes(one for one in chunk if isinstance(one, int)).decode(errors="replace")
    except ValueError:
        pass
    return ""

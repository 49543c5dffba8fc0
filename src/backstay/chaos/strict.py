"""How a strict provider refuses a request whose input it can't accept.

Pure. The texts are those of the real APIs, so that clients which recognise them can be tested.
Where no real text is known (a second output for a call) the text is ours.
"""

from typing import Any

from msgspec import Struct

from backstay.chaos.judge import Finding, inspect, items_of
from backstay.chaos.script import Dialect

JSON = dict[str, Any]


class Refusal(Struct):
    """An HTTP status and the error that its body holds."""

    status: int
    message: str
    code: str | None = None
    param: str | None = "input"

    def body(self) -> JSON:
        """The body of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": self.message, "type": kind}
        return {"error": error | {"param": self.param, "code": self.code}}


def refusal(request: JSON, dialect: Dialect = "openai") -> Refusal | None:
    """Why a provider would refuse this request, or None."""
    if "input" not in request:
        return Refusal(400, "Missing required parameter: 'input'.", "missing_required_parameter")
    for finding in inspect(request, dialect=dialect):
        refused = _refuse(finding, request, dialect)
        if refused:
            return refused
    return None


def _refuse(finding: Finding, request: JSON, dialect: Dialect) -> Refusal | None:
    item = items_of(request)[finding.index]
    kind, call_id, place = item.get("type", ""), item.get("call_id"), f"input[{finding.index}]"
    named = "custom tool call" if str(kind).startswith("custom_tool") else "function call"
    match finding.code:
        case "call_without_output" | "calls_apart":
            named = "tool call" if dialect == "deepseek" else named
            code = "invalid_request_error" if dialect == "deepseek" else None
            return Refusal(400, f"No tool output found for {named} {call_id}.", code)
        case "output_without_call" | "output_before_call" | "mismatched_output":
            return Refusal(400, f"No tool call found for {named} output with call_id {call_id}.")
        case "reasoning_without_item":
            return Refusal(
                400,
                f"Item '{item.get('id') or place}' of type 'reasoning' was provided without its "
                "required following item.",
            )
        case "duplicate_item":
            return Refusal(
                400,
                f"Duplicate item found with id {item.get('id')}. Remove duplicate items from your "
                "input and try again.",
            )
        case "duplicate_call" | "duplicate_output":
            return Refusal(400, f"Duplicate {kind} found for call_id {call_id}.", "duplicate_item")
        case "missing_field":
            code, field = "missing_required_parameter", f"{place}.{finding.field}"
            return Refusal(400, f"Missing required parameter: '{field}'.", code, field)
        case "stored_item":
            return Refusal(
                404,
                f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` "
                "is set to false. Try again with `store` set to true, or remove this item from "
                "your input.",
            )
        case _:
            return None

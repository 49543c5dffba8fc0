"""What a checkup finds out: one line per question, and the dialect that follows."""

from typing import Final, Literal

import msgspec

Verdict = Literal["yes", "no", "unclear"]

QUESTIONS: Final = {
    "reachable": "it answers at its address",
    "authorized": "it takes the key",
    "model_known": "it lists the model",
    "streams": "a response streams to its end",
    "event_lines": "events have an `event:` line",
    "done_marker": "the stream ends with [DONE]",
    "output_index": "events name the item by output_index",
    "sequence_number": "events are numbered",
    "stable_ids": "an item keeps its id while it streams",
    "usage": "it says how many tokens were used",
    "keep_alive": "it keeps a connection that it promised to keep",
    "function_calls": "the model calls a function",
    "parallel_calls": "it makes several calls in one response",
    "outputs": "it takes calls and their outputs back",
    "calls_apart": "a message may stand between the calls of a step",
    "custom_tools": "custom tools are understood",
    "developer_role": "the role developer is known",
    "encrypted_reasoning": "encrypted reasoning may be asked for and sent back",
    "unknown_items": "items that servers run themselves may be sent back",
    "images": "an image may be in a message",
    "output_images": "an image may be in the output of a call",
    "store": "a response can be stored and fetched",
    "compact_endpoint": "there is POST /responses/compact",
    "error_shape": "an error says what is wrong in JSON",
}
"""What each finding answers, in the order of the table."""

NEEDED: Final = ("reachable", "streams", "function_calls", "outputs")
"""Without these there is no agent."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one of the `QUESTIONS`."""

    name: str
    verdict: Verdict
    detail: str = ""


class Report(msgspec.Struct, kw_only=True):
    """What was found at one provider with one model."""

    provider: str
    url: str
    model: str
    findings: list[Finding] = []
    dialect: dict[str, bool] = {}
    """The flags that were found out, those that agree with the defaults too."""
    requests: int = 0
    tokens: int = 0
    """Input and output together, as far as the provider says."""

    @property
    def works(self) -> bool:
        """Whether an agent can run on it at all."""
        found = {one.name: one.verdict for one in self.findings}
        return all(found.get(name) == "yes" for name in NEEDED)

    def note(self, name: str, verdict: Verdict, detail: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(name=name, verdict=verdict, detail=detail))


def said(value: object) -> Verdict:
    """Yes or no."""
    return "yes" if value else "no"

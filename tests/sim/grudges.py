"""What a simulated provider refuses about a history, and for how long: until the history has changed.

Each grudge is about something that is in the request; a request without it is taken. `for ever` is
about nothing at all, and no change helps against it.
"""

from collections.abc import Iterable
from random import Random
from typing import Final, Literal

import msgspec

from backstay.core.commands import Request
from backstay.core.events import Outcome
from backstay.core.items import Item, is_call, kind
from backstay.core.mend import is_image

Sort = Literal["call", "field", "item", "images", "structure", "request", "for ever"]
REQUEST_FIELDS: Final = ("include", "prompt_cache_key", "parallel_tool_calls")


class Grudge(msgspec.Struct, frozen=True):
    """One thing that is refused."""

    sort: Sort
    what: frozenset[str] = frozenset()
    """Call ids, a field of items, a type of items, a field of the request."""

    def refuse(self, request: Request) -> Outcome | None:
        """The refusal of this request; None if there is nothing of the kind in it."""
        for at, item in enumerate(request.input):
            if text := self._about(at, item):
                return _refused(text)
        (first, *_) = self.what or ("",)
        if self.sort == "request" and first not in request.without:
            return _refused(f"Unsupported parameter: '{first}'.")
        return _refused("Invalid input.") if self.sort == "for ever" else None

    def _about(self, at: int, item: Item) -> str:
        sort, what = self.sort, self.what
        if sort == "call" and is_call(item) and item.get("call_id") in what:
            return f"No tool output found for function call {item['call_id']}."
        if sort == "structure" and item.get("call_id") in what:
            return "Invalid value in the input."
        if sort == "field":
            found = what & item.keys()
            return f"Unknown parameter: 'input[{at}].{min(found)}'." if found else ""
        if sort == "item" and kind(item) in what:
            return f"Invalid value: '{kind(item)}' (input[{at}])."
        if sort == "images" and has_image(item):
            return "The image data is not valid."
        return ""


def drawn(rng: Random, request: Request) -> Grudge | None:
    """Something that is in this request and was taken until now; None if nothing fits."""
    items = request.input
    calls = [str(one["call_id"]) for one in items if is_call(one) and "call_id" in one]
    may: list[Grudge] = [Grudge("for ever")]
    if calls:
        may += [Grudge("call", frozenset({rng.choice(calls)}))] * 3
        may.append(Grudge("structure", frozenset(calls)))
    if any("phase" in one for one in items):
        may += [Grudge("field", frozenset({"phase"}))] * 3
    if any(kind(one) == "web_search_call" for one in items):
        may += [Grudge("item", frozenset({"web_search_call"}))] * 3
    if any(map(has_image, items)):
        may += [Grudge("images")] * 3
    fields = [one for one in REQUEST_FIELDS if one not in request.without]
    if fields:
        may.append(Grudge("request", frozenset({rng.choice(fields)})))
    return rng.choice(may)


def refusal(grudges: Iterable[Grudge], request: Request) -> Outcome | None:
    """The first of them that this request meets."""
    return next((found for one in grudges if (found := one.refuse(request))), None)


def has_image(item: Item) -> bool:
    """Whether an image is in it."""
    parts = item.get("output", item.get("content"))
    return isinstance(parts, list) and any(map(is_image, parts))


def _refused(text: str) -> Outcome:
    return Outcome(kind="refused", reason=text, status=400, code="invalid_request_error")

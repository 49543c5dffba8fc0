"""Tokens as a provider counts them, and what they cost: sums and one formula.

Owns no table of prices (`prices`) and says nothing where a price is not known.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

import msgspec

Dollars = Annotated[float, msgspec.Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens. Without a price of its own a sort of input costs as input."""

    input: Dollars
    output: Dollars
    cached_input: Dollars | None = None
    cache_write: Dollars | None = None


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one attempt, or the sum of many. Cached and written ones are part of the input,
    reasoning is part of the output.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0

    @classmethod
    def of(cls, usage: Mapping[str, Any] | None) -> Self:
        """What a response's `usage` says, 0 where it says nothing that is a number."""
        one = usage or {}
        inputs, outputs = one.get("input_tokens_details"), one.get("output_tokens_details")
        return cls(
            input_tokens=_count(one, "input_tokens"),
            cached_input_tokens=_count(inputs, "cached_tokens"),
            cache_write_input_tokens=_count(inputs, "cache_write_tokens"),
            output_tokens=_count(one, "output_tokens"),
            reasoning_output_tokens=_count(outputs, "reasoning_tokens"),
        )

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.cache_write_input_tokens + other.cache_write_input_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_output_tokens + other.reasoning_output_tokens,
        )

    @property
    def total(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


def cost(usage: Usage, price: Price | None) -> float | None:
    """US dollars; None where the price is not known and something was used."""
    if price is None:
        return None if usage.total else 0.0
    cached_price = price.input if price.cached_input is None else price.cached_input
    write_price = price.input if price.cache_write is None else price.cache_write
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    written = min(usage.cache_write_input_tokens, usage.input_tokens - cached)
    fresh = usage.input_tokens - cached - written
    inputs = fresh * price.input + cached * cached_price + written * write_price
    return (inputs + usage.output_tokens * price.output) / 1_000_000


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0

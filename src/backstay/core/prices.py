"""What well-known models cost, as their provider lists it: standard processing, short contexts.

A table and how a model's name is looked up in it. `[prices."MODEL"]` in config.toml goes before it.
Not in it: surcharges for very long contexts, for priority or for tools, discounts for batches.
"""

from collections.abc import Mapping
from typing import Final

from backstay.core.usage import Price

AS_OF: Final = "2026-09-22"
"""The day that the table is of."""


def _price(
    input: float,
    cached_input: float | None,
    output: float,
    cache_write: float | None = None,
) -> Price:
    return Price(input=input, cached_input=cached_input, output=output, cache_write=cache_write)


PRICES: Final[Mapping[str, Price]] = {
    "gpt-6-astra": _price(10.0, 1.0, 50.0, 12.5),
    "gpt-6-sol": _price(2.0, 0.2, 10.0, 2.5),
    "gpt-6-luna": _price(0.1, 0.01, 0.5, 0.125),
    "gpt-5.6-sol": _price(4.0, 0.4, 20.0, 5.0),
    "gpt-5.6-terra": _price(2.0, 0.2, 12.0, 2.5),
    "gpt-5.6-luna": _price(0.2, 0.02, 1.2, 0.25),
    "gpt-5.5": _price(5.0, 0.5, 30.0),
    "gpt-5.4": _price(2.5, 0.25, 15.0),
    "gpt-5.4-mini": _price(0.75, 0.075, 4.5),
    "gpt-5.4-nano": _price(0.2, 0.02, 1.25),
    "gpt-5.3-codex": _price(1.75, 0.175, 14.0),
    "gpt-5.2": _price(1.75, 0.175, 14.0),
    "gpt-5.2-codex": _price(1.75, 0.175, 14.0),
    "gpt-5.1": _price(1.25, 0.125, 10.0),
    "gpt-5.1-codex": _price(1.25, 0.125, 10.0),
    "gpt-5.1-codex-max": _price(1.25, 0.125, 10.0),
    "gpt-5.1-codex-mini": _price(0.25, 0.025, 2.0),
    "gpt-5": _price(1.25, 0.125, 10.0),
    "gpt-5-codex": _price(1.25, 0.125, 10.0),
    "gpt-5-mini": _price(0.25, 0.025, 2.0),
    "gpt-5-nano": _price(0.05, 0.005, 0.4),
    "gpt-4.1": _price(2.0, 0.5, 8.0),
    "gpt-4.1-mini": _price(0.4, 0.1, 1.6),
    "gpt-4.1-nano": _price(0.1, 0.025, 0.4),
    "gpt-4o": _price(2.5, 1.25, 10.0),
    "gpt-4o-mini": _price(0.15, 0.075, 0.6),
    "o1": _price(15.0, 7.5, 60.0),
    "o3": _price(2.0, 0.5, 8.0),
    "o3-mini": _price(1.1, 0.55, 4.4),
    "o4-mini": _price(1.1, 0.275, 4.4),
}


def price_of(model: str, own: Mapping[str, Price] | None = None) -> Price | None:
    """The price of a model, the user's own first; None where it is not known.

    `gpt-5-2025-08-07` costs what `gpt-5` does, `openai/gpt-5` too; no other name is guessed.
    """
    for table in (own or {}, PRICES):
        for name in (model, _plain(model)):
            if name in table:
                return table[name]
    return None


def _plain(model: str) -> str:
    """The name without the maker that a gateway puts in front, and without its day."""
    name = model.removeprefix("openai/")
    day = name[-11:]
    dated = day[:1] == "-" and [len(part) for part in day[1:].split("-")] == [4, 2, 2]
    return name[:-11] if dated and day.replace("-", "").isdecimal() else name

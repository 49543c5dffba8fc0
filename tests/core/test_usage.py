"""What tokens add up to, and what they cost."""

from typing import Any

import pytest

from backstay.core.prices import PRICES, price_of
from backstay.core.usage import Price, Usage, cost

WIRE: dict[str, Any] = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 1050,
}


def test_a_responses_usage_is_read() -> None:
    """Each count from its place; the details are part of what they detail."""
    assert Usage.of(WIRE) == Usage(1000, 600, 100, 50, 20)
    assert Usage.of(WIRE).total == 1050


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"input_tokens": "many", "input_tokens_details": 3, "output_tokens": None},
        {"input_tokens": True, "output_tokens": -5, "output_tokens_details": []},
    ],
)
def test_what_is_no_number_counts_as_nothing(usage: Any) -> None:
    """A provider that says nonsense costs no turn."""
    assert Usage.of(usage) == Usage()


def test_usages_add_up() -> None:
    """Count by count."""
    assert Usage.of(WIRE) + Usage(1, 2, 3, 4, 5) == Usage(1001, 602, 103, 54, 25)


def test_each_sort_of_token_has_its_price() -> None:
    """Cached, written and fresh input, and output with its reasoning."""
    price = Price(input=10.0, cached_input=1.0, cache_write=20.0, output=100.0)
    # 300 fresh, 600 cached, 100 written, 50 out
    expected = (300 * 10 + 600 * 1 + 100 * 20 + 50 * 100) / 1e6
    assert cost(Usage.of(WIRE), price) == pytest.approx(expected)


def test_without_a_price_of_its_own_a_sort_costs_as_input() -> None:
    """Cached and written tokens are paid in full, never for nothing."""
    price = Price(input=10.0, output=100.0)
    assert cost(Usage.of(WIRE), price) == pytest.approx((1000 * 10 + 50 * 100) / 1e6)


def test_more_cached_than_sent_costs_no_less_than_nothing() -> None:
    """A count that can't be does not make a turn cheaper than free."""
    assert cost(Usage(100, 500, 500), Price(input=1.0, output=1.0)) == pytest.approx(100 / 1e6)


def test_an_unknown_price_is_not_zero() -> None:
    """None where something was used; nothing used costs nothing at any price."""
    assert cost(Usage.of(WIRE), None) is None
    assert cost(Usage(), None) == 0.0


@pytest.mark.parametrize(
    "model", ["gpt-5", "gpt-5-2025-08-07", "openai/gpt-5", "openai/gpt-5-2025-08-07"]
)
def test_a_model_is_found_by_its_names(model: str) -> None:
    """With its day, and with the maker that gateways put in front."""
    assert price_of(model) == PRICES["gpt-5"]


@pytest.mark.parametrize(
    "model", ["", "gpt-5-turbo", "qwen", "gpt-5-2025-08-0x", "a/gpt-5", "-2025-08-07"]
)
def test_no_name_is_guessed(model: str) -> None:
    """What is not in the table is not known."""
    assert price_of(model) is None


def test_the_users_own_price_goes_first() -> None:
    """Under the full name, and for the dated model under the plain one."""
    own = {"gpt-5": Price(input=1.0, output=2.0), "mine": Price(input=3.0, output=4.0)}
    assert price_of("gpt-5-2025-08-07", own) == own["gpt-5"]
    assert price_of("mine", own) == own["mine"]
    assert price_of("gpt-5-mini", own) == PRICES["gpt-5-mini"]


def test_the_table_is_sound() -> None:
    """Cached input is cheaper than input, output dearer; a written cache is never cheaper."""
    for price in PRICES.values():
        assert price.cached_input is not None
        assert 0 < price.cached_input < price.input < price.output
        assert price.cache_write is None or price.cache_write > price.input

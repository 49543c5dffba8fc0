"""What a turn may use, and what it has used: counted from its records, so that a kill changes nothing.

A turn that is reopened has a budget anew, as it has retries anew.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from backstay.core.history import TurnState
from backstay.core.usage import Price, Usage, cost

CODE: Final = "budget"
"""The code of a turn that ended because its budget was used up."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a turn may use; None is no limit."""

    steps: int | None = None
    tokens: int | None = None
    """Input and output together."""
    dollars: float | None = None
    prices: Mapping[str, Price] = {}
    """The user's own, by model; they go before the built-in table."""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn has used since it was last reopened."""

    steps: int = 0
    """Responses that came to their end, however many attempts each took."""
    by_model: Mapping[str, Usage] = {}

    @property
    def tokens(self) -> int:
        """Input and output tokens of all attempts whose usage the provider said."""
        return sum(usage.total for usage in self.by_model.values())


def spent(turn: TurnState) -> Spent:
    """Add up a turn's attempts, the cut ones included."""
    steps: set[int] = set()
    by_model: dict[str, Usage] = {}
    model = turn.prompt.model if turn.prompt else ""
    if turn.carried.usage is not None:
        by_model[model] = Usage.of(turn.carried.usage)
    for one in turn.attempts:
        model = one.record.model or model
        if one.record.n <= turn.reopened_at or one.end is None:
            continue
        if one.end.outcome in ("completed", "incomplete"):
            steps.add(one.record.step)
        by_model[model] = by_model.get(model, Usage()) + Usage.of(one.end.usage)
    return Spent(steps=turn.carried.counted + len(steps), by_model=by_model)


def used_up(budget: Budget, turn: TurnState) -> str:
    """Why nothing more may be sent in this turn: the limit and what was used; "" if it may."""
    if budget.steps is None and budget.tokens is None and budget.dollars is None:
        return ""
    used = spent(turn)
    if budget.steps is not None and used.steps >= budget.steps:
        return f"the turn's budget is used up: {used.steps} of {budget.steps} steps"
    if budget.tokens is not None and used.tokens >= budget.tokens:
        return f"the turn's budget is used up: {used.tokens:,} of {budget.tokens:,} tokens"
    return "" if budget.dollars is None else _too_dear(budget, budget.dollars, used)


def _too_dear(budget: Budget, limit: float, used: Spent) -> str:
    from backstay.core.prices import price_of

    total = 0.0
    for model, usage in used.by_model.items():
        one = cost(usage, price_of(model, budget.prices))
        if one is None:
            return f'what the turn costs is not known: [prices."{model}"] is missing'
        total += one
    if total < limit:
        return ""
    return f"the turn's budget is used up: ${total:.4f} of ${limit:.4f}"

"""What a session runs under, as far as the machine has to know it. None of it is journaled."""

from collections.abc import Mapping

import msgspec

from backstay.core.budget import Budget
from backstay.core.dialect import Dialect
from backstay.core.retry import Policy
from backstay.core.settle import Replay


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine has to know of a tool."""

    parallel: bool = True
    """Without it a call is exclusive against every other."""
    replay: Replay = "never"
    """`safe` tools may run again after a crash."""
    prepares: bool = False
    """A plan is made before the start is recorded: `Prepare` comes before `StartCall`."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What a session runs under; none of it is journaled."""

    tools: Mapping[str, Traits]
    dialect: Dialect = Dialect()
    policy: Policy = Policy()
    budget: Budget = Budget()
    compact_at: int | None = None
    """Estimated tokens from which the view is replaced by a shorter one; None: not before a
    provider refuses its length."""

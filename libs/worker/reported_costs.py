"""What providers say an answer cost."""

from __future__ import annotations

from typing import Any

# More than any chat costs; what overflows is above it too.
HIGHEST_COST_USD = 1_000_000.0


def cost_usd(amount: Any, *, per_dollar: int = 1) -> float | None:
    """Returns an amount in US dollars; None for what is no number, below nothing, or above 1,000,000 dollars.

    `per_dollar` is how many of the provider's units make a dollar.
    """
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        return None
    cost = amount / per_dollar
    return cost if 0 <= cost <= HIGHEST_COST_USD else None

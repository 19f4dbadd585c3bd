"""Numbers as reports tell them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from services.analytics.histograms import percentiles

_LARGEST_COUNT = 2**31 - 1
_PICO_DIGITS = 12
PICOS_OF_A_DOLLAR = 10**_PICO_DIGITS
PERCENTS = (50, 90, 95, 99)

# How a chat ends through no fault of whoever asked.
FAILURES = ("provider_error_before_output", "provider_error_after_output", "timeout")
_LEFT = ("cancelled_before_output", "cancelled_after_output")


def dollars(picos: int) -> str:
    """Returns trillionths of a US dollar as an exact decimal number of dollars, without zeros at its end."""
    sign, digits = ("-", -picos) if picos < 0 else ("", picos)
    whole, fraction = divmod(digits, PICOS_OF_A_DOLLAR)
    return f"{sign}{whole}.{fraction:0{_PICO_DIGITS}}".rstrip("0").rstrip(".")


def count(number: int) -> int:
    """Returns a count as it fits into 32 bits: what is larger stays at the largest."""
    return min(number, _LARGEST_COUNT)


def errors(sums: Mapping[str, int]) -> int:
    """Counts the chats that failed through the provider or ran into their deadline."""
    return sum(sums[state] for state in FAILURES)


def error_rate(sums: Mapping[str, int]) -> float:
    """Returns which part failed of the chats whose callers stayed to their end, from 0 to 1; 0 without any."""
    stayed = sums["requests"] - sum(sums[state] for state in _LEFT)
    return errors(sums) / stayed if stayed > 0 else 0.0


def percentiles_of(histogram: int, *, unit: float = 1.0) -> tuple[float, float, float, float] | None:
    """Returns the percentiles of a histogram in units of its values, rounded to five digits; None without values.

    So few that nobody takes them for exact, so many that rounding adds nothing to the 2.5 % of the histogram."""
    found = percentiles(Decimal(histogram), PERCENTS)
    if found is None:
        return None
    p50, p90, p95, p99 = (float(f"{value * unit:.5g}") for value in found)
    return p50, p90, p95, p99

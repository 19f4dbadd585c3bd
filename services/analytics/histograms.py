"""How often which values occurred, in one number, so that Postgres merges histograms by adding them.

A histogram is a whole number written in lanes of 12 decimal digits. Lane b counts the values of bucket b, which lie
around 1.05^b: one value is 10^(12 b), and the sum of histograms is the histogram of all their values, exactly. Zero is
that of nothing. Postgres keeps no zeros at the ends of a number, so that a lane takes 6 bytes, and only those between
the smallest and the largest value are there.

Values are milliseconds; of speeds, tenths of a token per second. A bucket reaches 2.5 % to both sides of its middle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from itertools import accumulate
from typing import Any

from sqlalchemy import ColumnElement, Double, Numeric, Text, cast, func, literal

_GROWTH = 1.05
_LAST_BUCKET = 329  # around 9.3 million: 2.6 hours in ms, 930,000 tokens per second
_LANE_DIGITS = 12  # up to a trillion values in each bucket


def bucket(value: float) -> int:
    """Returns the bucket that a value falls into, from 0 to 329. What is below 1 counts as 1."""
    return min(round(math.log(max(value, 1.0)) / math.log(_GROWTH)), _LAST_BUCKET)


def one(value: float) -> Decimal:
    """Returns the histogram of one value."""
    return Decimal(1).scaleb(_LANE_DIGITS * bucket(value))


def merged(histograms: Iterable[Decimal]) -> Decimal:
    """Returns the histogram of all values of some. `+` of Decimal would round it."""
    return Decimal(sum(int(histogram) for histogram in histograms))


def counts(histogram: Decimal) -> list[tuple[int, int]]:
    """Returns (bucket, how many values), the smallest values first, buckets without any left out."""
    digits = str(int(histogram))
    lanes = [digits[max(end - _LANE_DIGITS, 0) : end] for end in range(len(digits), 0, -_LANE_DIGITS)]
    return [(index, int(lane)) for index, lane in enumerate(lanes) if int(lane)]


def percentiles(histogram: Decimal, percents: Iterable[int]) -> list[float] | None:
    """Returns for each of `percents` a value that is at least as large as so many of a hundred; None without values.

    By nearest rank: within 2.5 % of the smallest value of which this is true.
    """
    buckets = counts(histogram)
    if not buckets:
        return None
    sums = list(accumulate(count for _, count in buckets))
    # In whole numbers: the rank is exact, however many values there are.
    ranks = [max(-(-sums[-1] * percent // 100), 1) for percent in percents]
    return [_GROWTH ** next(b for (b, _), sum_ in zip(buckets, sums, strict=True) if sum_ >= rank) for rank in ranks]


def histogram_of(value: ColumnElement[Any]) -> ColumnElement[Decimal]:
    """Returns, for SQL, the histogram of one value. Of NULL it is that of 1: leave such rows out of the sum."""
    logarithm = func.ln(func.greatest(cast(value, Double), 1.0)) / literal(math.log(_GROWTH), Double)
    power = cast(func.least(func.round(logarithm), float(_LAST_BUCKET)), Numeric) * _LANE_DIGITS
    return cast(literal("1e", Text) + cast(power, Text), Numeric)

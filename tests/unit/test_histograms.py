"""Histograms in one number, against sorted lists of the values themselves."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analytics.histograms import bucket, counts, merged, one, percentiles

VALUES = st.floats(min_value=1, max_value=9_000_000)


class TestPercentiles:
    @given(st.lists(VALUES, min_size=1, max_size=200), st.integers(1, 100))
    def test_are_within_two_and_a_half_percent_of_the_value_at_their_rank(
        self, values: list[float], percent: int
    ) -> None:
        found = percentiles(merged(map(one, values)), [percent])

        exact = sorted(values)[math.ceil(len(values) * percent / 100) - 1]
        assert found == pytest.approx([exact], rel=0.025)

    @given(st.lists(VALUES, max_size=50), st.lists(VALUES, max_size=50))
    def test_merging_two_is_that_of_all_values(self, first: list[float], second: list[float]) -> None:
        of_both = merged([merged(map(one, first)), merged(map(one, second))])

        assert of_both == merged(map(one, first + second))
        assert dict(counts(of_both)) == Counter(map(bucket, first + second))

    def test_there_are_none_without_values(self) -> None:
        assert percentiles(Decimal(0), [50]) is None

    def test_a_billion_values_in_each_bucket_do_not_run_over_into_the_next(self) -> None:
        crowd = Decimal(sum(int(one(1.05**index)) for index in range(330)) * 10**9)

        assert counts(crowd) == [(index, 10**9) for index in range(330)]
        assert percentiles(crowd, [50, 100]) == pytest.approx([1.05**164, 1.05**329])


class TestBuckets:
    @pytest.mark.parametrize(
        ("value", "index"),
        [(0, 0), (0.4, 0), (1, 0), (1.05**1.4, 1), (1.05**1.6, 2), (1.05**329, 329), (1e300, 329)],
    )
    def test_what_is_too_small_or_too_large_falls_into_those_at_the_ends(self, value: float, index: int) -> None:
        assert bucket(value) == index

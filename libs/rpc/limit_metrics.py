"""Tells Prometheus what the limits have decided."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from libs.ratelimit import INVALID_TOKENS, RateLimiter
from libs.rpc.interceptors.invalid_tokens import InvalidTokens
from libs.rpc.interceptors.rate_limits import RateLimits


class LimitCollector(Collector):
    """Reads the counts of the limits whenever it is asked."""

    def __init__(self, limits: RateLimits, invalid_tokens: InvalidTokens | None, limiter: RateLimiter) -> None:
        self._limits = limits
        self._invalid_tokens = invalid_tokens
        self._limiter = limiter

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yields what there is to tell now."""
        decisions = CounterMetricFamily(
            "realmultillm_limit_decisions",
            "Calls that a limit has let pass or not, by method.",
            labels=("limit", "decision"),
        )
        for (method, allowed), count in self._limits.decisions.items():
            decisions.add_metric((method.rpartition("/")[2], "allowed" if allowed else "refused"), count)
        if (invalid := self._invalid_tokens) is not None:
            decisions.add_metric((INVALID_TOKENS, "allowed"), invalid.counted)
            decisions.add_metric((INVALID_TOKENS, "refused"), invalid.refused)
        yield decisions
        yield CounterMetricFamily(
            "realmultillm_limit_hits_alone",
            "What this process has counted alone, because Redis was away or there is none.",
            value=self._limiter.alone,
        )

"""Tells Prometheus how Vault answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from libs.errors import Unavailable

# In seconds: from a key that is at hand to the end of what a caller waits.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class VaultMetrics(Collector):
    """Counts what Vault is asked, by what it is asked for: operations of the transit engine, and those on the token."""

    def __init__(self) -> None:
        self._seconds = Histogram(
            "realmultillm_vault_request_seconds",
            "How long Vault took, the wait for a thread and a login included.",
            ("operation",),
            buckets=_BUCKETS,
            registry=None,
        )
        self._failures = Counter(
            "realmultillm_vault_failures",
            "What Vault was asked and did not answer: it was away, sealed, or denied the right.",
            ("operation",),
            registry=None,
        )

    @contextmanager
    def counting(self, operation: str) -> Iterator[None]:
        """Counts one request, which is the block. One that Vault finds wrong is answered."""
        failures = self._failures.labels(operation)
        began = time.perf_counter()
        try:
            yield
        except Unavailable:
            failures.inc()
            raise
        finally:
            self._seconds.labels(operation).observe(time.perf_counter() - began)

    def collect(self) -> Iterator[Metric]:
        """Yields what there is to tell now."""
        yield from self._seconds.collect()
        yield from self._failures.collect()

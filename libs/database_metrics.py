"""Tells Prometheus how a pool of database connections fares."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

# In seconds: from a read of a row to the end of what a statement may take.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class TransactionMetrics(Collector):
    """Counts the transactions of an engine, and reads its pool whenever it is asked."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._seconds = Histogram(
            "realmultillm_database_transaction_seconds",
            "How long transactions took, the wait for a connection included.",
            buckets=_BUCKETS,
            registry=None,
        )
        self._failures = Counter(
            "realmultillm_database_failures",
            "Transactions that failed, for want of a connection from the pool or by the database.",
            ("cause",),
            registry=None,
        )
        for cause in ("pool", "database"):
            self._failures.labels(cause)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts one transaction, which is the block."""
        began = time.perf_counter()
        try:
            yield
        except PoolTimeoutError:
            self._failures.labels("pool").inc()
            raise
        except (OperationalError, InterfaceError):
            self._failures.labels("database").inc()
            raise
        finally:
            self._seconds.observe(time.perf_counter() - began)

    def collect(self) -> Iterator[Metric]:
        """Yields what there is to tell now."""
        yield from self._seconds.collect()
        yield from self._failures.collect()
        pool = self._engine.pool
        if isinstance(pool, QueuePool):
            connections = GaugeMetricFamily(
                "realmultillm_database_connections",
                "Connections of the pool: in use, idle, and the most there may be.",
                labels=("state",),
            )
            connections.add_metric(("in_use",), pool.checkedout())
            connections.add_metric(("idle",), pool.checkedin())
            connections.add_metric(("limit",), pool.size())
            yield connections

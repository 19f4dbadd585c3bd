"""Tells Prometheus how the intake of facts fares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram

# In seconds: from a worker that sends at once to one that could not for a day.
_LAG_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)


class Timed(Protocol):
    """What is known of when a chat was."""

    @property
    def start_time(self) -> datetime:
        """When it began."""
        ...

    @property
    def latency_ms(self) -> int:
        """How long it took."""
        ...


class IngestMetrics:
    """Counts facts in a registry. `clock` tells the time that their age is reckoned by."""

    def __init__(self, registry: CollectorRegistry, *, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        records = Counter(
            "realmultillm_ingested_records",
            "Facts that were taken in, and those that had been before.",
            ("result",),
            registry=registry,
        )
        self._accepted = records.labels("accepted")
        self._duplicates = records.labels("duplicate")
        self._lag = Histogram(
            "realmultillm_ingest_lag_seconds",
            "How long after the end of a chat its fact was stored.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )

    def note(self, records: Sequence[Timed], accepted: int) -> None:
        """Counts a batch that was stored, of which so many facts were new."""
        self._accepted.inc(accepted)
        self._duplicates.inc(len(records) - accepted)
        now = self._clock()
        for record in records:
            ended = record.start_time + timedelta(milliseconds=record.latency_ms)
            self._lag.observe(max(0.0, (now - ended).total_seconds()))

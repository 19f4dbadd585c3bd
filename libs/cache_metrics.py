"""Tells Prometheus how well caches do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class Cache(Protocol):
    """What a cache counts of itself."""

    hits: int
    misses: int

    def __len__(self) -> int:
        """Returns how many values it holds."""
        ...


class CacheCollector(Collector):
    """Reads the counts of caches, by their names, whenever it is asked: counting costs a cache an addition.

    Of caches that are kept true by a stream of changes it tells whether that is up, too.
    """

    def __init__(self, **caches: Cache) -> None:
        self._caches = caches

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yields what there is to tell now."""
        hits = CounterMetricFamily("realmultillm_cache_hits", "Values that were here.", labels=("cache",))
        misses = CounterMetricFamily("realmultillm_cache_misses", "Values that were waited for.", labels=("cache",))
        entries = GaugeMetricFamily("realmultillm_cache_entries", "Values that are kept.", labels=("cache",))
        watched = GaugeMetricFamily(
            "realmultillm_cache_watched", "1 while the changes of what is kept are heard of.", labels=("cache",)
        )
        for name, cache in self._caches.items():
            hits.add_metric((name,), cache.hits)
            misses.add_metric((name,), cache.misses)
            entries.add_metric((name,), len(cache))
            if (up := getattr(cache, "watched", None)) is not None:
                watched.add_metric((name,), up)
        yield from (hits, misses, entries)
        if watched.samples:
            yield watched

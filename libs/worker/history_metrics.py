"""Tells Prometheus what becomes of what was said in chats."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from libs.worker.history import History


class HistoryCollector(Collector):
    """Reads the counts of a worker's history whenever it is asked."""

    def __init__(self, provider: str, history: History) -> None:
        self._provider = provider
        self._history = history

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yields what there is to tell now."""
        family = CounterMetricFamily(
            "realmultillm_chat_contents",
            "Chats whose content was to be kept, by what became of it; those with `store: false` are not among them.",
            labels=("provider", "outcome"),
        )
        for outcome, chats in self._history.counts.items():
            family.add_metric((self._provider, outcome.value), chats)
        yield family

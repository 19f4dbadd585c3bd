"""Tells Prometheus what is on its way to other services."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from libs.outbox import Outbox


class OutboxCollector(Collector):
    """Reads what outboxes know of themselves, by their names, whenever it is asked."""

    def __init__(self, **outboxes: Outbox) -> None:
        self._outboxes = outboxes

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields what there is to tell now."""
        for name, text in (
            ("records", "Facts that are not acknowledged yet."),
            ("bytes", "How large they are."),
            ("oldest_seconds", "How long ago the first of them was written down."),
            ("limit_bytes", "How large they may become; then nothing new is begun."),
            ("refused", "Facts that were set aside, because the receiver will never take them."),
        ):
            family = GaugeMetricFamily(f"realmultillm_outbox_{name}", text, labels=("outbox",))
            for label, outbox in self._outboxes.items():
                family.add_metric((label,), _value(outbox, name))
            yield family


def _value(outbox: Outbox, name: str) -> float:
    values: dict[str, float] = {
        "records": outbox.backlog(),
        "bytes": outbox.size_bytes,
        "oldest_seconds": outbox.oldest_seconds(),
        "limit_bytes": outbox.limit_bytes,
        "refused": outbox.refused,
    }
    return values[name]

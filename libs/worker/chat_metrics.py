"""What Prometheus is told of a worker's chats and its provider: by provider and end, never by person, key or model."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from realmultillm.analytics.v1 import usage_ingest_service_pb2 as analytics

from libs.worker.provider_health import WINDOW_SECONDS, ProviderHealth, State

# In seconds: from the shortest answers to those of models that think for minutes.
_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class ChatMetrics:
    """Counts the chats with one provider in a registry."""

    def __init__(self, provider: str, registry: CollectorRegistry) -> None:
        self._provider = provider
        self._chats = Counter(
            "realmultillm_chats",
            "Chats by how they ended; `reason` is that of the error, if there was one.",
            ("provider", "end_state", "reason"),
            registry=registry,
        )
        self._seconds = Histogram(
            "realmultillm_chat_seconds",
            "How long chats took, from when the worker took them up to their end.",
            ("provider", "end_state"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._first_output_seconds = Histogram(
            "realmultillm_chat_first_output_seconds",
            "How long streamed chats took to their first output.",
            ("provider",),
            buckets=_BUCKETS,
            registry=registry,
        ).labels(provider)

    def note(self, record: analytics.UsageRecord) -> None:
        """Counts a chat by its settled record."""
        end_state = analytics.UsageRecord.EndState.Name(record.end_state).lower()
        self._chats.labels(self._provider, end_state, record.error_reason).inc()
        self._seconds.labels(self._provider, end_state).observe(record.latency_ms / 1000)
        if record.HasField("time_to_first_token_ms"):
            self._first_output_seconds.observe(record.time_to_first_token_ms / 1000)


class ProviderHealthCollector(Collector):
    """Tells, whenever it is asked, how the provider stands and what was counted within the window."""

    def __init__(self, provider: str, health: ProviderHealth) -> None:
        self._provider = provider
        self._health = health

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields what there is to tell now."""
        health = self._health.health()
        stands = GaugeMetricFamily(
            "realmultillm_provider_state", "1 for the state in which the provider is.", labels=("provider", "state")
        )
        for state in State:
            stands.add_metric((self._provider, state.name.lower()), health.state is state)
        yield stands
        for name, text, value in (
            ("chats", f"Chats with the provider within the last {WINDOW_SECONDS} seconds.", health.chats),
            ("failures", "Those of them that failed through the provider.", health.failures),
            ("latency_p50_seconds", "Median time to their first output.", health.latency_p50_ms / 1000),
            ("latency_p95_seconds", "The same, of the slowest twentieth.", health.latency_p95_ms / 1000),
        ):
            family = GaugeMetricFamily(f"realmultillm_provider_window_{name}", text, labels=("provider",))
            family.add_metric((self._provider,), value)
            yield family

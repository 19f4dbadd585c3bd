"""What Prometheus is told of a worker's chats and its provider: by provider and end, never by person or key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from realmultillm.analytics.v1 import usage_ingest_service_pb2 as analytics

from libs.distribution import Distribution
from libs.worker.gen_ai_metrics import GenAiMetrics, KnownAs
from libs.worker.provider_health import WINDOW_SECONDS, ProviderHealth, State

# In seconds: from the shortest answers to those of models that think for minutes.
_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# What a worker adds is about a millisecond; retries add their pauses.
_OVERHEAD_BUCKETS = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

_EMBEDDINGS = analytics.UsageRecord.Kind.EMBEDDINGS


def nothing_known(_provider: str, _model: str) -> None:
    """Knows no model."""


class ChatMetrics(Collector):
    """Counts the chats with one provider. `known_as` gives the names of models."""

    def __init__(self, provider: str, known_as: KnownAs = nothing_known) -> None:
        self._provider = provider
        self._calls = GenAiMetrics(provider, known_as)
        # By how they ended, and the reason of the error; by how they ended alone.
        self._chats: Counter[tuple[int, str]] = Counter()
        self._seconds: dict[int, Distribution] = {}
        self._first_output_seconds = Distribution(_BUCKETS)
        self._overhead = Distribution(_OVERHEAD_BUCKETS)

    def note_overhead(self, milliseconds: float) -> None:
        """Counts what a chat took besides waiting for the provider."""
        self._overhead.note(milliseconds / 1000)

    def note(self, record: analytics.UsageRecord) -> None:
        """Counts a chat, or a call for embeddings, by its settled record."""
        self._calls.note(record)
        if record.kind == _EMBEDDINGS:
            return
        end_state = record.end_state
        self._chats[end_state, record.error_reason] += 1
        seconds = self._seconds.get(end_state)
        if seconds is None:
            seconds = self._seconds[end_state] = Distribution(_BUCKETS)
        seconds.note(record.latency_ms / 1000)
        if record.HasField("time_to_first_token_ms"):
            self._first_output_seconds.note(record.time_to_first_token_ms / 1000)

    def collect(self) -> Iterator[Metric]:
        """Yields what there is to tell now."""
        provider = self._provider
        chats = CounterMetricFamily(
            "realmultillm_chats",
            "Chats by how they ended; `reason` is that of the error, if there was one.",
            labels=("provider", "end_state", "reason"),
        )
        for (end_state, reason), count in self._chats.items():
            chats.add_metric((provider, _name_of(end_state), reason), count)
        seconds = HistogramMetricFamily(
            "realmultillm_chat_seconds",
            "How long chats took, from when the worker took them up to their end.",
            labels=("provider", "end_state"),
        )
        for end_state, distribution in self._seconds.items():
            distribution.add_to(seconds, (provider, _name_of(end_state)))
        first_output = HistogramMetricFamily(
            "realmultillm_chat_first_output_seconds",
            "How long streamed chats took to their first output.",
            labels=("provider",),
        )
        self._first_output_seconds.add_to(first_output, (provider,))
        overhead = HistogramMetricFamily(
            "realmultillm_overhead_seconds",
            "What the worker adds to a chat: to a whole answer, or to the first output of a streamed one.",
            labels=("provider",),
        )
        self._overhead.add_to(overhead, (provider,))
        yield from (chats, seconds, first_output, overhead)
        yield from self._calls.collect()


def _name_of(end_state: int) -> str:
    return analytics.UsageRecord.EndState.Name(end_state).lower()


class Load(Protocol):
    """How many calls are under way, and how many may be at most."""

    @property
    def under_way(self) -> int:
        """Calls that hold a place now."""
        ...

    @property
    def most(self) -> int:
        """Places there are."""
        ...


class LoadCollector(Collector):
    """Tells, whenever it is asked, how many calls a worker has under way."""

    def __init__(self, provider: str, load: Load) -> None:
        self._provider = provider
        self._load = load

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields what there is to tell now."""
        for name, text, value in (
            ("in_flight", "Chats, embeddings and countings of tokens that are under way.", self._load.under_way),
            ("limit", "How many of them there may be at a time.", self._load.most),
        ):
            family = GaugeMetricFamily(f"realmultillm_chats_{name}", text, labels=("provider",))
            family.add_metric((self._provider,), value)
            yield family


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

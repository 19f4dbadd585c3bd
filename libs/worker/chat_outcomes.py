"""What the end of a chat tells beside its record: how the provider stands, and how the worker fares."""

from __future__ import annotations

from realmultillm.analytics.v1 import usage_ingest_service_pb2 as analytics

from libs.errors import IncompleteResponse, ProviderTimeout, ProviderUnavailable
from libs.worker.chat_metrics import ChatMetrics
from libs.worker.provider_health import ProviderHealth

_COMPLETED = analytics.UsageRecord.EndState.COMPLETED
_FAILURES = frozenset(error.default_reason for error in (ProviderUnavailable, ProviderTimeout, IncompleteResponse))
# Whoever waited so long has waited for the provider, whatever their own deadline was.
PATIENCE_SECONDS = 20.0


class ChatOutcomes:
    """Counts how chats end. What a caller or a key is to blame for is no failure of the provider.

    A caller who leaves the provider less than `patience_seconds` says nothing about it by running out of time.
    """

    def __init__(self, health: ProviderHealth, metrics: ChatMetrics, *, patience_seconds: float) -> None:
        self._health = health
        self._metrics = metrics
        self._patience_seconds = patience_seconds

    def note(self, record: analytics.UsageRecord) -> None:
        """Counts a chat by its settled record."""
        self._metrics.note(record)
        seconds = record.latency_ms / 1000
        if record.end_state == _COMPLETED:
            streamed = record.HasField("time_to_first_token_ms")
            first_output_seconds = record.time_to_first_token_ms / 1000 if streamed else seconds
            self._health.note_answer(seconds=seconds, first_output_seconds=first_output_seconds)
        elif record.error_reason in _FAILURES:
            timed_out = record.error_reason == ProviderTimeout.default_reason
            if not timed_out or seconds >= self._patience_seconds:
                self._health.note_failure(seconds=seconds)

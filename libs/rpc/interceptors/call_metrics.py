"""Counts calls for Prometheus, under the names that are usual for gRPC, so that dashboards of others fit too."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from realmultillm.errors.v1.error_reason_pb2 import ErrorReason

from libs.distribution import Distribution
from libs.rpc.identity import Call
from libs.rpc.pipeline import Proceed

# In seconds: from what is remembered to chats that think for minutes.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_TYPES = {
    "unary_unary": "unary",
    "unary_stream": "server_stream",
    "stream_unary": "client_stream",
    "stream_stream": "bidi_stream",
}
_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_REASONS = frozenset(ErrorReason.keys())
# What a newer service says.
_OTHER_REASON = "other"


class CallMetrics(Collector):
    """Around the error boundary: sees how each call ended.

    Labels are those of methods that are served, of status codes and of our reasons: nobody makes them up.
    """

    def __init__(self) -> None:
        self._methods: dict[str, _Method] = {}

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        method = self._methods.get(call.method)
        if method is None:
            method = self._methods[call.method] = _Method(call)
        method.started += 1
        began = time.perf_counter()
        code = "OK"
        try:
            return await proceed()
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except BaseException:
            code = "UNKNOWN"
            raise
        finally:
            method.seconds.note(time.perf_counter() - began)
            facts = call.facts
            method.handled[code if code == "CANCELLED" else facts.get("code", code)] += 1
            if "reason" in facts:
                reason = facts["reason"]
                method.errors[reason if reason in _REASONS else _OTHER_REASON] += 1

    def collect(self) -> Iterator[Metric]:
        """Yields what there is to tell now."""
        started = CounterMetricFamily("grpc_server_started", "Calls that were begun.", labels=_METHOD)
        handled = CounterMetricFamily(
            "grpc_server_handled", "Calls that were ended, by status code.", labels=(*_METHOD, "grpc_code")
        )
        seconds = HistogramMetricFamily("grpc_server_handling_seconds", "How long calls took.", labels=_METHOD)
        in_flight = GaugeMetricFamily("grpc_server_in_flight", "Calls that are under way.", labels=_METHOD)
        errors = CounterMetricFamily(
            "realmultillm_call_errors",
            "Calls that ended with an error of ours, by its reason.",
            labels=("grpc_service", "grpc_method", "reason"),
        )
        for method in self._methods.values():
            labels = method.labels
            started.add_metric(labels, method.started)
            in_flight.add_metric(labels, method.started - method.handled.total())
            method.seconds.add_to(seconds, labels)
            for code, count in method.handled.items():
                handled.add_metric((*labels, code), count)
            for reason, count in method.errors.items():
                errors.add_metric((*labels[1:], reason), count)
        yield from (started, handled, seconds, in_flight, errors)


class _Method:
    """What is counted of one method."""

    __slots__ = ("errors", "handled", "labels", "seconds", "started")

    def __init__(self, call: Call) -> None:
        _, service, name = call.method.split("/")
        self.labels = (_TYPES[call.kind], service, name)
        self.started = 0
        self.handled: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.seconds = Distribution(_BUCKETS)

"""The analytics services of the protos, over the repository of usage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.analytics.v1 import analytics_service_pb2 as analytics_pb2
from realmultillm.analytics.v1 import analytics_service_pb2_grpc, usage_ingest_service_pb2_grpc
from realmultillm.analytics.v1 import usage_ingest_service_pb2 as ingest_pb2

from libs.errors import InvalidRequest, PermissionDenied, Violation, refuse_any
from libs.providers import worker_service
from libs.received_values import TIME_RULE, fitting, is_time, is_uuid
from libs.rpc.identity import caller, current_call
from services.analytics.repository import UsageRepository
from services.analytics.usage import Span, UsageRecord, UsageTotals, resolve_span

_MOST_RECORDS = 1_000
_LONGEST_ID = 128
_LONGEST_LABEL = 1_000
_LARGEST_COUNT = 2**31 - 1

_COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "tool_use_tokens",
    "reported_cost_picos",
    "latency_ms",
    "time_to_first_token_ms",
    "attempts",
)


class UsageIngestServicer(usage_ingest_service_pb2_grpc.UsageIngestServiceServicer):
    """Takes in what the workers recorded."""

    def __init__(self, usage: UsageRepository) -> None:
        self._usage = usage

    async def IngestUsage(
        self, request: ingest_pb2.IngestUsageRequest, _context: Any
    ) -> ingest_pb2.IngestUsageResponse:
        check_ingest_usage(request, worker=current_call().peer)
        accepted = await self._usage.store([to_record(record) for record in request.records])
        return ingest_pb2.IngestUsageResponse(accepted=accepted, duplicates=len(request.records) - accepted)


class AnalyticsServicer(analytics_service_pb2_grpc.AnalyticsServiceServicer):
    """Tells people what they have used."""

    def __init__(self, usage: UsageRepository, *, clock: Callable[[], datetime]) -> None:
        self._usage = usage
        self._clock = clock

    async def GetUsage(self, request: analytics_pb2.GetUsageRequest, _context: Any) -> analytics_pb2.UsageReport:
        span = to_span(request, now=self._clock())
        totals = await self._usage.totals(caller().user_id, span)
        return to_report(span, totals)


def check_ingest_usage(request: ingest_pb2.IngestUsageRequest, *, worker: str) -> None:
    """Raises InvalidRequest for malformed records, PermissionDenied for those of another worker's provider."""
    if not 1 <= len(request.records) <= _MOST_RECORDS:
        raise InvalidRequest([Violation("records", f"must be 1 to {_MOST_RECORDS:,} records.")])
    violations = [
        Violation(f"records[{index}].{field}", description)
        for index, record in enumerate(request.records)
        for field, description in _broken_rules(record)
    ]
    refuse_any(violations)
    for index, record in enumerate(request.records):
        if worker_service(record.provider) != worker:
            raise PermissionDenied(
                f"Record {index} is of the provider {record.provider}; {worker} may report its own provider only.",
                index=str(index),
                provider=record.provider,
                worker=worker,
            )


def _broken_rules(record: ingest_pb2.UsageRecord) -> Iterator[tuple[str, str]]:
    """Yields (field in lowerCamel, what it must be)."""
    if not is_uuid(record.id):
        yield "id", "must be a UUID."
    if not 1 <= len(record.user_id) <= _LONGEST_ID or "\0" in record.user_id:
        yield "userId", f"must have 1 to {_LONGEST_ID} characters, U+0000 not among them."
    for name in ("provider", "model_requested"):
        if not getattr(record, name):
            yield record.DESCRIPTOR.fields_by_name[name].json_name, "must not be empty."
    for name in _COUNTS:
        if getattr(record, name) < 0:
            yield record.DESCRIPTOR.fields_by_name[name].json_name, "must not be negative."
    if record.end_state == 0 or record.end_state not in ingest_pb2.UsageRecord.EndState.values():
        yield "endState", "must be a known end state."
    if not record.HasField("start_time") or not is_time(record.start_time):
        yield "startTime", TIME_RULE


def to_record(record: ingest_pb2.UsageRecord) -> UsageRecord:
    """Converts a checked record."""
    return UsageRecord(
        user_id=record.user_id,
        start_time=record.start_time.ToDatetime(UTC),
        id=UUID(record.id),
        provider=record.provider,
        model_requested=_label(record.model_requested),
        model_served=_label(record.model_served),
        end_state=ingest_pb2.UsageRecord.EndState.Name(record.end_state).lower(),
        error_reason=_label(record.error_reason),
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        cached_tokens=record.cached_tokens,
        reasoning_tokens=record.reasoning_tokens,
        estimated=record.estimated,
        streamed=record.streamed,
        latency_ms=record.latency_ms,
        time_to_first_token_ms=(record.time_to_first_token_ms if record.HasField("time_to_first_token_ms") else None),
        attempts=record.attempts,
        request_id=_label(record.request_id),
        conversation_id=_label(record.conversation_id),
        cache_write_tokens=record.cache_write_tokens,
        cache_write_1h_tokens=record.cache_write_1h_tokens,
        tool_use_tokens=record.tool_use_tokens,
        reported_cost_picos=record.reported_cost_picos if record.HasField("reported_cost_picos") else None,
        service_tier=_label(record.service_tier),
    )


def to_span(request: analytics_pb2.GetUsageRequest, *, now: datetime) -> Span:
    """Converts the span asked for. Raises InvalidRequest."""
    # `from` is a keyword of Python, so the fields are reached by name.
    given: dict[str, Timestamp] = {name: getattr(request, name) for name in ("from", "to") if request.HasField(name)}
    violations = [Violation(name, TIME_RULE) for name, time in given.items() if not is_time(time)]
    refuse_any(violations)
    times = {name: time.ToDatetime(UTC) for name, time in given.items()}
    return resolve_span(times.get("from"), times.get("to"), now=now)


def to_report(span: Span, totals: UsageTotals) -> analytics_pb2.UsageReport:
    """Converts totals; a count too large for the wire stays at the largest."""
    return analytics_pb2.UsageReport(
        **{"from": span.start, "to": span.end},
        totals=analytics_pb2.UsageTotals(
            requests=_clamp(totals.requests),
            prompt_tokens=_clamp(totals.prompt_tokens),
            completion_tokens=_clamp(totals.completion_tokens),
            reasoning_tokens=_clamp(totals.reasoning_tokens),
            cached_tokens=_clamp(totals.cached_tokens),
            requests_by_end_state={state: _clamp(count) for state, count in totals.requests_by_end_state.items()},
        ),
    )


def _label(text: str) -> str:
    """Callers and providers choose these texts. One that does not fit must not keep a chat out of the account."""
    return fitting(text, _LONGEST_LABEL)


def _clamp(count: int) -> int:
    return min(count, _LARGEST_COUNT)

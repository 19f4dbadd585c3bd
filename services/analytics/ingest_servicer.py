"""Takes in what workers recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from realmultillm.analytics.v1 import usage_ingest_service_pb2 as ingest_pb2
from realmultillm.analytics.v1 import usage_ingest_service_pb2_grpc

from libs.errors import InvalidRequest, PermissionDenied, Violation, refuse_any
from libs.providers import worker_service
from libs.received_values import TIME_RULE, fitting, is_time, is_uuid
from libs.rpc.identity import current_call
from services.analytics.ingest import UsageIngest
from services.analytics.usage import SealedContent, Span, UsageRecord

_MOST_RECORDS = 1_000
_LONGEST_ID = 128
_LONGEST_LABEL = 1_000
# In keys of tables, whose entries hold 2,704 bytes, up to four for each character. What is asked for is cut likewise.
LONGEST_KEY = 256

_COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "tool_use_tokens",
    "reported_cost_picos",
    "cost_picos",
    "latency_ms",
    "time_to_first_token_ms",
    "attempts",
)


_WITH_COST = (ingest_pb2.UsageRecord.REPORTED, ingest_pb2.UsageRecord.PRICED)


class UsageIngestServicer(usage_ingest_service_pb2_grpc.UsageIngestServiceServicer):
    """Takes in what the workers recorded. `stored` hears of each batch, and how many of it were new."""

    def __init__(
        self,
        ingest: UsageIngest,
        stored: Callable[[Sequence[UsageRecord], int], None] = lambda _records, _accepted: None,
    ) -> None:
        self._ingest = ingest
        self._stored = stored

    async def IngestUsage(
        self, request: ingest_pb2.IngestUsageRequest, _context: Any
    ) -> ingest_pb2.IngestUsageResponse:
        check_ingest_usage(request, worker=current_call().peer, within=self._ingest.span())
        records = [to_record(record) for record in request.records]
        accepted = await self._ingest.store(records)
        self._stored(records, accepted)
        return ingest_pb2.IngestUsageResponse(accepted=accepted, duplicates=len(request.records) - accepted)


def check_ingest_usage(request: ingest_pb2.IngestUsageRequest, *, worker: str, within: Span) -> None:
    """Raises InvalidRequest for malformed records, PermissionDenied for those of another worker's provider.

    Chats that started out of the span `within` count as malformed.
    """
    if not 1 <= len(request.records) <= _MOST_RECORDS:
        raise InvalidRequest([Violation("records", f"must be 1 to {_MOST_RECORDS:,} records.")])
    violations = [
        Violation(f"records[{index}].{field}", description)
        for index, record in enumerate(request.records)
        for field, description in _broken_rules(record, within)
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


def _broken_rules(record: ingest_pb2.UsageRecord, within: Span) -> Iterator[tuple[str, str]]:
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
    if record.kind not in ingest_pb2.UsageRecord.Kind.values():
        yield "kind", "must be a known kind."
    if record.cost_source not in ingest_pb2.UsageRecord.CostSource.values():
        yield "costSource", "must be a known source."
    elif record.HasField("cost_picos") != (record.cost_source in _WITH_COST):
        yield "costPicos", "must be there for reported and priced chats, and for no others."
    if record.HasField("content") and not (record.content.sealed and record.content.wrapped_key):
        yield "content", "must be sealed, with the wrapped key."
    if not record.HasField("start_time") or not is_time(record.start_time):
        yield "startTime", TIME_RULE
    elif not within.start <= record.start_time.ToDatetime(UTC) < within.end:
        yield "startTime", f"must lie from {within.start:%Y-%m-%d %H:%M} to {within.end:%Y-%m-%d %H:%M} UTC."


def to_record(record: ingest_pb2.UsageRecord) -> UsageRecord:
    """Converts a checked record."""
    cost_picos, cost_source = to_cost(record)
    content = SealedContent(record.content.sealed, record.content.wrapped_key) if record.HasField("content") else None
    return UsageRecord(
        user_id=record.user_id,
        start_time=record.start_time.ToDatetime(UTC),
        id=UUID(record.id),
        provider=record.provider,
        model_requested=fitting(record.model_requested, LONGEST_KEY),
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
        conversation_id=fitting(record.conversation_id, LONGEST_KEY),
        cache_write_tokens=record.cache_write_tokens,
        cache_write_1h_tokens=record.cache_write_1h_tokens,
        tool_use_tokens=record.tool_use_tokens,
        reported_cost_picos=record.reported_cost_picos if record.HasField("reported_cost_picos") else None,
        service_tier=_label(record.service_tier),
        kind="embeddings" if record.kind == ingest_pb2.UsageRecord.EMBEDDINGS else "chat",
        cost_picos=cost_picos,
        cost_source=cost_source,
        price=_label(record.price),
        content=content,
    )


def to_cost(record: ingest_pb2.UsageRecord) -> tuple[int | None, str]:
    """Returns what a chat cost, in trillionths of a US dollar, and how that is known."""
    if record.cost_source:
        cost = record.cost_picos if record.HasField("cost_picos") else None
        return cost, ingest_pb2.UsageRecord.CostSource.Name(record.cost_source).lower()
    # Nothing was used, or the worker is of the version before.
    if record.HasField("reported_cost_picos"):
        return record.reported_cost_picos, "reported"
    return None, "unpriced" if record.prompt_tokens or record.completion_tokens else "none"


def _label(text: str) -> str:
    """Callers and providers choose these texts. One that does not fit must not keep a chat out of the account."""
    return fitting(text, _LONGEST_LABEL)

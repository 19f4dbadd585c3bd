"""Spans of calls to models, by OpenTelemetry's conventions for generative AI, and of the requests that make them up.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import structlog
from realmultillm.analytics.v1 import usage_ingest_service_pb2 as analytics
from realmultillm.analytics.v1.chat_content_pb2 import ChatContent

from libs.rpc.identity import Call, current_span
from libs.tracing import Span, Value, part_of
from libs.worker.answer_costs import PICOS_OF_A_DOLLAR
from libs.worker.content_spans import tell_content
from libs.worker.gen_ai_names import operation_name, provider_name

log = structlog.get_logger()

_NOT_TRACED: AbstractContextManager[None] = nullcontext()

_COUNTS = {
    "gen_ai.usage.input_tokens": "prompt_tokens",
    "gen_ai.usage.output_tokens": "completion_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cached_tokens",
    "gen_ai.usage.cache_creation.input_tokens": "cache_write_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
}
_UNSETTLED = analytics.UsageRecord.EndState.END_STATE_UNSPECIFIED


class Content(Protocol):
    """What is said in a chat."""

    def content(self) -> ChatContent:
        """Returns what has been said so far."""
        ...


def model_call(
    call: Call, record: analytics.UsageRecord, content: Content | None = None
) -> AbstractContextManager[None]:
    """Makes the time of the block a span of the call, with what its record says when the block ends.

    Requests to the provider inside the block are spans within that one. What is said in the chat the span tells only
    with `content`.
    """
    return _NOT_TRACED if call.span is None else _traced(call, call.span, record, content)


@contextmanager
def _traced(call: Call, served: Span, record: analytics.UsageRecord, content: Content | None) -> Iterator[None]:
    operation = operation_name(record.kind)
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider_name(record.provider),
        "gen_ai.request.model": record.model_requested,
        "gen_ai.request.stream": record.streamed,
    }
    if record.conversation_id:
        attributes["gen_ai.conversation.id"] = record.conversation_id
    with part_of(served, f"{operation} {record.model_requested}", attributes) as span:
        assert span is not None, "within another"
        call.span = span
        try:
            yield
        finally:
            call.span = served
            if record.end_state != _UNSETTLED:
                _tell(span, record)
            if content is not None:
                _tell_content(span, content, record)


def _tell(span: Span, record: analytics.UsageRecord) -> None:
    if record.model_served:
        span.note("gen_ai.response.model", record.model_served)
    if record.HasField("time_to_first_token_ms"):
        span.note("gen_ai.response.time_to_first_chunk", record.time_to_first_token_ms / 1000)
    for name, field in _COUNTS.items():
        if count := getattr(record, field):
            span.note(name, count)
    span.note("realmultillm.end_state", analytics.UsageRecord.EndState.Name(record.end_state).lower())
    span.note("realmultillm.attempts", record.attempts)
    if record.HasField("cost_picos"):
        span.note("realmultillm.cost_usd", record.cost_picos / PICOS_OF_A_DOLLAR)
    if record.estimated:
        span.note("realmultillm.usage_estimated", True)


def _tell_content(span: Span, content: Content, record: analytics.UsageRecord) -> None:
    try:
        tell_content(span, content.content())
    except Exception:  # a chat must not fail because it cannot be told
        log.exception("content of a chat not traced", record=record.id, request_id=record.request_id)


def request_to_provider(method: str, host: str, port: int) -> AbstractContextManager[Span | None]:
    """Makes the time of the block a span, where the call is traced: of one HTTP request and its whole answer.

    Without its path and its headers: they may hold what nobody else shall know.
    """
    span = current_span()
    if span is None:
        return _NOT_TRACED
    return part_of(span, method, {"http.request.method": method, "server.address": host, "server.port": port})

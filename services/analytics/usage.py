"""What is known of a chat, and spans of time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from libs.errors import InvalidRequest, Violation

_DEFAULT_SPAN = timedelta(days=30)
_LONGEST_SPAN = timedelta(days=366)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC) + _DEFAULT_SPAN
# Time for the end of the year, and none for dates that calendars cannot go on from.
_FURTHEST = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class SealedContent:
    """What was said in a chat, sealed with a data key, and that key, wrapped by Vault."""

    sealed: bytes = field(repr=False)
    wrapped_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """One chat, however it ended; the fields are those of the table. Times to the microsecond, durations in ms.

    `content` is None when what was said shall not be kept, or cannot.
    """

    user_id: str
    start_time: datetime
    id: UUID
    provider: str
    model_requested: str
    model_served: str
    end_state: str
    error_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    estimated: bool
    streamed: bool
    latency_ms: int
    time_to_first_token_ms: int | None
    attempts: int
    request_id: str
    conversation_id: str
    cache_write_tokens: int
    cache_write_1h_tokens: int
    tool_use_tokens: int
    reported_cost_picos: int | None
    service_tier: str
    kind: str
    cost_picos: int | None
    cost_source: str
    price: str
    content: SealedContent | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time: `start` belongs to it, `end` does not. Both in UTC."""

    start: datetime
    end: datetime


def resolve_span(start: datetime | None, end: datetime | None, *, now: datetime) -> Span:
    """Fills in what the caller left open: the end is now, the start 30 days before the end.

    Raises InvalidRequest when the span is empty, longer than 366 days, or ends later than 366 days from now.
    """
    end = end or now
    if end < _EARLIEST:
        raise InvalidRequest([Violation("to", f"must not lie before {_EARLIEST:%Y-%m-%d}.")])
    if end > now + _FURTHEST:
        raise InvalidRequest([Violation("to", f"must lie at most {_FURTHEST.days} days from now.")])
    start = start or end - _DEFAULT_SPAN
    if start >= end:
        raise InvalidRequest([Violation("from", "must lie before `to`.")])
    if end - start > _LONGEST_SPAN:
        raise InvalidRequest([Violation("from", "must lie at most 366 days before `to`.")])
    return Span(start, end)

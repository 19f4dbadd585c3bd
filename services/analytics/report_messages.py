"""Questions and reports as the protos have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from realmultillm.analytics.v1 import analytics_service_pb2 as analytics

from libs.errors import Violation
from libs.received_values import TIME_RULE, is_time
from services.analytics.amounts import count, dollars, error_rate, errors, percentiles_of
from services.analytics.models import END_STATES
from services.analytics.question import Question, resolve_question
from services.analytics.reports import Group, Spender, Sums

# Speeds are kept in tenths.
_A_TENTH = 0.1


def to_question(request: Any, *, user_id: str | None, now: datetime, beside: Iterable[Violation] = ()) -> Question:
    """Converts the question of any report.

    Raises InvalidRequest, which names everything that is wrong with it, and what else is wrong `beside`.
    """
    # `from` is a keyword of Python, so the fields are reached by name.
    given: dict[str, Timestamp] = {name: getattr(request, name) for name in ("from", "to") if request.HasField(name)}
    times = {name: time.ToDatetime(UTC) for name, time in given.items() if is_time(time)}
    return resolve_question(
        user_id=user_id,
        start=times.get("from"),
        end=times.get("to"),
        group_by=request.group_by,
        time_zone=request.time_zone,
        provider=request.provider,
        model=request.model,
        now=now,
        beside=[*beside, *(Violation(name, TIME_RULE) for name in given if name not in times)],
    )


def to_usage_report(question: Question, sums: Sums) -> analytics.UsageReport:
    """Converts sums of usage."""
    buckets = [analytics.UsageBucket(**_key(group), totals=_usage(group.sums)) for group in sums.groups]
    return analytics.UsageReport(**_span(question), totals=_usage(sums.totals), buckets=buckets)


def to_cost_report(question: Question, sums: Sums) -> analytics.CostReport:
    """Converts sums of costs."""
    buckets = [analytics.CostBucket(**_key(group), totals=_costs(group.sums)) for group in sums.groups]
    return analytics.CostReport(**_span(question), totals=_costs(sums.totals), buckets=buckets)


def to_performance_report(question: Question, sums: Sums) -> analytics.PerformanceReport:
    """Converts sums of durations and ends."""
    buckets = [analytics.PerformanceBucket(**_key(group), totals=_performance(group.sums)) for group in sums.groups]
    return analytics.PerformanceReport(**_span(question), totals=_performance(sums.totals), buckets=buckets)


def to_top_users(spenders: Iterable[Spender]) -> list[analytics.TopUser]:
    """Converts the people who cost most."""
    return [
        analytics.TopUser(
            user_id=each.user_id,
            requests=count(each.requests),
            total_tokens=each.total_tokens,
            cost_usd=dollars(each.cost_picos),
        )
        for each in spenders
    ]


def to_top_models(groups: Sequence[Group], most: int) -> list[analytics.TopModel]:
    """Converts groups by model into those that cost most, the dearest first."""

    def rank(group: Group) -> tuple[int, int, int, str, str]:
        sums = group.sums
        return -sums["cost_picos"], -_tokens(sums), -sums["requests"], group.provider, group.model

    return [
        analytics.TopModel(
            provider=group.provider,
            model=group.model,
            requests=count(group.sums["requests"]),
            total_tokens=_tokens(group.sums),
            cost_usd=dollars(group.sums["cost_picos"]),
        )
        for group in sorted(groups, key=rank)[:most]
    ]


def _tokens(sums: Mapping[str, int]) -> int:
    return sums["prompt_tokens"] + sums["completion_tokens"]


def _span(question: Question) -> dict[str, Any]:
    return {"from": question.span.start, "to": question.span.end}


def _key(group: Group) -> dict[str, Any]:
    return {"start_time": group.start_time, "provider": group.provider, "model": group.model}


def _usage(sums: Mapping[str, int]) -> analytics.UsageTotals:
    return analytics.UsageTotals(
        requests=count(sums["requests"]),
        prompt_tokens=sums["prompt_tokens"],
        completion_tokens=sums["completion_tokens"],
        reasoning_tokens=sums["reasoning_tokens"],
        cached_tokens=sums["cached_tokens"],
        cache_write_tokens=sums["cache_write_tokens"],
        requests_by_end_state={state: count(sums[state]) for state in END_STATES if sums[state]},
        estimated_requests=count(sums["estimated"]),
        embedding_requests=count(sums["embeddings"]),
    )


def _costs(sums: Mapping[str, int]) -> analytics.CostTotals:
    return analytics.CostTotals(
        cost_usd=dollars(sums["cost_picos"]),
        reported_cost_usd=dollars(sums["reported_picos"]),
        estimated_cost_usd=dollars(sums["estimated_picos"]),
        requests=count(sums["requests"]),
        unpriced_requests=count(sums["unpriced"]),
    )


def _performance(sums: Mapping[str, int]) -> analytics.PerformanceTotals:
    totals = analytics.PerformanceTotals(
        requests=count(sums["requests"]), errors=count(errors(sums)), error_rate=error_rate(sums)
    )
    for into, measure, unit in (
        (totals.latency_ms, "latency", 1.0),
        (totals.time_to_first_token_ms, "first_output", 1.0),
        (totals.tokens_per_second, "speed", _A_TENTH),
    ):
        found = percentiles_of(sums[measure], unit=unit)
        if found is not None:
            into.p50, into.p90, into.p95, into.p99 = found
    return totals

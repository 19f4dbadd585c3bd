"""Sums up chats for reports: by the stored sums of hours, and by chats themselves where an edge goes through an hour.

Where a time zone has its days or hours begin within those of UTC, by the sums of quarters of hours instead. The work is
that of the answer: a month has as many sums whatever its traffic was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    TIMESTAMP,
    Date,
    Integer,
    Select,
    Table,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.sql import ColumnElement

from libs.database import Transactions
from services.analytics.buckets import begin_within_hours, days_begun, hours_begun, split_hours
from services.analytics.models import (
    COST_MEASURES,
    COUNT_MEASURES,
    END_STATES,
    HISTOGRAM_MEASURES,
    MEASURES,
    TOKEN_MEASURES,
    platform_hourly,
    platform_quarter_hourly,
    usage_hourly,
    usage_quarter_hourly,
    usage_records,
    user_daily,
)
from services.analytics.question import Question
from services.analytics.retention import first_moment
from services.analytics.rollups import measures
from services.analytics.usage import Span

USAGE_MEASURES = (*COUNT_MEASURES, *TOKEN_MEASURES)
COST_REPORT_MEASURES = ("requests", "unpriced", *COST_MEASURES)
PERFORMANCE_MEASURES = ("requests", *END_STATES, *HISTOGRAM_MEASURES)
ALL_MEASURES = MEASURES

# Sums over all people may be of many rows.
_STATEMENT_SECONDS = 14
_HOUR = timedelta(hours=1)
_QUARTER_HOUR = timedelta(minutes=15)
# What rows are grouped by, by number: a parameter in an expression is another one each time the expression is written.
_KEYS = (text("1"), text("2"), text("3"))
_TIMES = ARRAY(TIMESTAMP(timezone=True))


@dataclass(frozen=True, slots=True)
class Group:
    """The sums of some chats, by the names of measures. Of the keys those are there that were grouped by."""

    sums: Mapping[str, int]
    start_time: datetime | None = None
    provider: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums over the span, and those of its groups."""

    totals: Mapping[str, int]
    groups: Sequence[Group] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Spender:
    """A person, and what they have used and cost."""

    user_id: str
    requests: int
    total_tokens: int
    cost_picos: int


class Reports:
    """Answers questions about usage. `fact_days` is how long chats themselves are kept, `clock` tells the time."""

    def __init__(self, transactions: Transactions, *, fact_days: int, clock: Callable[[], datetime]) -> None:
        self._transactions = transactions
        self._fact_days = fact_days
        self._clock = clock

    async def sums(self, question: Question, names: Sequence[str]) -> Sums:
        """Sums up the measures of these names. Raises Unavailable, or DeadlineExceeded when that is too much."""
        beginnings = _beginnings(question)
        now = self._clock()
        split = split_hours(
            question.span,
            beginnings,
            known_since=first_moment(now, self._fact_days),
            known_until=max(now, question.span.start),
            length=_QUARTER_HOUR if begin_within_hours(beginnings) else _HOUR,
        )
        statement = _sums(question, names, beginnings, split)
        async with self._transactions(statement_seconds=_STATEMENT_SECONDS) as session:
            rows = (await session.execute(statement)).all()
        merged: dict[tuple[Any, ...], dict[str, int]] = {}
        for row in rows:
            # As integers: histograms have more digits than Decimal would keep.
            *key, values = row[0], row[1], row[2], row[3:]
            into = merged.setdefault(tuple(key), dict.fromkeys(names, 0))
            for name, value in zip(names, values, strict=True):
                into[name] += int(value)
        totals = {name: sum(sums[name] for sums in merged.values()) for name in names}
        return Sums(totals, _groups(question, merged, beginnings, names))

    async def spenders(self, question: Question, most: int) -> list[Spender]:
        """Returns the people who cost most, the dearest first, over whole days of UTC."""
        first = question.span.start.date()
        last = _last(question.span).date()
        statement: Any
        if question.provider or question.model:
            statement = _spenders_of_hours(question)
        else:
            statement = select(
                user_daily.c.user_id,
                func.sum(user_daily.c.requests).label("requests"),
                func.sum(user_daily.c.total_tokens).label("tokens"),
                func.sum(user_daily.c.cost_picos).label("cost"),
            ).where(user_daily.c.day.between(bindparam("first", type_=Date), bindparam("last", type_=Date)))
            if question.user_id is not None:
                statement = statement.where(user_daily.c.user_id == question.user_id)
            statement = statement.group_by(user_daily.c.user_id)
        totals = statement.subquery()
        statement = (
            select(totals)
            .order_by(totals.c.cost.desc(), totals.c.tokens.desc(), totals.c.requests.desc(), totals.c.user_id)
            .limit(most)
        )
        async with self._transactions(statement_seconds=_STATEMENT_SECONDS) as session:
            rows = (await session.execute(statement, {"first": first, "last": last})).all()
        return [Spender(user_id, int(requests), int(tokens), int(cost)) for user_id, requests, tokens, cost in rows]


def _last(span: Span) -> datetime:
    """Returns the last moment of a span."""
    return span.end - timedelta(microseconds=1)


def _spenders_of_hours(question: Question) -> Select[Any]:
    hours = usage_hourly.c
    statement = select(
        hours.user_id,
        func.sum(hours.requests).label("requests"),
        func.sum(hours.prompt_tokens + hours.completion_tokens).label("tokens"),
        func.sum(hours.cost_picos).label("cost"),
    ).where(hours.hour >= first_moment(question.span.start, 0), hours.hour < first_moment(_last(question.span), -1))
    return statement.where(*_narrowed(question, usage_hourly, "model")).group_by(hours.user_id)


def _beginnings(question: Question) -> list[datetime]:
    match question.group_by:
        case "hour":
            return hours_begun(question.span, question.zone)
        case "day":
            return days_begun(question.span, question.zone)
        case _:
            return [question.span.start]


def _narrowed(question: Question, table: Table, model: str) -> list[ColumnElement[bool]]:
    """Returns the conditions of a question other than time, on a table whose column `model` names models."""
    conditions = []
    if question.user_id is not None:
        conditions.append(table.c.user_id == question.user_id)
    if question.provider:
        conditions.append(table.c.provider == question.provider)
    if question.model:
        conditions.append(table.c[model] == question.model)
    return conditions


def _sums(question: Question, names: Sequence[str], beginnings: Sequence[datetime], split: Sequence[datetime]) -> Any:
    span = question.span
    if begin_within_hours(beginnings):
        rollup = platform_quarter_hourly if question.user_id is None else usage_quarter_hourly
        stored_time, length = rollup.c.quarter_hour, _QUARTER_HOUR
    else:
        rollup = platform_hourly if question.user_id is None else usage_hourly
        stored_time, length = rollup.c.hour, _HOUR
    key = _key(question, stored_time, rollup.c.provider, rollup.c.model, beginnings)
    stored = (
        select(*key, *(func.sum(rollup.c[name]).label(name) for name in names))
        .where(
            *_narrowed(question, rollup, "model"),
            # One that began before is split, or so old that it counts only where it begins.
            stored_time >= span.start,
            stored_time < span.end,
            # An array of times, also an empty one.
            stored_time != func.all_(literal(list(split), _TIMES)),
        )
        .group_by(*_KEYS)
    )
    if not split:
        return stored
    # Each such hour by its own times: Postgres then plans with the partitions of these days alone.
    chats = usage_records.c
    edges = [
        and_(chats.start_time >= max(begun, span.start), chats.start_time < min(begun + length, span.end))
        for begun in split
    ]
    key = _key(question, chats.start_time, chats.provider, chats.model_requested, beginnings)
    sums = measures(usage_records)
    counted = (
        select(*key, *(sums[name].label(name) for name in names))
        .where(*_narrowed(question, usage_records, "model_requested"), or_(*edges))
        .group_by(*_KEYS)
    )
    return union_all(stored, counted)


def _key(
    question: Question,
    time: ColumnElement[Any],
    provider: ColumnElement[Any],
    model: ColumnElement[Any],
    beginnings: Sequence[datetime],
) -> list[ColumnElement[Any]]:
    """Returns what rows are grouped by: which part of the span, which provider, which model."""
    part: ColumnElement[Any] = literal(0, Integer)
    if question.group_by in ("hour", "day"):
        # What is stored for an hour that begins before the span belongs to the first part.
        part = func.greatest(func.width_bucket(time, literal(list(beginnings), _TIMES)) - 1, 0)
    nothing = literal("")
    by_provider = question.group_by in ("provider", "model")
    return [
        part.label("part"),
        (provider if by_provider else nothing).label("of_provider"),
        (model if question.group_by == "model" else nothing).label("of_model"),
    ]


def _groups(
    question: Question,
    merged: Mapping[tuple[Any, ...], Mapping[str, int]],
    beginnings: Sequence[datetime],
    names: Collection[str],
) -> list[Group]:
    if question.group_by in ("hour", "day"):
        nothing = dict.fromkeys(names, 0)
        return [
            Group(merged.get((number, "", ""), nothing), start_time=beginning)
            for number, beginning in enumerate(beginnings)
        ]
    if not question.group_by:
        return []
    return [
        Group(sums, provider=provider, model=model)
        for (_, provider, model), sums in sorted(merged.items(), key=lambda item: item[0])
    ]

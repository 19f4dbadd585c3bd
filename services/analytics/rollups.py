"""What facts add up to, written once: for the rollups that grow with every batch, and for sums over facts themselves.

Rollups are exact, not estimates: a batch is added in the transaction that stores its facts, and repricing changes both
in one. To add is all that ever happens to a row, so that the order of batches does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Date,
    Double,
    FromClause,
    MetaData,
    Table,
    TextClause,
    and_,
    case,
    cast,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import Insert, insert

from services.analytics.histograms import histogram_of
from services.analytics.models import (
    END_STATES,
    TOKEN_MEASURES,
    platform_hourly,
    platform_quarter_hourly,
    usage_hourly,
    usage_quarter_hourly,
    user_daily,
)

Sum = ColumnElement[Any]

# The sums of a batch, as those of quarters of hours. It belongs to the connection, and is empty again after each
# transaction.
incoming_sums = Table(
    "incoming_sums",
    MetaData(),
    *(Column(column.name, column.type) for column in usage_quarter_hourly.columns),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)

_tokens = incoming_sums.c.prompt_tokens + incoming_sums.c.completion_tokens
_QUARTER_HOUR = timedelta(minutes=15)
_A_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


def hour_of(start_time: ColumnElement[Any]) -> ColumnElement[Any]:
    """Returns, for SQL, the beginning of the hour of UTC in which a chat started."""
    return func.date_trunc("hour", start_time, "UTC")


def quarter_hour_of(start_time: ColumnElement[Any]) -> ColumnElement[Any]:
    """Returns, for SQL, the beginning of the quarter of an hour in which a chat started."""
    return func.date_bin(_QUARTER_HOUR, start_time, _A_BEGINNING)


def day_of(start_time: ColumnElement[Any]) -> ColumnElement[Any]:
    """Returns, for SQL, the day of UTC on which a chat started."""
    return cast(func.timezone("UTC", start_time), Date)


def measures(facts: FromClause) -> dict[str, Sum]:
    """Returns, by their names, the aggregates of `usage_records`, or a table like it, that rollups have as columns."""
    fact = facts.c
    streamed_whole = and_(
        fact.streamed,
        fact.end_state == "completed",
        fact.completion_tokens > 0,
        fact.latency_ms > fact.time_to_first_token_ms,
    )
    # In tenths of a token per second, as histograms.py wants them.
    speed = 10_000.0 * cast(fact.completion_tokens, Double) / (fact.latency_ms - fact.time_to_first_token_ms)
    return {
        "requests": func.count(),
        "embeddings": _count(fact.kind == "embeddings"),
        "estimated": _count(fact.estimated),
        "unpriced": _count(fact.cost_source == "unpriced"),
        **{state: _count(fact.end_state == state) for state in END_STATES},
        **{name: _sum(fact[name]) for name in TOKEN_MEASURES},
        "cost_picos": _sum(fact.cost_picos),
        "reported_picos": _sum(fact.cost_picos, when=fact.cost_source == "reported"),
        "estimated_picos": _sum(fact.cost_picos, when=fact.estimated),
        "latency": _sum(histogram_of(fact.latency_ms), when=fact.end_state == "completed"),
        "first_output": _sum(
            histogram_of(fact.time_to_first_token_ms),
            when=and_(fact.streamed, fact.time_to_first_token_ms.is_not(None)),
        ),
        "speed": _sum(histogram_of(speed), when=streamed_whole),
    }


def _count(condition: ColumnElement[bool]) -> Sum:
    return func.count().filter(condition)


def _sum(value: ColumnElement[Any], *, when: ColumnElement[bool] | None = None) -> Sum:
    # A CASE, not a filter: Postgres may work out what is summed for rows that a filter leaves out, and some would
    # divide by zero.
    return func.coalesce(func.sum(value if when is None else case((when, value))), 0)


def numbers(key: Sequence[ColumnElement[Any]]) -> list[TextClause]:
    """Returns, for GROUP BY and ORDER BY, the first columns of a query, which are these, by their numbers.

    Written again, an expression with a parameter would be another expression to Postgres.
    """
    return [text(str(number)) for number, _ in enumerate(key, start=1)]


def additions(facts: FromClause) -> tuple[Insert, ...]:
    """Returns the statements that add facts to all rollups, in the order in which they must run.

    They need the temporary table `incoming_sums`, empty: the facts are looked at once, and their sums summed up after
    that. Rollups that other senders write too come last, so that these wait for the shortest time. Each statement takes
    its rows in the order of the key: two senders can wait for each other, but not both.
    """
    first = rollup_key(usage_quarter_hourly, facts)
    sums = select(*first, *measures(facts).values()).group_by(*numbers(first))
    names = usage_quarter_hourly.columns.keys()
    return (
        insert(incoming_sums).from_select(names, sums),
        *(_addition(rollup) for rollup in (usage_quarter_hourly, usage_hourly)),
        _addition(user_daily),
        *(_addition(rollup) for rollup in (platform_quarter_hourly, platform_hourly)),
    )


def _addition(rollup: Table) -> Insert:
    """Returns the statement that adds what is in `incoming_sums` to a rollup."""
    summed = incoming_sums.c
    time = summed.quarter_hour
    parts = {**summed, "hour": hour_of(time), "day": day_of(time), "total_tokens": _tokens}
    names = rollup.primary_key.columns.keys()
    measured = [name for name in rollup.columns.keys() if name not in names]  # noqa: SIM118 - of a collection
    key = [parts[name] for name in names]
    if rollup is usage_quarter_hourly:
        rows = select(*key, *(parts[name] for name in measured))
    else:
        rows = select(*key, *(func.sum(parts[name]) for name in measured)).group_by(*numbers(key))
    statement = insert(rollup).from_select([*names, *measured], rows.order_by(*numbers(key)))
    return statement.on_conflict_do_update(
        index_elements=names, set_={name: rollup.c[name] + statement.excluded[name] for name in measured}
    )


def rollup_key(rollup: Table, facts: FromClause) -> list[ColumnElement[Any]]:
    """Returns, of facts, what the columns of a rollup's key hold, in their order."""
    parts = {
        "user_id": facts.c.user_id,
        "day": day_of(facts.c.start_time),
        "hour": hour_of(facts.c.start_time),
        "quarter_hour": quarter_hour_of(facts.c.start_time),
        "provider": facts.c.provider,
        "model": facts.c.model_requested,
    }
    return [parts[name] for name in rollup.primary_key.columns.keys()]  # noqa: SIM118 - of a collection

"""Reports and chats as CSV: RFC 4180, UTF-8, a line of headings first."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any, Literal

from services.analytics.amounts import PERCENTS, dollars, error_rate, errors, percentiles_of
from services.analytics.models import END_STATES, TOKEN_MEASURES
from services.analytics.question import Question
from services.analytics.reports import COST_REPORT_MEASURES, PERFORMANCE_MEASURES, USAGE_MEASURES, Group, Sums

Report = Literal["usage", "costs", "performance", "records"]
REPORTS = ("usage", "costs", "performance", "records")

# Spreadsheets take a text that begins with one of these for a formula, and carry it out.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_DURATIONS = (("latency_ms", "latency", 1.0), ("time_to_first_token_ms", "first_output", 1.0))
_SPEED = ("tokens_per_second", "speed", 0.1)

MEASURES_OF: Mapping[str, Sequence[str]] = {
    "usage": USAGE_MEASURES,
    "costs": COST_REPORT_MEASURES,
    "performance": PERFORMANCE_MEASURES,
}

# Of a chat, in this order; `user_id` only where the chats are of several people.
RECORD_COLUMNS = (
    "start_time",
    "id",
    "user_id",
    "kind",
    "provider",
    "model_requested",
    "model_served",
    "end_state",
    "error_reason",
    "streamed",
    *TOKEN_MEASURES,
    "estimated",
    "latency_ms",
    "time_to_first_token_ms",
    "attempts",
    "cost_picos",
    "cost_source",
    "price",
    "service_tier",
    "conversation_id",
    "request_id",
)


def table_of(report: str, question: Question, sums: Sums) -> bytes:
    """Writes a report: a line for each group, or one for the whole span where nothing is grouped."""
    headings, values = _COLUMNS[report]
    key = _KEYS[question.group_by]
    groups = sums.groups if question.group_by else [Group(sums.totals)]
    lines = [[*(name for name, _ in key), *headings]]
    lines += [[*(tell(group) for _, tell in key), *values(group.sums)] for group in groups]
    return _written(lines)


async def records(question: Question, chats: AsyncIterator[Sequence[Sequence[Any]]]) -> AsyncIterator[bytes]:
    """Writes chats, given in pieces with the values of RECORD_COLUMNS; one piece of text for each of them."""
    shown = [index for index, name in enumerate(RECORD_COLUMNS) if name != "user_id" or question.user_id is None]
    yield _written([[RECORD_COLUMNS[index].replace("cost_picos", "cost_usd") for index in shown]])
    costs = RECORD_COLUMNS.index("cost_picos")
    async for rows in chats:
        yield _written(
            [dollars(row[index]) if index == costs and row[index] is not None else row[index] for index in shown]
            for row in rows
        )


def _usage(sums: Mapping[str, int]) -> list[Any]:
    return [sums[name] for name in USAGE_MEASURES if name != "unpriced"]


def _costs(sums: Mapping[str, int]) -> list[Any]:
    return [
        *(dollars(sums[name]) for name in ("cost_picos", "reported_picos", "estimated_picos")),
        sums["requests"],
        sums["unpriced"],
    ]


def _performance(sums: Mapping[str, int]) -> list[Any]:
    values: list[Any] = [sums["requests"], errors(sums), f"{error_rate(sums):.6f}"]
    for _, measure, unit in (*_DURATIONS, _SPEED):
        values += percentiles_of(sums[measure], unit=unit) or [""] * len(PERCENTS)
    return values


_COLUMNS: Mapping[str, tuple[Sequence[str], Callable[[Mapping[str, int]], list[Any]]]] = {
    "usage": (
        ("requests", "embedding_requests", "estimated_requests", *END_STATES, *TOKEN_MEASURES),
        _usage,
    ),
    "costs": (("cost_usd", "reported_cost_usd", "estimated_cost_usd", "requests", "unpriced_requests"), _costs),
    "performance": (
        (
            "requests",
            "errors",
            "error_rate",
            *(f"{name}_p{percent}" for name, _, _ in (*_DURATIONS, _SPEED) for percent in PERCENTS),
        ),
        _performance,
    ),
}


def _start(group: Group) -> str:
    return _time(group.start_time) if group.start_time else ""


_PROVIDER: tuple[str, Callable[[Group], str]] = ("provider", lambda group: group.provider)
_KEYS: Mapping[str, Sequence[tuple[str, Callable[[Group], str]]]] = {
    "": (),
    "hour": (("start_time", _start),),
    "day": (("start_time", _start),),
    "provider": (_PROVIDER,),
    "model": (_PROVIDER, ("model", lambda group: group.model)),
}


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    # An apostrophe in front: spreadsheets show what follows as it is.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


def _written(lines: Iterable[Iterable[Any]]) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_cell(value) for value in line] for line in lines)
    return text.getvalue().encode()

"""Writes and sums usage in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from sqlalchemy import ARRAY, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from libs.database import Transactions
from services.analytics.models import usage_records
from services.analytics.usage import Span, UsageRecord, UsageTotals

_NAMES = usage_records.columns.keys()

# One array per column: the statement is the same however many records there are.
_RECORDS = func.unnest(*(bindparam(column.name, type_=ARRAY(column.type)) for column in usage_records.columns))
_STORED = (
    insert(usage_records)
    .from_select(_NAMES, select(_RECORDS.table_valued(*_NAMES).render_derived()))
    .on_conflict_do_nothing()
    .returning(usage_records.c.id)
    .cte("stored")
)
_STORE = select(func.count()).select_from(_STORED)

_SUMS = (
    select(
        usage_records.c.end_state,
        func.count(),
        func.sum(usage_records.c.prompt_tokens),
        func.sum(usage_records.c.completion_tokens),
        func.sum(usage_records.c.reasoning_tokens),
        func.sum(usage_records.c.cached_tokens),
    )
    .where(
        usage_records.c.user_id == bindparam("user_id"),
        usage_records.c.start_time >= bindparam("start"),
        usage_records.c.start_time < bindparam("end"),
    )
    .group_by(usage_records.c.end_state)
)


class UsageRepository:
    """The usage of all people. Every question names one of them."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def store(self, records: Sequence[UsageRecord]) -> int:
        """Stores all records in one transaction and returns how many of them were not stored before."""
        # Two senders of the same records wait for each other row by row: without a common order they could deadlock.
        ordered = sorted(records, key=attrgetter("user_id", "start_time", "id"))
        columns = {name: [getattr(record, name) for record in ordered] for name in _NAMES}
        async with self._transactions() as session:
            return (await session.execute(_STORE, columns)).scalar_one()

    async def totals(self, user_id: str, span: Span) -> UsageTotals:
        """Sums up the chats of a person that started within a span."""
        async with self._transactions() as session:
            rows = (await session.execute(_SUMS, {"user_id": user_id, "start": span.start, "end": span.end})).all()
        if not rows:
            return UsageTotals()
        end_states, requests, prompt, completion, reasoning, cached = zip(*rows, strict=True)
        return UsageTotals(
            requests=sum(requests),
            prompt_tokens=sum(prompt),
            completion_tokens=sum(completion),
            reasoning_tokens=sum(reasoning),
            cached_tokens=sum(cached),
            requests_by_end_state=dict(zip(end_states, requests, strict=True)),
        )
